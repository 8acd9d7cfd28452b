//! What the API's answers tell in passing: how much may be asked yet, and what
//! time it is there.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use http::header::DATE;

/// How much may be asked yet.
const REMAINING: &str = "x-ratelimit-remaining";

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
        let text = |name| headers.get(name)?.to_str().ok();
        let remaining = text(REMAINING).and_then(|text| text.trim().parse().ok());
        let skew = text(DATE.as_str())
            .and_then(|text| httpdate::parse_http_date(text).ok())
            .map(|date: SystemTime| DateTime::<Utc>::from(date) - now);
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
}
