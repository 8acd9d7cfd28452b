//! Writes and reads what proves how a dispatch was carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::cells::Cells;
use super::read::{ATTEMPTED, RETRIES, attempted, collect, one_entry, retry};
use super::rows::{EVENTS, event};
use super::write::json;
use crate::model::{DispatchId, Event, SiteId};
use crate::store::record::{KEPT, is_to_count, left_out};
use crate::store::{
    Batch, CommandLine, DeliveryEnd, DispatchRecord, NewState, SettledCommand, SinkLine, StateLine,
    StoreError, Told, Tried,
};

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
        transaction
            .prepare_cached(
                "INSERT INTO states (dispatch, n, way, asked, answered, bytes, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
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

/// Writes the commands whose delivery has come to an end: one row for each dispatch and
/// sink, which costs a tenth of a row for each command.
pub(super) fn commands(transaction: &Transaction, batch: &Batch) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached("SELECT key FROM dispatches WHERE id = ?1")?;
    let mut put = transaction
        .prepare_cached("INSERT INTO commands (dispatch, sink, lines) VALUES (?1, ?2, ?3)")?;
    for record in &batch.sinks {
        let mut of: BTreeMap<&DispatchId, Vec<Packed<&str>>> = BTreeMap::new();
        for settled in &record.settled {
            of.entry(&settled.cause).or_default().push(settled.into());
        }
        for (cause, lines) in of {
            let key: Option<i64> = find
                .query_row([cause.as_str()], |row| row.get(0))
                .optional()?;
            if let Some(key) = key {
                put.execute((key, &*record.sink, json(&lines)?))?;
            }
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

/// Reads all that is kept of a dispatch, as of one commit.
pub(super) fn read(
    connection: &Connection,
    store_id: &str,
    id: &DispatchId,
) -> Result<DispatchRecord, StoreError> {
    // One transaction sees one commit. It only reads, and ends when it is dropped.
    let connection =
        &*connection
            .unchecked_transaction()
            .map_err(|source| StoreError::Database {
                doing: "be read",
                source,
            })?;
    let Some(entry) = one_entry(connection, id)? else {
        return Ok(DispatchRecord::default());
    };
    let (key, commands_left_out) = collect(
        connection,
        "SELECT key, coalesce(left_out, 0) FROM dispatches WHERE id = ?1",
        [id.as_str()],
        |row| {
            let mut cells = Cells::of(row);
            Ok((cells.value::<i64>()?, cells.value::<u64>()?))
        },
    )?
    .pop()
    .unwrap_or_default();
    let mut commands = settled_commands(connection, key, id)?;
    MadeUp::default().find(connection, &mut commands)?;
    let named = entry.dispatch.sites.iter().map(|site| site.id.as_str());
    let commanded = commands.iter().map(|line| &*line.settled.site);
    let sites: BTreeSet<&str> = named.chain(commanded).collect();
    let mut newest = Vec::new();
    let sql = format!(
        "{EVENTS} WHERE position =
         (SELECT max(position) FROM events WHERE type GLOB 'site.*' AND subject = ?1)"
    );
    for site in &sites {
        let events = collect(connection, &sql, [site], |row| event(row, store_id))?;
        let caused = |event: &Event| event.origin.as_ref().is_some_and(|one| one.cause == *id);
        newest.extend(events.into_iter().filter(caused));
    }
    let sinks = sinks(connection, &sites)?;
    Ok(DispatchRecord {
        states: states(connection, key)?,
        commands,
        commands_left_out,
        newest,
        sinks,
    })
}

/// The states of a dispatch, oldest first, the newest from the dispatch itself.
fn states(connection: &Connection, key: i64) -> Result<Vec<StateLine>, StoreError> {
    collect(
        connection,
        "SELECT n, way, asked, answered, bytes, body FROM states WHERE dispatch = ?1
         UNION ALL
         SELECT coalesce((SELECT max(n) FROM states WHERE dispatch = ?1), 0) + 1,
          way, asked, answered, octet_length(dispatch),
          iif(cancel_reason IS 'withdrawn', NULL, dispatch)
         FROM dispatches WHERE key = ?1
         ORDER BY 1",
        [key],
        |row| {
            let mut cells = Cells::of(row);
            let number = cells.value()?;
            let way = cells.optional_word()?;
            let (asked, answered) = (cells.optional_micros()?, cells.optional_micros()?);
            let told = match (way, asked, answered) {
                (Some(way), Some(asked), Some(answered)) => Some(Told {
                    way,
                    asked,
                    answered,
                }),
                _ => None,
            };
            Ok(StateLine {
                number,
                told,
                bytes: cells.value()?,
                body: cells.value::<Option<String>>()?.map(Arc::from),
            })
        },
    )
}

/// The commands of a dispatch whose delivery has come to an end, by position and sink.
fn settled_commands(
    connection: &Connection,
    key: i64,
    id: &DispatchId,
) -> Result<Vec<CommandLine>, StoreError> {
    let rows = collect(
        connection,
        "SELECT sink, lines FROM commands WHERE dispatch = ?1 ORDER BY key",
        [key],
        |row| {
            let mut cells = Cells::of(row);
            let sink: Arc<str> = cells.text()?.into();
            Ok((sink, cells.json::<Vec<Packed<String>>>()?))
        },
    )?;
    let lines = rows.into_iter().flat_map(|(sink, lines)| {
        lines.into_iter().map(move |line| CommandLine {
            sink: Arc::clone(&sink),
            settled: line.unpack(id),
            made_up: None,
        })
    });
    // What was written of a command later holds.
    let lines: BTreeMap<(u64, Arc<str>), CommandLine> = lines
        .map(|line| ((line.settled.position, Arc::clone(&line.sink)), line))
        .collect();
    Ok(lines.into_values().collect())
}

/// When commands were acknowledged, by position and sink.
type Acknowledged = HashMap<(u64, Arc<str>), DateTime<Utc>>;

/// Finds later commands that made up for those that were not acknowledged themselves.
#[derive(Default)]
struct MadeUp {
    /// The commands of each dispatch that was looked at.
    of: HashMap<DispatchId, Acknowledged>,
}

impl MadeUp {
    /// Notes with each command when a later one to the same effect was acknowledged at
    /// the same sink, whichever dispatch caused it.
    fn find(
        &mut self,
        connection: &Connection,
        commands: &mut [CommandLine],
    ) -> Result<(), StoreError> {
        for line in commands {
            if line.settled.end.acknowledged().is_none() {
                line.made_up = self.later(connection, line)?;
            }
        }
        Ok(())
    }

    fn later(
        &mut self,
        connection: &Connection,
        line: &CommandLine,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let settled = &line.settled;
        let later = collect(
            connection,
            "SELECT position, type, data ->> 'cause' FROM events
             WHERE subject = ?1 AND type GLOB 'site.*' AND position > ?2
             ORDER BY position LIMIT 100",
            (&*settled.site, settled.position),
            |row| {
                let mut cells = Cells::of(row);
                let (position, command) = (cells.value::<u64>()?, cells.text()? == RELEASE);
                Ok((position, command, cells.value::<Option<String>>()?))
            },
        )?;
        let release = &*settled.command == RELEASE;
        for (position, is_release, cause) in later {
            if is_release != release {
                break;
            }
            let Some(cause) = cause.and_then(|cause| DispatchId::new(&cause).ok()) else {
                continue;
            };
            let acknowledged = self.acknowledged(connection, &cause)?;
            if let Some(at) = acknowledged.get(&(position, Arc::clone(&line.sink))) {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }

    fn acknowledged(
        &mut self,
        connection: &Connection,
        cause: &DispatchId,
    ) -> Result<&Acknowledged, StoreError> {
        if !self.of.contains_key(cause) {
            let sql = "SELECT key FROM dispatches WHERE id = ?1";
            let key = collect(connection, sql, [cause.as_str()], |row| {
                Cells::of(row).value::<i64>()
            })?;
            let commands = match key.first() {
                Some(key) => settled_commands(connection, *key, cause)?,
                None => Vec::new(),
            };
            let acknowledged = commands.into_iter().filter_map(|line| {
                let at = line.settled.end.acknowledged()?;
                Some(((line.settled.position, line.sink), at))
            });
            self.of.insert(cause.clone(), acknowledged.collect());
        }
        Ok(self.of.entry(cause.clone()).or_default())
    }
}

const RELEASE: &str = "site.release";

/// All sinks, and where they stand with these sites.
fn sinks(connection: &Connection, sites: &BTreeSet<&str>) -> Result<Vec<SinkLine>, StoreError> {
    let sql = "SELECT sink, route FROM sinks ORDER BY sink";
    let sinks = collect(connection, sql, [], |row| {
        let mut cells = Cells::of(row);
        let sink: Arc<str> = cells.text()?.into();
        let route = cells.value::<Option<String>>()?.map(Arc::from);
        let line = SinkLine {
            sink: Arc::clone(&sink),
            route,
            ..SinkLine::default()
        };
        Ok((sink, line))
    })?;
    let mut sinks: BTreeMap<Arc<str>, SinkLine> = sinks.into_iter().collect();
    collect(connection, ATTEMPTED, [], |row| {
        let mut cells = Cells::of(row);
        let (sink, site) = (cells.text()?, cells.text()?);
        if sites.contains(site)
            && let (Some(line), Some(site)) = (sinks.get_mut(sink), SiteId::new(site))
        {
            line.attempted.insert(site, attempted(&mut cells)?);
        }
        Ok(())
    })?;
    collect(connection, RETRIES, [], |row| {
        let mut cells = Cells::of(row);
        let (sink, lane) = (cells.text()?, cells.text()?);
        if let Some(site) = lane.strip_prefix("site/")
            && sites.contains(site)
            && let (Some(line), Some(site)) = (sinks.get_mut(sink), SiteId::new(site))
        {
            line.retries.insert(site, retry(&mut cells)?);
        }
        Ok(())
    })?;
    Ok(sinks.into_values().collect())
}
