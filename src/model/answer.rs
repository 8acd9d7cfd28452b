//! What the API said: the list of dispatches, or one dispatch by id.

use std::sync::Arc;

use super::{DispatchId, Reading};

/// What the API said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The whole list. One that is the very same as the last one, shared with
    /// it, says the same again; that is cheap to take in.
    List(Arc<List>),
    /// One dispatch, looked up by id.
    Found(Reading),
    /// The API's own word that it knows no such dispatch.
    Gone(DispatchId),
}

/// The list of dispatches, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct List {
    readings: Vec<Reading>,
    nameless: usize,
}

impl List {
    /// A list of elements whose id could be read, and the number of those whose
    /// could not.
    ///
    /// Of a dispatch that is there twice the one with the higher number counts,
    /// else the later one; one that can be read counts before one that cannot
    /// (rule R11).
    pub fn new(mut readings: Vec<Reading>, nameless: usize) -> Self {
        // The order of those that are there twice is kept.
        readings.sort_by(|one, other| one.id().cmp(other.id()));
        readings.dedup_by(|later, first| {
            let double = later.id() == first.id();
            if double && later.replaces(first) {
                std::mem::swap(later, first);
            }
            double
        });
        Self { readings, nameless }
    }

    /// This list, sharing with `before` what is the same: as if both were read
    /// by somebody who remembers.
    pub fn sharing(mut self, before: &Arc<Self>) -> Arc<Self> {
        if self == **before {
            return Arc::clone(before);
        }
        for reading in &mut self.readings {
            if let Some(same) = before.get(reading.id()).filter(|same| *same == reading) {
                *reading = same.clone();
            }
        }
        Arc::new(self)
    }

    /// The elements whose id could be read, by id, each id once.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// What the list says of this dispatch.
    pub fn get(&self, id: &DispatchId) -> Option<&Reading> {
        let place = self
            .readings
            .binary_search_by(|reading| reading.id().cmp(id));
        place.ok().and_then(|place| self.readings.get(place))
    }

    /// How many elements had no readable id. Such a list says nothing about
    /// which dispatches are absent (rule R3).
    pub fn nameless(&self) -> usize {
        self.nameless
    }
}
