//! Reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, Params, Row};

use super::rows::{
    ENTRIES, SITES, damaged, entry, event, get, json, optional_time, site, text, time,
};
use crate::model::{DispatchId, Event, HistoryItem};
use crate::store::{Retry, SinkState, StoreError, Stored, SyncRecord, Told};

pub(super) fn load(connection: &Connection, term: u64) -> Result<Stored, StoreError> {
    let mut stored = collect(connection, "SELECT * FROM daemon", [], |row| {
        Ok(Stored {
            id: text(row, "store_id")?.into(),
            term,
            revision: get(row, "revision")?,
            position: get(row, "position")?,
            sync: SyncRecord {
                last_poll: optional_time(row, "last_poll")?,
                stale: get(row, "stale")?,
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

fn sinks(connection: &Connection) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError> {
    let name = |row: &Row| Ok::<Arc<str>, StoreError>(text(row, "sink")?.into());
    let mut sinks: BTreeMap<Arc<str>, SinkState> =
        collect(connection, "SELECT * FROM sinks", [], |row| {
            let state = SinkState {
                settled: get(row, "settled")?,
                ..SinkState::default()
            };
            Ok((name(row)?, state))
        })?
        .into_iter()
        .collect();
    for (sink, position) in collect(
        connection,
        "SELECT * FROM settled_beyond ORDER BY sink, position",
        [],
        |row| Ok((name(row)?, get(row, "position")?)),
    )? {
        sinks.entry(sink).or_default().settled_beyond.push(position);
    }
    for (sink, lane, retry) in collect(connection, "SELECT * FROM retries", [], |row| {
        let retry = Retry {
            attempts: get(row, "attempts")?,
            at: time(row, "at")?,
        };
        Ok((name(row)?, text(row, "lane")?.into(), retry))
    })? {
        sinks.entry(sink).or_default().retries.insert(lane, retry);
    }
    for (sink, site, told) in collect(connection, "SELECT * FROM told", [], |row| {
        let told = Told {
            position: get(row, "position")?,
            curtailed: get(row, "curtailed")?,
            acknowledged: get(row, "acknowledged")?,
            held: get(row, "held")?,
        };
        Ok((name(row)?, text(row, "site")?.into(), told))
    })? {
        sinks.entry(sink).or_default().told.insert(site, told);
    }
    Ok(sinks)
}

pub(super) fn history(
    connection: &Connection,
    id: &DispatchId,
) -> Result<Vec<HistoryItem>, StoreError> {
    collect(
        connection,
        "SELECT item FROM history WHERE dispatch = (SELECT key FROM dispatches WHERE id = ?1)
         ORDER BY revision",
        [id.as_str()],
        |row| json(row, "item"),
    )
}

pub(super) fn events(
    connection: &Connection,
    store_id: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    collect(
        connection,
        "SELECT * FROM events WHERE position > ?1 ORDER BY position LIMIT ?2",
        (after, limit),
        |row| event(row, store_id),
    )
}

pub(super) fn newest_site_events(
    connection: &Connection,
    store_id: &str,
) -> Result<Vec<Event>, StoreError> {
    collect(
        connection,
        "SELECT * FROM events WHERE position IN
         (SELECT max(position) FROM events WHERE type GLOB 'site.*' GROUP BY subject)
         ORDER BY position",
        [],
        |row| event(row, store_id),
    )
}

/// Runs a query and reads its rows.
fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let fail = |source| StoreError::Database {
        doing: "be read",
        source,
    };
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let mut rows = statement.query(params).map_err(fail)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        all.push(read(row)?);
    }
    Ok(all)
}
