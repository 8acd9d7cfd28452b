//! How values stand in columns.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::engine::SiteState;
use crate::model::{Asked, Dispatch, Entry, Event};
use crate::store::StoreError;

/// Reads a column that holds a time.
pub(super) fn time(row: &Row, column: &str) -> Result<DateTime<Utc>, StoreError> {
    parse_time(&text(row, column)?)
}

/// Reads a column that may hold a time.
pub(super) fn optional_time(row: &Row, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.as_deref().map(parse_time).transpose()
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, StoreError> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|error| damaged(format!("the time {text:?}: {error}")))
}

/// Reads a column that holds one of a few words.
fn word<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text = text(row, column)?;
    parse_word(&text)
}

fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| damaged(format!("the word {text:?}: {error}")))
}

pub(super) fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    get(row, column)
}

/// Reads a column as SQLite gives it.
pub(super) fn get<T: rusqlite::types::FromSql>(row: &Row, column: &str) -> Result<T, StoreError> {
    row.get(column)
        .map_err(|error| damaged(format!("column {column}: {error}")))
}

/// Reads a column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(&text(row, column)?)
        .map_err(|error| damaged(format!("column {column}: {error}")))
}

pub(super) fn damaged(what: String) -> StoreError {
    StoreError::Damaged { what }
}

/// Reads a row of `dispatches`.
pub(super) fn entry(row: &Row) -> Result<Entry, StoreError> {
    let cancel_reason: Option<String> = get(row, "cancel_reason")?;
    let dispatch: Dispatch = json(row, "dispatch")?;
    same_id(row, dispatch.id.as_str())?;
    Ok(Entry {
        dispatch: dispatch.into(),
        phase: word(row, "phase")?,
        cancel_reason: cancel_reason.as_deref().map(parse_word).transpose()?,
        started: get(row, "started")?,
        ended: get(row, "ended")?,
        first_seen: time(row, "first_seen")?,
        last_changed: time(row, "last_changed")?,
        last_confirmed: time(row, "last_confirmed")?,
        over_since: optional_time(row, "over_since")?,
        discovered_by: word(row, "discovered_by")?,
        last_changed_by: word(row, "last_changed_by")?,
        asked: Asked {
            term: get(row, "asked_term")?,
            count: get(row, "asked_count")?,
        },
        absence: None,
        rewind: None,
    })
}

/// Reads a row of `sites`.
pub(super) fn site(row: &Row) -> Result<SiteState, StoreError> {
    let state: SiteState = json(row, "state")?;
    same_id(row, state.id.as_str())?;
    Ok(state)
}

/// A row that is about another than it says would be written beside itself.
fn same_id(row: &Row, told: &str) -> Result<(), StoreError> {
    let id = text(row, "id")?;
    if id == told {
        Ok(())
    } else {
        Err(damaged(format!("row {id} tells of {told}")))
    }
}

/// Reads a row of `events`.
pub(super) fn event(row: &Row, store_id: &str) -> Result<Event, StoreError> {
    let position = get(row, "position")?;
    let data = RawValue::from_string(text(row, "data")?)
        .map_err(|error| damaged(format!("event {position}: {error}")))?;
    Ok(Event {
        position,
        id: Event::id_at(store_id, position),
        event_type: text(row, "type")?.into(),
        subject: text(row, "subject")?.into(),
        time: time(row, "time")?,
        sequence: position,
        data: data.into(),
    })
}
