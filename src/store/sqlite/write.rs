//! Writes a batch in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{
    Connection, OptionalExtension, Statement, Transaction, TransactionBehavior, params,
};
use serde::Serialize;

use super::record;
use crate::model::{DispatchId, Entry, Event, HistoryItem, SiteState, rfc3339};
use crate::store::record::NewStates;
use crate::store::{Batch, SinkRecord, StoreError, Told};

/// Writes a batch, synced, or nothing of it.
pub(super) fn commit(connection: &mut Connection, batch: &Batch) -> Result<(), StoreError> {
    match write(connection, batch).map_err(StoreError::doing("be written"))? {
        Found::AsExpected => Ok(()),
        Found::OfAnotherTerm => Err(StoreError::Fenced),
        Found::OutOfStep => Err(StoreError::OutOfStep),
    }
}

/// How the store was before a batch.
enum Found {
    AsExpected,
    OfAnotherTerm,
    OutOfStep,
}

/// Tells whether the store was as the batch expects it. If not, nothing is
/// written.
fn write(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<Found> {
    // Dropped without a commit, it rolls back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let position = batch.events.last().map(|event| event.position);
    let expected = transaction
        .prepare_cached(
            "UPDATE daemon SET revision = ?1, position = coalesce(?2, position)
             WHERE revision = ?3 AND term = ?4",
        )?
        .execute((
            batch.revision,
            position,
            batch.expected_revision,
            batch.term,
        ))?;
    if expected != 1 {
        let sql = "SELECT term = ?1 FROM daemon";
        let ours: bool = transaction.query_row(sql, [batch.term], |row| row.get(0))?;
        return Ok(if ours {
            Found::OutOfStep
        } else {
            Found::OfAnotherTerm
        });
    }
    entries(&transaction, batch)?;
    sites(&transaction, &batch.sites)?;
    forget_sites(&transaction, batch)?;
    events(&transaction, &batch.events)?;
    skipped(&transaction, &batch.skipped)?;
    prune(&transaction, batch)?;
    if let Some(sync) = batch.sync {
        transaction
            .prepare_cached("UPDATE daemon SET last_poll = ?1, stale = ?2")?
            .execute((sync.last_poll.map(rfc3339), sync.stale))?;
    }
    for record in &batch.sinks {
        sink(&transaction, record)?;
    }
    for record in &batch.sinks {
        record::commands(&transaction, &record.sink, &record.settled)?;
    }
    for forgotten in &batch.forgotten_sinks {
        forget_sink(&transaction, forgotten)?;
    }
    transaction.commit()?;
    Ok(Found::AsExpected)
}

/// Writes what [`put_entry`] is given.
pub(super) const PUT_ENTRY: &str = "INSERT INTO dispatches
         (key, id, phase, cancel_reason, started, ended, first_seen, last_changed,
          last_confirmed, over_since, discovered_by, last_changed_by, asked_term, asked_count,
          dispatch, created, way, asked, answered)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
          ?17, ?18, ?19)
         ON CONFLICT DO UPDATE SET
         phase = excluded.phase, cancel_reason = excluded.cancel_reason,
         started = excluded.started, ended = excluded.ended,
         first_seen = excluded.first_seen, last_changed = excluded.last_changed,
         last_confirmed = excluded.last_confirmed, over_since = excluded.over_since,
         discovered_by = excluded.discovered_by, last_changed_by = excluded.last_changed_by,
         asked_term = excluded.asked_term, asked_count = excluded.asked_count,
         dispatch = excluded.dispatch, way = coalesce(excluded.way, way),
         asked = coalesce(excluded.asked, asked),
         answered = coalesce(excluded.answered, answered)";

/// Writes a line of the history of the dispatch with a key, but the first one.
pub(super) const PUT_CHANGE: &str =
    "INSERT INTO history (dispatch, revision, item) VALUES (?1, ?2, ?3)";

fn entries(transaction: &Transaction, batch: &Batch) -> rusqlite::Result<()> {
    // `RETURNING` would tell the key too, at three times the cost of the row.
    let mut find = transaction.prepare_cached("SELECT key FROM dispatches WHERE id = ?1")?;
    let mut put = transaction.prepare_cached(PUT_ENTRY)?;
    let mut history = transaction.prepare_cached(PUT_CHANGE)?;
    let mut lines: HashMap<&DispatchId, Vec<&HistoryItem>> = HashMap::new();
    for (id, line) in &batch.history {
        lines.entry(id).or_default().push(line);
    }
    let mut states = NewStates::of(batch);
    for entry in &batch.entries {
        let known: Option<i64> = find
            .query_row([entry.id().as_str()], |row| row.get(0))
            .optional()?;
        let mut lines = lines.remove(entry.id()).unwrap_or_default().into_iter();
        let created = match known {
            Some(_) => None,
            None => lines.next(),
        };
        let states = states.take(entry.id());
        let told = record::replace_stored(transaction, known, states)?;
        let told_last = record::last_told(told, states);
        let inserted = put_entry(&mut put, known, entry, created, told_last)?;
        let key = known.unwrap_or(inserted);
        record::replaced_at_once(transaction, key, told, states)?;
        for line in lines {
            history.execute((key, line.revision, json(line)?))?;
        }
    }
    // Lines without an entry are of one that this very batch prunes.
    Ok(())
}

