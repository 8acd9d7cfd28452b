//! Reads from the state file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params, Row};

use super::cells::{Cells, damaged};
use super::rows::{ENTRIES, EVENTS, SITES, entry, event, site};
use crate::model::{DispatchId, Entry, Event, HistoryItem};
use crate::store::{Attempted, Retry, SinkState, StoreError, Stored, SyncRecord, Tried};

/// Of a page of events no further one is read once their data has so many bytes.
const PAGE_BYTES: usize = 8 << 20;

/// All that the daemon starts with.
pub(super) fn load(connection: &Connection, term: u64) -> Result<Stored, StoreError> {
    let daemon = "SELECT store_id, revision, position, last_poll, stale FROM daemon";
    let mut stored = collect(connection, daemon, [], |row| {
        let mut cells = Cells::of(row);
        Ok(Stored {
            id: cells.text()?.into(),
            term,
            revision: cells.value()?,
            position: cells.value()?,
            sync: SyncRecord {
                last_poll: cells.optional_time()?,
                stale: cells.value()?,
            },
            ..Stored::default()
        })
    })?
    .pop()
    .ok_or_else(|| damaged("table daemon is empty".to_owned()))?;
    stored.entries = collect(connection, ENTRIES, [], entry)?;
    stored.sites = collect(connection, SITES, [], site)?;
    stored.sinks = sinks(connection)?;
    Ok(stored)
}

pub(super) fn sinks(connection: &Connection) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError> {
    let mut sinks: BTreeMap<Arc<str>, SinkState> = BTreeMap::new();
    let mut each = |sql, read: &mut dyn FnMut(&mut SinkState, Cells) -> Result<(), StoreError>| {
        collect(connection, sql, [], |row| {
            let mut cells = Cells::of(row);
            let sink = sinks.entry(cells.text()?.into()).or_default();
            read(sink, cells)
        })
    };
    each(
        "SELECT sink, settled, route FROM sinks",
        &mut |sink, mut cells| {
            sink.done = cells.value()?;
            sink.route = cells.value::<Option<String>>()?.map(Arc::from);
            Ok(())
        },
    )?;
    // Rows of version 4 and before have one position each.
    let beyond = "SELECT sink, position, max(position, upto) FROM settled_beyond";
    each(beyond, &mut |sink, mut cells| {
        sink.done_beyond.insert(cells.value()?, cells.value()?);
        Ok(())
    })?;
    each(RETRIES, &mut |sink, mut cells| {
        let queue = cells.text()?.into();
        sink.retries.insert(queue, retry(&mut cells)?);
        Ok(())
    })?;
    each(ATTEMPTED, &mut |sink, mut cells| {
        let site = cells.text()?.into();
        sink.attempted.insert(site, attempted(&mut cells)?);
        Ok(())
    })?;
    Ok(sinks)
}

/// The pauses of all sinks: of which sink and subject queue, and what [`retry`] reads.
pub(super) const RETRIES: &str =
    "SELECT sink, lane, attempts, at, pause, first_attempt, last_attempt, tries FROM retries";

/// Reads what stands behind a subject queue.
pub(super) fn retry(cells: &mut Cells) -> Result<Retry, StoreError> {
    Ok(Retry {
        attempts: cells.value()?,
        at: cells.time()?,
        pause: Duration::from_millis(cells.value()?),
        tried: tried(cells)?,
    })
}

/// Reads when the first attempt and the last one began, and how many did.
fn tried(cells: &mut Cells) -> Result<Option<Tried>, StoreError> {
    let (first, last) = (cells.optional_micros()?, cells.optional_micros()?);
    let count = cells.value::<Option<u64>>()?.unwrap_or_default();
    Ok(first
        .zip(last)
        .map(|(first, last)| Tried { first, last, count }))
}

/// What was last attempted at all sinks: at which sink and site, and what
/// [`attempted`] reads.
pub(super) const ATTEMPTED: &str =
    "SELECT sink, site, position, curtailed, acknowledged, held FROM told";

