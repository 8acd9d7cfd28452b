//! Writes what proves how a dispatch was carried out; [`reading`] reads it.

mod reading;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::write::json;
use crate::model::DispatchId;
use crate::store::record::{KEPT, is_to_count, left_out};
use crate::store::{DeliveryEnd, NewState, SettledCommand, Told, Tried};

pub(super) use reading::{read, settled_commands, state, told};

/// Writes a state of the dispatch with a key that another one replaced.
pub(super) const PUT_STATE: &str =
    "INSERT INTO states (dispatch, n, way, asked, answered, bytes, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Copies the stored state of the dispatch with this key to the states, if the first of
/// these new ones replaces it. Gives the answer that told the first, unless the stored
/// state stays.
pub(super) fn replace_stored(
    transaction: &Transaction,
    key: Option<i64>,
    states: &[&NewState],
) -> rusqlite::Result<Option<Told>> {
    let Some(first) = states.first() else {
        return Ok(None);
    };
    let Some(key) = key else {
        return Ok(Some(first.told));
    };
    let mut lines = lines(transaction, key)?;
    let number = lines.last().map_or(1, |(number, _)| number + 1);
    let copied = transaction
        .prepare_cached(
            "INSERT INTO states (dispatch, n, way, asked, answered, bytes, body)
             SELECT key, ?2, way, asked, answered,
              iif(cancel_reason IS 'withdrawn', 0, octet_length(dispatch)),
              iif(cancel_reason IS 'withdrawn', NULL, dispatch)
             FROM dispatches WHERE key = ?1 AND (?3 OR cancel_reason IS 'withdrawn')
             RETURNING bytes",
        )?
        .query_row((key, number, first.is_another()), |row| row.get(0))
        .optional()?;
    let Some(bytes) = copied else {
        return Ok(None);
    };
    lines.push((number, bytes));
    bound(transaction, key, &lines)?;
    Ok(Some(first.told))
}

/// The answer that told the last of these states. `told` is that of the first one, if it
/// is another than the stored one.
pub(super) fn last_told(told: Option<Told>, states: &[&NewState]) -> Option<Told> {
    let pairs = states.iter().zip(states.iter().skip(1));
    let mut news = pairs.filter(|(before, state)| state.differs_from(before));
    news.next_back().map_or(told, |(_, state)| Some(state.told))
}

/// Keeps those of these states that one after them replaced in the same batch.
pub(super) fn replaced_at_once(
    transaction: &Transaction,
    key: i64,
    told: Option<Told>,
    states: &[&NewState],
) -> rusqlite::Result<()> {
    let mut told = told;
    for (before, state) in states.iter().zip(states.iter().skip(1)) {
        if !state.differs_from(before) {
            continue;
        }
        let mut lines = lines(transaction, key)?;
        let number = lines.last().map_or(1, |(number, _)| number + 1);
        let answer = told.unwrap_or(before.told);
        let body = before.body();
        let bytes = body.as_ref().map_or(0, |body| body.len() as u64);
        transaction.prepare_cached(PUT_STATE)?.execute((
            key,
            number,
            answer.way.name(),
            answer.asked.timestamp_micros(),
            answer.answered.timestamp_micros(),
            bytes,
            body,
        ))?;
        lines.push((number, bytes));
        bound(transaction, key, &lines)?;
        told = Some(state.told);
    }
    Ok(())
}

