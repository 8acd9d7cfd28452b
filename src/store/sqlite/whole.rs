//! Reads and writes everything that a state file holds: as the source and as the target of
//! a copy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::cells::Cells;
use super::read::{self, collect, one_entry};
use super::record::{self, PUT_STATE, settled_commands, told};
use super::rows::{SITES, site};
use super::write::{self, PUT_CHANGE, PUT_ENTRY, json, put_entry};
use super::{SqliteReader, open};
use crate::model::{DispatchId, Event, SiteId, SiteState, rfc3339};
use crate::store::whole::{PAGE, PAGE_BYTES, as_record};
use crate::store::{
    Head, OpenError, Part, SettledCommand, SinkState, StoreError, SyncRecord, WholeDispatch,
    WholeSource, WholeTarget,
};

/// How many commands a row holds. Those in the middle are deleted a row at a time.
const COMMANDS_IN_A_ROW: usize = 50;

impl WholeSource for SqliteReader {
    fn head(&mut self) -> Result<Option<Head>, StoreError> {
        let sql = "SELECT store_id, api_origin, term, revision, position, last_poll, stale
             FROM daemon";
        let head = collect(&self.connection, sql, [], |row| {
            let mut cells = Cells::of(row);
            Ok(Head {
                id: cells.text()?.into(),
                origin: cells.text()?.to_owned(),
                term: cells.value()?,
                revision: cells.value()?,
                position: cells.value()?,
                sync: SyncRecord {
                    last_poll: cells.optional_time()?,
                    stale: cells.value()?,
                },
            })
        })?;
        Ok(head.into_iter().next())
    }

    fn dispatches(&mut self, after: Option<&DispatchId>) -> Result<Vec<WholeDispatch>, StoreError> {
        let sql = "SELECT id, key, octet_length(dispatch) + coalesce(
              (SELECT sum(bytes) FROM states WHERE states.dispatch = key), 0)
             FROM dispatches WHERE id > ?1 ORDER BY id LIMIT ?2";
        let after = after.map_or("", |id| id.as_str());
        let rows = collect(&self.connection, sql, (after, PAGE), |row| {
            let mut cells = Cells::of(row);
            let id = cells.word::<DispatchId>()?;
            Ok((id, cells.value::<i64>()?, cells.value::<u64>()?))
        })?;
        let mut bytes = 0;
        let mut page = Vec::new();
        for (id, key, length) in rows {
            page.extend(dispatch(&self.connection, &id, key)?);
            bytes += length;
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }

    fn sites(&mut self, after: Option<&SiteId>) -> Result<Vec<Arc<SiteState>>, StoreError> {
        let sql = format!("{SITES} WHERE id > ?1 ORDER BY id LIMIT ?2");
        let after = after.map_or("", |id| id.as_str());
        collect(&self.connection, &sql, (after, PAGE), |row| {
            Ok(Arc::new(site(row)?))
        })
    }

    fn events_after(&mut self, position: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        read::events(&self.connection, &self.id, position, limit)
    }

    fn sinks(&mut self) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError> {
        read::sinks(&self.connection)
    }
}

/// Reads a dispatch with all that is kept of it.
fn dispatch(
    connection: &Connection,
    id: &DispatchId,
    key: i64,
) -> Result<Option<WholeDispatch>, StoreError> {
    let Some(entry) = one_entry(connection, id)? else {
        return Ok(None);
    };
    let sql = "SELECT way, asked, answered, coalesce(left_out, 0) FROM dispatches WHERE key = ?1";
    let kept = collect(connection, sql, [key], |row| {
        let mut cells = Cells::of(row);
        Ok((told(&mut cells)?, cells.value()?))
    })?;
    let (told, commands_left_out) = kept.into_iter().next().unwrap_or_default();
    let changes = "SELECT item FROM
         (SELECT 0 AS revision, created AS item FROM dispatches
          WHERE key = ?1 AND created IS NOT NULL
          UNION ALL
          SELECT revision, item FROM history WHERE dispatch = ?1)
         ORDER BY revision";
    let skipped = "SELECT item FROM skipped WHERE dispatch = ?1 ORDER BY revision, key";
    let states = "SELECT n, way, asked, answered, bytes, body FROM states
         WHERE dispatch = ?1 ORDER BY n";
    let commands = settled_commands(connection, key, id)?;
    Ok(Some(WholeDispatch {
        entry: Arc::new(entry),
        told,
        commands_left_out,
        changes: collect(connection, changes, [key], |row| Cells::of(row).json())?,
        skipped: collect(connection, skipped, [key], |row| Cells::of(row).json())?,
        states: collect(connection, states, [key], record::state)?,
        commands: commands
            .into_iter()
            .map(|line| (line.sink, line.settled))
            .collect(),
    }))
}

