//! Reads from PostgreSQL.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::cells::{Cells, damaged};
use super::connect::Link;
use crate::model::{
    Asked, CommandOrigin, DispatchId, Entry, Event, HistoryItem, Inquiry, SiteState,
};
use crate::store::error::DatabaseError;
use crate::store::{Attempted, Retry, SinkState, StoreError, Stored, SyncRecord, Tried};

/// How long a read may take. A start with all of the design size takes a few seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Of a page of events no further one is read once their data has so many bytes.
const PAGE_BYTES: usize = 8 << 20;

/// Begins to read what one commit has left, and only that.
const BEGIN: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s'";

/// Values that a statement is given.
pub(super) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

/// Runs `read` in a transaction that sees one commit.
pub(super) fn as_of_one_commit<T>(
    link: &Link,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let failed = StoreError::doing::<DatabaseError>("be read");
    link.run(LIMIT, |client| client.batch_execute(BEGIN))
        .map_err(failed)?;
    let result = read();
    let ended = link
        .run(LIMIT, |client| client.batch_execute("ROLLBACK"))
        .map_err(failed);
    result.and_then(|value| ended.map(|()| value))
}

/// Runs a query and reads its rows.
pub(super) fn collect<T>(
    link: &Link,
    sql: &str,
    params: Params,
    mut read: impl FnMut(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    each_row(link, sql, params, |row| {
        all.push(read(row)?);
        Ok(true)
    })?;
    Ok(all)
}

/// Runs a query and reads its rows as they come, until `read` says that these are enough.
fn each_row(
    link: &Link,
    sql: &str,
    params: Params,
    mut read: impl FnMut(&Row) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut failed = Ok(());
    let read_all = link.run(LIMIT, |client| async {
        let params = params.iter().copied();
        let mut rows = pin!(client.query_raw(sql, params).await?);
        while let Some(row) = rows.try_next().await? {
            match read(&row) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
        }
        Ok(())
    });
    read_all.map_err(StoreError::doing::<DatabaseError>("be read"))?;
    failed
}

/// All that the daemon starts with.
pub(super) fn load(link: &Link, term: u64) -> Result<Stored, StoreError> {
    as_of_one_commit(link, || {
        let daemon = "SELECT store_id, revision, position, last_poll, stale,
             (SELECT commits_lost FROM leader) FROM daemon";
        let mut stored = collect(link, daemon, &[], |row| {
            let mut cells = Cells::of(row);
            Ok(Stored {
                id: cells.value::<&str>()?.into(),
                term,
                revision: cells.count()?,
                position: cells.count()?,
                sync: SyncRecord {
                    last_poll: cells.optional_time()?,
                    stale: cells.value()?,
                },
                commits_lost: cells.value()?,
                ..Stored::default()
            })
        })?
        .pop()
        .ok_or_else(|| damaged("table daemon is empty".to_owned()))?;
        stored.entries = collect(link, ENTRIES, &[], entry)?;
        stored.sites = collect(link, "SELECT id, state FROM sites", &[], site)?;
        stored.sinks = sinks(link)?;
        Ok(stored)
    })
}

/// What [`entry`] reads, in its order.
pub(super) const ENTRIES: &str = "SELECT
    id, phase, cancel_reason, started, ended, first_seen, last_changed, last_confirmed,
    over_since, discovered_by, last_changed_by, asked_term, asked_count, dispatch
    FROM dispatches";

pub(super) fn entry(row: &Row) -> Result<Entry, StoreError> {
    let mut cells = Cells::of(row);
    let id = cells.value::<&str>()?;
    let entry = described(&mut cells).map_err(|error| match error {
        StoreError::Damaged { what } => damaged(format!("dispatch {id}, {what}")),
        error => error,
    })?;
    same_id(id, entry.id().as_str())?;
    Ok(entry)
}

/// What stands behind a dispatch's id.
fn described(cells: &mut Cells) -> Result<Entry, StoreError> {
    Ok(Entry {
        phase: cells.word()?,
        cancel_reason: cells.optional_word()?,
        started: cells.value()?,
        ended: cells.value()?,
        first_seen: cells.value()?,
        last_changed: cells.value()?,
        last_confirmed: cells.value()?,
        over_since: cells.optional_time()?,
        discovered_by: cells.word()?,
        last_changed_by: cells.word()?,
        asked: Asked {
            term: cells.count()?,
            count: cells.count()?,
        },
        dispatch: Arc::new(cells.json()?),
        inquiry: Inquiry::default(),
    })
}

/// Reads a row of the table of sites: id, state.
pub(super) fn site(row: &Row) -> Result<SiteState, StoreError> {
    let mut cells = Cells::of(row);
    let id = cells.name()?;
    let state: SiteState = cells.json()?;
    same_id(&id, state.id.as_str())?;
    Ok(state)
}

/// A row that is about another than it says would be written beside itself.
fn same_id(id: &str, other: &str) -> Result<(), StoreError> {
    if id == other {
        Ok(())
    } else {
        Err(damaged(format!("row {id} is of {other}")))
    }
}

pub(super) fn one_entry(link: &Link, id: &DispatchId) -> Result<Option<Entry>, StoreError> {
    let sql = format!("{ENTRIES} WHERE id = $1");
    Ok(collect(link, &sql, &[&id.as_str()], entry)?.pop())
}

/// What is known of each sink.
pub(super) fn sinks(link: &Link) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError> {
    let mut sinks: BTreeMap<Arc<str>, SinkState> = BTreeMap::new();
    let mut each = |sql, read: &mut dyn FnMut(&mut SinkState, Cells) -> Result<(), StoreError>| {
        collect(link, sql, &[], |row| {
            let mut cells = Cells::of(row);
            let sink = sinks.entry(cells.value::<&str>()?.into()).or_default();
            read(sink, cells)
        })
    };
    each(
        "SELECT sink, settled, route FROM sinks",
        &mut |sink, mut cells| {
            sink.done = cells.count()?;
            sink.route = cells.value::<Option<&str>>()?.map(Arc::from);
            Ok(())
        },
    )?;
    each(
        "SELECT sink, position, upto FROM settled_beyond",
        &mut |sink, mut cells| {
            sink.done_beyond.insert(cells.count()?, cells.count()?);
            Ok(())
        },
    )?;
    each(RETRIES, &mut |sink, mut cells| {
        let queue = cells.name()?;
        sink.retries.insert(queue, retry(&mut cells)?);
        Ok(())
    })?;
    each(ATTEMPTED, &mut |sink, mut cells| {
        let site = cells.name()?;
        sink.attempted.insert(site, attempted(&mut cells)?);
        Ok(())
    })?;
    Ok(sinks)
}

/// The sinks beside `kept` at which a site was last told to curtail, or may have been, with
/// the ids of those sites.
pub(super) fn held_beside(
    link: &Link,
    kept: &[&str],
) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // The few names first: the sites of those that are kept are many.
    let sql = "SELECT sink, site FROM told
         WHERE sink IN (SELECT sink FROM sinks WHERE sink <> ALL($1)) ORDER BY sink, site";
    each_row(link, sql, &[&kept], |row| {
        let mut cells = Cells::of(row);
        let sink = cells.value::<&str>()?.to_owned();
        held.entry(sink)
            .or_default()
            .push(cells.name()?.to_string());
        Ok(true)
    })?;
    Ok(held)
}

