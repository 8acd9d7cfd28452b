//! Which daemon sends: each says so in the address of its sinks, where nothing else looks
//! at it. Two at once must never command: [`Senders`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// Another daemon begins to send no sooner than this after the one before began: a
/// take-over needs five seconds of watching. If it does, the first has sent after the
/// second took over.
const APART: TimeDelta = TimeDelta::seconds(4);

/// Who has sent, over all receivers. Clones are handles of the same one.
#[derive(Clone, Default)]
pub struct Senders(Arc<Mutex<Sent>>);

#[derive(Default)]
pub struct Sent {
    /// Who sends, and when it began, UTC.
    now: Option<(String, DateTime<Utc>)>,
    /// How often another daemon began to send.
    pub changes: u64,
    /// When two sent at once.
    pub violations: Vec<String>,
}

impl Senders {
    /// A request of `by` has begun at `at`, UTC.
    pub fn note(&self, by: &str, at: DateTime<Utc>) {
        let mut sent = self.sent();
        match &sent.now {
            Some((last, _)) if last == by => return,
            Some((last, since)) if at - *since < APART => {
                let both = format!("{by} sent {} after {last} had begun to", at - *since);
                sent.violations.push(both);
            }
            _ => {}
        }
        sent.changes += u64::from(sent.now.is_some());
        sent.now = Some((by.to_owned(), at));
    }

    pub fn sent(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
