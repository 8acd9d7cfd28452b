//! The schedule: every dispatch known, and when each is next due.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imbl::{OrdMap, OrdSet};

use crate::model::{DispatchId, Entry};

/// The dispatches known, by id.
///
/// A copy shares what it has in common with its original, so it costs next to
/// nothing: readers get one to keep, and a failed commit is undone by going
/// back to the copy from before.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    entries: OrdMap<DispatchId, Arc<Entry>>,
    due: OrdSet<(DateTime<Utc>, DispatchId)>,
    revision: u64,
}

impl Schedule {
    /// A schedule as it was stored.
    pub fn restore(entries: impl IntoIterator<Item = Entry>, revision: u64) -> Self {
        let mut schedule = Self {
            revision,
            ..Self::default()
        };
        for entry in entries {
            schedule.put(Arc::new(entry));
        }
        schedule
    }

    /// How many changes the schedule has seen.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The entry with this id.
    pub fn get(&self, id: &DispatchId) -> Option<&Arc<Entry>> {
        self.entries.get(id)
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the next start or end comes due, UTC. Until then the clock has
    /// nothing to say.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.due.get_min().map(|(due, _)| *due)
    }

    /// An entry that is due at `now`, the longest due first.
    pub(super) fn first_due(&self, now: DateTime<Utc>) -> Option<Arc<Entry>> {
        let (due, id) = self.due.get_min()?;
        if *due > now {
            return None;
        }
        self.entries.get(id).cloned()
    }

    /// Takes `entry` in, in place of the one with its id.
    pub(super) fn put(&mut self, entry: Arc<Entry>) {
        let id = entry.id().clone();
        let due = entry.next_due();
        let before = self.entries.insert(id.clone(), entry);
        let due_before = before.and_then(|before| before.next_due());
        if due != due_before {
            if let Some(due) = due_before {
                self.due.remove(&(due, id.clone()));
            }
            if let Some(due) = due {
                self.due.insert((due, id));
            }
        }
    }

    /// Drops the entry with this id.
    pub(super) fn remove(&mut self, id: &DispatchId) {
        if let Some(due) = self.entries.remove(id).and_then(|before| before.next_due()) {
            self.due.remove(&(due, id.clone()));
        }
    }

    /// Counts one change and gives the revision that it makes.
    pub(super) fn bump(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}