/// The number and the bytes of each stored state of a dispatch but the newest.
fn lines(transaction: &Transaction, key: i64) -> rusqlite::Result<Vec<(u64, u64)>> {
    transaction
        .prepare_cached("SELECT n, bytes FROM states WHERE dispatch = ?1 ORDER BY n")?
        .query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Deletes what is too much of a dispatch that has these states now.
fn bound(transaction: &Transaction, key: i64, lines: &[(u64, u64)]) -> rusqlite::Result<()> {
    for number in left_out(lines) {
        transaction
            .prepare_cached("DELETE FROM states WHERE dispatch = ?1 AND n = ?2")?
            .execute((key, number))?;
    }
    let states = lines.last().map_or(0, |(number, _)| *number);
    if is_to_count(states) {
        let deleted = delete_middle(transaction, key)?;
        transaction
            .prepare_cached(
                "UPDATE dispatches SET left_out = coalesce(left_out, 0) + ?2 WHERE key = ?1",
            )?
            .execute((key, deleted))?;
    }
    Ok(())
}

/// Deletes the rows of a dispatch whose commands are neither among the first nor among
/// the last of their site and sink. Gives how many commands that were.
fn delete_middle(transaction: &Transaction, key: i64) -> rusqlite::Result<usize> {
    let rows: Vec<(i64, String, String)> = transaction
        .prepare_cached("SELECT key, sink, lines FROM commands WHERE dispatch = ?1 ORDER BY key")?
        .query_map([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    // A row that cannot be read is left to whoever reads the record.
    let rows: Vec<(i64, &str, Vec<Packed<String>>)> = rows
        .iter()
        .filter_map(|(row, sink, lines)| Some((*row, &**sink, serde_json::from_str(lines).ok()?)))
        .collect();
    let mut all: HashMap<(&str, &str), u64> = HashMap::new();
    for (_, sink, lines) in &rows {
        for line in lines {
            *all.entry((&line.1, sink)).or_default() += 1;
        }
    }
    let mut before: HashMap<(&str, &str), u64> = HashMap::new();
    let mut deleted = 0;
    for (row, sink, lines) in &rows {
        let mut in_the_middle = true;
        for line in lines {
            let of = (&*line.1, *sink);
            let before = before.entry(of).or_default();
            let behind = all.get(&of).map_or(0, |all| all - *before - 1);
            in_the_middle &= *before >= KEPT && behind >= KEPT;
            *before += 1;
        }
        if in_the_middle {
            deleted += lines.len();
            transaction
                .prepare_cached("DELETE FROM commands WHERE key = ?1")?
                .execute([row])?;
        }
    }
    Ok(deleted)
}

/// A command as it is stored: see the table's comment for what each part is.
#[derive(Debug, Serialize, Deserialize)]
struct Packed<T>(
    u64,
    T,
    T,
    i64,
    Option<i64>,
    Option<(i64, i64, u64)>,
    Option<i64>,
    bool,
    Option<T>,
);

impl<'s> From<&'s SettledCommand> for Packed<&'s str> {
    fn from(settled: &'s SettledCommand) -> Self {
        let micros = |time: DateTime<Utc>| time.timestamp_micros();
        let known = (settled.known != settled.due).then_some(settled.known);
        let tried = settled.tried;
        Self(
            settled.position,
            &settled.site,
            &settled.command,
            micros(settled.due),
            known.map(micros),
            tried.map(|tried| (micros(tried.first), micros(tried.last), tried.count)),
            settled.end.acknowledged().map(micros),
            settled.end == DeliveryEnd::Skipped,
            settled.short_error(),
        )
    }
}

impl Packed<String> {
    /// The command, which this dispatch caused.
    fn unpack(self, cause: &DispatchId) -> SettledCommand {
        let time = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
        let Self(position, site, command, due, known, tried, acknowledged, skipped, error) = self;
        SettledCommand {
            cause: cause.clone(),
            position,
            site: site.into(),
            command: command.into(),
            due: time(due),
            known: time(known.unwrap_or(due)),
            tried: tried.map(|(first, last, count)| Tried {
                first: time(first),
                last: time(last),
                count,
            }),
            end: match (acknowledged, skipped) {
                (Some(at), _) => DeliveryEnd::Acknowledged(time(at)),
                (None, true) => DeliveryEnd::Skipped,
                (None, false) => DeliveryEnd::Superseded,
            },
            last_error: error.map(Arc::from),
        }
    }
}

/// Writes the commands whose delivery to a sink has come to an end: one row for each dispatch and
/// sink, which costs a tenth of a row for each command.
pub(super) fn commands(
    transaction: &Transaction,
    sink: &str,
    settled: &[SettledCommand],
) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached("SELECT key FROM dispatches WHERE id = ?1")?;
    let mut put = transaction
        .prepare_cached("INSERT INTO commands (dispatch, sink, lines) VALUES (?1, ?2, ?3)")?;
    let mut of: BTreeMap<&DispatchId, Vec<Packed<&str>>> = BTreeMap::new();
    for settled in settled {
        of.entry(&settled.cause).or_default().push(settled.into());
    }
    for (cause, lines) in of {
        let key: Option<i64> = find
            .query_row([cause.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(key) = key {
            put.execute((key, sink, json(&lines)?))?;
        }
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
        "DELETE FROM commands WHERE dispatch = ?1",
        "DELETE FROM states WHERE dispatch = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([key])?;
    }
    Ok(())
}
