//! Times in which something was at fault or away: [`Spans`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// From the first to the second, UTC.
pub type Span = (DateTime<Utc>, DateTime<Utc>);

/// The times in which one thing was in a bad state, oldest first.
#[derive(Debug, Default, Clone)]
pub struct Spans {
    ended: Vec<Span>,
    open: Option<DateTime<Utc>>,
}

impl Spans {
    /// The bad state begins, unless it has begun already.
    pub fn begin(&mut self, at: DateTime<Utc>) {
        self.open.get_or_insert(at);
    }

    /// The bad state ends, if it has begun.
    pub fn end(&mut self, at: DateTime<Utc>) {
        if let Some(begun) = self.open.take() {
            self.ended.push((begun, at));
        }
    }

    /// All of them; one that has not ended ends at `now`.
    pub fn until(&self, now: DateTime<Utc>) -> impl Iterator<Item = Span> {
        let open = self.open.map(|begun| (begun, now));
        self.ended.iter().copied().chain(open)
    }

    /// Whether any of `from..to` lies in the bad state.
    pub fn touch(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        self.until(to)
            .any(|(begun, ended)| begun < to && ended > from)
    }

    /// When the bad state ended last; `None` before, and while it lasts.
    pub fn good_since(&self) -> Option<DateTime<Utc>> {
        match self.open {
            Some(_) => None,
            None => self.ended.last().map(|(_, ended)| *ended),
        }
    }
}

/// How much of `of` is in none of `spans`. They may overlap.
pub fn outside(of: Span, mut spans: Vec<Span>) -> TimeDelta {
    spans.sort_unstable();
    let (mut from, to) = of;
    let mut left = TimeDelta::zero();
    for (begun, ended) in spans {
        if ended <= from {
            continue;
        }
        if begun >= to {
            break;
        }
        left += (begun - from).max(TimeDelta::zero());
        from = ended;
    }
    left + (to - from).max(TimeDelta::zero())
}

/// When the daemon was down or starting. Clones are handles of the same one.
#[derive(Debug, Default, Clone)]
pub struct Away(Arc<Mutex<Spans>>);

impl Away {
    /// The spans so far.
    pub fn spans(&self) -> MutexGuard<'_, Spans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
