//! Writes and reads what proves how a dispatch was carried out.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::cells::{Cells, damaged};
use super::read::collect;
use crate::model::{DispatchId, SiteId, rfc3339};
use crate::store::record::{KEPT, left_out};
use crate::store::{
    Batch, CommandLine, DeliveryLine, DispatchRecord, NewCommand, NewState, SinkRecord, StateLine,
    StoreError,
};

/// Writes what the API said, and which commands followed.
pub(super) fn write(transaction: &Transaction, batch: &Batch) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached("SELECT key FROM dispatches WHERE id = ?1")?;
    let mut keys: HashMap<&DispatchId, Option<i64>> = HashMap::new();
    for line in &batch.states {
        let key = find
            .query_row([line.dispatch.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(key) = key {
            state(transaction, key, line)?;
        }
    }
    for line in &batch.commands {
        for dispatch in &line.dispatches {
            let key = match keys.get(dispatch) {
                Some(key) => *key,
                None => {
                    let key = find
                        .query_row([dispatch.as_str()], |row| row.get(0))
                        .optional()?;
                    keys.insert(dispatch, key);
                    key
                }
            };
            if let Some(key) = key {
                command(transaction, key, line)?;
            }
        }
    }
    Ok(())
}

fn state(transaction: &Transaction, key: i64, line: &NewState) -> rusqlite::Result<()> {
    let mut lines: Vec<(u64, u64)> = transaction
        .prepare_cached("SELECT n, bytes FROM states WHERE dispatch = ?1 ORDER BY n")?
        .query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let last = lines.last().map(|(number, _)| *number);
    if let Some(last) = last {
        if let Some(seen) = line.before_seen {
            transaction
                .prepare_cached(
                    "UPDATE states SET last_seen = ?3
                     WHERE dispatch = ?1 AND n = ?2",
                )?
                .execute((key, last, rfc3339(seen)))?;
        }
        // A state that is the same as the one before is no new one.
        let same = transaction
            .prepare_cached(
                "UPDATE states SET last_seen = ?3
                 WHERE dispatch = ?1 AND n = ?2 AND body IS ?4",
            )?
            .execute((key, last, rfc3339(line.answered), line.body.as_deref()))?;
        if same > 0 {
            return Ok(());
        }
    }
    let number = last.unwrap_or_default() + 1;
    transaction
        .prepare_cached(
            "INSERT INTO states (dispatch, n, way, asked, answered, last_seen, bytes, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        )?
        .execute((
            key,
            number,
            line.way.name(),
            rfc3339(line.asked),
            rfc3339(line.answered),
            line.bytes(),
            line.body.as_deref(),
        ))?;
    lines.push((number, line.bytes()));
    for number in left_out(&lines) {
        transaction
            .prepare_cached("DELETE FROM states WHERE dispatch = ?1 AND n = ?2")?
            .execute((key, number))?;
    }
    Ok(())
}

fn command(transaction: &Transaction, key: i64, line: &NewCommand) -> rusqlite::Result<()> {
    let site = line.site.as_str();
    let last: Option<u64> = transaction
        .prepare_cached(
            "SELECT n FROM commands WHERE site = ?1 AND dispatch = ?2
             ORDER BY position DESC LIMIT 1",
        )?
        .query_row((site, key), |row| row.get(0))
        .optional()?;
    let number = last.unwrap_or_default() + 1;
    transaction
        .prepare_cached(
            "INSERT INTO commands (site, position, dispatch, n, command, due, known)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            site,
            line.position,
            key,
            number,
            line.command,
            rfc3339(line.due),
            rfc3339(line.known),
        ))?;
    if number > 2 * KEPT {
        let out = number - KEPT;
        transaction
            .prepare_cached(
                "DELETE FROM deliveries WHERE site = ?1
                 AND position IN (SELECT position FROM commands
                  WHERE site = ?1 AND dispatch = ?2 AND n = ?3)
                 AND NOT EXISTS (SELECT 1 FROM commands AS other WHERE other.site = ?1
                  AND other.position = deliveries.position AND other.dispatch <> ?2)",
            )?
            .execute((site, key, out))?;
        transaction
            .prepare_cached("DELETE FROM commands WHERE site = ?1 AND dispatch = ?2 AND n = ?3")?
            .execute((site, key, out))?;
    }
    Ok(())
}

/// Writes how attempts to deliver commands went at one sink. What belongs to a command
/// that is not kept any more is left out.
pub(super) fn attempts(transaction: &Transaction, record: &SinkRecord) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT INTO deliveries
         (site, position, sink, command, first_attempt, last_attempt, attempts, acknowledged,
          last_error)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
         WHERE EXISTS (SELECT 1 FROM commands WHERE site = ?1 AND position = ?2)
         ON CONFLICT DO UPDATE SET
         command = excluded.command, last_attempt = excluded.last_attempt,
         attempts = attempts + excluded.attempts,
         acknowledged = coalesce(acknowledged, excluded.acknowledged),
         last_error = coalesce(excluded.last_error, last_error)",
    )?;
    let mut end = transaction.prepare_cached(
        "UPDATE deliveries SET acknowledged = coalesce(acknowledged, ?4),
         last_error = coalesce(?5, last_error)
         WHERE site = ?1 AND position = ?2 AND sink = ?3",
    )?;
    for (position, attempts) in &record.attempts {
        let acknowledged = attempts.acknowledged.map(rfc3339);
        let last_error = attempts.last_error.as_deref();
        let (site, sink) = (&*attempts.site, &*record.sink);
        match &attempts.begun {
            Some((command, first, last)) => put.execute((
                site,
                position,
                sink,
                &**command,
                rfc3339(*first),
                rfc3339(*last),
                attempts.attempts,
                acknowledged,
                last_error,
            ))?,
            None => end.execute((site, position, sink, acknowledged, last_error))?,
        };
    }
    Ok(())
}

