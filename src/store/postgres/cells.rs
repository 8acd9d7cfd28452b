//! Converts values to and from columns.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::model::DispatchId;
use crate::store::StoreError;

/// A number as PostgreSQL has it. What is stored counts events, attempts and
/// microseconds, and stays far below the limit.
pub(super) fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A name that others gave, without the zero character, which PostgreSQL cannot store.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) {
        Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The name that [`escaped`] was given.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        plain.push(match next {
            '\\' => match rest.next() {
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Cow::Owned(plain)
}

/// The cells of a row, from left to right, as the query names them.
pub(super) struct Cells<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Cells<'r> {
    /// Before the first cell.
    pub fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next cell, as PostgreSQL gives it.
    pub fn value<T: FromSql<'r>>(&mut self) -> Result<T, StoreError> {
        let place = self.next;
        self.next += 1;
        self.row
            .try_get(place)
            .map_err(|error| self.damaged_at(place, &error))
    }

    /// The next cell, which holds a number that is not negative.
    pub fn count(&mut self) -> Result<u64, StoreError> {
        let place = self.next;
        let number: i64 = self.value()?;
        u64::try_from(number).map_err(|error| self.damaged_at(place, &error))
    }

    /// The next cell, which holds the id of a dispatch.
    pub fn dispatch_id(&mut self) -> Result<DispatchId, StoreError> {
        let place = self.next;
        let id: &str = self.value()?;
        DispatchId::new(id).map_err(|_| self.damaged_at(place, &format!("{id:?} is no id")))
    }

    /// The next cell, which holds milliseconds.
    pub fn millis(&mut self) -> Result<Duration, StoreError> {
        Ok(Duration::from_millis(self.count()?))
    }

    /// The next cell, which holds a name that others gave.
    pub fn name(&mut self) -> Result<Arc<str>, StoreError> {
        Ok(unescaped(self.value()?).into())
    }

    /// The next cell, which may hold a text that others gave.
    pub fn optional_name(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        let text = self.value::<Option<&str>>()?;
        Ok(text.map(|text| unescaped(text).into()))
    }

    /// The next cell, which may hold a time.
    pub fn optional_time(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.value()
    }

    /// The next cell, which holds one of a few words.
    pub fn word<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let place = self.next;
        let text = self.value::<&str>()?;
        parse_word(text).map_err(|error| self.damaged_at(place, &error))
    }

    /// The next cell, which may hold one of a few words.
    pub fn optional_word<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let place = self.next;
        let text = self.value::<Option<&str>>()?;
        text.map(parse_word)
            .transpose()
            .map_err(|error| self.damaged_at(place, &error))
    }

    /// The next cell, which holds JSON.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let place = self.next;
        let text = self.value::<&str>()?;
        serde_json::from_str(text).map_err(|error| self.damaged_at(place, &error))
    }

    fn damaged_at(&self, place: usize, error: &dyn std::fmt::Display) -> StoreError {
        let column = self.row.columns().get(place);
        let name = column.map_or("unknown", |column| column.name());
        damaged(format!("column {name}: {error}"))
    }
}

/// One of a few words.
fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, serde::de::value::Error> {
    let text: StrDeserializer<serde::de::value::Error> = text.into_deserializer();
    T::deserialize(text)
}

pub(super) fn damaged(what: String) -> StoreError {
    StoreError::Damaged { what }
}

/// Writes a value as JSON. It holds no zero character: JSON escapes it.
pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::doing("be written as JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_as_it_was() {
        for name in [
            "plain",
            "a\\0b",
            "a\0b",
            "\\",
            "\0",
            "ends with \\",
            "Übung\\\\\0",
        ] {
            let stored = escaped(name);
            assert!(!stored.contains('\0'), "{stored:?}");
            assert_eq!(unescaped(&stored), name);
        }
    }
}
