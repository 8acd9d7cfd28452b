//! The state file: SQLite, which users can open with `sqlite3`.

mod cells;
mod checkpointer;
mod forget;
mod hold;
mod open;
mod probe;
mod read;
mod record;
mod rows;
mod schema;
mod whole;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::Connection;

use self::checkpointer::Checkpointer;
use self::forget::Forgetting;
use super::lock::Lock;
use super::{
    Batch, DispatchRecord, LogHealth, OpenError, SinkState, Store, StoreError, StoreReader, Stored,
};
use crate::model::{DispatchId, Entry, Event, HistoryItem};
use crate::system::file_number;

pub use probe::Probe;
pub use whole::SqliteCopy;

/// A file as the system sees it: enough to tell that it is still the same one.
#[derive(Debug, Clone, Copy)]
struct SeenFile {
    number: u64,
    length: u64,
}

impl SeenFile {
    /// Looks at the file at `path`.
    fn at(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            number: file_number(&file),
            length: file.len(),
        })
    }

    /// Whether the file at `path` can be the same one, later. It only grows,
    /// unless somebody vacuums it: then it says itself how long it is.
    fn follows(&self, before: &Self, path: &Path) -> bool {
        let whole = || whole_length(path).is_ok_and(|length| self.length >= length);
        self.number == before.number && (self.length >= before.length || whole())
    }
}

/// The length in bytes that a database has by its own header.
fn whole_length(path: &Path) -> std::io::Result<u64> {
    let mut head = [0; 32];
    File::open(path)?.read_exact(&mut head)?;
    let [.., a, b, c, d] = head;
    let pages = u64::from(u32::from_be_bytes([a, b, c, d]));
    // A length of 64 KiB is written as 1.
    let page = match u64::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => 65_536,
        page => page,
    };
    // Zero pages: it does not say.
    Ok(if pages == 0 { u64::MAX } else { pages * page })
}

/// The writer of a state file.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped in this order: the last connection that closes folds in the rest.
    checkpointer: Checkpointer,
    connection: Connection,
    path: PathBuf,
    /// The file as it was last seen.
    seen: SeenFile,
    /// Whether the log is left to the checkpointer, however long it is.
    log_left: bool,
    /// Old events that are still to go.
    forgetting: Option<Forgetting>,
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

    /// What is known of each sink, by the sinks' names. Nothing is made or written.
    /// `found` is what [`probe`](Self::probe) says of the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn probe_sinks(
        path: &Path,
        found: Probe,
    ) -> Result<BTreeMap<Arc<str>, SinkState>, OpenError> {
        probe::sinks(path, found)
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
            _lock: None,
        })
    }

    /// Sees to it that what is written goes to the file at `path`, and that its log
    /// is folded in by whoever is to do that.
    fn prepare(&mut self) -> Result<(), StoreError> {
        // A file that was unlinked takes writes as before, and loses them; one
        // that was cut short takes them into its log alone.
        let seen = SeenFile::at(&self.path).ok();
        match seen.filter(|seen| seen.follows(&self.seen, &self.path)) {
            Some(seen) => self.seen = seen,
            None => return Err(StoreError::Removed(self.path.clone())),
        }
        let takes_over = self.checkpointer.takes_over();
        if self.log_left != takes_over {
            self.log_left = takes_over;
            open::leave_log(&self.connection, takes_over)?;
        }
        Ok(())
    }
}

impl Store for SqliteStore {
    fn log(&self) -> Arc<LogHealth> {
        self.checkpointer.health()
    }

    fn load(&mut self) -> Result<Stored, StoreError> {
        read::load(&self.connection, self.term)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.prepare()?;
        write::commit(&mut self.connection, batch)?;
        self.checkpointer.written(self.connection.total_changes());
        if let Some(asked) = Forgetting::asked_by(batch) {
            self.forgetting = Some(asked);
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        let Some(mut forgetting) = self.forgetting.take() else {
            return Ok(false);
        };
        // Whatever fails here is tried again when a batch asks for it the next time.
        self.prepare()?;
        let more = forgetting.go_on(&mut self.connection, self.term)?;
        self.checkpointer.written(self.connection.total_changes());
        self.forgetting = Some(forgetting).filter(|_| more);
        Ok(more)
    }
}

/// A reader of a state file.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
    id: String,
    /// Held while a file is read that no daemon may use.
    _lock: Option<Lock>,
}

impl SqliteReader {
    /// Reads the state file at `path`, which no daemon may use meanwhile. It is left as
    /// it is.
    ///
    /// # Errors
    /// When there is none, it is not ours, of another version, or in use.
    pub fn of_unused(path: &Path) -> Result<Self, OpenError> {
        open::unused(path)
    }

    /// The dispatch with this id, as the schedule has it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entry(&mut self, id: &DispatchId) -> Result<Option<Entry>, StoreError> {
        read::one_entry(&self.connection, id)
    }
}

impl StoreReader for SqliteReader {
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        read::history(&self.connection, id)
    }

    fn record(&mut self, id: &DispatchId) -> Result<DispatchRecord, StoreError> {
        record::read(&self.connection, &self.id, id)
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

    fn newest_site_positions(&mut self) -> Result<Vec<u64>, StoreError> {
        read::newest_site_positions(&self.connection)
    }

    fn events_at(&mut self, positions: &[u64]) -> Result<Vec<Event>, StoreError> {
        read::events_at(&self.connection, &self.id, positions)
    }
}

#[cfg(test)]
mod tests;
