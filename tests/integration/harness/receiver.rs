//! An HTTP receiver that can be told to behave badly.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dispatchd::http::{Bounds, serve};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use warp::Filter;

use super::{Heard, now};

/// How it treats what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Does not take it, and says so.
    Fails,
    /// Takes it, and says that it did not.
    TakesAndFails,
    /// Takes it after this long.
    Slow(Duration),
    /// Does not answer.
    Hangs,
}

/// A request that bore a signature.
#[derive(Debug, Clone)]
pub struct Signed {
    pub head: HeaderMap,
    pub body: Bytes,
}

/// A receiver. It is gone when this is dropped.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    taken: Arc<Mutex<Vec<Heard>>>,
    signed: Arc<Mutex<Vec<Signed>>>,
    asked: Arc<AtomicUsize>,
    _stop: Arc<DropGuard>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn new() -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            manner: Arc::new(Mutex::new(Manner::Takes)),
            taken: Arc::default(),
            signed: Arc::default(),
            asked: Arc::default(),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let (manner, taken) = (Arc::clone(&receiver.manner), Arc::clone(&receiver.taken));
        let (asked, signed) = (Arc::clone(&receiver.asked), Arc::clone(&receiver.signed));
        let request = warp::header::headers_cloned().and(warp::body::bytes());
        let route = request.then(move |head: HeaderMap, body: Bytes| {
            asked.fetch_add(1, Ordering::Relaxed);
            if head.contains_key("webhook-signature") {
                let body = body.clone();
                locked(&signed).push(Signed { head, body });
            }
            let manner = *locked(&manner);
            let taken = Arc::clone(&taken);
            async move { receive(manner, &taken, &body).await }
        });
        let serving = serve(listener, warp::service(route), Bounds::default(), stop);
        TaskTracker::new().spawn(serving);
        receiver
    }

    /// A sink that sends here.
    pub fn sink(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// How often it was asked so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// How it behaves from now on.
    pub fn behave(&self, manner: Manner) {
        *locked(&self.manner) = manner;
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Heard> {
        locked(&self.taken).clone()
    }

    /// The requests so far that bore a signature.
    pub fn signed(&self) -> Vec<Signed> {
        locked(&self.signed).clone()
    }

    /// The types of what it has taken about `subject`, redeliveries left out.
    pub fn types_of(&self, subject: &str) -> Vec<String> {
        let mut last = 0;
        let taken = self.taken().into_iter();
        let about = taken.filter(|heard| heard.text("subject") == subject);
        let newer = about.filter(|heard| {
            let sequence = heard.event["sequence"].as_u64().unwrap();
            let newer = sequence > last;
            last = last.max(sequence);
            newer
        });
        newer.map(|heard| heard.text("type").to_owned()).collect()
    }
}

async fn receive(manner: Manner, taken: &Mutex<Vec<Heard>>, body: &[u8]) -> StatusCode {
    match manner {
        Manner::Slow(time) => tokio::time::sleep(time).await,
        Manner::Hangs => std::future::pending().await,
        Manner::Fails => return StatusCode::SERVICE_UNAVAILABLE,
        Manner::Takes | Manner::TakesAndFails => {}
    }
    let event: Value = serde_json::from_slice(body).unwrap();
    let events = match event {
        Value::Array(events) => events,
        event => vec![event],
    };
    let at = now();
    locked(taken).extend(events.into_iter().map(|event| Heard { at, event }));
    match manner {
        Manner::TakesAndFails => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NO_CONTENT,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
