//! The states that the API told, as rows: one that another replaces is copied from its
//! dispatch to the table of states.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tokio_postgres::Row;

use super::cells::{Cells, big};
use super::rows::{Step, columns};
use crate::model::DispatchId;
use crate::store::record::{BODIES, KEPT, NewStates, is_to_count};
use crate::store::{Batch, NewState, StateLine, StoreError, Told};

/// What is stored of a dispatch before a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    withdrawn: bool,
    /// The number of the last state that another replaced; 0 if there is none.
    last_number: u64,
}

impl Known {
    /// Reads a row: id, whether withdrawn, last number.
    pub fn of(row: &Row) -> Result<(DispatchId, Self), StoreError> {
        let mut cells = Cells::of(row);
        let id = cells.dispatch_id()?;
        let known = Self {
            withdrawn: cells.value()?,
            last_number: cells.count()?,
        };
        Ok((id, known))
    }
}

/// A state that another one of the same batch replaced.
struct Replaced<'b> {
    number: u64,
    told: Told,
    state: &'b NewState,
}

/// What a batch writes of the states of one dispatch.
#[derive(Default)]
struct OfDispatch<'b> {
    /// The number under which the stored state is copied, if it is replaced.
    copied: Option<u64>,
    replaced: Vec<Replaced<'b>>,
    /// The answer that told the newest state, if that is new.
    told: Option<Told>,
    /// The numbers of the new rows.
    new_numbers: Range<u64>,
}

impl OfDispatch<'_> {
    fn take_number(&mut self) -> u64 {
        let number = self.new_numbers.end;
        self.new_numbers.end += 1;
        number
    }
}

/// What a batch writes of states.
pub(super) struct StateRows<'b>(BTreeMap<DispatchId, OfDispatch<'b>>);

impl<'b> StateRows<'b> {
    /// What follows from the states of a batch, given what is stored.
    pub fn of(batch: &'b Batch, known: &HashMap<DispatchId, Known>) -> Self {
        let mut all = BTreeMap::new();
        let mut news = NewStates::of(batch);
        for entry in &batch.entries {
            let states = news.take(entry.id());
            if let Some(first) = states.first() {
                let rows = of_dispatch(first, states, known.get(entry.id()).copied());
                all.insert(entry.id().clone(), rows);
            }
        }
        Self(all)
    }

    /// The answer that told the newest state of a dispatch, if that is new.
    pub fn told(&self, id: &DispatchId) -> Option<Told> {
        self.0.get(id)?.told
    }

    /// The dispatches with new rows.
    fn changed(&self) -> impl Iterator<Item = (&DispatchId, &OfDispatch<'b>)> {
        self.0.iter().filter(|(_, of)| !of.new_numbers.is_empty())
    }

    /// The dispatches whose commands are to be counted now.
    pub fn to_count(&self) -> impl Iterator<Item = &DispatchId> {
        let mut changed = self.changed();
        std::iter::from_fn(move || {
            changed.find_map(|(id, of)| of.new_numbers.clone().any(is_to_count).then_some(id))
        })
    }

    /// Copies stored states, before their dispatches are written.
    pub fn copy_stored(&self) -> Option<Step> {
        let copied = self.0.iter().filter_map(|(id, of)| Some((id, of.copied?)));
        let (ids, numbers): (Vec<String>, Vec<i64>) = copied
            .map(|(id, number)| (id.to_string(), big(number)))
            .unzip();
        (!ids.is_empty()).then(|| {
            Step::new(
                "INSERT INTO states (dispatch, n, way, asked, answered, bytes, body)
                 SELECT id, copied.n, way, asked, answered,
                  CASE WHEN gone THEN 0 ELSE octet_length(dispatch) END,
                  CASE WHEN gone THEN NULL ELSE dispatch END
                 FROM unnest($1::text[], $2::bigint[]) AS copied (of, n)
                 JOIN dispatches ON id = copied.of,
                 LATERAL (SELECT cancel_reason IS NOT DISTINCT FROM 'withdrawn' AS gone) AS w",
                columns![ids, numbers],
            )
        })
    }

