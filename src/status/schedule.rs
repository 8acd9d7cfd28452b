//! `GET /schedule` and `GET /schedule/{id}`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use warp::reply::Response;

use super::query::Selection;
use crate::http::{json_reply, refusal};
use crate::model::{Entry, HistoryItem};
use crate::sync::View;

/// From this many entries on, the answer is written away from the threads that
/// serve others.
const MANY: usize = 500;

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
    let revision = view.schedule.revision();
    let many = view.schedule.len() >= MANY;
    let etag = format!("\"{revision}\"");
    let mut reply = if knows(headers, &etag) {
        let mut reply = Response::default();
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let write = move || {
            let dispatches = view.schedule.entries();
            let list = List {
                as_of: view.as_of,
                revision,
                dispatches: dispatches
                    .filter(|entry| selection.takes(entry))
                    .cloned()
                    .collect(),
            };
            json_reply(StatusCode::OK, &list)
        };
        if many {
            match tokio::task::spawn_blocking(write).await {
                Ok(reply) => reply,
                Err(error) => {
                    tracing::error!(%error, "the schedule could not be written");
                    refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
                }
            }
        } else {
            write()
        }
    };
    let headers = reply.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// Whether the client has this revision already.
fn knows(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*")
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
