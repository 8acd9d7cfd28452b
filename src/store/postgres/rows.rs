//! What is written, as statements: one a table and kind of change, each with all of its
//! rows as arrays.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use super::cells::{big, escaped, json};
use super::deliveries;
use super::states::{Known, StateRows};
use crate::model::{DispatchId, Entry, Event, HistoryItem, SiteState};
use crate::store::{Batch, StoreError, Told};

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
        deliveries::sink(record, &mut steps);
    }
    if batch.commits_made_up {
        let sql = "UPDATE leader SET commits_lost = false";
        steps.push(Step::new(sql, Vec::new()));
    }
    deliveries::commands(deliveries::settled(batch), &mut steps);
    steps.extend(states.to_count().map(deliveries::delete_middle));
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
