//! Reads from PostgreSQL what proves how a dispatch was carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;

use super::cells::{Cells, escaped};
use super::connect::Link;
use super::read::{
    ATTEMPTED, EVENTS, RETRIES, as_of_one_commit, attempted, collect, event, one_entry, retry,
    tried,
};
use crate::model::{DispatchId, Event, SiteId};
use crate::store::{
    CommandLine, DeliveryEnd, DispatchRecord, SettledCommand, SinkLine, StateLine, StoreError, Told,
};

/// Reads all that is kept of a dispatch, as of one commit.
pub(super) fn read(
    link: &Link,
    store_id: &str,
    id: &DispatchId,
) -> Result<DispatchRecord, StoreError> {
    as_of_one_commit(link, || of_commit(link, store_id, id))
}

fn of_commit(link: &Link, store_id: &str, id: &DispatchId) -> Result<DispatchRecord, StoreError> {
    let Some(entry) = one_entry(link, id)? else {
        return Ok(DispatchRecord::default());
    };
    let left_out = "SELECT left_out FROM dispatches WHERE id = $1";
    let left_out = collect(link, left_out, &[&id.as_str()], |row| {
        Cells::of(row).count()
    })?;
    let commands = collect(link, COMMANDS, &[&id.as_str()], |row| command(row, id))?;
    let named = entry.dispatch.sites.iter().map(|site| site.id.as_str());
    let commanded = commands.iter().map(|line| &*line.settled.site);
    let sites: BTreeSet<&str> = named.chain(commanded).collect();
    let names: Vec<String> = sites
        .iter()
        .map(|site| escaped(site).into_owned())
        .collect();
    let newest = format!(
        "{EVENTS} WHERE position IN
         (SELECT max(position) FROM events
          WHERE type LIKE 'site.%' AND subject = ANY($1) GROUP BY subject)
         AND cause = $2 ORDER BY position"
    );
    let newest: Vec<Event> = collect(link, &newest, &[&names, &id.as_str()], |row| {
        event(row, store_id)
    })?;
    Ok(DispatchRecord {
        states: collect(link, STATES, &[&id.as_str()], state)?,
        commands_left_out: left_out.first().copied().unwrap_or_default(),
        newest,
        sinks: sinks(link, &names)?,
        commands,
    })
}

/// The states of a dispatch, oldest first, the newest from the dispatch itself.
const STATES: &str = "SELECT n, way, asked, answered, bytes, body FROM states WHERE dispatch = $1
     UNION ALL
     SELECT coalesce((SELECT max(n) FROM states WHERE dispatch = $1), 0) + 1,
      way, asked, answered, octet_length(dispatch)::bigint,
      CASE WHEN cancel_reason IS NOT DISTINCT FROM 'withdrawn' THEN NULL ELSE dispatch END
     FROM dispatches WHERE id = $1
     ORDER BY 1";

fn state(row: &Row) -> Result<StateLine, StoreError> {
    state_in(&mut Cells::of(row))
}

/// Reads a state: number, the answer that told it, bytes, body.
pub(super) fn state_in(cells: &mut Cells) -> Result<StateLine, StoreError> {
    Ok(StateLine {
        number: cells.count()?,
        told: told(cells)?,
        bytes: cells.count()?,
        body: cells.value::<Option<&str>>()?.map(Arc::from),
    })
}

/// Reads the answer that told a state.
pub(super) fn told(cells: &mut Cells) -> Result<Option<Told>, StoreError> {
    let way = cells.optional_word()?;
    let (asked, answered) = (cells.optional_time()?, cells.optional_time()?);
    Ok(match (way, asked, answered) {
        (Some(way), Some(asked), Some(answered)) => Some(Told {
            way,
            asked,
            answered,
        }),
        _ => None,
    })
}

