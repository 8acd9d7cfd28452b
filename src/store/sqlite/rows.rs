//! How values stand in columns.

use std::error::Error;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::value::RawValue;

use crate::engine::SiteState;
use crate::model::{Asked, Entry, Event};
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

pub(super) fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    get(row, column)
}

/// Reads a column as SQLite gives it.
pub(super) fn get<T: FromSql>(row: &Row, column: &str) -> Result<T, StoreError> {
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
        absence: None,
        rewind: None,
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
fn same_id(id: &str, told: &str) -> Result<(), StoreError> {
    if id == told {
        Ok(())
    } else {
        Err(damaged(format!("row {id} tells of {told}")))
    }
}

/// The cells of a row, from left to right. For rows of which there are many:
/// finding each cell by its name costs as much as reading it.
struct Cells<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Cells<'r> {
    fn of(row: &'r Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(ValueRef<'r>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, StoreError> {
        let place = self.next;
        self.next += 1;
        let value = self.row.get_ref(place).map_err(Box::from);
        value.and_then(read).map_err(|error| {
            let name = self.row.as_ref().column_name(place);
            damaged(format!("column {}: {error}", name.unwrap_or("unknown")))
        })
    }

    fn value<T: FromSql>(&mut self) -> Result<T, StoreError> {
        self.read(|value| Ok(T::column_result(value)?))
    }

    fn text(&mut self) -> Result<&'r str, StoreError> {
        self.read(|value| Ok(value.as_str()?))
    }

    fn time(&mut self) -> Result<DateTime<Utc>, StoreError> {
        self.read(|value| Ok(DateTime::parse_from_rfc3339(value.as_str()?)?.to_utc()))
    }

    fn optional_time(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read(|value| {
            let text = value.as_str_or_null()?;
            let time = text.map(DateTime::parse_from_rfc3339).transpose()?;
            Ok(time.map(|time| time.to_utc()))
        })
    }

    fn word<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.read(|value| parse_word(value.as_str()?))
    }

    fn optional_word<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        self.read(|value| value.as_str_or_null()?.map(parse_word).transpose())
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.read(|value| Ok(serde_json::from_str(value.as_str()?)?))
    }
}

/// One of a few words.
fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, Box<dyn Error>> {
    let text: StrDeserializer<serde::de::value::Error> = text.into_deserializer();
    Ok(T::deserialize(text)?)
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
