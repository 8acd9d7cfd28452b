//! What is written, as statements: one a table and kind of change, each with all of its
//! rows as arrays.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use super::cells::{big, escaped, json};
use super::states::{Known, StateRows};
use crate::model::{DispatchId, Entry, Event, HistoryItem, SiteState};
use crate::store::record::KEPT;
use crate::store::{Batch, DeliveryEnd, SettledCommand, SinkRecord, StoreError, Told};

/// A statement with what it is given, and nothing that it is told by others.
pub(super) struct Step {
    pub sql: &'static str,
    pub params: Params,
}

/// What the parameters of a statement are given.
type Params = Vec<Box<dyn ToSql + Sync + Send>>;

impl Step {
    pub fn new(sql: &'static str, params: Params) -> Self {
        Self { sql, params }
    }
}

/// The columns of the rows that one statement writes, each an array.
macro_rules! columns {
    ($($column:expr),* $(,)?) => {
        vec![$(Box::new($column) as Box<dyn tokio_postgres::types::ToSql + Sync + Send>),*]
    };
}
pub(super) use columns;

/// Everything that a batch writes, in an order in which it can be written.
pub(super) fn steps(
    batch: &Batch,
    known: &HashMap<DispatchId, Known>,
) -> Result<Vec<Step>, StoreError> {
    let mut steps = Vec::new();
    let states = StateRows::of(batch, known);
    steps.extend(states.copy_stored());
    let told = batch.entries.iter().map(|entry| states.told(entry.id()));
    entries(&batch.entries, &told.collect::<Vec<_>>(), &mut steps)?;
    steps.extend(states.insert());
    history(&batch.history, true, &mut steps)?;
    history(&batch.skipped, false, &mut steps)?;
    sites(&batch.sites, &mut steps)?;
    forget_sites(batch, &mut steps);
    events(&batch.events, &mut steps);
    if !batch.pruned.is_empty() {
        let ids: Vec<String> = batch.pruned.iter().map(DispatchId::to_string).collect();
        steps.push(Step::new(
            "DELETE FROM dispatches WHERE id = ANY($1)",
            columns![ids],
        ));
    }
    if let Some(sync) = batch.sync {
        steps.push(Step::new(
            "UPDATE daemon SET last_poll = $1, stale = $2",
            columns![sync.last_poll, sync.stale],
        ));
    }
    for record in &batch.sinks {
        sink(record, &mut steps);
    }
    if batch.commits_made_up {
        let sql = "UPDATE leader SET commits_lost = false";
        steps.push(Step::new(sql, Vec::new()));
    }
    commands(settled(batch), &mut steps);
    steps.extend(states.to_count().map(delete_middle));
    if !batch.forgotten_sinks.is_empty() {
        for sql in [
            "DELETE FROM sinks WHERE sink = ANY($1)",
            "DELETE FROM settled_beyond WHERE sink = ANY($1)",
            "DELETE FROM retries WHERE sink = ANY($1)",
            "DELETE FROM told WHERE sink = ANY($1)",
        ] {
            let names: Vec<String> = batch
                .forgotten_sinks
                .iter()
                .map(|s| s.to_string())
                .collect();
            steps.push(Step::new(sql, columns![names]));
        }
    }
    Ok(steps)
}

/// Writes entries, each with the answer that told its state, if that is new.
pub(super) fn entries(
    entries: &[Arc<Entry>],
    told: &[Option<Told>],
    steps: &mut Vec<Step>,
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let all = || entries.iter();
    let texts = all()
        .map(|entry| json(&entry.dispatch))
        .collect::<Result<Vec<String>, _>>()?;
    let times = |time: fn(&Told) -> DateTime<Utc>| -> Vec<Option<DateTime<Utc>>> {
        told.iter().map(|told| told.as_ref().map(time)).collect()
    };
    steps.push(Step::new(
        "INSERT INTO dispatches
         (id, phase, cancel_reason, started, ended, first_seen, last_changed, last_confirmed,
          over_since, discovered_by, last_changed_by, asked_term, asked_count, dispatch,
          way, asked, answered)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bool[],
          $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
          $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::text[],
          $16::timestamptz[], $17::timestamptz[])
         ON CONFLICT (id) DO UPDATE SET
         phase = excluded.phase, cancel_reason = excluded.cancel_reason,
         started = excluded.started, ended = excluded.ended,
         first_seen = excluded.first_seen, last_changed = excluded.last_changed,
         last_confirmed = excluded.last_confirmed, over_since = excluded.over_since,
         discovered_by = excluded.discovered_by, last_changed_by = excluded.last_changed_by,
         asked_term = excluded.asked_term, asked_count = excluded.asked_count,
         dispatch = excluded.dispatch, way = coalesce(excluded.way, dispatches.way),
         asked = coalesce(excluded.asked, dispatches.asked),
         answered = coalesce(excluded.answered, dispatches.answered)",
        columns![
            all()
                .map(|entry| entry.id().to_string())
                .collect::<Vec<_>>(),
            all().map(|entry| entry.phase.name()).collect::<Vec<_>>(),
            all()
                .map(|entry| entry.cancel_reason.map(|reason| reason.name()))
                .collect::<Vec<_>>(),
            all().map(|entry| entry.started).collect::<Vec<_>>(),
            all().map(|entry| entry.ended).collect::<Vec<_>>(),
            all().map(|entry| entry.first_seen).collect::<Vec<_>>(),
            all().map(|entry| entry.last_changed).collect::<Vec<_>>(),
            all().map(|entry| entry.last_confirmed).collect::<Vec<_>>(),
            all().map(|entry| entry.over_since).collect::<Vec<_>>(),
            all()
                .map(|entry| entry.discovered_by.name())
                .collect::<Vec<_>>(),
            all()
                .map(|entry| entry.last_changed_by.name())
                .collect::<Vec<_>>(),
            all().map(|entry| big(entry.asked.term)).collect::<Vec<_>>(),
            all()
                .map(|entry| big(entry.asked.count))
                .collect::<Vec<_>>(),
            texts,
            told.iter()
                .map(|told| told.as_ref().map(|told| told.way.name()))
                .collect::<Vec<_>>(),
            times(|told| told.asked),
            times(|told| told.answered),
        ],
    ));
    Ok(())
}