/// The commands of a dispatch whose delivery has come to an end, and when a later command
/// to the same effect was acknowledged at the same sink, whichever dispatch caused it.
const COMMANDS: &str = "SELECT sink, position, site, command, due, known,
     first_attempt, last_attempt, tries, acknowledged, skipped, last_error,
     CASE WHEN acknowledged IS NULL THEN (
      SELECT other.acknowledged FROM events AS later
      JOIN commands AS other ON other.dispatch = later.cause
       AND other.position = later.position AND other.sink = command.sink
      WHERE later.type LIKE 'site.%' AND later.subject = command.site
      AND later.position > command.position AND other.acknowledged IS NOT NULL
      AND NOT EXISTS (
       SELECT 1 FROM events AS between_them
       WHERE between_them.type LIKE 'site.%' AND between_them.subject = command.site
       AND between_them.position > command.position
       AND between_them.position <= later.position
       AND (between_them.type = 'site.release') <> (command.command = 'site.release'))
      ORDER BY later.position LIMIT 1
     ) END
     FROM commands AS command WHERE dispatch = $1 ORDER BY position, sink";

fn command(row: &Row, cause: &DispatchId) -> Result<CommandLine, StoreError> {
    let mut cells = Cells::of(row);
    let (sink, settled) = settled(&mut cells, cause)?;
    Ok(CommandLine {
        sink,
        settled,
        made_up: cells.optional_time()?,
    })
}

/// Reads the name of a sink, and a command whose delivery there has come to an end.
pub(super) fn settled(
    cells: &mut Cells,
    cause: &DispatchId,
) -> Result<(Arc<str>, SettledCommand), StoreError> {
    let sink = cells.value::<&str>()?.into();
    let (position, site) = (cells.count()?, cells.name()?);
    let command = cells.value::<&str>()?.into();
    let (due, known) = (cells.value()?, cells.value()?);
    let tried = tried(cells)?;
    let end = match (cells.optional_time()?, cells.value()?) {
        (Some(at), _) => DeliveryEnd::Acknowledged(at),
        (None, true) => DeliveryEnd::Skipped,
        (None, false) => DeliveryEnd::Superseded,
    };
    let last_error = cells.optional_name()?;
    let settled = SettledCommand {
        cause: cause.clone(),
        position,
        site,
        command,
        due,
        known,
        tried,
        end,
        last_error,
    };
    Ok((sink, settled))
}

/// All sinks, and where they stand with these sites.
fn sinks(link: &Link, names: &[String]) -> Result<Vec<SinkLine>, StoreError> {
    let mut sinks: BTreeMap<Arc<str>, SinkLine> = BTreeMap::new();
    collect(link, "SELECT sink, route FROM sinks", &[], |row| {
        let mut cells = Cells::of(row);
        let sink: Arc<str> = cells.value::<&str>()?.into();
        let line = SinkLine {
            sink: Arc::clone(&sink),
            route: cells.value::<Option<&str>>()?.map(Arc::from),
            ..SinkLine::default()
        };
        sinks.insert(sink, line);
        Ok(())
    })?;
    let sql = format!("{ATTEMPTED} WHERE site = ANY($1)");
    collect(link, &sql, &[&names], |row| {
        let mut cells = Cells::of(row);
        let (sink, site) = (cells.value::<&str>()?, cells.name()?);
        if let (Some(line), Some(site)) = (sinks.get_mut(sink), SiteId::new(&site)) {
            line.attempted.insert(site, attempted(&mut cells)?);
        }
        Ok(())
    })?;
    let queues: Vec<String> = names.iter().map(|name| format!("site/{name}")).collect();
    let sql = format!("{RETRIES} WHERE queue = ANY($1)");
    collect(link, &sql, &[&queues], |row| {
        let mut cells = Cells::of(row);
        let (sink, queue) = (cells.value::<&str>()?, cells.name()?);
        let site = queue.strip_prefix("site/").and_then(SiteId::new);
        if let (Some(line), Some(site)) = (sinks.get_mut(sink), site) {
            line.retries.insert(site, retry(&mut cells)?);
        }
        Ok(())
    })?;
    Ok(sinks.into_values().collect())
}
