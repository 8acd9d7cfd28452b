//! The one limit on requests to the API (rule R9).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Mono;

/// A clock that governor can read and the coordinator sets, so that simulated time
/// counts.
#[derive(Debug, Clone, Default)]
struct SetClock(Arc<AtomicU64>);

impl SetClock {
    fn set(&self, now: Mono) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// How many requests may go to the API, and when.
///
/// The next token is put aside for the poller before anything else gets one:
/// a due poll always finds it there.
#[derive(Debug)]
pub(super) struct Budget {
    limiter: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
    clock: SetClock,
    kept: bool,
    period: Duration,
    /// How many tokens can be spent at once.
    burst: u32,
    /// When all tokens are there again, if none is drawn until then.
    full_at: Mono,
    /// When the next token is there, once one was missing.
    next_token: Option<Mono>,
}

impl Budget {
    /// At most `per_minute` requests in any minute, but 3 at least, a quarter of
    /// them at once, but 2 at least.
    pub fn new(per_minute: NonZeroU32) -> Self {
        // What is spent at once comes out of the minute's budget: the burst, and
        // the token that was put aside.
        let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let burst = at_least_one((per_minute.get() / 4).saturating_sub(1));
        let steady = at_least_one(per_minute.get().saturating_sub(burst.get() + 1));
        let clock = SetClock::default();
        Self {
            limiter: RateLimiter::direct_with_clock(
                Quota::per_minute(steady).allow_burst(burst),
                clock.clone(),
            ),
            clock,
            kept: false,
            period: Duration::from_secs(60) / steady.get(),
            burst: burst.get(),
            full_at: Mono::ZERO,
            next_token: None,
        }
    }

    /// Moves its clock on.
    pub fn advance(&mut self, now: Mono) {
        self.clock.set(now);
        self.next_token = None;
        self.keep();
    }

    /// How long a token takes to come, once all are spent.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Takes the token that was kept for a poll.
    pub fn take_for_poll(&mut self) -> bool {
        std::mem::take(&mut self.kept)
    }

    /// Takes a token that no poll needs.
    pub fn take(&mut self) -> bool {
        self.keep();
        self.kept && self.draw()
    }

    /// Takes a token for what has time. Half of the tokens that can be spent at once
    /// must be there, so that a webhook that comes right after it finds one. With so
    /// small a budget that there is one token, it must be there: a webhook that comes
    /// next is answered by a list then.
    pub fn take_spare(&mut self) -> bool {
        self.keep();
        let missing = self.full_at.saturating_sub(self.clock.now().into());
        missing <= self.period * (self.burst / 2) && self.take()
    }

    /// When a token that was missing is there.
    pub fn next_token(&self) -> Option<Mono> {
        self.next_token
    }

    fn keep(&mut self) {
        if !self.kept {
            self.kept = self.draw();
        }
    }

    fn draw(&mut self) -> bool {
        match self.limiter.check() {
            Ok(()) => {
                let now = self.clock.now().into();
                self.full_at = self.full_at.max(now).saturating_add(self.period);
                true
            }
            Err(refusal) => {
                let now = self.clock.now();
                let wait: Duration = refusal.wait_time_from(now);
                self.next_token = Some(Duration::from(now) + wait);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_minute: u32) -> Budget {
        let mut budget = Budget::new(NonZeroU32::new(per_minute).unwrap());
        budget.advance(Duration::from_secs(10));
        budget
    }

    #[test]
    fn no_minute_sees_more_than_the_budget_and_a_quarter_goes_at_once() {
        for per_minute in [1, 2, 3, 7, 10, 240, 1000] {
            // One that was idle for long has all that it can have.
            let mut budget = budget(per_minute);
            budget.advance(Duration::from_secs(1000));
            let per_minute = per_minute.max(3);
            let mut spent = Vec::new();
            for tick in 0..6000u64 {
                let now = Duration::from_secs(1000) + Duration::from_millis(tick * 20);
                budget.advance(now);
                while budget.take() || budget.take_for_poll() {
                    spent.push(now);
                }
            }
            let at_once = spent.iter().filter(|at| **at == spent[0]).count();
            assert_eq!(at_once, usize::max(per_minute as usize / 4, 2));
            for (index, start) in spent.iter().enumerate() {
                let in_a_minute = spent[index..]
                    .iter()
                    .take_while(|at| **at < *start + Duration::from_secs(60))
                    .count();
                assert!(
                    in_a_minute <= per_minute as usize,
                    "{per_minute}: {in_a_minute}"
                );
            }
        }
    }

    #[test]
    fn a_poll_finds_a_token_when_fetches_have_taken_all_others() {
        let mut budget = budget(240);
        while budget.take() {}
        assert!(budget.next_token().is_some());
        assert!(budget.take_for_poll());
        assert!(!budget.take_for_poll());
    }

    #[test]
    fn what_has_time_leaves_half_of_the_tokens() {
        let mut budget = budget(240);
        while budget.take_spare() {}
        let mut left = 0;
        while budget.take() {
            left += 1;
        }
        assert!((28..=31).contains(&left), "{left}");
        assert!(budget.take_for_poll());
    }

    #[test]
    fn what_has_time_gets_the_only_token_there_is_but_not_that_of_the_poll() {
        let mut budget = budget(1);
        assert!(!budget.take_spare(), "a poll's token was drawn just now");
        budget.advance(Duration::from_secs(1000));
        assert!(budget.take_spare());
        assert!(!budget.take_spare());
        assert!(budget.take_for_poll());
        budget.advance(Duration::from_secs(1000 + 61));
        assert!(!budget.take_spare());
        assert!(budget.take_for_poll());
    }

    #[test]
    fn the_first_new_token_is_kept_for_a_poll() {
        let mut budget = budget(240);
        while budget.take() {}
        assert!(budget.take_for_poll());
        budget.advance(Duration::from_millis(10_000 + 334));
        assert!(!budget.take());
        assert!(budget.take_for_poll());
    }
}