/// Writes lines of history: those of changes, or those that tell of none.
pub(super) fn history(
    lines: &[(DispatchId, HistoryItem)],
    is_change: bool,
    steps: &mut Vec<Step>,
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    // A line without a dispatch is of one that this very batch prunes, or of one that
    // is not stored. Lines of one revision stay in their order.
    steps.push(Step::new(
        "INSERT INTO history (dispatch, revision, is_change, item)
         SELECT id, line.revision, $4, line.item
         FROM unnest($1::text[], $2::bigint[], $3::text[])
          WITH ORDINALITY AS line (dispatch, revision, item, n)
         JOIN dispatches ON id = line.dispatch ORDER BY line.n",
        columns![
            lines
                .iter()
                .map(|(id, _)| id.to_string())
                .collect::<Vec<_>>(),
            lines
                .iter()
                .map(|(_, line)| big(line.revision))
                .collect::<Vec<_>>(),
            lines
                .iter()
                .map(|(_, line)| json(line))
                .collect::<Result<Vec<_>, _>>()?,
            is_change,
        ],
    ));
    Ok(())
}

/// Writes where sites stand.
pub(super) fn sites(sites: &[Arc<SiteState>], steps: &mut Vec<Step>) -> Result<(), StoreError> {
    if sites.is_empty() {
        return Ok(());
    }
    let all = || sites.iter();
    steps.push(Step::new(
        "INSERT INTO sites (id, state) SELECT * FROM unnest($1::text[], $2::text[])
         ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        columns![
            all()
                .map(|site| escaped(site.id.as_str()).into_owned())
                .collect::<Vec<_>>(),
            all().map(json).collect::<Result<Vec<_>, _>>()?,
        ],
    ));
    Ok(())
}

fn forget_sites(batch: &Batch, steps: &mut Vec<Step>) {
    if !batch.forgotten.is_empty() {
        let ids = batch.forgotten.iter();
        let ids: Vec<String> = ids.map(|id| escaped(id.as_str()).into_owned()).collect();
        steps.push(Step::new(
            "DELETE FROM sites WHERE id = ANY($1)",
            columns![ids],
        ));
    }
}

/// Writes new events.
pub(super) fn events(events: &[Event], steps: &mut Vec<Step>) {
    if events.is_empty() {
        return;
    }
    let all = || events.iter();
    let origins = || all().map(|event| event.origin.as_deref());
    steps.push(Step::new(
        "INSERT INTO events
         (position, term, type, subject, time, unconditional, cause, due, known, data)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[],
          $5::timestamptz[], $6::bool[], $7::text[], $8::timestamptz[], $9::timestamptz[],
          $10::text[])",
        columns![
            all().map(|event| big(event.position)).collect::<Vec<_>>(),
            all().map(|event| big(event.term)).collect::<Vec<_>>(),
            all()
                .map(|event| event.event_type.to_string())
                .collect::<Vec<_>>(),
            all()
                .map(|event| escaped(&event.subject).into_owned())
                .collect::<Vec<_>>(),
            all().map(|event| event.time).collect::<Vec<_>>(),
            all().map(|event| event.unconditional).collect::<Vec<_>>(),
            origins()
                .map(|origin| origin.map(|origin| origin.cause.to_string()))
                .collect::<Vec<_>>(),
            origins()
                .map(|origin| origin.map(|origin| origin.due))
                .collect::<Vec<_>>(),
            origins()
                .map(|origin| origin.map(|origin| origin.known))
                .collect::<Vec<_>>(),
            all()
                .map(|event| event.data.get().to_owned())
                .collect::<Vec<_>>(),
        ],
    ));
}

