//! Keeps the events that operators gave up, until that is on disk.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::delivery::Skipped;
use crate::model::{DispatchId, SkippedEvent};

/// An event that an operator gave up at one sink, as the history keeps it.
#[derive(Debug, Clone)]
pub(super) struct Skip {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// The dispatches whose history keeps it.
    pub dispatches: Vec<DispatchId>,
    /// The event.
    pub event: SkippedEvent,
}

impl Skip {
    /// `skipped` was given up at `sink`.
    pub fn new(skipped: Skipped, sink: Arc<str>, at: DateTime<Utc>) -> Self {
        Self {
            at,
            dispatches: skipped.dispatches,
            event: SkippedEvent {
                event: skipped.id,
                event_type: skipped.event_type,
                subject: skipped.subject,
                sink,
                reason: skipped.last_reason,
            },
        }
    }
}

/// An operator who waits until what was given up is on disk.
#[derive(Debug)]
pub(super) struct Waiting<W> {
    pub waiter: W,
    pub skips: Vec<Skip>,
}

/// Operators who gave up events, and wait until that is on disk.
#[derive(Debug)]
pub(super) struct Skips<W> {
    /// What the next commit writes.
    pub waiting: Vec<Waiting<W>>,
    /// What the commit under way writes. If it fails, the next one writes that too.
    pub writing: Vec<Waiting<W>>,
}

impl<W> Default for Skips<W> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            writing: Vec::new(),
        }
    }
}

impl<W> Skips<W> {
    /// A commit begins. Gives what it is to keep in the histories.
    pub fn begin(&mut self) -> impl Iterator<Item = &Skip> {
        self.writing.append(&mut self.waiting);
        self.writing.iter().flat_map(|waiting| &waiting.skips)
    }
}