/// Writes an entry: with its key if it is known, with the first line of its history if
/// it is not; with the answer that told its state, if that is new. Gives the key of a new
/// row.
pub(super) fn put_entry(
    put: &mut Statement,
    key: Option<i64>,
    entry: &Entry,
    created: Option<&HistoryItem>,
    told: Option<Told>,
) -> rusqlite::Result<i64> {
    put.insert(params![
        key,
        entry.id().as_str(),
        entry.phase.name(),
        entry.cancel_reason.map(|reason| reason.name()),
        entry.started,
        entry.ended,
        rfc3339(entry.first_seen),
        rfc3339(entry.last_changed),
        rfc3339(entry.last_confirmed),
        entry.over_since.map(rfc3339),
        entry.discovered_by.name(),
        entry.last_changed_by.name(),
        entry.asked.term,
        entry.asked.count,
        json(&entry.dispatch)?,
        created.map(json).transpose()?,
        told.map(|told| told.way.name()),
        told.map(|told| told.asked.timestamp_micros()),
        told.map(|told| told.answered.timestamp_micros()),
    ])
}

pub(super) fn sites(transaction: &Transaction, sites: &[Arc<SiteState>]) -> rusqlite::Result<()> {
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO sites (id, state) VALUES (?1, ?2)")?;
    for site in sites {
        put.execute((site.id.as_str(), json(site)?))?;
    }
    Ok(())
}

fn forget_sites(transaction: &Transaction, batch: &Batch) -> rusqlite::Result<()> {
    let mut forget = transaction.prepare_cached("DELETE FROM sites WHERE id = ?1")?;
    for id in &batch.forgotten {
        forget.execute([id.as_str()])?;
    }
    Ok(())
}

pub(super) fn events(transaction: &Transaction, events: &[Event]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO events
         (position, type, subject, time, data, term, unconditional, due, known)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for event in events {
        let origin = event.origin.as_deref();
        let known = origin.filter(|origin| origin.known != origin.due);
        insert.execute((
            event.position,
            &*event.event_type,
            &*event.subject,
            rfc3339(event.time),
            event.data.get(),
            event.term,
            event.unconditional,
            origin.map(|origin| origin.due.timestamp_micros()),
            known.map(|origin| origin.known.timestamp_micros()),
        ))?;
    }
    Ok(())
}

fn skipped(transaction: &Transaction, lines: &[(DispatchId, HistoryItem)]) -> rusqlite::Result<()> {
    for (id, line) in lines {
        transaction
            .prepare_cached(
                "INSERT INTO skipped (dispatch, revision, item)
                 SELECT key, ?2, ?3 FROM dispatches WHERE id = ?1",
            )?
            .execute((id.as_str(), line.revision, json(line)?))?;
    }
    Ok(())
}

fn prune(transaction: &Transaction, batch: &Batch) -> rusqlite::Result<()> {
    for id in &batch.pruned {
        record::prune(transaction, id)?;
        for sql in [
            "DELETE FROM history WHERE dispatch = (SELECT key FROM dispatches WHERE id = ?1)",
            "DELETE FROM skipped WHERE dispatch = (SELECT key FROM dispatches WHERE id = ?1)",
            "DELETE FROM dispatches WHERE id = ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([id.as_str()])?;
        }
    }
    Ok(())
}

pub(super) fn sink(transaction: &Transaction, record: &SinkRecord) -> rusqlite::Result<()> {
    let sink = &*record.sink;
    transaction
        .prepare_cached(
            "INSERT INTO sinks (sink, settled, route) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET
             settled = excluded.settled, route = coalesce(excluded.route, route)",
        )?
        .execute((sink, record.done, record.route.as_deref()))?;
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO settled_beyond (sink, position, upto) VALUES (?1, ?2, ?3)",
    )?;
    let mut drop = transaction
        .prepare_cached("DELETE FROM settled_beyond WHERE sink = ?1 AND position = ?2")?;
    for (first, last) in &record.done_beyond {
        match last {
            Some(last) => put.execute((sink, first, last))?,
            None => drop.execute((sink, first))?,
        };
    }
    transaction
        .prepare_cached("DELETE FROM settled_beyond WHERE sink = ?1 AND position <= ?2")?
        .execute((sink, record.done))?;
    for (lane, retry) in &record.retries {
        match retry {
            Some(retry) => transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO retries
                     (sink, lane, attempts, at, pause, first_attempt, last_attempt, tries)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute((
                    sink,
                    &**lane,
                    retry.attempts,
                    rfc3339(retry.at),
                    retry.pause.as_millis() as u64,
                    retry.tried.map(|tried| tried.first.timestamp_micros()),
                    retry.tried.map(|tried| tried.last.timestamp_micros()),
                    retry.tried.map(|tried| tried.count),
                ))?,
            None => transaction
                .prepare_cached("DELETE FROM retries WHERE sink = ?1 AND lane = ?2")?
                .execute((sink, &**lane))?,
        };
    }
    for (site, last) in &record.attempted {
        match last {
            Some(last) => transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO told
                     (sink, site, position, curtailed, acknowledged, held)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((
                    sink,
                    &**site,
                    last.position,
                    last.curtailed,
                    last.acknowledged,
                    last.held,
                ))?,
            None => transaction
                .prepare_cached("DELETE FROM told WHERE sink = ?1 AND site = ?2")?
                .execute((sink, &**site))?,
        };
    }
    Ok(())
}

fn forget_sink(transaction: &Transaction, sink: &str) -> rusqlite::Result<()> {
    for table in ["sinks", "settled_beyond", "retries", "told"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE sink = ?1"), [sink])?;
    }
    Ok(())
}

pub(super) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
