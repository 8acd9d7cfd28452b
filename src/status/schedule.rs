//! `GET /schedule` and `GET /schedule/{id}`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use warp::reply::Response;

use super::cached::{Known, written};
use super::query::Selection;
use crate::http::{json_reply, long_json_reply, refusal};
use crate::model::{Entry, HistoryItem};
use crate::sync::View;

#[derive(Serialize)]
struct List {
    as_of: DateTime<Utc>,
    revision: u64,
    dispatches: Vec<Arc<Entry>>,
}

/// The entries that the query asks for.
pub(super) async fn list(view: View, query: &str, headers: &HeaderMap) -> Response {
    let selection = match Selection::read(query) {
        Ok(selection) => selection,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let known = Known::read(headers);
    // An entry is as long as its sites are many.
    let items = view.schedule.len() + view.plan.len();
    written(items, move || {
        let revision = view.schedule.revision();
        known.answer(&format!("\"{revision}\""), || {
            let dispatches = view.schedule.entries();
            let list = List {
                as_of: view.as_of,
                revision,
                dispatches: dispatches.filter(|entry| selection.takes(entry)).collect(),
            };
            long_json_reply(&list)
        })
    })
    .await
}

/// One entry with its history up to the same revision.
pub(super) fn entry(view: &View, entry: &Entry, history: Vec<HistoryItem>) -> Response {
    let revision = view.schedule.revision();
    json_reply(
        StatusCode::OK,
        &WithHistory {
            entry,
            history: history
                .into_iter()
                .filter(|item| item.revision <= revision)
                .collect(),
        },
    )
}

struct WithHistory<'a> {
    entry: &'a Entry,
    history: Vec<HistoryItem>,
}

impl Serialize for WithHistory<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entry.write_fields(&mut map)?;
        map.serialize_entry("history", &self.history)?;
        map.end()
    }
}
