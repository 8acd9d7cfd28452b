//! What survives a restart: schedule, history and outgoing events, written
//! together (rules R5 and R12).
//!
//! The traits are small, so that another database can follow: one commit of a
//! batch against an expected revision and term, and reads.

mod batch;
mod error;
mod lease;
mod lock;
mod log;
mod memory;
mod postgres;
mod record;
mod sqlite;
mod term;
mod whole;
mod worker;

pub use batch::{Attempted, Batch, Retry, SinkRecord, SinkState, Stored, SyncRecord};
pub use error::{DatabaseError, OpenError, StoreError};
pub use lease::{Candidate, LeaseRow, LeaseStore};
pub use log::LogHealth;
pub use memory::MemoryStore;
pub use postgres::{
    DatabaseProbe, Postgres, PostgresCopy, PostgresLease, PostgresReader, PostgresStore,
    PostgresTarget, PostgresWhole, TargetError,
};
pub use record::{
    CommandLine, DeliveryEnd, DispatchRecord, NewState, SettledCommand, SinkLine, StateLine, Told,
    Tried, Way,
};
pub use sqlite::{Probe, SqliteCopy, SqliteReader, SqliteStore};
pub use whole::{
    CarryError, Checksums, Head, Kind, Part, WholeDispatch, WholeSource, WholeTarget, carry_over,
};
pub use worker::{Closed, StoreHandle};

use std::sync::Arc;

use crate::model::{DispatchId, Event, HistoryItem};

/// Takes commits. There is one writer at a time, the newest term.
pub trait Store: Send + 'static {
    /// Everything that the daemon goes on from.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what cannot be understood.
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Writes all of `batch`, synced, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another daemon has taken over;
    /// [`StoreError::OutOfStep`] when none has, and the store has another revision than
    /// the batch expects. With
    /// [`StoreError::Unknown`] the batch may be written or not: until
    /// [`settle`](Self::settle) tells, nothing else is committed. With anything else
    /// nothing was written, and it may be tried again.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Finds out what became of the batch whose commit ended with
    /// [`StoreError::Unknown`]. What it tells is final.
    ///
    /// # Errors
    /// As [`commit`](Self::commit) says; still [`StoreError::Unknown`] while the database
    /// does not answer. A store that always knows needs no such method.
    fn settle(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// Does a part of what commits have asked for and left undone: old events go.
    /// Takes a few milliseconds, so that the next commit waits for no longer. Tells
    /// whether there is more to do.
    ///
    /// # Errors
    /// As [`commit`](Self::commit) says. The rest is then left until a commit asks
    /// for it anew.
    fn tidy(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// How the write-ahead log stands, now and later. All zero without one.
    fn log(&self) -> Arc<LogHealth> {
        Arc::default()
    }
}

/// Answers questions beside the writer, without holding it up (rule R13).
pub trait StoreReader: Send + 'static {
    /// What happened to a dispatch, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError>;

    /// What is kept of a dispatch to prove how it was carried out. Empty if nothing is.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn record(&mut self, id: &DispatchId) -> Result<DispatchRecord, StoreError>;

    /// Up to `limit` events behind position `after`, oldest first. Fewer if they
    /// are large, but one if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Calls `each` with the positions behind `after` of all events that every
    /// sink gets, oldest first: those of dispatches and of the daemon.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn positions_to_deliver(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError>;

    /// The newest event of each site.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn newest_site_events(&mut self) -> Result<Vec<Event>, StoreError>;

    /// The positions of the events that
    /// [`newest_site_events`](Self::newest_site_events) gives, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn newest_site_positions(&mut self) -> Result<Vec<u64>, StoreError>;

    /// The events at these positions. Those that have gone are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn events_at(&mut self, positions: &[u64]) -> Result<Vec<Event>, StoreError>;
}

#[cfg(test)]
pub(crate) mod tests;
