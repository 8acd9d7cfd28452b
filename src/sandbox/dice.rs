//! The sandbox's chances, all from one seed, so that a run can be replayed.
//!
//! Each purpose has a stream of its own: how often a client polls must not
//! change which webhooks are lost. A stream takes the same number of draws
//! whatever the faults are, so turning one fault leaves the others alone.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::faults::Faults;

/// No vowels, so that no words come out, and no characters that look alike.
const ID_LETTERS: &[u8] = b"23456789bcdfghjkmnpqrstvwxz";

/// As long as the ids that the upstream has shown, `dkmq` for one.
const ID_LENGTH: usize = 4;

/// What becomes of one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handling {
    /// It is lost. The upstream takes it for delivered.
    pub(super) dropped: bool,
    /// How long it is under way.
    pub(super) delay: Duration,
    /// How long its copy is under way, if there is one.
    pub(super) copy: Option<Duration>,
}

/// What becomes of one answer of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Luck {
    /// The answer is an error.
    pub(super) error: bool,
    /// The answer is cut off.
    pub(super) truncated: bool,
}

/// The streams of chances.
#[derive(Debug)]
pub(super) struct Dice {
    ids: SmallRng,
    webhooks: SmallRng,
    answers: SmallRng,
    /// No id is given twice, also after the seed was set again: a client
    /// would take the second for an update of the first.
    used: HashSet<String>,
}

impl Dice {
    /// The streams that belong to `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let [ids, webhooks, answers] = streams(seed);
        Self {
            ids,
            webhooks,
            answers,
            used: HashSet::new(),
        }
    }

    /// Starts all streams again, from `seed`.
    pub(super) fn reseed(&mut self, seed: u64) {
        [self.ids, self.webhooks, self.answers] = streams(seed);
    }

    /// A new id, for a dispatch or a webhook.
    pub(super) fn id(&mut self) -> String {
        loop {
            let id: String = (0..ID_LENGTH)
                .map(|_| char::from(ID_LETTERS[self.ids.random_range(0..ID_LETTERS.len())]))
                .collect();
            if self.used.insert(id.clone()) {
                return id;
            }
        }
    }

    /// What becomes of the next webhook.
    pub(super) fn handling(&mut self, faults: &Faults) -> Handling {
        let [drop, copy, delay, copy_delay]: [f64; 4] = self.webhooks.random();
        let [min, max] = faults.webhook_delay_ms;
        let under_way = |share: f64| {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            min + max.saturating_sub(min).mul_f64(share)
        };
        Handling {
            dropped: drop < faults.drop_webhooks,
            delay: under_way(delay),
            copy: (copy < faults.duplicate_webhooks).then(|| under_way(copy_delay)),
        }
    }

    /// What becomes of the next answer.
    pub(super) fn luck(&mut self, faults: &Faults) -> Luck {
        let [error, truncated]: [f64; 2] = self.answers.random();
        Luck {
            error: error < faults.api_error_rate,
            truncated: truncated < faults.truncate_bodies,
        }
    }
}

/// A seed that the system drew. Short, so that it can be typed and survives
/// every JSON reader.
pub(super) fn draw_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

fn streams(seed: u64) -> [SmallRng; 3] {
    let mut root = SmallRng::seed_from_u64(seed);
    std::array::from_fn(|_| SmallRng::from_rng(&mut root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_loss() -> Faults {
        Faults {
            drop_webhooks: 0.5,
            duplicate_webhooks: 0.3,
            webhook_delay_ms: [10, 90],
            api_error_rate: 0.4,
            truncate_bodies: 0.2,
            ..Faults::default()
        }
    }

    #[test]
    fn the_same_seed_brings_the_same_fates() {
        let faults = some_loss();
        let (mut one, mut other) = (Dice::new(7), Dice::new(7));
        for _ in 0..100 {
            assert_eq!(one.handling(&faults), other.handling(&faults));
            assert_eq!(one.luck(&faults), other.luck(&faults));
        }
        assert_eq!(one.id(), other.id());
    }

    #[test]
    fn how_often_the_api_is_asked_does_not_change_which_webhooks_are_lost() {
        let faults = some_loss();
        let (mut quiet, mut busy) = (Dice::new(7), Dice::new(7));
        for _ in 0..50 {
            busy.luck(&faults);
            busy.id();
            assert_eq!(quiet.handling(&faults), busy.handling(&faults));
        }
    }

    #[test]
    fn a_webhook_is_under_way_for_as_long_as_the_faults_allow() {
        let faults = some_loss();
        let mut dice = Dice::new(1);
        for _ in 0..200 {
            let handling = dice.handling(&faults);
            for delay in [Some(handling.delay), handling.copy].into_iter().flatten() {
                assert!((10..=90).contains(&delay.as_millis()), "{delay:?}");
            }
        }
    }

    #[test]
    fn setting_the_seed_again_replays_the_fates_and_repeats_no_id() {
        let faults = some_loss();
        let mut dice = Dice::new(3);
        let handlings: Vec<Handling> = (0..20).map(|_| dice.handling(&faults)).collect();
        let id = dice.id();
        dice.reseed(3);
        let again: Vec<Handling> = (0..20).map(|_| dice.handling(&faults)).collect();
        assert_eq!(handlings, again);
        assert_ne!(id, dice.id());
    }
}
