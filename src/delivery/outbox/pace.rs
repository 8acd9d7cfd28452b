//! Decides how many attempts may begin at each sink while other sinks begin theirs.
//!
//! A dispatch may call on 20,000 sites of 200 sinks. If all attempts began at once, each
//! would open a connection of its own, and all would be late. So an attempt counts as
//! *fresh* until it ends or has lasted longer than the sink's answers take. The number of
//! fresh attempts over all sinks is bounded, and each sink has a share of them: what the
//! receiver of one sink holds up holds up no other sink. A receiver that answers quickly
//! needs few at a time, and each connection that it does not need costs more than a
//! request.
//!
//! A sink that has its share and gets no answer is *mute*: its subjects may hang, and it
//! may begin more. But when this machine is too busy, no sink gets answers, and what
//! begins then makes it worse. How long attempts wait for this machine tells: see
//! [`Shares`].

use std::time::Duration;

use super::Outbox;
use crate::clock::Mono;

/// The fresh attempts at all sinks, shared by those that have something to send, however
/// quickly their receivers answer.
const FRESH: usize = 512;

/// The same if their receivers take long to answer.
const FRESH_IF_SLOW: usize = 1024;

/// The fresh attempts that each sink may have, however many sinks there are.
const FRESH_OF_EACH: usize = 2;

/// The same if its receiver takes long to answer.
const FRESH_OF_EACH_IF_SLOW: usize = 4;

/// A sink may have as many fresh attempts as bring it an answer so often.
const ANSWER_EVERY: Duration = Duration::from_millis(5);

/// An attempt is fresh for three times as long as answers take, and at least this long.
const FRESH_AT_LEAST: Duration = Duration::from_millis(60);

/// An attempt is fresh at most this long, and so long while no answer is known.
const FRESH_AT_MOST: Duration = Duration::from_millis(500);

/// A sink that has its share is mute when no answer has come for so long. It may begin
/// more once in each round, which lasts as long.
const MUTE_AFTER: Duration = Duration::from_millis(60);

/// The attempts that a mute sink may begin: 256 that hang are passed within 0.96 s
/// (rule R6).
const OF_A_MUTE_SINK: usize = 16;

/// How many mute sinks may begin more in a round while this machine is busy.
const MUTE_SINKS: usize = 8;

/// This machine is busy if an attempt waits so long until it begins.
const BUSY_AFTER: Duration = Duration::from_millis(1);

/// It is busy if more than one of so many attempts waited.
const ONE_OF: usize = 10;

/// An attempt that began longer ago tells nothing of how busy this machine is now.
const RECENT: Duration = Duration::from_secs(1);

/// For how long the quickest answer of a sink is remembered at least; at most twice as
/// long.
const QUICKEST_OF: Duration = Duration::from_secs(30);

/// How the attempts began that ended in a round.
#[derive(Debug, Default, Clone, Copy)]
struct Began {
    at_once: usize,
    late: usize,
}

/// Shares the fresh attempts among the outboxes of all sinks.
///
/// How many mute sinks may begin more in a round follows from the attempts of all sinks
/// that ended in the round before. Nearly all began at once: this machine keeps up, and
/// whoever is mute may. Some had to wait for this machine: a few may. None ended at all: a
/// few at first, and twice as many in each round, so that subjects that hang at all sinks
/// hide no other for long.
#[derive(Debug)]
pub struct Shares {
    /// When the round began.
    since: Mono,
    began: Began,
    /// How many mute sinks may begin more in this round; `None` if all may.
    most: Option<usize>,
    /// How many have done so.
    given: usize,
    /// Whether a mute sink waits for the next round.
    waits: bool,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            since: Mono::ZERO,
            began: Began::default(),
            most: Some(MUTE_SINKS),
            given: 0,
            waits: false,
        }
    }
}

