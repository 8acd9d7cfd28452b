//! Converts values to and from columns.

use std::error::Error;

use chrono::{DateTime, Utc};
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::store::StoreError;

/// The cells of a row, from left to right, as the query names them. To find each
/// by its name costs as much as to read it.
pub(super) struct Cells<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Cells<'r> {
    /// Before the first cell.
    pub fn of(row: &'r Row<'r>) -> Self {
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

    /// The next cell, as SQLite gives it.
    pub fn value<T: FromSql>(&mut self) -> Result<T, StoreError> {
        self.read(|value| Ok(T::column_result(value)?))
    }

    /// The next cell, which holds text.
    pub fn text(&mut self) -> Result<&'r str, StoreError> {
        self.read(|value| Ok(value.as_str()?))
    }

    /// The next cell, which holds a time.
    pub fn time(&mut self) -> Result<DateTime<Utc>, StoreError> {
        self.read(|value| Ok(DateTime::parse_from_rfc3339(value.as_str()?)?.to_utc()))
    }

    /// The next cell, which may hold a time.
    pub fn optional_time(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read(|value| {
            let text = value.as_str_or_null()?;
            let time = text.map(DateTime::parse_from_rfc3339).transpose()?;
            Ok(time.map(|time| time.to_utc()))
        })
    }

    /// The next cell, which may hold a time as microseconds since 1970.
    pub fn optional_micros(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let micros = self.value::<Option<i64>>()?;
        Ok(micros.and_then(DateTime::from_timestamp_micros))
    }

    /// The next cell, which holds one of a few words.
    pub fn word<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.read(|value| parse_word(value.as_str()?))
    }

    /// The next cell, which may hold one of a few words.
    pub fn optional_word<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        self.read(|value| value.as_str_or_null()?.map(parse_word).transpose())
    }

    /// The next cell, which holds JSON.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.read(|value| Ok(serde_json::from_str(value.as_str()?)?))
    }
}

/// One of a few words.
fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, Box<dyn Error>> {
    let text: StrDeserializer<serde::de::value::Error> = text.into_deserializer();
    Ok(T::deserialize(text)?)
}

pub(super) fn damaged(what: String) -> StoreError {
    StoreError::Damaged { what }
}
