//! An HTTP receiver that can be told to behave badly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dispatchd::http::{Bounds, serve};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::reply::{Reply, Response};

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
    /// Does not take it, and answers with this status.
    Refuses(u16),
    /// Does not take it, and asks to be left alone for so many seconds.
    Busy(u32),
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
    /// How it treats subjects that begin with these, instead.
    special: Arc<Mutex<BTreeMap<String, Manner>>>,
    taken: Arc<Mutex<Vec<Heard>>>,
    signed: Arc<Mutex<Vec<Signed>>>,
    asked: Arc<AtomicUsize>,
    _stop: Arc<DropGuard>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// An address at which nobody listens until [`Self::at`] does. The port stays bound, so
    /// that no other test gets it meanwhile.
    pub fn gone() -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        // With this set, `at` can bind the same port. A bind to port 0 never gets it.
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        std::mem::forget(socket);
        address
    }

    /// One that takes everything, at this address.
    pub async fn at(address: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind(address).await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            manner: Arc::new(Mutex::new(Manner::Takes)),
            special: Arc::default(),
            taken: Arc::default(),
            signed: Arc::default(),
            asked: Arc::default(),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let (manner, taken) = (Arc::clone(&receiver.manner), Arc::clone(&receiver.taken));
        let special = Arc::clone(&receiver.special);
        let (asked, signed) = (Arc::clone(&receiver.asked), Arc::clone(&receiver.signed));
        let request = warp::header::headers_cloned().and(warp::body::bytes());
        let route = request.then(move |head: HeaderMap, body: Bytes| {
            asked.fetch_add(1, Ordering::Relaxed);
            if head.contains_key("webhook-signature") {
                let body = body.clone();
                locked(&signed).push(Signed { head, body });
            }
            let manner = manner_for(&body, &locked(&special)).unwrap_or(*locked(&manner));
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

    /// How it treats subjects that begin with `prefix` from now on.
    pub fn behave_for(&self, prefix: &str, manner: Manner) {
        locked(&self.special).insert(prefix.to_owned(), manner);
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

/// How it treats this request, if some subject in it is special: a batch is treated
/// like the first such subject.
fn manner_for(body: &[u8], special: &BTreeMap<String, Manner>) -> Option<Manner> {
    if special.is_empty() {
        return None;
    }
    let events: Value = serde_json::from_slice(body).ok()?;
    let events = match events {
        Value::Array(events) => events,
        event => vec![event],
    };
    events.iter().find_map(|event| {
        let subject = event["subject"].as_str()?;
        let mut special = special.iter();
        let found = special.find(|(prefix, _)| subject.starts_with(*prefix))?;
        Some(*found.1)
    })
}

async fn receive(manner: Manner, taken: &Mutex<Vec<Heard>>, body: &[u8]) -> Response {
    match manner {
        Manner::Slow(time) => tokio::time::sleep(time).await,
        Manner::Hangs => std::future::pending().await,
        Manner::Fails => return answer(StatusCode::SERVICE_UNAVAILABLE),
        Manner::Refuses(status) => return answer(StatusCode::from_u16(status).unwrap()),
        Manner::Busy(seconds) => {
            let mut busy = answer(StatusCode::SERVICE_UNAVAILABLE);
            busy.headers_mut().insert("retry-after", seconds.into());
            return busy;
        }
        Manner::Takes | Manner::TakesAndFails => {}
    }
    // A number that no `f64` holds can be found in `signed` alone.
    let event: Value = serde_json::from_slice(body).unwrap_or(json!([]));
    let events = match event {
        Value::Array(events) => events,
        event => vec![event],
    };
    let at = now();
    locked(taken).extend(events.into_iter().map(|event| Heard { at, event }));
    match manner {
        Manner::TakesAndFails => answer(StatusCode::INTERNAL_SERVER_ERROR),
        _ => answer(StatusCode::NO_CONTENT),
    }
}

fn answer(status: StatusCode) -> Response {
    status.into_response()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
