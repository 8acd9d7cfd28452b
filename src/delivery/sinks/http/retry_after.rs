//! How long a receiver wants to be left alone.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Never longer: a receiver must not be able to silence itself for good.
const LONGEST: Duration = Duration::from_secs(300);

/// Reads a `Retry-After`, in seconds or as a date. A time that has passed, or
/// none at all, asks for nothing.
pub(super) fn parse(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds mean a long time.
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let until: DateTime<Utc> = httpdate::parse_http_date(value).ok()?.into();
        until.signed_duration_since(now).to_std().ok()?
    };
    (!wait.is_zero()).then_some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

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
