//! Poll corrections: changes that the poller found and no webhook brought.
//! Start with [`Heals`], which counts them.

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
    any_webhook: bool,
    recent: BTreeMap<DispatchId, Mono>,
    recent_order: VecDeque<(Mono, DispatchId)>,
    undecided: VecDeque<(Mono, DispatchId)>,
}

impl Heals {
    /// A webhook for `id` came.
    pub fn webhook(&mut self, id: &DispatchId, now: Mono) {
        self.any_webhook = true;
        self.recent.insert(id.clone(), now);
        self.recent_order.push_back((now, id.clone()));
        self.undecided.retain(|(_, healed)| healed != id);
        if self.recent_order.len() > REMEMBERED {
            self.forget_oldest();
        }
    }

    /// The poller found a change.
    pub fn heal(&mut self, correction: Correction, now: Mono) {
        self.heals += 1;
        if !correction.withdrawn && !self.recent.contains_key(&correction.id) {
            self.undecided.push_back((now, correction.id));
        }
    }

    /// Decides what can be decided by now.
    pub fn advance(&mut self, now: Mono) {
        while self
            .recent_order
            .front()
            .is_some_and(|(at, _)| *at + AROUND < now)
        {
            self.forget_oldest();
        }
        while self
            .undecided
            .front()
            .is_some_and(|(at, _)| *at + AROUND < now)
        {
            self.undecided.pop_front();
            // Where no webhook is registered, none is missed.
            self.missed += u64::from(self.any_webhook);
        }
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
        heals.advance(at(161));
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
