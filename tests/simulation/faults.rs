//! Faults that last for a while.

use std::time::Duration;

/// What is wrong, and until when.
#[derive(Debug)]
pub(super) struct Faults<T>(Vec<(Duration, u64, T)>);

impl<T> Default for Faults<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Faults<T> {
    /// A fault begins. `number` is that of its incident.
    pub fn begin(&mut self, until: Duration, number: u64, fault: T) {
        self.0.push((until, number, fault));
    }

    /// The faults at `now`, with their numbers.
    pub fn at(&self, now: Duration) -> impl Iterator<Item = (u64, &T)> {
        self.0
            .iter()
            .filter(move |(until, ..)| now < *until)
            .map(|(_, number, fault)| (*number, fault))
    }

    /// All faults end.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