/// A new state file that becomes a copy of another state.
#[derive(Debug)]
pub struct SqliteCopy(SqliteReader);

impl SqliteCopy {
    /// Makes the file at `path` for a copy of the state with this id.
    ///
    /// # Errors
    /// When there is something in it already, or it cannot be made.
    pub fn begin(path: &Path, id: &str) -> Result<Self, OpenError> {
        open::begin_copy(path, id).map(Self)
    }

    /// Makes sure that a copy could be made at `path`. Nothing is made.
    ///
    /// # Errors
    /// When there is something.
    pub fn is_free(path: &Path) -> Result<(), OpenError> {
        open::is_free(path)
    }

    fn in_transaction(
        &mut self,
        write: impl FnOnce(&Transaction) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::doing::<rusqlite::Error>("be written");
        let connection = &mut self.0.connection;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(failed)?;
        write(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)
    }
}

impl WholeTarget for SqliteCopy {
    type Reader = SqliteReader;

    fn reader(&mut self) -> &mut SqliteReader {
        &mut self.0
    }

    fn write(&mut self, part: &Part) -> Result<(), StoreError> {
        self.in_transaction(|transaction| match part {
            Part::Dispatches(all) => all.iter().try_for_each(|one| put(transaction, one)),
            Part::Sites(sites) => write::sites(transaction, sites),
            Part::Events(events) => write::events(transaction, events),
            Part::Sink(name, state) => write::sink(transaction, &as_record(name, state)),
        })
    }

    fn finish(&mut self, head: &Head) -> Result<(), StoreError> {
        self.in_transaction(|transaction| {
            transaction
                .execute(
                    "INSERT INTO daemon
                     (id, store_id, api_origin, term, revision, position, last_poll, stale)
                     VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    (
                        &*head.id,
                        &head.origin,
                        head.term,
                        head.revision,
                        head.position,
                        head.sync.last_poll.map(rfc3339),
                        head.sync.stale,
                    ),
                )
                .map(drop)
        })
    }
}

/// Writes a dispatch with all that is kept of it.
fn put(transaction: &Transaction, whole: &WholeDispatch) -> rusqlite::Result<()> {
    let mut changes = whole.changes.iter();
    let mut put = transaction.prepare_cached(PUT_ENTRY)?;
    let key = put_entry(&mut put, None, &whole.entry, changes.next(), whole.told)?;
    if whole.commands_left_out > 0 {
        transaction
            .prepare_cached("UPDATE dispatches SET left_out = ?2 WHERE key = ?1")?
            .execute((key, whole.commands_left_out))?;
    }
    let mut put = transaction.prepare_cached(PUT_CHANGE)?;
    for line in changes {
        put.execute((key, line.revision, json(line)?))?;
    }
    let mut put = transaction
        .prepare_cached("INSERT INTO skipped (dispatch, revision, item) VALUES (?1, ?2, ?3)")?;
    for line in &whole.skipped {
        put.execute((key, line.revision, json(line)?))?;
    }
    let mut put = transaction.prepare_cached(PUT_STATE)?;
    for line in &whole.states {
        put.execute((
            key,
            line.number,
            line.told.map(|told| told.way.name()),
            line.told.map(|told| told.asked.timestamp_micros()),
            line.told.map(|told| told.answered.timestamp_micros()),
            line.bytes,
            line.body.as_deref(),
        ))?;
    }
    let mut of: BTreeMap<&str, Vec<SettledCommand>> = BTreeMap::new();
    for (sink, settled) in &whole.commands {
        of.entry(sink).or_default().push(settled.clone());
    }
    for (sink, settled) in of {
        for some in settled.chunks(COMMANDS_IN_A_ROW) {
            record::commands(transaction, sink, some)?;
        }
    }
    Ok(())
}
