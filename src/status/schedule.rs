//! `GET /schedule` and `GET /schedule/{id}`.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tokio::sync::watch;
use warp::reply::Response;

use super::LongAnswers;
use super::cached::Known;
use super::query::Selection;
use crate::http::{long_json_reply, refusal};
use crate::model::{DispatchId, Entry, HistoryItem};
use crate::seldom::Rarely;
use crate::store::{StoreError, StoreHandle};
use crate::sync::View;

/// The entries that are asked for, written one by one: the schedule is not
/// copied for it.
struct List<'a> {
    view: &'a View,
    selection: &'a Selection,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("as_of", &self.view.as_of)?;
        map.serialize_entry("revision", &self.view.schedule.revision())?;
        map.serialize_entry("dispatches", &Dispatches(self))?;
        map.end()
    }
}

struct Dispatches<'a>(&'a List<'a>);

impl Serialize for Dispatches<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let List { view, selection } = self.0;
        let entries = view.schedule.entries();
        serializer.collect_seq(entries.filter(|entry| selection.takes(entry)))
    }
}

/// The entries that the query asks for.
pub(super) async fn list(
    view: View,
    long: &LongAnswers,
    query: &str,
    headers: &HeaderMap,
) -> Response {
    let selection = match Selection::read(query) {
        Ok(selection) => selection,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let known = Known::read(headers);
    // An entry is as long as its sites are many.
    let items = view.schedule.len() + view.plan.len();
    long.written(items, move || {
        let revision = view.schedule.revision();
        known.answer(&format!("\"{revision}\""), || {
            long_json_reply(&List {
                view: &view,
                selection: &selection,
            })
        })
    })
    .await
}

/// An entry with its history, both of one revision.
#[derive(Debug)]
pub(super) struct WithHistory {
    entry: Arc<Entry>,
    history: Vec<HistoryItem>,
}

/// How often an entry is read that is pruned at the same time.
const TRIES: u32 = 3;

/// Reads the entry with this id and its history. `None` if there is none.
///
/// The view is taken first: what it shows is committed, so the store has all of
/// the history up to the view's revision, and what goes beyond is cut off. Read
/// the other way around, an entry could be newer than its history.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn read(
    views: &watch::Receiver<View>,
    store: &StoreHandle,
    id: &DispatchId,
) -> Result<Option<WithHistory>, StoreError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let view = views.borrow().clone();
        let Some(entry) = view.schedule.get(id) else {
            return Ok(None);
        };
        let mut history = store.history(id.clone()).await?;
        let revision = view.schedule.revision();
        history.retain(|item| item.revision <= revision);
        // Without a line the entry has been pruned since the view was taken.
        if !history.is_empty() || tries == 0 {
            return Ok(Some(WithHistory { entry, history }));
        }
    }
}

/// The answer to a request for one entry.
pub(super) async fn one(
    views: &watch::Receiver<View>,
    store: &StoreHandle,
    long: &LongAnswers,
    id: &str,
) -> Response {
    let found = match DispatchId::new(id) {
        Ok(id) => read(views, store, &id).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(found)) => {
            let items = found.history.len();
            long.written(items, move || long_json_reply(&found)).await
        }
        Ok(None) => refusal(StatusCode::NOT_FOUND, "no such dispatch in the schedule"),
        Err(error) => {
            static LINE: Rarely = Rarely::new();
            if let Some(count) = LINE.count() {
                tracing::error!(%error, count, dispatch = id, "the history of a dispatch cannot be read");
            }
            refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

impl Serialize for WithHistory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entry.write_fields(&mut map)?;
        map.serialize_entry("history", &self.history)?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
