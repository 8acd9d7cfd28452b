//! Converts entries, sites and events to and from rows.

use std::sync::Arc;

use rusqlite::Row;
use serde_json::value::RawValue;

use super::cells::{Cells, damaged};
use crate::model::{Asked, CommandOrigin, Entry, Event, Inquiry, SiteState};
use crate::store::StoreError;

/// What [`entry`] reads, in its order.
pub(super) const ENTRIES: &str = "SELECT
    id, phase, cancel_reason, started, ended, first_seen, last_changed, last_confirmed,
    over_since, discovered_by, last_changed_by, asked_term, asked_count, dispatch
    FROM dispatches";

/// Reads a row of [`ENTRIES`].
pub(super) fn entry(row: &Row) -> Result<Entry, StoreError> {
    let mut cells = Cells::of(row);
    let id = cells.text()?;
    let entry = described(&mut cells).map_err(|error| match error {
        StoreError::Damaged { what } => damaged(format!("dispatch {id}, {what}")),
        error => error,
    })?;
    same_id(id, entry.id().as_str())?;
    Ok(entry)
}

/// What stands behind a dispatch's id.
fn described(cells: &mut Cells) -> Result<Entry, StoreError> {
    Ok(Entry {
        phase: cells.word()?,
        cancel_reason: cells.optional_word()?,
        started: cells.value()?,
        ended: cells.value()?,
        first_seen: cells.time()?,
        last_changed: cells.time()?,
        last_confirmed: cells.time()?,
        over_since: cells.optional_time()?,
        discovered_by: cells.word()?,
        last_changed_by: cells.word()?,
        asked: Asked {
            term: cells.value()?,
            count: cells.value()?,
        },
        dispatch: Arc::new(cells.json()?),
        inquiry: Inquiry::default(),
    })
}

/// What [`site`] reads, in its order.
pub(super) const SITES: &str = "SELECT id, state FROM sites";

/// Reads a row of [`SITES`].
pub(super) fn site(row: &Row) -> Result<SiteState, StoreError> {
    let mut cells = Cells::of(row);
    let id = cells.text()?;
    let state: SiteState = cells.json()?;
    same_id(id, state.id.as_str())?;
    Ok(state)
}

/// A row that is about another than it says would be written beside itself.
fn same_id(id: &str, other: &str) -> Result<(), StoreError> {
    if id == other {
        Ok(())
    } else {
        Err(damaged(format!("row {id} is of {other}")))
    }
}

/// What [`event`] reads, in its order, up to `WHERE`.
pub(super) const EVENTS: &str =
    "SELECT position, term, type, subject, time, unconditional, due, known, data FROM events";

/// Reads a row of [`EVENTS`].
pub(super) fn event(row: &Row, store_id: &str) -> Result<Event, StoreError> {
    let mut cells = Cells::of(row);
    let position = cells.value()?;
    let term = cells.value()?;
    let event_type: Arc<str> = cells.text()?.into();
    let subject = cells.text()?.into();
    let time = cells.time()?;
    let unconditional = cells.value()?;
    let due = cells.optional_micros()?;
    let known = cells.optional_micros()?;
    let data: Arc<Box<RawValue>> = cells.json()?;
    let mut event = Event {
        position,
        term,
        id: Event::id_at(store_id, term, position),
        event_type,
        subject,
        time,
        sequence: position,
        unconditional,
        origin: None,
        data,
    };
    if event.family() == "site"
        && let Some(cause) = Event::cause_in(&event.data)
    {
        // Of a command that was stored before these times were, only this is known.
        let due = due.unwrap_or(time);
        let known = known.unwrap_or(due);
        event.origin = Some(Arc::new(CommandOrigin { cause, due, known }));
    }
    Ok(event)
}
