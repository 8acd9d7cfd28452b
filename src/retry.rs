//! Computes how long to wait before the next try.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::clock::scaled;

/// The longest that a `Retry-After` is obeyed (rule R9): a peer must not be able
/// to silence us for good.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The delay after `attempts` failures in a row: `base`, doubled with each
/// further failure up to `cap`, and then somewhere in its upper half.
///
/// `random` is in `0.0..1.0`; it keeps clients that failed together from
/// returning together.
pub fn backoff(attempts: u32, random: f64, base: Duration, cap: Duration) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    let whole = base.saturating_mul(1 << doublings).min(cap);
    scaled(whole, 0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// How long the peer asked to be left alone: seconds, or an HTTP date. `None`
/// when it did not say, said nothing that can be read, or asks for no time.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// By hand: `headers::RetryAfter` does not tell what it read.
fn parse(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds mean a long time.
        value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let until: DateTime<Utc> = httpdate::parse_http_date(value).ok()?.into();
        until.signed_duration_since(now).to_std().ok()?
    };
    (!wait.is_zero()).then_some(wait.min(RETRY_AFTER_MAX))
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

    fn read(value: &str) -> Option<u64> {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        parse(value, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(read("7"), Some(7));
        assert_eq!(read(" 120 "), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
    }

    #[test]
    fn nobody_is_left_alone_for_more_than_five_minutes() {
        assert_eq!(read("86400"), Some(300));
        assert_eq!(read("99999999999999999999999"), Some(300));
        assert_eq!(read("Mon, 07 Nov 2044 08:49:37 GMT"), Some(300));
    }

    #[test]
    fn what_asks_for_nothing_is_nothing() {
        for value in [
            "",
            "0",
            "-1",
            "soon",
            "1.5",
            "Sun, 06 Nov 1994 08:49:36 GMT",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
    }
}
