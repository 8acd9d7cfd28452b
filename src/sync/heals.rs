//! Poll corrections: changes that the poller found and no webhook brought.
//! Start with [`Heals`], which counts them, and those that no webhook announced.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Mono;
use crate::model::DispatchId;

/// How far a webhook may be from the poll that found its change, either way.
const AROUND: Duration = Duration::from_secs(60);

/// How many recent webhooks are remembered, so that junk fills no memory.
const REMEMBERED: usize = 50_000;

/// A change that the poller found and nobody's webhook waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Correction {
    /// The dispatch that changed.
    pub id: DispatchId,
    /// Whether it was withdrawn. Voltus sends no webhook for that, so none can
    /// be missed.
    pub withdrawn: bool,
}

/// Tells a webhook that is late from one that is lost.
#[derive(Debug, Default)]
pub(super) struct Heals {
    /// Changes that the poller found.
    pub heals: u64,
    /// Those for whose id no webhook came around that time.
    pub missed: u64,
    /// The same while no webhook has come since the start although one is registered:
    /// webhooks do not get in. 0 once one has come.
    pub unannounced: u64,
    /// The same while no webhook has come since the start, whether one is registered or
    /// not. 0 once one has come.
    pub polled_only: u64,
    any_webhook: bool,
    /// Since when a webhook is registered, if one is.
    registered_since: Option<Mono>,
    poll_interval: Duration,
    recent: BTreeMap<DispatchId, Mono>,
    recent_order: VecDeque<(Mono, DispatchId)>,
    undecided: VecDeque<Undecided>,
}

/// A change whose webhook may come yet.
#[derive(Debug)]
struct Undecided {
    at: Mono,
    id: DispatchId,
    /// A webhook was registered already when it happened.
    registered: bool,
}

impl Heals {
    /// Counts the changes that polls find which are this far apart.
    pub fn new(poll_interval: Duration) -> Self {
        Self {
            poll_interval,
            ..Self::default()
        }
    }

    /// A webhook is registered at the API, or none is.
    pub fn registration(&mut self, registered: bool, now: Mono) {
        self.registered_since = registered.then(|| self.registered_since.unwrap_or(now));
    }

    /// A webhook for `id` came.
    pub fn webhook(&mut self, id: &DispatchId, now: Mono) {
        self.any_webhook = true;
        self.unannounced = 0;
        self.polled_only = 0;
        self.recent.insert(id.clone(), now);
        self.recent_order.push_back((now, id.clone()));
        self.undecided.retain(|undecided| undecided.id != *id);
        if self.recent_order.len() > REMEMBERED {
            self.forget_oldest();
        }
    }

    /// The poller found a change.
    pub fn heal(&mut self, correction: Correction, now: Mono) {
        self.heals += 1;
        if !correction.withdrawn && !self.recent.contains_key(&correction.id) {
            // The change may be as old as the poll before, which comes after the interval
            // and a tenth.
            let oldest = now.saturating_sub(self.poll_interval + self.poll_interval / 10);
            self.undecided.push_back(Undecided {
                at: now,
                id: correction.id,
                registered: self.registered_since.is_some_and(|since| since <= oldest),
            });
        }
    }

    /// Decides what can be decided by now. Gives the dispatches whose webhooks count as
    /// missed from now on.
    pub fn advance(&mut self, now: Mono) -> Vec<DispatchId> {
        let mut missed = Vec::new();
        while self
            .recent_order
            .front()
            .is_some_and(|(at, _)| *at + AROUND < now)
        {
            self.forget_oldest();
        }
        while let Some(undecided) = self
            .undecided
            .pop_front_if(|undecided| undecided.at + AROUND < now)
        {
            // Where no webhook is registered, none is missed. Whether one is that was
            // registered by hand shows when one comes.
            if self.any_webhook {
                self.missed += 1;
                missed.push(undecided.id);
            } else {
                self.polled_only += 1;
                self.unannounced += u64::from(undecided.registered);
            }
        }
        missed
    }

    fn forget_oldest(&mut self) {
        if let Some((at, id)) = self.recent_order.pop_front()
            && self.recent.get(&id) == Some(&at)
        {
            self.recent.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DispatchId {
        DispatchId::new(text).unwrap()
    }

    fn changed(text: &str) -> Correction {
        Correction {
            id: id(text),
            withdrawn: false,
        }
    }

    fn at(seconds: u64) -> Mono {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_heal_without_a_webhook_around_it_is_a_missed_webhook() {
        let mut heals = Heals::default();
        heals.webhook(&id("other"), at(0));
        heals.heal(changed("a"), at(100));
        heals.advance(at(160));
        assert_eq!((heals.heals, heals.missed), (1, 0), "it may come yet");
        assert_eq!(heals.advance(at(161)), [id("a")]);
        assert_eq!((heals.heals, heals.missed), (1, 1));
    }

    #[test]
    fn a_late_or_early_webhook_was_not_missed() {
        let mut heals = Heals::default();
        heals.heal(changed("late"), at(100));
        heals.webhook(&id("late"), at(150));
        heals.webhook(&id("early"), at(150));
        heals.advance(at(200));
        heals.heal(changed("early"), at(200));
        heals.advance(at(1000));
        assert_eq!((heals.heals, heals.missed), (2, 0));
    }

    #[test]
    fn nothing_is_missed_while_no_webhook_ever_came() {
        let mut heals = Heals::default();
        heals.heal(changed("a"), at(0));
        heals.advance(at(100));
        assert_eq!(heals.missed, 0);
    }

    /// So that an operator learns of webhooks that never get in.
    #[test]
    fn changes_are_unannounced_while_a_webhook_is_registered_and_none_ever_came() {
        let mut heals = Heals::new(Duration::from_secs(30));
        let counts = |heals: &Heals| (heals.missed, heals.unannounced);
        let polled_only = |heals: &Heals| heals.polled_only;
        heals.heal(changed("before"), at(50));
        heals.registration(true, at(51));
        heals.heal(changed("perhaps"), at(83));
        heals.advance(at(200));
        assert_eq!(counts(&heals), (0, 0), "nothing was registered then");
        for id in ["a", "b"] {
            heals.heal(changed(id), at(200));
        }
        let withdrawn = Correction {
            withdrawn: true,
            ..changed("c")
        };
        heals.heal(withdrawn, at(200));
        heals.advance(at(260));
        assert_eq!(counts(&heals), (0, 0), "their webhooks may come yet");
        heals.registration(true, at(260));
        heals.advance(at(261));
        assert_eq!(counts(&heals), (0, 2));
        assert_eq!(polled_only(&heals), 4);
        heals.webhook(&id("other"), at(300));
        assert_eq!(counts(&heals), (0, 0), "webhooks get in");
        assert_eq!(polled_only(&heals), 0);
        heals.heal(changed("d"), at(400));
        heals.advance(at(500));
        assert_eq!(counts(&heals), (1, 0));
    }

    #[test]
    fn a_withdrawal_is_a_heal_and_no_missed_webhook() {
        let mut heals = Heals::default();
        heals.webhook(&id("other"), at(0));
        let withdrawn = Correction {
            withdrawn: true,
            ..changed("a")
        };
        heals.heal(withdrawn, at(100));
        heals.heal(changed("b"), at(100));
        heals.advance(at(1000));
        assert_eq!((heals.heals, heals.missed), (2, 1));
    }
}
