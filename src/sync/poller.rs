//! Decides when to poll.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::waiters::Ticket;
use crate::clock::{Mono, Now, scaled};
use crate::model::Asked;
use crate::retry::backoff;

/// The first pause after a failed poll, unless the interval is shorter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Failed polls are retried at least this often (rule R9), or every interval if
/// that is longer.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The shortest time between a poll and one that a failure asks for (rule R9).
const FAILURE_SPACING: Duration = Duration::from_secs(5);

/// The shortest time between a poll and one that is asked for out of turn, and
/// not by a failure.
const SPACING: Duration = Duration::from_secs(1);

/// A poll that is under way.
#[derive(Debug)]
pub(super) struct PollUnderWay {
    pub asked: Asked,
    pub issued: Now,
    /// Everybody before this one had arrived when it was issued.
    pub before: Ticket,
    /// Those who wait for this very poll.
    pub tickets: Vec<Ticket>,
    /// No poll had succeeded yet when it was issued.
    pub first: bool,
    /// How many dispatches its list has, once it has come.
    pub listed: usize,
    /// Another poll was asked for meanwhile: how long after this one.
    again: Option<Duration>,
}

/// How a poll ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollReport {
    /// When it ended, UTC.
    pub at: DateTime<Utc>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// How long it took from question to commit.
    pub duration: Duration,
}

/// Decides when the next poll is due.
#[derive(Debug)]
pub(super) struct Poller {
    interval: Duration,
    /// How long a token of the budget takes to come.
    token: Duration,
    due: Mono,
    /// Not before this, whoever asks: the API is failing.
    not_before: Mono,
    under_way: Option<PollUnderWay>,
    /// Those who asked for a poll that is not issued yet.
    asked_by: Vec<Ticket>,
    failures: u32,
    /// Polls that succeeded.
    pub succeeded: u64,
    /// Polls that failed.
    pub failed: u64,
    last_issued: Option<Mono>,
    /// Everybody before this one had arrived when a poll was last issued.
    before: Ticket,
    /// When a poll last succeeded.
    pub last_success: Option<Now>,
    /// How the last poll ended.
    pub last: Option<PollReport>,
}

impl Poller {
    /// A poller whose first poll is due at once. `token` is how long a token of
    /// the budget takes to come.
    pub fn new(interval: Duration, token: Duration, now: Mono) -> Self {
        Self {
            interval,
            token,
            due: now,
            not_before: Mono::ZERO,
            under_way: None,
            asked_by: Vec::new(),
            failures: 0,
            succeeded: 0,
            failed: 0,
            last_issued: None,
            before: Ticket::default(),
            last_success: None,
            last: None,
        }
    }

    /// A failure asks for a poll. Many of them share one.
    pub fn soon(&mut self, now: Mono) {
        self.out_of_turn(now, FAILURE_SPACING);
    }

    /// There is news that a poll may bring. When tokens are short, polls leave
    /// every other one to the look-ups.
    pub fn for_news(&mut self, now: Mono) {
        self.out_of_turn(now, SPACING);
    }

    fn out_of_turn(&mut self, now: Mono, spacing: Duration) {
        if let Some(poll) = &mut self.under_way {
            let again = poll.again.map_or(spacing, |again| again.min(spacing));
            poll.again = Some(again);
        } else {
            self.advance_to(now, spacing.max(self.token.saturating_mul(2)));
        }
    }

    /// A poll at once: it has everything to gain.
    pub fn at_once(&mut self, now: Mono) {
        if self.under_way.is_none() {
            self.advance_to(now, SPACING);
        }
    }

    fn advance_to(&mut self, now: Mono, spacing: Duration) {
        let spaced = self
            .last_issued
            .map_or(now, |last| last.saturating_add(spacing.min(self.interval)));
        self.due = self.due.min(spaced.max(now));
    }

    /// Whether this one came after the last poll was issued, so that the next
    /// may answer it.
    pub fn may_answer(&self, ticket: Ticket) -> bool {
        ticket >= self.before
    }

    /// Somebody waits for a poll that is issued from now on.
    pub fn ask(&mut self, ticket: Ticket) {
        self.asked_by.push(ticket);
    }

