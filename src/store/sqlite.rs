//! The state file: SQLite, which users can open with `sqlite3`.

mod cells;
mod checkpointer;
mod open;
mod probe;
mod read;
mod rows;
mod schema;
mod write;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rusqlite::Connection;

use self::checkpointer::Checkpointer;
use super::lock::Lock;
use super::{Batch, OpenError, Store, StoreError, StoreReader, Stored};
use crate::model::{DispatchId, Event, HistoryItem};

pub use probe::Probe;

/// A file as the system sees it: enough to tell that it is still the same one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    inode: u64,
    length: u64,
}

impl Seen {
    fn at(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            inode: file.ino(),
            length: file.len(),
        })
    }

    /// Whether it can be the same file, later. The database only grows: it is
    /// never vacuumed.
    fn follows(&self, before: &Self) -> bool {
        self.inode == before.inode && self.length >= before.length
    }
}

/// The writer of a state file.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped in this order: the last connection that closes folds in the rest.
    checkpointer: Checkpointer,
    connection: Connection,
    path: PathBuf,
    /// The file as it was last seen.
    seen: Seen,
    term: u64,
    id: String,
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the state file at `path` for the API at `origin`, or makes it, and
    /// begins the next term, at `now` by the wall clock.
    ///
    /// # Errors
    /// When the file is not ours, newer, another API's, in use or damaged. It
    /// is left as it is.
    pub fn open(path: &Path, origin: &str, now: DateTime<Utc>) -> Result<Self, OpenError> {
        open::open(path, origin, now)
    }

    /// Whether the state file at `path` could be opened for the API at `origin`.
    /// Nothing is made or written.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for a file in use.
    pub fn probe(path: &Path, origin: &str) -> Result<Probe, OpenError> {
        probe::probe(path, origin)
    }

    /// A second way in, for reads beside the writer.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub fn reader(&self) -> Result<SqliteReader, StoreError> {
        let connection = open::reader(&self.path)?;
        Ok(SqliteReader {
            connection,
            id: self.id.clone(),
        })
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        read::load(&self.connection, &self.path, self.term)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        // A file that was unlinked takes writes as before, and loses them; one
        // that was cut short takes them into its log alone.
        let seen = Seen::at(&self.path).ok();
        match seen.filter(|seen| seen.follows(&self.seen)) {
            Some(seen) => self.seen = seen,
            None => return Err(StoreError::Removed(self.path.clone())),
        }
        write::commit(&mut self.connection, batch)?;
        self.checkpointer.written(self.connection.total_changes());
        Ok(())
    }
}

/// A reader of a state file.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
    id: String,
}

impl StoreReader for SqliteReader {
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        read::history(&self.connection, id)
    }

    fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        read::events(&self.connection, &self.id, after, limit)
    }

    fn positions_to_deliver(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        read::positions_to_deliver(&self.connection, after, each)
    }

    fn newest_site_events(&mut self) -> Result<Vec<Event>, StoreError> {
        read::newest_site_events(&self.connection, &self.id)
    }
}

#[cfg(test)]
mod tests;