/// Deletes what is kept of a dispatch.
pub(super) fn prune(transaction: &Transaction, id: &DispatchId) -> rusqlite::Result<()> {
    let key: Option<i64> = transaction
        .prepare_cached("SELECT key FROM dispatches WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    let Some(key) = key else {
        return Ok(());
    };
    for sql in [
        "DELETE FROM deliveries
         WHERE (site, position) IN (SELECT site, position FROM commands WHERE dispatch = ?1)
         AND NOT EXISTS (SELECT 1 FROM commands AS other WHERE other.site = deliveries.site
          AND other.position = deliveries.position AND other.dispatch <> ?1)",
        "DELETE FROM commands WHERE dispatch = ?1",
        "DELETE FROM states WHERE dispatch = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([key])?;
    }
    Ok(())
}

/// Reads all that is kept of a dispatch, as of one commit.
pub(super) fn read(connection: &Connection, id: &DispatchId) -> Result<DispatchRecord, StoreError> {
    // One transaction sees one commit. It only reads, and ends when it is dropped.
    let connection =
        &*connection
            .unchecked_transaction()
            .map_err(|source| StoreError::Database {
                doing: "be read",
                source,
            })?;
    let key: Option<i64> = collect(
        connection,
        "SELECT key FROM dispatches WHERE id = ?1",
        [id.as_str()],
        |row| Cells::of(row).value(),
    )?
    .pop();
    let states = collect(
        connection,
        "SELECT n, way, asked, answered, last_seen, bytes, body FROM states
         WHERE dispatch = ?1 ORDER BY n",
        [key],
        |row| {
            let mut cells = Cells::of(row);
            Ok(StateLine {
                number: cells.value()?,
                way: cells.word()?,
                asked: cells.time()?,
                answered: cells.time()?,
                last_seen: cells.time()?,
                bytes: cells.value()?,
                body: cells.value::<Option<String>>()?.map(Arc::from),
            })
        },
    )?;
    let commands = collect(
        connection,
        "SELECT site, position, n, command, due, known FROM commands
         WHERE dispatch = ?1 ORDER BY site, position",
        [key],
        |row| {
            let mut cells = Cells::of(row);
            Ok(CommandLine {
                site: site(cells.text()?)?,
                position: cells.value()?,
                number: cells.value()?,
                command: cells.text()?.into(),
                due: cells.time()?,
                known: cells.time()?,
            })
        },
    )?;
    let deliveries = collect(
        connection,
        "SELECT deliveries.site, deliveries.position, sink, deliveries.command, first_attempt,
         last_attempt, attempts, acknowledged, last_error
         FROM commands JOIN deliveries ON deliveries.site = commands.site
         AND deliveries.position = commands.position
         WHERE dispatch = ?1 ORDER BY deliveries.site, deliveries.position, sink",
        [key],
        |row| {
            let mut cells = Cells::of(row);
            Ok(DeliveryLine {
                site: site(cells.text()?)?,
                position: cells.value()?,
                sink: cells.text()?.into(),
                command: cells.text()?.into(),
                first_attempt: cells.time()?,
                last_attempt: cells.time()?,
                attempts: cells.value()?,
                acknowledged: cells.optional_time()?,
                last_error: cells.value::<Option<String>>()?.map(Arc::from),
            })
        },
    )?;
    let sinks = collect(
        connection,
        "SELECT sink, route FROM sinks ORDER BY sink",
        [],
        |row| {
            let mut cells = Cells::of(row);
            Ok((
                cells.text()?.into(),
                cells.value::<Option<String>>()?.map(Arc::from),
            ))
        },
    )?;
    Ok(DispatchRecord {
        states,
        commands,
        deliveries,
        sinks,
    })
}

fn site(text: &str) -> Result<SiteId, StoreError> {
    SiteId::new(text).ok_or_else(|| damaged("column site: it is empty".to_owned()))
}
