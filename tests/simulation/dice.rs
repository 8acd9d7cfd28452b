//! All chances of a run, each a function of the seed and of what it is for.
//!
//! No stream is shared: taking one incident out of a scenario leaves the luck
//! of all others as it was. Without that no failing run could be shortened.

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// The dice of one seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5eed_5eed_5eed_5eed))
    }

    /// The chances of one purpose, told apart by `keys`.
    pub fn roll(self, purpose: &str, keys: &[u64]) -> SmallRng {
        SmallRng::seed_from_u64(self.number(purpose, keys))
    }

    /// One number for a purpose, told apart by `keys`.
    pub fn number(self, purpose: &str, keys: &[u64]) -> u64 {
        let named = purpose
            .bytes()
            .fold(self.0, |state, byte| mix(state ^ u64::from(byte)));
        keys.iter().fold(named, |state, key| mix(state ^ *key))
    }
}

/// The finalizer of SplitMix64: every bit of the input reaches every other.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_purpose_has_the_same_luck_whatever_else_is_asked() {
        let dice = Dice::new(7);
        let before = dice.number("webhook", &[3]);
        dice.number("answer", &[1]);
        assert_eq!(dice.number("webhook", &[3]), before);
        assert_ne!(dice.number("webhook", &[4]), before);
        assert_ne!(Dice::new(8).number("webhook", &[3]), before);
    }
}
