//! What the API's answers tell in passing: how much may be asked yet, and what
//! time it is there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use http::header::{AGE, DATE};

use crate::clock::wall_after;

/// How much may be asked yet.
const REMAINING: &str = "x-ratelimit-remaining";

/// How far the API's clock may be from ours and still agree with it (rule R4).
const CLOCKS_AGREE: TimeDelta = TimeDelta::minutes(1);

/// When an answer was made, as its headers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// How long caches have kept it (`Age`), in whole seconds. Zero when the API
    /// itself has just made it.
    pub age: Duration,
    /// The API's clock less ours, from `Date` and `Age`. `None` when it did not
    /// tell the time.
    pub clock_skew: Option<TimeDelta>,
}

impl Stamp {
    /// Reads the headers of an answer that came at `now`.
    pub(super) fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        // Caches one behind the other may each have added a header, of which
        // `headers::Age` reads none.
        let ages = headers.get_all(AGE).iter();
        let age = ages.filter_map(|age| seconds(age.to_str().ok()?)).max();
        let age = age.unwrap_or_default();
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let made = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let there = made.map(|made: SystemTime| wall_after(made.into(), age));
        Self {
            age,
            clock_skew: there.map(|there| there - now),
        }
    }

    /// Whether the API's clock and ours agree, as far as it told the time.
    pub fn clock_agrees(&self) -> bool {
        self.clock_skew
            .is_none_or(|skew| skew.abs() <= CLOCKS_AGREE)
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds mean a long time.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    remaining: Option<u64>,
    skew: Option<TimeDelta>,
}

/// What the newest answer told in passing. What it left out stays as it was.
#[derive(Debug, Default)]
pub struct Signals(Mutex<Seen>);

impl Signals {
    /// Requests that the API says it will still take. What time that is for is
    /// not documented.
    pub fn remaining(&self) -> Option<u64> {
        self.seen().remaining
    }

    /// The API's clock less ours. It tells whole seconds and takes a while to
    /// arrive, so clocks that agree show up to a second less than nothing.
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        self.seen().skew
    }

    /// Reads the headers of an answer that came at `now`.
    pub(super) fn note(&self, headers: &HeaderMap, now: DateTime<Utc>) {
        let remaining = headers
            .get(REMAINING)
            .and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let skew = Stamp::read(headers, now).clock_skew;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remaining = remaining.or(seen.remaining);
        seen.skew = skew.or(seen.skew);
    }

    fn seen(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_answer_counts_and_what_it_leaves_out_stays() {
        let signals = Signals::default();
        assert_eq!((signals.remaining(), signals.clock_skew()), (None, None));
        let now = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(784_111_770_500);
        let mut headers = HeaderMap::new();
        headers.insert(REMAINING, "99".parse().unwrap());
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        signals.note(&headers, now);
        headers.insert(REMAINING, "many".parse().unwrap());
        headers.insert(DATE, "yesterday".parse().unwrap());
        signals.note(&headers, now);
        signals.note(&HeaderMap::new(), now);
        assert_eq!(signals.remaining(), Some(99));
        assert_eq!(signals.clock_skew(), Some(TimeDelta::milliseconds(6500)));
    }

    #[test]
    fn an_answer_tells_how_old_it_is_and_what_time_it_is_there() {
        let now: DateTime<Utc> = "1994-11-06T08:50:37Z".parse().unwrap();
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            Stamp::read(&headers, now)
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read(&[]), Stamp::default());
        let cached = read(&[date, ("age", "60")]);
        assert_eq!(cached.age, Duration::from_secs(60));
        assert_eq!(cached.clock_skew, Some(TimeDelta::zero()));
        assert!(cached.clock_agrees() && read(&[date]).clock_agrees());
        assert!(!read(&[date, ("age", "121")]).clock_agrees());
        assert_eq!(read(&[("age", "7"), ("age", " 31 ")]).age.as_secs(), 31);
        for unreadable in ["", "-5", "soon", "1.5"] {
            assert_eq!(read(&[("age", unreadable)]), Stamp::default());
        }
        let ancient = read(&[date, ("age", "99999999999999999999999")]);
        assert_eq!(ancient.age.as_secs(), u64::MAX);
        assert!(!ancient.clock_agrees());
    }
}
