//! Reads what proves how a dispatch was carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row};

use super::Packed;
use crate::model::{DispatchId, Event, SiteId};
use crate::store::sqlite::cells::Cells;
use crate::store::sqlite::read::{ATTEMPTED, RETRIES, attempted, collect, one_entry, retry};
use crate::store::sqlite::rows::{EVENTS, event};
use crate::store::{CommandLine, DispatchRecord, SinkLine, StateLine, StoreError, Told};

/// Reads all that is kept of a dispatch, as of one commit.
pub(in crate::store::sqlite) fn read(
    connection: &Connection,
    store_id: &str,
    id: &DispatchId,
) -> Result<DispatchRecord, StoreError> {
    // One transaction sees one commit. It only reads, and ends when it is dropped.
    let connection = &*connection
        .unchecked_transaction()
        .map_err(StoreError::doing("be read"))?;
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
    let newest = newest(connection, store_id, &sites)?;
    let caused = |event: &Event| event.origin.as_ref().is_some_and(|one| one.cause == *id);
    let sinks = sinks(connection, &sites)?;
    Ok(DispatchRecord {
        states: states(connection, key)?,
        commands,
        commands_left_out,
        newest: newest.into_iter().filter(caused).collect(),
        sinks,
    })
}

/// The newest event of each of these sites, oldest first.
fn newest(
    connection: &Connection,
    store_id: &str,
    sites: &BTreeSet<&str>,
) -> Result<Vec<Event>, StoreError> {
    // One query: SQLite plans a statement anew for each site that it is run with, and
    // for 20,000 sites that takes half a second.
    let sql = format!(
        "{EVENTS} WHERE position IN
         (SELECT (SELECT max(position) FROM events WHERE type GLOB 'site.*' AND subject = value)
          FROM json_each(?1))
         ORDER BY position"
    );
    let names = serde_json::to_string(sites).map_err(StoreError::doing("be read"))?;
    collect(connection, &sql, [names], |row| event(row, store_id))
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
        state,
    )
}

/// Reads a state: number, the answer that told it, bytes, body.
pub(in crate::store::sqlite) fn state(row: &Row) -> Result<StateLine, StoreError> {
    let mut cells = Cells::of(row);
    Ok(StateLine {
        number: cells.value()?,
        told: told(&mut cells)?,
        bytes: cells.value()?,
        body: cells.value::<Option<String>>()?.map(Arc::from),
    })
}

/// Reads the answer that told a state.
pub(in crate::store::sqlite) fn told(cells: &mut Cells) -> Result<Option<Told>, StoreError> {
    let way = cells.optional_word()?;
    let (asked, answered) = (cells.optional_micros()?, cells.optional_micros()?);
    Ok(match (way, asked, answered) {
        (Some(way), Some(asked), Some(answered)) => Some(Told {
            way,
            asked,
            answered,
        }),
        _ => None,
    })
}

/// The commands of a dispatch whose delivery has come to an end, by position and sink.
pub(in crate::store::sqlite) fn settled_commands(
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
        let (sink, queue) = (cells.text()?, cells.text()?);
        if let Some(site) = queue.strip_prefix("site/")
            && sites.contains(site)
            && let (Some(line), Some(site)) = (sinks.get_mut(sink), SiteId::new(site))
        {
            line.retries.insert(site, retry(&mut cells)?);
        }
        Ok(())
    })?;
    Ok(sinks.into_values().collect())
}