/// The pauses of all sinks: of which sink and subject queue, and what [`retry`] reads.
pub(super) const RETRIES: &str =
    "SELECT sink, queue, attempts, at, pause, first_attempt, last_attempt, tries FROM retries";

/// Reads what stands behind a subject queue.
pub(super) fn retry(cells: &mut Cells) -> Result<Retry, StoreError> {
    Ok(Retry {
        attempts: u32::try_from(cells.count()?).unwrap_or(u32::MAX),
        at: cells.value()?,
        pause: cells.millis()?,
        tried: tried(cells)?,
    })
}

/// Reads when the first attempt and the last one began, and how many did.
pub(super) fn tried(cells: &mut Cells) -> Result<Option<Tried>, StoreError> {
    let (first, last) = (cells.optional_time()?, cells.optional_time()?);
    let count = cells.count()?;
    let both = first.zip(last);
    Ok(both.map(|(first, last)| Tried { first, last, count }))
}

/// What was last attempted at all sinks: at which sink and site, and what
/// [`attempted`] reads.
pub(super) const ATTEMPTED: &str =
    "SELECT sink, site, position, curtailed, acknowledged, held FROM told";

/// Reads what stands behind a site.
pub(super) fn attempted(cells: &mut Cells) -> Result<Attempted, StoreError> {
    Ok(Attempted {
        position: cells.count()?,
        curtailed: cells.value()?,
        acknowledged: cells.value()?,
        held: cells.value()?,
    })
}

