//! The only place that tells the time.
//!
//! Everything else is told what time it is, or asks a [`Clock`]. A simulated
//! clock can then stand in, jump, and fall back, as real ones do.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use crate::system::uptime;

/// A point on a clock that never jumps and counts the time for which the
/// machine was suspended, as the time since the clock was made.
pub type Mono = Duration;

/// What both clocks showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, UTC. It may jump either way.
    pub wall: DateTime<Utc>,
    /// The clock that only moves forward and counts suspend. Staleness, pauses
    /// and deadlines go by it.
    pub mono: Mono,
}

/// Tells the time and waits.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, now.
    fn now(&self) -> Now;

    /// Returns once `mono` has passed. After a suspend it returns a second late
    /// at most.
    fn sleep_until(&self, mono: Mono) -> impl Future<Output = ()> + Send;
}

/// The longest single sleep. The runtime's timers do not count suspend, so
/// after a wake-up a sleep may last this long although its time has passed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// `duration` times `factor`, and the longest duration where there is no such
/// one. A factor below 0 counts as 0.
pub fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

/// The wall clock `ahead` of `wall`, and the latest time there is where that is
/// beyond it.
pub fn wall_after(wall: DateTime<Utc>, ahead: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(ahead)
        .ok()
        .and_then(|ahead| wall.checked_add_signed(ahead))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    /// How long the machine was up when this clock was made.
    origin: Duration,
}

impl SystemClock {
    /// A clock whose [`Mono`] starts at zero now.
    pub fn new() -> Self {
        Self { origin: uptime() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one reader of the clock"
    )]
    fn now(&self) -> Now {
        Now {
            // Finer than that is noise to whoever reads it.
            wall: Utc::now().trunc_subsecs(3),
            mono: uptime().saturating_sub(self.origin),
        }
    }

    async fn sleep_until(&self, mono: Mono) {
        sleep_in_pieces(|| self.now().mono, mono).await;
    }
}

/// Returns once `now` shows `until`.
pub(crate) async fn sleep_in_pieces(mut now: impl FnMut() -> Mono, until: Mono) {
    loop {
        let left = until.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn the_clock_that_never_jumps_counts_what_the_kernel_counts_across_suspends() {
        let kernel = || {
            let time = clock_gettime(ClockId::Boottime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let before = kernel();
        let clock = SystemClock::new();
        let after = kernel();
        let (least, now, most) = (kernel() - after, clock.now().mono, kernel() - before);
        assert!(least <= now + (after - before) && now <= most);
    }

    #[tokio::test]
    async fn a_sleep_is_never_over_early() {
        let clock = SystemClock::new();
        let until = clock.now().mono + Duration::from_millis(30);
        clock.sleep_until(until).await;
        assert!(clock.now().mono >= until);
        // What has passed is not slept for.
        clock.sleep_until(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_suspend_is_noticed_within_a_second_of_waking() {
        let eight_hours = Duration::from_secs(8 * 3600);
        let mut looks = 0;
        // The machine is suspended right after the first look at the clock.
        let now = || {
            looks += 1;
            if looks == 1 { Mono::ZERO } else { eight_hours }
        };
        let woken = SystemClock::new();
        sleep_in_pieces(now, Duration::from_secs(3600)).await;
        assert_eq!(looks, 2);
        assert!(woken.now().mono < Duration::from_secs(30));
    }

    #[test]
    fn no_duration_is_too_long_to_be_scaled_or_added() {
        let second = Duration::from_secs(1);
        assert_eq!(scaled(second, 1.5), Duration::from_millis(1500));
        assert_eq!(scaled(Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(scaled(Duration::MAX, 1.1), Duration::MAX);
        assert_eq!(scaled(second, -1.0), Duration::ZERO);
        let epoch = DateTime::UNIX_EPOCH;
        assert_eq!(wall_after(epoch, second), epoch + second);
        assert_eq!(wall_after(epoch, Duration::MAX), DateTime::<Utc>::MAX_UTC);
    }
}
