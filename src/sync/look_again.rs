//! Look-ups that follow a webhook whose own look-up showed nothing new (rule R5).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use super::budget::Budget;
use crate::clock::Mono;
use crate::model::DispatchId;

/// How long after the webhook was answered the dispatch is looked up again, for
/// the first and for the last time.
const AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];

/// The largest number of dispatches that wait for such look-ups. Beyond that the
/// next poll must do.
const MOST: usize = 4096;

/// They get one in so many of the budget's requests.
const SHARE: u32 = 4;

/// When a dispatch is looked up again.
#[derive(Debug, Clone, Copy)]
struct Times {
    next: Mono,
    last: Mono,
}

/// Dispatches that are looked up again since a webhook may have been faster than
/// the API's replicas.
#[derive(Debug)]
pub(super) struct LookAgain {
    times: BTreeMap<DispatchId, Times>,
    due: BTreeSet<(Mono, DispatchId)>,
    share: Budget,
    /// A request of the share that was drawn and not used yet.
    token: bool,
    /// Webhooks after which nothing was looked up again: too many waited.
    pub dropped: u64,
}

impl LookAgain {
    /// With a share of `per_minute` requests.
    pub fn new(per_minute: NonZeroU32) -> Self {
        let share = NonZeroU32::new(per_minute.get() / SHARE).unwrap_or(NonZeroU32::MIN);
        Self {
            times: BTreeMap::new(),
            due: BTreeSet::new(),
            share: Budget::new(share),
            token: false,
            dropped: 0,
        }
    }

    /// A webhook for `id` was answered, and its look-up showed nothing new.
    pub fn hint(&mut self, id: &DispatchId, now: Mono) {
        let [first, last] = AFTER.map(|after| now + after);
        match self.times.get(id).copied() {
            // The next one comes soon enough for this webhook as well.
            Some(times) => {
                self.times.insert(id.clone(), Times { last, ..times });
            }
            None if self.times.len() >= MOST => self.dropped += 1,
            None => self.put(id, Times { next: first, last }),
        }
    }

    /// An answer of the API changed `id`: it caught up.
    pub fn caught_up(&mut self, id: &DispatchId) {
        if let Some(times) = self.times.remove(id) {
            self.due.remove(&(times.next, id.clone()));
        }
    }

    /// The dispatch to look up again now, if any of those is due that `may` allows
    /// and the share permits it.
    pub fn next(&mut self, now: Mono, may: impl Fn(&DispatchId) -> bool) -> Option<DispatchId> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let id = due.map(|(_, id)| id).find(|id| may(id))?.clone();
        self.share.advance(now);
        self.token = self.token || self.share.take();
        self.token.then_some(id)
    }

    /// The look-up of `id` is issued at `now`.
    pub fn issued(&mut self, id: &DispatchId, now: Mono) {
        self.token = false;
        let Some(times) = self.times.remove(id) else {
            return;
        };
        self.due.remove(&(times.next, id.clone()));
        if times.last > now {
            let next = times.last;
            self.put(id, Times { next, ..times });
        }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    fn put(&mut self, id: &DispatchId, times: Times) {
        self.due.insert((times.next, id.clone()));
        self.times.insert(id.clone(), times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DispatchId {
        DispatchId::new(text).unwrap()
    }

    fn at(seconds: u64) -> Mono {
        Duration::from_secs(seconds)
    }

    fn look_again() -> LookAgain {
        LookAgain::new(NonZeroU32::new(240).unwrap())
    }

    fn go(look_again: &mut LookAgain, seconds: u64) -> Option<DispatchId> {
        let id = look_again.next(at(seconds), |_| true)?;
        look_again.issued(&id, at(seconds));
        Some(id)
    }

    #[test]
    fn a_dispatch_is_looked_up_again_two_and_six_seconds_after_the_webhook() {
        let mut look_again = look_again();
        look_again.hint(&id("a"), at(10));
        assert_eq!(look_again.next_due(), Some(at(12)));
        assert_eq!(go(&mut look_again, 11), None);
        assert_eq!(go(&mut look_again, 12), Some(id("a")));
        assert_eq!(go(&mut look_again, 15), None);
        assert_eq!(go(&mut look_again, 16), Some(id("a")));
        assert_eq!(go(&mut look_again, 1000), None, "once for each webhook");
    }

    #[test]
    fn webhooks_for_one_dispatch_share_the_next_look_up_and_the_newest_has_the_last() {
        let mut look_again = look_again();
        look_again.hint(&id("a"), at(10));
        look_again.hint(&id("a"), at(11));
        assert_eq!(go(&mut look_again, 12), Some(id("a")));
        assert_eq!(go(&mut look_again, 16), None);
        assert_eq!(go(&mut look_again, 17), Some(id("a")));
        assert_eq!(go(&mut look_again, 1000), None);
    }

    #[test]
    fn a_dispatch_that_the_api_has_caught_up_with_is_not_looked_up_again() {
        let mut look_again = look_again();
        look_again.hint(&id("a"), at(10));
        look_again.caught_up(&id("a"));
        assert_eq!(
            (look_again.times.len(), go(&mut look_again, 100)),
            (0, None)
        );
    }

    #[test]
    fn a_flood_of_webhooks_costs_a_quarter_of_the_budget_and_a_bounded_memory() {
        let mut look_again = look_again();
        for number in 0..10_000 {
            look_again.hint(&id(&format!("d{number}")), at(0));
        }
        assert_eq!(
            (look_again.times.len(), look_again.dropped),
            (MOST, 10_000 - 4096)
        );
        let mut issued = 0;
        for second in 2..62 {
            while go(&mut look_again, second).is_some() {
                issued += 1;
            }
        }
        assert!((40..=60).contains(&issued), "{issued} of 240 in a minute");
    }
}
