//! What happened to a dispatch, as it is kept and shown.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Change, ChangeKind, Dispatch, Phase, Source, time};

/// One line of a dispatch's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// The schedule's revision that the change made.
    pub revision: u64,
    /// When it was decided, UTC.
    #[serde(serialize_with = "time::write")]
    pub at: DateTime<Utc>,
    /// The event type that announced it.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What brought it.
    pub source: Source,
    /// The phase that it left the dispatch in.
    pub phase: Phase,
    /// The fields that changed, each with `from` and `to`.
    pub changed: Map<String, Value>,
}

impl From<&Change> for HistoryItem {
    fn from(change: &Change) -> Self {
        let changed = match (&change.kind, &change.before) {
            (ChangeKind::Updated { .. } | ChangeKind::Cancelled(_), Some(before)) => {
                differences(before, &change.entry.dispatch)
            }
            _ => Map::new(),
        };
        Self {
            revision: change.revision,
            at: change.at,
            event_type: change.kind.event_type().to_owned(),
            source: change.source,
            phase: change.entry.phase,
            changed,
        }
    }
}

/// The fields in which two states differ, by their names in JSON.
fn differences(before: &Dispatch, after: &Dispatch) -> Map<String, Value> {
    let (Ok(Value::Object(mut from)), Ok(Value::Object(to))) =
        (serde_json::to_value(before), serde_json::to_value(after))
    else {
        return Map::new();
    };
    to.into_iter()
        .filter_map(|(field, to)| {
            let from = from.remove(&field).unwrap_or(Value::Null);
            (from != to).then(|| (field, json!({"from": from, "to": to})))
        })
        .collect()
}
