//! Keeps the last list, so that a list that says the same costs nothing.
//!
//! Most polls say what the one before said. An entry that is just as the list
//! has it is not touched for that: that it was confirmed, when, and by which
//! question, is written on the last list alone.

use chrono::{DateTime, Utc};
use imbl::OrdSet;

use super::phase::passed_too_early;
use crate::model::{Asked, DispatchId, Entry, Reading};

/// The last list that was taken in.
#[derive(Debug, Clone)]
pub(super) struct LastList {
    /// The question that it answers.
    pub asked: Asked,
    /// When it was taken in, UTC.
    pub at: DateTime<Utc>,
    /// Ids of current entries that it does not confirm: the entry is not as the list has
    /// it, or it has something to add, or one of both is missing.
    apart: OrdSet<DispatchId>,
}

impl LastList {
    pub fn new(asked: Asked, at: DateTime<Utc>, apart: OrdSet<DispatchId>) -> Self {
        Self { asked, at, apart }
    }

    /// Whether it confirms `entry`, which is current, as it is.
    pub fn confirms(&self, entry: &Entry) -> bool {
        !self.apart.contains(entry.id())
    }

    /// It confirms this one no longer.
    pub fn set_apart(&mut self, id: &DispatchId) {
        self.apart.insert(id.clone());
    }
}

/// A dispatch that a list may say something new of.
#[derive(Debug)]
pub(super) struct Open<'l> {
    pub id: DispatchId,
    /// What the list says of it. `None` if it lacks it.
    pub reading: Option<&'l Reading>,
}

impl<'l> Open<'l> {
    pub fn new(id: &DispatchId, reading: Option<&'l Reading>) -> Self {
        let id = id.clone();
        Self { id, reading }
    }
}

/// Whether a list that was asked for at `asked` has `entry` just as it is, so
/// that the same list would change nothing but when it was confirmed. `reading`
/// is what the list says of it.
pub(super) fn confirms_wholly(
    reading: Option<&Reading>,
    asked: Asked,
    entry: &Entry,
    now: DateTime<Utc>,
) -> bool {
    entry.asked == asked
        && entry.inquiry.doubts().next().is_none()
        // An answer by which the clock is right may undo it yet.
        && !passed_too_early(entry, now)
        // A start or an end may pass yet, and nothing but an answer says so.
        && (!entry.phase.is_over() || (entry.started && entry.ended))
        && reading.is_some_and(|reading| reading.shares(&entry.dispatch))
}