    /// Writes states that were replaced within the batch, and deletes what is too much.
    pub fn insert(&self) -> Vec<Step> {
        let rows = || {
            let all = self.0.iter();
            all.flat_map(|(id, of)| of.replaced.iter().map(move |row| (id, row)))
        };
        let mut steps = Vec::new();
        let lines: Vec<(&DispatchId, StateLine)> = rows()
            .map(|(id, row)| {
                let body = row.state.body();
                let line = StateLine {
                    number: row.number,
                    told: Some(row.told),
                    bytes: body.as_ref().map_or(0, |body| body.len() as u64),
                    body: body.map(Into::into),
                };
                (id, line)
            })
            .collect();
        let lines: Vec<_> = lines.iter().map(|(id, line)| (*id, line)).collect();
        steps.extend(states(&lines));
        // What `record::left_out` tells, asked of the rows themselves. The numbers of the
        // first and the last row count, not how many rows there are.
        let changed: Vec<String> = self.changed().map(|(id, _)| id.to_string()).collect();
        if !changed.is_empty() {
            steps.push(Step::new(
                "DELETE FROM states USING (
                  SELECT dispatch, n,
                   n - min(n) OVER of_one >= $2
                    OR (sum(bytes) OVER (of_one ORDER BY n) > $3::bigint AND n > min(n) OVER of_one)
                    AS not_early,
                   max(n) OVER of_one - n >= $2
                    OR (sum(bytes) OVER (of_one ORDER BY n DESC) > $3::bigint AND n < max(n) OVER of_one)
                    AS not_late
                  FROM states WHERE dispatch = ANY($1) WINDOW of_one AS (PARTITION BY dispatch)
                 ) AS judged
                 WHERE states.dispatch = judged.dispatch AND states.n = judged.n
                 AND not_early AND not_late",
                columns![changed, big(KEPT), big(BODIES)],
            ));
        }
        steps
    }
}

/// Writes states that others replaced, each with its dispatch.
pub(super) fn states(lines: &[(&DispatchId, &StateLine)]) -> Option<Step> {
    let all = || lines.iter();
    let told = || all().map(|(_, line)| line.told);
    (!lines.is_empty()).then(|| {
        Step::new(
            "INSERT INTO states (dispatch, n, way, asked, answered, bytes, body)
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[],
              $5::timestamptz[], $6::bigint[], $7::text[])",
            columns![
                all().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
                all().map(|(_, line)| big(line.number)).collect::<Vec<_>>(),
                told()
                    .map(|told| told.map(|told| told.way.name()))
                    .collect::<Vec<_>>(),
                told()
                    .map(|told| told.map(|told| told.asked))
                    .collect::<Vec<_>>(),
                told()
                    .map(|told| told.map(|told| told.answered))
                    .collect::<Vec<_>>(),
                all().map(|(_, line)| big(line.bytes)).collect::<Vec<_>>(),
                all()
                    .map(|(_, line)| line.body.as_deref().map(str::to_owned))
                    .collect::<Vec<_>>(),
            ],
        )
    })
}

fn of_dispatch<'b>(
    first: &'b NewState,
    states: &[&'b NewState],
    known: Option<Known>,
) -> OfDispatch<'b> {
    let next = known.map_or(0, |known| known.last_number) + 1;
    let mut rows = OfDispatch {
        new_numbers: next..next,
        ..OfDispatch::default()
    };
    match known {
        Some(known) if first.is_another() || known.withdrawn => {
            rows.copied = Some(rows.take_number());
            rows.told = Some(first.told);
        }
        Some(_) => {}
        None => rows.told = Some(first.told),
    }
    for (before, state) in states.iter().zip(states.iter().skip(1)) {
        if state.differs_from(before) {
            let number = rows.take_number();
            rows.replaced.push(Replaced {
                number,
                told: rows.told.unwrap_or(before.told),
                state: before,
            });
            rows.told = Some(state.told);
        }
    }
    rows
}
