//! How large SQLite's log is, and whether it can be folded in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The log's size, and whether a reader keeps it from being folded into the
/// state file. Written by the thread that folds it in, read for metrics. All
/// zero where there is no log.
#[derive(Debug, Default)]
pub struct LogHealth {
    bytes: AtomicU64,
    held: AtomicBool,
}

impl LogHealth {
    /// The size of the log file in bytes, at the last look.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the log could not be folded in for a minute, because somebody
    /// holds a transaction on the state file open.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}
