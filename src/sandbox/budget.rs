//! How many requests the API answers in a minute.

use std::time::Duration;

use crate::clock::Mono;

/// The limit that the public sandbox announces.
const ANNOUNCED: u32 = 101;

/// The window. The upstream's is not documented; a minute is this sandbox's.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts requests in windows that begin with their first one.
#[derive(Debug, Default)]
pub(super) struct Budget {
    began: Option<Mono>,
    used: u32,
}

/// What one request learns about the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Requests a minute.
    pub(super) limit: u32,
    /// How many are left. Never 0 while nothing is refused.
    pub(super) remaining: u32,
    /// Seconds until the window ends.
    pub(super) reset: u64,
    /// This one is too many.
    pub(super) refused: bool,
}

impl Budget {
    /// Takes one request into account. A `limit` of 0 refuses none.
    pub(super) fn take(&mut self, now: Mono, limit: u32) -> Allowance {
        let began = match self.began {
            Some(began) if now.saturating_sub(began) < WINDOW => began,
            _ => {
                self.began = Some(now);
                self.used = 0;
                now
            }
        };
        let refused = limit != 0 && self.used >= limit;
        if !refused {
            self.used = self.used.saturating_add(1);
        }
        let (limit, least) = if limit == 0 {
            (ANNOUNCED, 1)
        } else {
            (limit, 0)
        };
        let left = (began + WINDOW).saturating_sub(now);
        Allowance {
            limit,
            remaining: limit.saturating_sub(self.used).max(least),
            reset: left
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            refused,
        }
    }

    /// Begins a new window with the next request.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_over_the_limit_are_refused_until_the_window_ends() {
        let mut budget = Budget::default();
        let at = Duration::from_secs;
        assert!(!budget.take(at(5), 2).refused);
        assert_eq!(budget.take(at(6), 2).remaining, 0);
        let third = budget.take(at(7), 2);
        assert!(third.refused);
        assert_eq!(third.reset, 58);
        assert!(!budget.take(at(65), 2).refused);
    }

    #[test]
    fn without_a_limit_the_public_one_is_announced_and_none_is_refused() {
        let mut budget = Budget::default();
        for _ in 0..500 {
            let allowance = budget.take(Duration::ZERO, 0);
            assert_eq!(allowance.limit, 101);
            assert!(allowance.remaining > 0);
            assert!(!allowance.refused);
        }
    }
}
