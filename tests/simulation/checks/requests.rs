//! The API budget, its pauses, and that polls go on (rule R9).

use std::collections::VecDeque;
use std::time::Duration;

use crate::scenario::Knobs;
use crate::violation::{Checked, must};
use dispatchd::voltus::{ApiError, ApiResponse, Question};

/// A minute, less what a limiter may lose by counting whole nanoseconds.
const MINUTE: Duration = Duration::from_millis(59_999);

/// Failed polls are retried at least this often.
const RETRY_WITHIN: Duration = Duration::from_secs(5);

/// The longest time between two requests while the API fails.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Look-ups while the gaps between requests still grow: half a second at least,
/// then one, two, four and eight.
const WHILE_GAPS_GROW: f64 = 6.0;

/// The requests of one term.
#[derive(Debug)]
pub(super) struct Requests {
    rate: usize,
    interval: Duration,
    /// How long a token may take to come.
    token: Duration,
    recent: VecDeque<Duration>,
    /// The API asked to be left alone until then.
    paused_until: Duration,
    /// It said that we are too fast, and not for how long.
    slowed_until: Duration,
    /// Since when every answer was a failure, with no connection at first.
    out_since: Option<Duration>,
    /// Look-ups issued since then.
    in_vain: u32,
    list_under_way: bool,
    last_list: Option<Duration>,
    /// When the next poll must have gone out.
    poll_by: Duration,
    excused_until: Duration,
    held_until: Duration,
    /// Until then it asks nothing, and hears what it is told all the same.
    listens_until: Duration,
}

impl Requests {
    pub fn new(knobs: &Knobs) -> Self {
        let rate = knobs.settings.api_rate.get();
        let steady = rate - rate / 4;
        Self {
            rate: usize::try_from(rate).unwrap_or(usize::MAX),
            interval: knobs.settings.poll_interval,
            token: MINUTE / steady.max(1),
            recent: VecDeque::new(),
            paused_until: Duration::ZERO,
            slowed_until: Duration::ZERO,
            out_since: None,
            in_vain: 0,
            list_under_way: false,
            last_list: None,
            poll_by: Duration::ZERO,
            excused_until: Duration::ZERO,
            held_until: Duration::ZERO,
            listens_until: Duration::ZERO,
        }
    }

    pub fn booted(&mut self, now: Duration) {
        self.daemon_gone();
        self.poll_by = now;
    }

    pub fn daemon_gone(&mut self) {
        self.excused_until = Duration::ZERO;
        self.held_until = Duration::ZERO;
        self.listens_until = Duration::ZERO;
        self.recent.clear();
        self.paused_until = Duration::ZERO;
        self.slowed_until = Duration::ZERO;
        self.out_since = None;
        self.list_under_way = false;
        self.last_list = None;
    }

    /// The daemon gets no processor until then, and its clock may sleep.
    pub fn held(&mut self, now: Duration, until: Duration) {
        let due = self.poll_by.max(self.paused_until).max(self.slowed_until);
        let ahead = due.max(self.excused_until).saturating_sub(now);
        self.excused_until = until + ahead;
        self.held_until = until;
        self.listens_until = Duration::ZERO;
    }

    /// The daemon asks nothing until then, for want of trust. It runs, and what the API
    /// asks it for counts at once.
    pub fn suspended(&mut self, now: Duration, until: Duration) {
        let runs = now >= self.held_until;
        self.held(now, until);
        if runs {
            self.listens_until = until;
        }
    }

    pub fn paused_for(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }

    pub fn asked(&mut self, question: &Question, now: Duration) -> Checked {
        must(
            now >= self.paused_until,
            now,
            "nothing is asked while the API is to be left alone",
            || format!("{question:?}, paused until {:?}", self.paused_until),
        )?;
        if *question == Question::List {
            self.list_under_way = true;
            self.last_list = Some(now);
        } else {
            self.look_up_is_no_more_than_allowed(now)?;
        }
        while self.recent.front().is_some_and(|at| *at + MINUTE <= now) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let spent = self.recent.len();
        must(
            spent <= self.rate,
            now,
            "the API budget is kept in every minute",
            || format!("{spent} requests within a minute, {} allowed", self.rate),
        )
    }

    /// While no connection can be made, look-ups are few (rule R9).
    fn look_up_is_no_more_than_allowed(&mut self, now: Duration) -> Checked {
        let Some(since) = self.out_since else {
            return Ok(());
        };
        self.in_vain += 1;
        // The longest gap, and chance takes up to half of it away.
        let gap = self.interval.clamp(RETRY_WITHIN, LONGEST_GAP) / 2;
        let allowed = WHILE_GAPS_GROW + now.saturating_sub(since).as_secs_f64() / gap.as_secs_f64();
        must(
            f64::from(self.in_vain) <= allowed,
            now,
            "an API that cannot be reached is asked less often",
            || format!("{} look-ups since {since:?}", self.in_vain),
        )
    }

    pub fn told(
        &mut self,
        question: &Question,
        result: &Result<ApiResponse, ApiError>,
        now: Duration,
    ) {
        let Err(error) = result else {
            self.out_since = None;
            return;
        };
        let now = match now < self.listens_until {
            true => now,
            false => self.learns(now),
        };
        match error {
            ApiError::Unreachable(_) if self.out_since.is_none() => {
                self.out_since = Some(now);
                self.in_vain = 0;
            }
            // It can be reached, and its answer is of no use.
            ApiError::Another(_) | ApiError::Unreadable(_) => self.out_since = None,
            _ => {}
        }
        if let Some(wait) = error.retry_after() {
            self.paused_until = self.paused_until.max(now + wait);
        } else if matches!(error, ApiError::TooFast { .. }) {
            self.slowed_until = now + self.interval.max(RETRY_WITHIN);
        }
        if *question == Question::List {
            self.list_ended(now);
        }
    }

    /// A poll has ended, well or badly.
    pub fn list_ended(&mut self, now: Duration) {
        self.list_under_way = false;
        self.poll_by = self.learns(now) + self.interval.mul_f64(1.1).max(RETRY_WITHIN);
    }

    /// When the daemon learns of what happens now: once it gets to run.
    fn learns(&self, now: Duration) -> Duration {
        now.max(self.held_until)
    }

    pub fn stepped(&self, now: Duration) -> Checked {
        let due = self
            .poll_by
            .max(self.paused_until)
            .max(self.slowed_until)
            .max(self.excused_until);
        // The next token after a poll is kept for the poll that follows.
        let kept = self
            .last_list
            .map_or(Duration::ZERO, |last| last + self.token);
        // The clock is looked at every second.
        let by = due.max(kept) + Duration::from_secs(1);
        must(
            self.list_under_way || now <= by,
            now,
            "a due poll goes out",
            || format!("it was due at {due:?}"),
        )
    }
}
