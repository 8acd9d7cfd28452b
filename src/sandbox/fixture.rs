//! The one dispatch that the public sandbox shows to everybody.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::model::rfc3339;

/// Its id.
pub(super) const ID: &str = "asdf";

/// The fixture as it looks at `now`. Its times move with every request while
/// `modification_number` stays 0, as has been seen upstream.
pub(super) fn dispatch(now: DateTime<Utc>) -> Value {
    let hour = TimeDelta::hours(1);
    json!({
        "id": ID,
        "authorized": true,
        "test": false,
        "start_time": rfc3339(now + hour),
        "end_time": rfc3339(now + hour + hour),
        "creation_time": rfc3339(now),
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