/// Writes what is new about deliveries to a sink, but for the commands that came to an end.
pub(super) fn sink(record: &SinkRecord, steps: &mut Vec<Step>) {
    let name = || record.sink.to_string();
    steps.push(Step::new(
        "INSERT INTO sinks (sink, settled, route) VALUES ($1, $2, $3)
         ON CONFLICT (sink) DO UPDATE SET
         settled = excluded.settled, route = coalesce(excluded.route, sinks.route)",
        columns![
            name(),
            big(record.done),
            record.route.as_deref().map(str::to_owned)
        ],
    ));
    let gone: Vec<i64> = record
        .done_beyond
        .iter()
        .filter(|(_, last)| last.is_none())
        .map(|(first, _)| big(*first))
        .collect();
    let ranges: (Vec<i64>, Vec<i64>) = record
        .done_beyond
        .iter()
        .filter_map(|(first, last)| Some((big(*first), big((*last)?))))
        .unzip();
    if !ranges.0.is_empty() {
        steps.push(Step::new(
            "INSERT INTO settled_beyond (sink, position, upto)
             SELECT $1, * FROM unnest($2::bigint[], $3::bigint[])
             ON CONFLICT (sink, position) DO UPDATE SET upto = excluded.upto",
            columns![name(), ranges.0, ranges.1],
        ));
    }
    steps.push(Step::new(
        "DELETE FROM settled_beyond WHERE sink = $1 AND (position <= $2 OR position = ANY($3))",
        columns![name(), big(record.done), gone],
    ));
    retries(record, steps);
    attempted(record, steps);
}

fn retries(record: &SinkRecord, steps: &mut Vec<Step>) {
    let (kept, gone): (Vec<_>, Vec<_>) =
        record.retries.iter().partition(|(_, kept)| kept.is_some());
    if !gone.is_empty() {
        steps.push(Step::new(
            "DELETE FROM retries WHERE sink = $1 AND queue = ANY($2)",
            columns![
                record.sink.to_string(),
                gone.iter()
                    .map(|(queue, _)| escaped(queue).into_owned())
                    .collect::<Vec<_>>()
            ],
        ));
    }
    let kept: Vec<_> = kept
        .into_iter()
        .filter_map(|(queue, retry)| Some((queue, (*retry)?)))
        .collect();
    if kept.is_empty() {
        return;
    }
    let tried = || kept.iter().map(|(_, retry)| retry.tried);
    let millis = |pause: Duration| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    steps.push(Step::new(
        "INSERT INTO retries
         (sink, queue, attempts, at, pause, first_attempt, last_attempt, tries)
         SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::bigint[],
          $6::timestamptz[], $7::timestamptz[], $8::bigint[])
         ON CONFLICT (sink, queue) DO UPDATE SET
         attempts = excluded.attempts, at = excluded.at, pause = excluded.pause,
         first_attempt = excluded.first_attempt, last_attempt = excluded.last_attempt,
         tries = excluded.tries",
        columns![
            record.sink.to_string(),
            kept.iter()
                .map(|(queue, _)| escaped(queue).into_owned())
                .collect::<Vec<_>>(),
            kept.iter()
                .map(|(_, retry)| i64::from(retry.attempts))
                .collect::<Vec<_>>(),
            kept.iter().map(|(_, retry)| retry.at).collect::<Vec<_>>(),
            kept.iter()
                .map(|(_, retry)| millis(retry.pause))
                .collect::<Vec<_>>(),
            tried()
                .map(|tried| tried.map(|tried| tried.first))
                .collect::<Vec<_>>(),
            tried()
                .map(|tried| tried.map(|tried| tried.last))
                .collect::<Vec<_>>(),
            tried()
                .map(|tried| big(tried.map_or(0, |tried| tried.count)))
                .collect::<Vec<_>>(),
        ],
    ));
}

