//! What the API's answers tell in passing: how much may be asked yet, and what
//! time it is there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use http::header::{AGE, DATE};

use crate::clock::{Mono, Now, wall_after};

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
    /// The API's clock, from `Date` and `Age`. `None` when it did not tell the time.
    pub clock: Option<ApiClock>,
}

/// What time it was at the API when an answer came. The clock of this machine may be set
/// before the answer is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiClock {
    /// What the API's clock showed, UTC.
    pub showed: DateTime<Utc>,
    /// What our clocks showed.
    pub came: Now,
}

impl ApiClock {
    /// What it shows at `now`.
    pub fn time(&self, now: Mono) -> DateTime<Utc> {
        wall_after(self.showed, now.saturating_sub(self.came.mono))
    }

    /// The same less our clock.
    pub fn skew(&self, now: Now) -> TimeDelta {
        self.time(now.mono) - now.wall
    }

    /// Whether both clocks agreed when the answer came, and do at `now`.
    fn agrees(&self, now: Now) -> bool {
        [self.came, now]
            .into_iter()
            .all(|at| self.skew(at).abs() <= CLOCKS_AGREE)
    }
}

impl Stamp {
    /// Reads the headers of an answer that came at `now`.
    pub(super) fn read(headers: &HeaderMap, now: Now) -> Self {
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
            clock: there.map(|showed| ApiClock { showed, came: now }),
        }
    }

    /// Whether the API's clock and ours agree, as far as it told the time: when the answer
    /// came, and at `now`, when it is taken in.
    pub fn clock_agrees(&self, now: Now) -> bool {
        self.clock.is_none_or(|clock| clock.agrees(now))
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
    pub(super) fn note(&self, headers: &HeaderMap, now: Now) {
        let remaining = headers
            .get(REMAINING)
            .and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let clock = Stamp::read(headers, now).clock;
        let skew = clock.map(|clock| clock.skew(now));
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
        let now = Now {
            wall: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(784_111_770_500),
            mono: Mono::ZERO,
        };
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
        let now = Now {
            wall: "1994-11-06T08:50:37Z".parse().unwrap(),
            mono: Duration::from_secs(7),
        };
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let read = |pairs: &[(&'static str, &'static str)]| Stamp::read(&headers(pairs), now);
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read(&[]), Stamp::default());
        let cached = read(&[date, ("age", "60")]);
        assert_eq!(cached.age, Duration::from_secs(60));
        let clock = cached.clock.unwrap();
        assert_eq!(clock.skew(now), TimeDelta::zero());
        let later = Now {
            wall: now.wall - TimeDelta::seconds(100),
            mono: now.mono + Duration::from_secs(2),
        };
        assert_eq!(
            clock.skew(later),
            TimeDelta::seconds(102),
            "ours was set back"
        );
        assert!(!cached.clock_agrees(later));
        let wrong = Now {
            wall: now.wall - TimeDelta::seconds(100),
            ..now
        };
        let came_while_wrong = Stamp::read(&headers(&[date, ("age", "60")]), wrong);
        assert!(
            !came_while_wrong.clock_agrees(now),
            "it is right since then"
        );
        assert!(cached.clock_agrees(now) && read(&[date]).clock_agrees(now));
        assert!(!read(&[date, ("age", "121")]).clock_agrees(now));
        assert_eq!(read(&[("age", "7"), ("age", " 31 ")]).age.as_secs(), 31);
        for unreadable in ["", "-5", "soon", "1.5"] {
            assert_eq!(read(&[("age", unreadable)]), Stamp::default());
        }
        let ancient = read(&[date, ("age", "99999999999999999999999")]);
        assert_eq!(ancient.age.as_secs(), u64::MAX);
        assert!(!ancient.clock_agrees(now));
    }
}