pub(super) fn history(link: &Link, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
    collect(
        link,
        "SELECT item FROM history WHERE dispatch = $1 ORDER BY revision, NOT is_change, key",
        &[&id.as_str()],
        |row| Cells::of(row).json(),
    )
}

/// What [`event`] reads, in its order, up to `WHERE`.
pub(super) const EVENTS: &str = "SELECT position, term, type, subject, time, unconditional,
    cause, due, known, data FROM events";

/// Reads a row of [`EVENTS`].
pub(super) fn event(row: &Row, store_id: &str) -> Result<Event, StoreError> {
    let mut cells = Cells::of(row);
    let position = cells.count()?;
    let term = cells.count()?;
    let event_type = cells.value::<&str>()?.into();
    let subject = cells.name()?;
    let time = cells.value()?;
    let unconditional = cells.value()?;
    let cause = cells.value::<Option<&str>>()?;
    let (due, known) = (cells.optional_time()?, cells.optional_time()?);
    let cause = cause.and_then(|cause| DispatchId::new(cause).ok());
    let origin = match (cause, due, known) {
        (Some(cause), Some(due), Some(known)) => Some(CommandOrigin { cause, due, known }),
        _ => None,
    };
    Ok(Event {
        position,
        term,
        id: Event::id_at(store_id, term, position),
        event_type,
        subject,
        time,
        sequence: position,
        unconditional,
        origin: origin.map(Arc::new),
        data: cells.json()?,
    })
}

pub(super) fn events(
    link: &Link,
    store_id: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let sql = format!("{EVENTS} WHERE position > $1 ORDER BY position LIMIT $2");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut all = Vec::new();
    let mut bytes = 0;
    each_row(link, &sql, &[&after, &limit], |row| {
        let event = event(row, store_id)?;
        bytes += event.data.get().len();
        all.push(event);
        Ok(bytes < PAGE_BYTES)
    })?;
    Ok(all)
}

pub(super) fn positions_to_deliver(
    link: &Link,
    after: i64,
    each: &mut dyn FnMut(u64),
) -> Result<(), StoreError> {
    let sql = "SELECT position FROM events
               WHERE position > $1 AND type NOT LIKE 'site.%' ORDER BY position";
    each_row(link, sql, &[&after], |row| {
        each(Cells::of(row).count()?);
        Ok(true)
    })
}

/// The positions of the newest event of each site.
const NEWEST: &str =
    "SELECT max(position) AS newest FROM events WHERE type LIKE 'site.%' GROUP BY subject";

pub(super) fn newest_site_events(link: &Link, store_id: &str) -> Result<Vec<Event>, StoreError> {
    let sql = format!("{EVENTS} WHERE position IN ({NEWEST}) ORDER BY position");
    collect(link, &sql, &[], |row| event(row, store_id))
}

pub(super) fn newest_site_positions(link: &Link) -> Result<Vec<u64>, StoreError> {
    let sql = format!("{NEWEST} ORDER BY newest");
    collect(link, &sql, &[], |row| Cells::of(row).count())
}

/// The events at these positions, in the order that these are given in.
pub(super) fn events_at(
    link: &Link,
    store_id: &str,
    positions: &[i64],
) -> Result<Vec<Event>, StoreError> {
    let sql = format!(
        "{EVENTS} JOIN unnest($1::bigint[]) WITH ORDINALITY AS wanted (at, n)
         ON position = wanted.at ORDER BY wanted.n"
    );
    collect(link, &sql, &[&positions], |row| event(row, store_id))
}
