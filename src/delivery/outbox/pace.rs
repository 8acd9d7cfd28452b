//! Decides how many attempts may begin at each sink while other sinks begin theirs.
//!
//! A dispatch may call on 20,000 sites of 200 sinks. If all attempts began at once, each
//! would open a connection of its own, and all would be late. So an attempt counts as
//! *fresh* until it ends or has lasted longer than the sink's answers take. The number of
//! fresh attempts over all sinks is bounded, and each sink has a share of them: what the
//! receiver of one sink holds up holds up no other sink.
//!
//! A sink that has its share and gets no answer may have subjects that hang. It may begin
//! more, but only a few sinks may do so at a time: when this machine is too busy, no sink
//! gets answers.

use std::time::Duration;

use super::Outbox;
use crate::clock::Mono;

/// The fresh attempts at all sinks, shared by those that have something to send.
const FRESH: usize = 1024;

/// The fresh attempts that each sink may have, however many sinks there are.
const FRESH_OF_EACH: usize = 4;

/// An attempt is fresh for three times as long as answers take, and at least this long.
const FRESH_AT_LEAST: Duration = Duration::from_millis(60);

/// An attempt is fresh at most this long, and so long while no answer is known.
const FRESH_AT_MOST: Duration = Duration::from_millis(500);

/// A sink that has its share is mute when no answer has come for so long.
const MUTE_AFTER: Duration = Duration::from_millis(60);

/// The attempts that a mute sink may begin: 256 that hang are passed within 0.96 s
/// (rule R6).
const OF_A_MUTE_SINK: usize = 16;

/// How many mute sinks may begin more within [`MUTE_AFTER`].
const MUTE_SINKS: usize = 8;

/// Shares the fresh attempts among the outboxes of all sinks.
#[derive(Debug, Default)]
pub struct Shares {
    /// When the last mute sinks got more, and how many of them.
    given: Option<(Mono, usize)>,
    /// Whether a mute sink waits for others.
    waits: bool,
}

impl Shares {
    /// Says to each outbox how many fresh attempts it may have.
    pub fn set(&mut self, outboxes: &mut [Outbox], now: Mono) {
        let busy = outboxes.iter().filter(|outbox| outbox.is_busy()).count();
        let share = (FRESH / busy.max(1)).max(FRESH_OF_EACH);
        let mut mute: Vec<(Mono, &mut Outbox)> = Vec::new();
        for outbox in outboxes {
            outbox.share = share;
            if let Some(at) = outbox.mute_at(now).filter(|at| *at <= now) {
                mute.push((at, outbox));
            }
        }
        let given = match self.given {
            Some((at, given)) if at + MUTE_AFTER > now => (at, given),
            _ => (now, 0),
        };
        let may = MUTE_SINKS.saturating_sub(given.1);
        self.waits = mute.len() > may;
        let served = mute.len().min(may);
        self.given = (given.1 + served > 0).then_some((given.0, given.1 + served));
        // The sink that has waited longest first.
        mute.sort_by_key(|(at, _)| *at);
        for (_, outbox) in mute.into_iter().take(may) {
            outbox.share = share.max(OF_A_MUTE_SINK);
            outbox.places.write_off();
        }
    }

    /// When a mute sink that waits for others may begin more.
    pub fn next_due(&self) -> Option<Mono> {
        let (at, _) = self.given.filter(|_| self.waits)?;
        Some(at + MUTE_AFTER)
    }
}

impl Outbox {
    /// Whether something waits for its turn that could have a place.
    fn is_busy(&self) -> bool {
        !self.lines.is_empty() && !self.places.is_full()
    }

    /// Whether another attempt may be fresh.
    pub(super) fn has_share(&self, now: Mono) -> bool {
        self.places.has_fresh_place(self.share, now)
    }

    /// When the sink is mute, if it has its share and waits for more.
    pub(super) fn mute_at(&self, now: Mono) -> Option<Mono> {
        let waits = self.is_busy() && !self.has_share(now);
        waits.then(|| self.places.silent_since() + MUTE_AFTER)
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
    /// When the last answer came.
    pub answered_at: Mono,
}

impl Pace {
    /// An answer came after `took`.
    pub fn answered(&mut self, took: Duration, now: Mono) {
        let took = took.min(FRESH_AT_MOST);
        let before = self.answers_take.unwrap_or(took);
        self.answers_take = Some((before * 7 + took) / 8);
        self.answered_at = now;
    }

    /// Until when an attempt that began at `started` is fresh.
    pub fn fresh_until(&self, started: Mono) -> Mono {
        let take = self.answers_take.unwrap_or(FRESH_AT_MOST);
        started + (take * 3).clamp(FRESH_AT_LEAST, FRESH_AT_MOST)
    }
}