    /// No poll is issued any more. Gives those who wait for one.
    pub fn give_up(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.asked_by)
    }

    /// When the next poll is due. `None` while one is under way.
    pub fn due(&self) -> Option<Mono> {
        if self.under_way.is_some() {
            None
        } else if self.asked_by.is_empty() {
            Some(self.due.max(self.not_before))
        } else {
            Some(Mono::ZERO)
        }
    }

    /// When the next poll is expected. While one is under way: a whole interval
    /// after it was issued.
    pub fn expected(&self) -> Mono {
        match (&self.under_way, self.due()) {
            (Some(poll), _) => poll.issued.mono.saturating_add(self.interval),
            (None, due) => due.unwrap_or(self.due),
        }
    }

    /// The poll is issued.
    pub fn issue(&mut self, asked: Asked, now: Now, before: Ticket) {
        self.last_issued = Some(now.mono);
        self.before = before;
        self.under_way = Some(PollUnderWay {
            asked,
            issued: now,
            before,
            tickets: std::mem::take(&mut self.asked_by),
            first: self.last_success.is_none(),
            listed: 0,
            again: None,
        });
    }

    /// The poll that `asked` issued, if it is under way.
    pub fn under_way(&mut self, asked: Asked) -> Option<&mut PollUnderWay> {
        self.under_way.as_mut().filter(|poll| poll.asked == asked)
    }

    /// The poll under way succeeded: what it found is committed.
    pub fn succeeded(&mut self, now: Now, random: f64) {
        let Some(poll) = self.under_way.take() else {
            return;
        };
        self.failures = 0;
        self.succeeded += 1;
        self.not_before = Mono::ZERO;
        self.last_success = Some(now);
        // A tenth of jitter, either way: clients must not poll in step.
        let wait = scaled(self.interval, 0.9 + 0.2 * random);
        self.due = poll.issued.mono.saturating_add(wait).max(now.mono);
        self.end(&poll, now, None);
    }

    /// The poll under way failed.
    pub fn failed(&mut self, now: Now, random: f64, error: String, told_to_wait: Option<Duration>) {
        let Some(poll) = self.under_way.take() else {
            return;
        };
        self.failures = self.failures.saturating_add(1);
        self.failed += 1;
        let cap = LONGEST_PAUSE.max(self.interval);
        let pause = backoff(self.failures, random, FIRST_PAUSE.min(self.interval), cap);
        let pause = pause.max(told_to_wait.unwrap_or_default());
        self.not_before = now.mono.saturating_add(pause);
        self.due = self.not_before;
        self.end(&poll, now, Some(error));
    }

    fn end(&mut self, poll: &PollUnderWay, now: Now, error: Option<String>) {
        self.last = Some(PollReport {
            at: now.wall,
            error,
            duration: now.mono.saturating_sub(poll.issued.mono),
        });
        if let Some(spacing) = poll.again {
            self.out_of_turn(now.mono, spacing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiters::Waiters;
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Now {
        Now {
            wall: DateTime::UNIX_EPOCH + Duration::from_secs(seconds),
            mono: Duration::from_secs(seconds),
        }
    }

    fn issue(poller: &mut Poller, now: Now) {
        assert!(poller.due().unwrap() <= now.mono);
        poller.issue(Asked::default(), now, Waiters::<()>::new().next_ticket());
    }

    #[test]
    fn polls_follow_one_another_at_the_interval_with_a_tenth_of_jitter() {
        for (random, due) in [(0.0, 127), (0.5, 130), (1.0, 133)] {
            let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(100).mono);
            issue(&mut poller, at(100));
            assert_eq!(poller.due(), None);
            poller.succeeded(at(101), random);
            assert_eq!(poller.due(), Some(at(due).mono));
        }
    }

    #[test]
    fn failures_ask_for_one_poll_together_and_not_too_soon() {
        let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(100).mono);
        issue(&mut poller, at(100));
        poller.soon(at(100).mono);
        poller.soon(at(100).mono);
        poller.succeeded(at(100), 0.5);
        assert_eq!(poller.due(), Some(at(105).mono));
        issue(&mut poller, at(105));
        poller.succeeded(at(105), 0.5);
        assert_eq!(poller.due(), Some(at(135).mono));
        poller.soon(at(112).mono);
        assert_eq!(poller.due(), Some(at(112).mono));
    }

    #[test]
    fn news_asks_for_a_poll_sooner_than_failures_do() {
        let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(100).mono);
        issue(&mut poller, at(100));
        poller.soon(at(100).mono);
        poller.for_news(at(100).mono);
        poller.soon(at(100).mono);
        poller.succeeded(at(100), 0.5);
        assert_eq!(poller.due(), Some(at(101).mono));
    }

    #[test]
    fn no_interval_is_too_long() {
        let mut poller = Poller::new(Duration::MAX, Duration::MAX, Mono::ZERO);
        issue(&mut poller, at(100));
        assert_eq!(poller.expected(), Mono::MAX);
        poller.succeeded(at(100), 1.0);
        assert_eq!(poller.due(), Some(Mono::MAX));
        poller.soon(at(200).mono);
        poller.ask(Waiters::new().add((), Mono::ZERO));
        issue(&mut poller, at(300));
        poller.failed(at(300), 1.0, "down".into(), Some(Duration::MAX));
        assert_eq!(poller.due(), Some(Mono::MAX));
    }

    #[test]
    fn a_failing_api_is_asked_less_and_less_and_at_least_every_interval() {
        let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(0).mono);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            issue(&mut poller, now);
            poller.failed(now, 1.0, "down".into(), None);
            // Whoever asks for a poll does not speed it up.
            poller.soon(now.mono);
            let due = poller.due().unwrap();
            pauses.push((due - now.mono).as_millis());
            now.mono = due;
        }
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        issue(&mut poller, now);
        poller.succeeded(now, 0.5);
        assert_eq!(poller.due(), Some(now.mono + INTERVAL));
    }

    #[test]
    fn a_poll_waits_as_long_as_the_api_asked() {
        let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(0).mono);
        issue(&mut poller, at(0));
        poller.failed(at(0), 0.0, "slow".into(), Some(Duration::from_secs(120)));
        assert_eq!(poller.due(), Some(at(120).mono));
    }

    #[test]
    fn who_asks_by_hand_gets_a_poll_although_the_api_was_failing() {
        let mut poller = Poller::new(INTERVAL, Duration::ZERO, at(0).mono);
        issue(&mut poller, at(0));
        poller.failed(at(0), 0.0, "down".into(), None);
        let ticket = Waiters::new().add((), Mono::ZERO);
        poller.ask(ticket);
        issue(&mut poller, at(0));
        assert_eq!(
            poller.under_way(Asked::default()).unwrap().tickets,
            [ticket]
        );
    }
}