fn attempted(record: &SinkRecord, steps: &mut Vec<Step>) {
    let mut gone: Vec<String> = Vec::new();
    let mut kept = Vec::new();
    for (site, last) in &record.attempted {
        match last {
            Some(last) => kept.push((escaped(site).into_owned(), *last)),
            None => gone.push(escaped(site).into_owned()),
        }
    }
    if !gone.is_empty() {
        steps.push(Step::new(
            "DELETE FROM told WHERE sink = $1 AND site = ANY($2)",
            columns![record.sink.to_string(), gone],
        ));
    }
    if !kept.is_empty() {
        steps.push(Step::new(
            "INSERT INTO told (sink, site, position, curtailed, acknowledged, held)
             SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bool[], $5::bool[], $6::bool[])
             ON CONFLICT (sink, site) DO UPDATE SET
             position = excluded.position, curtailed = excluded.curtailed,
             acknowledged = excluded.acknowledged, held = excluded.held",
            columns![
                record.sink.to_string(),
                kept.iter()
                    .map(|(site, _)| site.clone())
                    .collect::<Vec<_>>(),
                kept.iter()
                    .map(|(_, last)| big(last.position))
                    .collect::<Vec<_>>(),
                kept.iter()
                    .map(|(_, last)| last.curtailed)
                    .collect::<Vec<_>>(),
                kept.iter()
                    .map(|(_, last)| last.acknowledged)
                    .collect::<Vec<_>>(),
                kept.iter().map(|(_, last)| last.held).collect::<Vec<_>>(),
            ],
        ));
    }
}

/// The commands of a batch whose delivery has come to an end, with their sinks.
fn settled(batch: &Batch) -> impl Iterator<Item = (&Arc<str>, &SettledCommand)> {
    let records = batch.sinks.iter();
    records.flat_map(|record| record.settled.iter().map(|settled| (&record.sink, settled)))
}

/// Writes commands whose delivery has come to an end. One of a dispatch that is not stored
/// is left out.
pub(super) fn commands<'c>(
    commands: impl Iterator<Item = (&'c Arc<str>, &'c SettledCommand)>,
    steps: &mut Vec<Step>,
) {
    // Of one that is there twice, what comes later holds.
    let all: BTreeMap<_, &SettledCommand> = commands
        .map(|(sink, settled)| ((&settled.cause, settled.position, sink), settled))
        .collect();
    if all.is_empty() {
        return;
    }
    let settled = || all.values();
    let tried = || settled().map(|line| line.tried);
    steps.push(Step::new(
        "INSERT INTO commands
         (dispatch, sink, position, site, command, due, known, first_attempt, last_attempt,
          tries, acknowledged, skipped, last_error)
         SELECT line.* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
          $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
          $10::bigint[], $11::timestamptz[], $12::bool[], $13::text[]) AS line (dispatch)
         JOIN dispatches ON id = line.dispatch
         ON CONFLICT (dispatch, position, sink) DO UPDATE SET
         site = excluded.site, command = excluded.command, due = excluded.due,
         known = excluded.known, first_attempt = excluded.first_attempt,
         last_attempt = excluded.last_attempt, tries = excluded.tries,
         acknowledged = excluded.acknowledged, skipped = excluded.skipped,
         last_error = excluded.last_error",
        columns![
            settled()
                .map(|line| line.cause.to_string())
                .collect::<Vec<_>>(),
            all.keys()
                .map(|(_, _, sink)| sink.to_string())
                .collect::<Vec<_>>(),
            settled().map(|line| big(line.position)).collect::<Vec<_>>(),
            settled()
                .map(|line| escaped(&line.site).into_owned())
                .collect::<Vec<_>>(),
            settled()
                .map(|line| line.command.to_string())
                .collect::<Vec<_>>(),
            settled().map(|line| line.due).collect::<Vec<_>>(),
            settled().map(|line| line.known).collect::<Vec<_>>(),
            tried()
                .map(|tried| tried.map(|tried| tried.first))
                .collect::<Vec<_>>(),
            tried()
                .map(|tried| tried.map(|tried| tried.last))
                .collect::<Vec<_>>(),
            tried()
                .map(|tried| big(tried.map_or(0, |tried| tried.count)))
                .collect::<Vec<_>>(),
            settled()
                .map(|line| line.end.acknowledged())
                .collect::<Vec<_>>(),
            settled()
                .map(|line| line.end == DeliveryEnd::Skipped)
                .collect::<Vec<_>>(),
            settled()
                .map(|line| line.short_error().map(|error| escaped(error).into_owned()))
                .collect::<Vec<_>>(),
        ],
    ));
}

/// Deletes the commands of a dispatch that are neither among the first nor among the last
/// of their site and sink, and counts them.
fn delete_middle(id: &DispatchId) -> Step {
    Step::new(
        "WITH numbered AS (
          SELECT position, sink,
           row_number() OVER (PARTITION BY site, sink ORDER BY position) AS before,
           row_number() OVER (PARTITION BY site, sink ORDER BY position DESC) AS behind
          FROM commands WHERE dispatch = $1
         ), deleted AS (
          DELETE FROM commands USING numbered
          WHERE dispatch = $1 AND commands.position = numbered.position
          AND commands.sink = numbered.sink AND before > $2 AND behind > $2
          RETURNING 1
         )
         UPDATE dispatches SET left_out = left_out + (SELECT count(*) FROM deleted)
         WHERE id = $1",
        columns![id.to_string(), big(KEPT)],
    )
}
