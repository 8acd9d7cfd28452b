//! What is written of deliveries, as statements: where each sink stands, and the commands
//! whose delivery there has come to an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::cells::{big, escaped};
use super::rows::{Step, columns};
use crate::model::DispatchId;
use crate::store::record::KEPT;
use crate::store::{Batch, DeliveryEnd, SettledCommand, SinkRecord, Tried};

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
    let (first, last, tries) = attempts(kept.iter().map(|(_, retry)| retry.tried));
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
            first,
            last,
            tries,
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

/// When each was first and last attempted, and how often, as columns.
fn attempts(all: impl Iterator<Item = Option<Tried>>) -> (Times, Times, Vec<i64>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for tried in all {
        columns.0.push(tried.map(|tried| tried.first));
        columns.1.push(tried.map(|tried| tried.last));
        columns.2.push(big(tried.map_or(0, |tried| tried.count)));
    }
    columns
}

/// A column of times, some of them missing.
type Times = Vec<Option<DateTime<Utc>>>;

/// The commands of a batch whose delivery has come to an end, with their sinks.
pub(super) fn settled(batch: &Batch) -> impl Iterator<Item = (&Arc<str>, &SettledCommand)> {
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
    let (first, last, tries) = attempts(settled().map(|line| line.tried));
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
            first,
            last,
            tries,
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
pub(super) fn delete_middle(id: &DispatchId) -> Step {
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
