//! What the tests of several sinks share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::Attempt;
use crate::model::Event;

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

pub(super) fn event(id: &str, event_type: &str, subject: &str) -> Event {
    Event {
        position: 1,
        term: 2,
        id: id.into(),
        event_type: event_type.into(),
        subject: subject.into(),
        time: at(1_800_000_000),
        sequence: 3,
        unconditional: false,
        origin: None,
        data: Arc::new(RawValue::from_string(r#"{"state":"curtailed"}"#.to_owned()).unwrap()),
    }
}

/// An event whose payload has about `bytes` bytes.
pub(super) fn large(bytes: usize) -> Event {
    let data = format!("{:?}", "x".repeat(bytes));
    Event {
        data: Arc::new(RawValue::from_string(data).unwrap()),
        ..event("e-large", "site.curtail", "s1")
    }
}

/// Waits until `holds`, and fails the test if it never does.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

pub(super) fn reason(attempt: Attempt) -> String {
    match attempt {
        Attempt::Failed { reason, .. } | Attempt::Unreachable { reason } => reason,
        other => panic!("expected a failure, got {other:?}"),
    }
}
