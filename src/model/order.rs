//! The order in which requests to the API were issued.

use std::fmt;

use serde::{Deserialize, Serialize};

/// When a request to the API was issued, as a place in one order over all
/// requests of all starts of the daemon (rule R2). Never a clock: clocks jump.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Asked {
    /// Which start of the daemon, counted by the store from 1.
    pub term: u64,
    /// Which request of that start: 2, 4, 6 and so on. The odd numbers are for answers
    /// that a cache made after the request before.
    pub count: u64,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.count)
    }
}