impl Shares {
    /// Says to each outbox how many fresh attempts it may have.
    pub fn set(&mut self, outboxes: &mut [Outbox], now: Mono) {
        let busy = outboxes.iter().filter(|outbox| outbox.is_busy()).count();
        let of_each = |fresh: usize, least: usize| (fresh / busy.max(1)).max(least);
        let least = of_each(FRESH, FRESH_OF_EACH);
        let most = of_each(FRESH_IF_SLOW, FRESH_OF_EACH_IF_SLOW);
        let mut mute: Vec<(Mono, &mut Outbox)> = Vec::new();
        for outbox in outboxes {
            let busy = outbox.is_busy();
            let pace = outbox.places.pace();
            pace.note_wait(busy, now);
            let began = std::mem::take(&mut pace.began);
            self.began.at_once += began.at_once;
            self.began.late += began.late;
            outbox.share = pace.wanted().clamp(least, most);
            if let Some(at) = outbox.mute_at(now).filter(|at| *at <= now) {
                mute.push((at, outbox));
            }
        }
        if self.since + MUTE_AFTER <= now {
            self.begin_round(!mute.is_empty(), now);
        }
        let most = self.most.unwrap_or(usize::MAX);
        let may = most.saturating_sub(self.given);
        self.waits = mute.len() > may;
        self.given += mute.len().min(may);
        // The sink that has waited longest first.
        mute.sort_by_key(|(at, _)| *at);
        for (_, outbox) in mute.into_iter().take(may) {
            outbox.share = outbox.share.max(OF_A_MUTE_SINK);
            outbox.places.write_off(now);
        }
    }

    /// Begins another round. `is_mute` says whether some sink is.
    fn begin_round(&mut self, is_mute: bool, now: Mono) {
        let Began { at_once, late } = std::mem::take(&mut self.began);
        self.most = match self.most {
            _ if !is_mute || late * ONE_OF > at_once => Some(MUTE_SINKS),
            _ if at_once > 0 => None,
            Some(most) => Some(most.saturating_mul(2)),
            None => Some(MUTE_SINKS),
        };
        self.since = now;
        self.given = 0;
    }

    /// When a mute sink that waits for others may begin more.
    pub fn next_due(&self) -> Option<Mono> {
        self.waits.then(|| self.since + MUTE_AFTER)
    }
}

impl Outbox {
    /// Whether something waits for its turn that could have a place.
    fn is_busy(&self) -> bool {
        !self.ready.is_empty() && !self.places.is_full()
    }

    /// The attempt has ended. It had waited so long until this machine made it, since it
    /// was to start.
    pub fn waited(&mut self, attempt: u64, waited: Duration, now: Mono) {
        self.places.waited(attempt, waited, now);
    }

    /// Whether another attempt may be fresh.
    pub(super) fn has_share(&self, now: Mono) -> bool {
        self.places.has_fresh_place(self.share, now)
    }

    /// When the sink is mute, if it has its share and waits for more.
    pub(super) fn mute_at(&self, now: Mono) -> Option<Mono> {
        let waits = self.is_busy() && !self.has_share(now);
        waits.then(|| self.places.silent_since(now) + MUTE_AFTER)
    }

    /// When it may begin more because a fresh attempt has become an old one.
    pub(super) fn share_at(&self, now: Mono) -> Option<Mono> {
        let waits = self.is_busy() && !self.has_share(now);
        self.places.fresh_place_at(self.share).filter(|_| waits)
    }
}

/// How long the answers of one sink take.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// A moving average, in which no answer counts as more than the longest time for
    /// which an attempt is fresh.
    answers_take: Option<Duration>,
    /// The quickest answer since `quickest_since`, and the quickest one before.
    quickest: [Option<Duration>; 2],
    quickest_since: Mono,
    /// When the last answer came.
    answered_at: Mono,
    /// Since when something waits for its turn that could have a place.
    waits_since: Option<Mono>,
    /// When it last began more because it was mute.
    more_at: Mono,
    /// How the attempts began that ended since [`Shares`] last looked.
    began: Began,
}

impl Pace {
    /// An answer came after `took`.
    pub fn answered(&mut self, took: Duration, now: Mono) {
        self.answered_at = now;
        if self.quickest_since + QUICKEST_OF <= now {
            self.quickest_since = now;
            self.quickest = [None, self.quickest[0]];
        }
        let [quickest, _] = &mut self.quickest;
        *quickest = Some(quickest.map_or(took, |quickest| quickest.min(took)));
        let took = took.min(FRESH_AT_MOST);
        let before = self.answers_take.unwrap_or(took);
        self.answers_take = Some((before * 7 + took) / 8);
    }

    /// An attempt that began at `started` has ended, after it had waited so long for this
    /// machine.
    pub fn waited(&mut self, waited: Duration, started: Mono, now: Mono) {
        if waited >= BUSY_AFTER {
            self.began.late += 1;
        } else if now.saturating_sub(started) < RECENT {
            self.began.at_once += 1;
        }
    }

