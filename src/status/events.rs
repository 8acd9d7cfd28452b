//! `GET /events`: the event stream as it happens, as Server-Sent Events.
//!
//! Each listener has a task and a short queue between it and its connection.
//! Who reads slowly fills the queue, misses what is shown live meanwhile, and
//! is caught up from the store: nobody else waits for it, and nothing piles up.

mod cursor;
mod feed;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Reply;
use warp::reply::Response;

use crate::http::{Hangup, refusal, set_retry_after};
use crate::model::Event;
use crate::store::StoreHandle;
use crate::sync::View;

use cursor::Cursor;
use feed::{Feed, Filter};

/// How many may listen at once.
const LISTENERS: usize = 256;

/// How many chunks may wait for a connection.
const QUEUE: usize = 4;

/// How long somebody who finds no place is asked to wait.
const COME_BACK: Duration = Duration::from_secs(5);

/// What listeners are served from. Copies count the same listeners.
#[derive(Debug, Clone)]
pub struct EventStream {
    store_id: Arc<str>,
    store: StoreHandle,
    view: watch::Receiver<View>,
    live: broadcast::Sender<Event>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl EventStream {
    /// Streams the events of the store with this id: those that it holds, and
    /// those that `live` shows. Every stream ends at `stop`.
    pub fn new(
        store_id: Arc<str>,
        store: StoreHandle,
        view: watch::Receiver<View>,
        live: broadcast::Sender<Event>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store_id,
            store,
            view,
            live,
            places: Arc::new(Semaphore::new(LISTENERS)),
            tasks: TaskTracker::new(),
            stop,
        }
    }

    /// Starts a stream. `hangup` cuts its connection off.
    pub(super) fn open(
        &self,
        query: &str,
        headers: &HeaderMap,
        hangup: Option<Hangup>,
    ) -> Response {
        let (filter, cursor) = match (Filter::read(query), Cursor::read(headers, query)) {
            (Ok(filter), Ok(cursor)) => (filter, cursor),
            (Err(error), _) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
            (_, Err(error)) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let mut reply = refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("{LISTENERS} listen already"),
            );
            set_retry_after(&mut reply, COME_BACK);
            return reply;
        };
        // First listen, then see what has happened: so nothing falls between.
        let live = self.live.subscribe();
        let newest = self.view.borrow().position;
        let after = cursor.map_or(newest, |cursor| cursor.after(&self.store_id, newest));
        let (chunks, queue) = mpsc::channel(QUEUE);
        let feed = Feed {
            store_id: Arc::clone(&self.store_id),
            store: self.store.clone(),
            live,
            filter,
            after,
            chunks,
            heartbeat: feed::heartbeat(),
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            feed.run(stop, hangup).await;
            drop(place);
        });
        streamed(queue)
    }
}

fn streamed(mut queue: mpsc::Receiver<Bytes>) -> Response {
    let chunks = futures_util::stream::poll_fn(move |context| {
        queue
            .poll_recv(context)
            .map(|chunk| chunk.map(Ok::<_, Infallible>))
    });
    let mut reply = warp::reply::stream(chunks).into_response();
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Else a proxy in front may hold events back until it has a buffer full.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    reply
}

#[cfg(test)]
mod tests;