/// Reads what stands behind a site.
pub(super) fn attempted(cells: &mut Cells) -> Result<Attempted, StoreError> {
    Ok(Attempted {
        position: cells.value()?,
        curtailed: cells.value()?,
        acknowledged: cells.value()?,
        held: cells.value()?,
    })
}

pub(super) fn one_entry(
    connection: &Connection,
    id: &DispatchId,
) -> Result<Option<Entry>, StoreError> {
    let sql = format!("{ENTRIES} WHERE id = ?1");
    Ok(collect(connection, &sql, [id.as_str()], entry)?.pop())
}

pub(super) fn history(
    connection: &Connection,
    id: &DispatchId,
) -> Result<Vec<HistoryItem>, StoreError> {
    collect(
        connection,
        "SELECT item FROM
         (SELECT 0 AS revision, 0 AS skip, created AS item FROM dispatches
          WHERE id = ?1 AND created IS NOT NULL
          UNION ALL
          SELECT revision, 0, item FROM history
          WHERE dispatch = (SELECT key FROM dispatches WHERE id = ?1)
          UNION ALL
          SELECT revision, key, item FROM skipped
          WHERE dispatch = (SELECT key FROM dispatches WHERE id = ?1))
         ORDER BY revision, skip",
        [id.as_str()],
        |row| Cells::of(row).json(),
    )
}

pub(super) fn events(
    connection: &Connection,
    store_id: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let sql = format!("{EVENTS} WHERE position > ?1 ORDER BY position LIMIT ?2");
    let mut all = Vec::new();
    let mut bytes = 0;
    each_row(connection, &sql, (after, limit), |row| {
        let event = event(row, store_id)?;
        bytes += event.data.get().len();
        all.push(event);
        Ok(bytes < PAGE_BYTES)
    })?;
    Ok(all)
}

pub(super) fn positions_to_deliver(
    connection: &Connection,
    after: u64,
    each: &mut dyn FnMut(u64),
) -> Result<(), StoreError> {
    let sql = "SELECT position FROM events
               WHERE position > ?1 AND type NOT GLOB 'site.*' ORDER BY position";
    each_row(connection, sql, [after], |row| {
        each(Cells::of(row).value()?);
        Ok(true)
    })
}

pub(super) fn newest_site_events(
    connection: &Connection,
    store_id: &str,
) -> Result<Vec<Event>, StoreError> {
    collect(
        connection,
        &format!(
            "{EVENTS} WHERE position IN
             (SELECT max(position) FROM events WHERE type GLOB 'site.*' GROUP BY subject)
             ORDER BY position"
        ),
        [],
        |row| event(row, store_id),
    )
}

pub(super) fn newest_site_positions(connection: &Connection) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT max(position) AS newest FROM events
               WHERE type GLOB 'site.*' GROUP BY subject ORDER BY newest";
    collect(connection, sql, [], |row| Cells::of(row).value())
}

pub(super) fn events_at(
    connection: &Connection,
    store_id: &str,
    positions: &[u64],
) -> Result<Vec<Event>, StoreError> {
    let sql = format!("{EVENTS} WHERE position = ?1");
    let mut events = Vec::with_capacity(positions.len());
    for position in positions {
        events.append(&mut collect(connection, &sql, [position], |row| {
            event(row, store_id)
        })?);
    }
    Ok(events)
}

/// Runs a query and reads its rows.
pub(super) fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    each_row(connection, sql, params, |row| {
        all.push(read(row)?);
        Ok(true)
    })?;
    Ok(all)
}

/// Runs a query and reads its rows, until `read` says that these are enough.
fn each_row(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let fail = StoreError::doing::<rusqlite::Error>("be read");
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let mut rows = statement.query(params).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        if !read(row)? {
            break;
        }
    }
    Ok(())
}