    /// How many attempts at a time bring an answer every [`ANSWER_EVERY`], if all take as
    /// long as the quickest one. An average would grow with what this machine has to do,
    /// and the attempts with it.
    fn wanted(&self) -> usize {
        let quickest = self.quickest.iter().flatten().min().copied();
        let wanted = quickest.unwrap_or_default().as_micros() / ANSWER_EVERY.as_micros();
        usize::try_from(wanted + 1).unwrap_or(usize::MAX)
    }

    /// Notes whether something waits for its turn that could have a place.
    fn note_wait(&mut self, waits: bool, now: Mono) {
        self.waits_since = waits.then(|| self.waits_since.unwrap_or(now));
    }

    /// More attempts begin because the sink is mute.
    pub fn begins_more(&mut self, now: Mono) {
        self.more_at = now;
    }

    /// Since when something waits and no answer has come.
    pub fn silent_since(&self, now: Mono) -> Mono {
        let waits_since = self.waits_since.unwrap_or(now);
        waits_since.max(self.answered_at).max(self.more_at)
    }

    /// Until when an attempt that began at `started` is fresh.
    pub fn fresh_until(&self, started: Mono) -> Mono {
        let take = self.answers_take.unwrap_or(FRESH_AT_MOST);
        started + (take * 3).clamp(FRESH_AT_LEAST, FRESH_AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::delivery::sinks::NoneSink;
    use crate::model::Route;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn attempts_are_as_many_as_bring_an_answer_every_five_milliseconds_if_all_are_quick() {
        let mut pace = Pace::default();
        assert_eq!(pace.wanted(), 1);
        // The quickest answer is remembered for half a minute at least.
        for (now, took, wanted) in [
            (0, 20, 5),
            (1_000, 50, 5),
            (31_000, 50, 5),
            (62_000, 50, 11),
        ] {
            pace.answered(millis(took), millis(now));
            assert_eq!(pace.wanted(), wanted, "{now}");
        }
    }

    #[test]
    fn what_began_a_second_ago_does_not_tell_that_this_machine_keeps_up() {
        for (waited, started, at_once, late) in [(0, 1, 1, 0), (0, 0, 0, 0), (1, 0, 0, 1)] {
            let mut pace = Pace::default();
            pace.waited(millis(waited), millis(started), millis(1000));
            assert_eq!((pace.began.at_once, pace.began.late), (at_once, late));
        }
    }

    #[test]
    fn a_sink_that_began_more_is_mute_again_only_a_while_later() {
        let mut pace = Pace::default();
        pace.note_wait(true, millis(10));
        assert_eq!(pace.silent_since(millis(100)), millis(10));
        pace.begins_more(millis(70));
        assert_eq!(pace.silent_since(millis(100)), millis(70));
    }

    #[test]
    fn how_many_mute_sinks_may_begin_more_follows_from_how_attempts_began() {
        let mut shares = Shares::default();
        for (at_once, late, is_mute, most) in [
            (0, 0, true, Some(MUTE_SINKS * 2)),
            (0, 0, true, Some(MUTE_SINKS * 4)),
            (10, 1, true, None),
            (0, 0, true, Some(MUTE_SINKS)),
            (10, 1, true, None),
            (10, 2, true, Some(MUTE_SINKS)),
            (10, 0, false, Some(MUTE_SINKS)),
        ] {
            shares.began = Began { at_once, late };
            shares.begin_round(is_mute, Mono::ZERO);
            assert_eq!(shares.most, most, "{at_once} {late}");
        }
    }

    #[test]
    fn the_attempts_of_all_sinks_tell_how_busy_this_machine_is() {
        let zero = Now {
            wall: chrono::DateTime::UNIX_EPOCH,
            mono: Mono::ZERO,
        };
        let outbox = || Outbox::new(&NoneSink, &Route::default(), None, 0, 0, zero);
        let mut outboxes = [outbox(), outbox()];
        for outbox in &mut outboxes {
            let pace = outbox.places.pace();
            pace.waited(Duration::ZERO, Mono::ZERO, Mono::ZERO);
            pace.waited(millis(1), Mono::ZERO, Mono::ZERO);
        }
        let mut shares = Shares::default();
        shares.set(&mut outboxes, millis(1));
        assert_eq!((shares.began.at_once, shares.began.late), (2, 2));
    }
}
