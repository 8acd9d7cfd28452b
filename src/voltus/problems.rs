//! Parts of an answer that could not be read.

use std::fmt;

/// How many problems are told in full.
const TOLD: usize = 5;

/// What could not be read in one answer: how much, and the first few in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    count: usize,
    told: Vec<String>,
}

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(problem());
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("; "))?;
        match self.count - self.told.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
