//! How long to wait before trying again.

use std::time::Duration;

/// The delay after `attempts` failures in a row: `base`, doubled with each
/// further failure up to `cap`, and then somewhere in its upper half.
///
/// `random` is in `0.0..1.0`; it keeps clients that failed together from
/// returning together.
pub fn backoff(attempts: u32, random: f64, base: Duration, cap: Duration) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    let whole = base.saturating_mul(1 << doublings).min(cap);
    whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(500);
    const CAP: Duration = Duration::from_secs(30);

    #[test]
    fn the_delay_doubles_up_to_the_cap() {
        let longest: Vec<u128> = (1..=9)
            .map(|attempts| backoff(attempts, 1.0, BASE, CAP).as_millis())
            .collect();
        assert_eq!(
            longest,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        assert_eq!(backoff(u32::MAX, 1.0, BASE, CAP), CAP);
    }

    #[test]
    fn the_random_number_takes_up_to_half_of_it_away() {
        assert_eq!(backoff(1, 0.0, BASE, CAP), Duration::from_millis(250));
        assert_eq!(backoff(1, 0.5, BASE, CAP), Duration::from_millis(375));
    }
}
