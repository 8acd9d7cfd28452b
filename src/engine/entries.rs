//! The entries of a schedule, so that what is over costs a list nothing.
//!
//! A daemon keeps dispatches for a month after they are over. A list may say something new
//! of a dispatch that it shows, and of one that is not over; of the others it only says when
//! they can go. So a list is compared with the current entries alone, and those that can
//! go are found by the time at which they were over.

use std::cmp::Ordering;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use imbl::{OrdMap, OrdSet};

use crate::model::{DispatchId, Entry};

/// Entries by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    /// Those that are not over, and those that are and that the last list shows as they are.
    current: OrdMap<DispatchId, Arc<Entry>>,
    past: OrdMap<DispatchId, Arc<Entry>>,
    /// All that are over, by when they were.
    over: OrdSet<(DateTime<Utc>, DispatchId)>,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.current.len() + self.past.len()
    }

    pub fn get(&self, id: &DispatchId) -> Option<&Arc<Entry>> {
        self.current.get(id).or_else(|| self.past.get(id))
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let mut current = self.current.iter().peekable();
        let mut past = self.past.iter().peekable();
        std::iter::from_fn(move || {
            let order = match (current.peek(), past.peek()) {
                (Some((one, _)), Some((other, _))) => one.cmp(other),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let next = if order.is_lt() {
                &mut current
            } else {
                &mut past
            };
            next.next().map(|(_, entry)| entry)
        })
    }

    /// Those that a list is compared with, by id.
    pub fn current(&self) -> impl Iterator<Item = (&DispatchId, &Arc<Entry>)> {
        self.current.iter()
    }

    /// Whether it is one of them.
    pub fn is_current(&self, entry: &Entry) -> bool {
        entry.over_since.is_none() || self.current.contains_key(entry.id())
    }

    /// From now on it is one of them, although it is over.
    pub fn make_current(&mut self, id: &DispatchId) {
        if let Some(entry) = self.past.remove(id) {
            self.current.insert(id.clone(), entry);
        }
    }

    /// Takes `entry` in. Returns the one that it replaces.
    pub fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let id = entry.id().clone();
        let since = entry.over_since;
        let before = if since.is_none() {
            let before = self.current.insert(id.clone(), entry);
            before.or_else(|| self.past.remove(&id))
        } else {
            let before = self.past.insert(id.clone(), entry);
            before.or_else(|| self.current.remove(&id))
        };
        let since_before = before.as_ref().and_then(|before| before.over_since);
        if since != since_before {
            if let Some(since) = since_before {
                self.over.remove(&(since, id.clone()));
            }
            if let Some(since) = since {
                self.over.insert((since, id));
            }
        }
        before
    }

    /// Drops the entry with this id, and returns it.
    pub fn remove(&mut self, id: &DispatchId) -> Option<Arc<Entry>> {
        let entry = self.current.remove(id).or_else(|| self.past.remove(id))?;
        if let Some(since) = entry.over_since {
            self.over.remove(&(since, id.clone()));
        }
        Some(entry)
    }

    /// Those that are over, the longest over first, with the time since when.
    pub fn over(&self) -> impl Iterator<Item = &(DateTime<Utc>, DispatchId)> {
        self.over.iter()
    }
}
