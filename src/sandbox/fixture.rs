//! The one dispatch that the public sandbox shows to everybody, and what fills
//! in for programs and sites that are not named.

use std::cell::Cell;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::model::rfc3339;

/// Its id.
pub(super) const ID: &str = "asdf";

/// How the times of the fixture behave.
#[derive(Debug)]
pub(super) enum Fixture {
    /// They were set when the sandbox started, and stay.
    Still(DateTime<Utc>),
    /// They move with every request while `modification_number` stays 0, as has
    /// been seen at the public sandbox. Held is what the last request was shown.
    Moving(Cell<DateTime<Utc>>),
}

impl Fixture {
    /// One whose times move.
    pub(super) fn moving() -> Self {
        Self::Moving(Cell::new(DateTime::<Utc>::MIN_UTC))
    }

    /// The dispatch as a request at `now` sees it.
    pub(super) fn dispatch(&self, now: DateTime<Utc>) -> Value {
        dispatch(match self {
            Self::Still(since) => *since,
            Self::Moving(shown) => {
                // Two requests within a millisecond have the same `now`.
                shown.set(now.max(shown.get() + TimeDelta::milliseconds(1)));
                shown.get()
            }
        })
    }
}

fn dispatch(created: DateTime<Utc>) -> Value {
    let hour = TimeDelta::hours(1);
    json!({
        "id": ID,
        "authorized": true,
        "test": false,
        "start_time": rfc3339(created + hour),
        "end_time": rfc3339(created + hour + hour),
        "creation_time": rfc3339(created),
        "modification_number": 0,
        "program": program(),
        "sites": sites(),
    })
}

/// The program of dispatches that name none.
pub(super) fn program() -> Value {
    json!({
        "id": 42,
        "name": "Sandbox Reserves",
        "timezone": "US/Central",
        "market": "MISO",
        "program_type": "ancillary_services",
    })
}

/// The sites of dispatches that name none.
pub(super) fn sites() -> Value {
    json!([
        {"id": "asdf", "name": "Site 1", "customer_location_id": "1", "commitment": 12, "drop_by": 12},
        {"id": "lkjh", "name": "Site 2", "customer_location_id": "2", "commitment": 40, "drop_by": 40},
    ])
}

/// The program with every field that the reference requires.
pub(super) fn completed_program(mut given: Map<String, Value>) -> Value {
    if let Value::Object(fields) = program() {
        for (field, value) in fields {
            given.entry(field).or_insert(value);
        }
    }
    given.into()
}

/// The sites with every field that the reference requires. Whoever starts a
/// scenario may name a site by its name and location alone. The commitment is
/// unknown if it is not given.
pub(super) fn completed_sites(given: &[Value]) -> Value {
    let complete = |(place, site): (usize, &Value)| {
        let number = place + 1;
        let mut site = site.clone();
        if let Some(fields) = site.as_object_mut() {
            for (field, value) in [
                ("id", Value::from(format!("site-{number}"))),
                ("name", format!("Site {number}").into()),
                ("customer_location_id", "".into()),
                ("commitment", Value::Null),
            ] {
                fields.entry(field).or_insert(value);
            }
        }
        site
    };
    given.iter().enumerate().map(complete).collect()
}

/// A site of a dispatch as `GET /sites` shows it, with one meter.
pub(super) fn enrolled(id: &str, site: &Value) -> Value {
    let text = |field: &str| site[field].as_str().unwrap_or_default();
    json!({
        "id": id,
        "name": text("name"),
        "customer_location_id": text("customer_location_id"),
        "meters": [{
            "id": format!("{id}-1"),
            "name": format!("{} main meter", text("name")).trim_start(),
            "asset_type": "load",
        }],
    })
}
