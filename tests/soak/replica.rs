//! Replicas of the API that lag: some answers show what was true up to 3 s ago.
//!
//! A [`Replica`] stands between the daemon and the sandbox. The sandbox decides
//! about every request first, with all its faults; then a good answer may be
//! replaced by an older one, of the list or by id. Only dispatches that carry a
//! `modification_number` lag: of others nobody can tell which state is newer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::http::{Bounds, serve};
use dispatchd::sandbox::Sandbox;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::filters::path::FullPath;
use warp::reply::{Reply, Response};

use crate::Fault;
use crate::clock::now;
use crate::upstream::{Books, Upstream};

/// The longest that a replica lags.
pub const LAG_MAX: TimeDelta = TimeDelta::seconds(3);

/// The shortest, in milliseconds.
const LAG_MIN_MS: i64 = 50;

/// The share of answers that come from a replica that lags.
const LAGGING: f64 = 0.3;

/// What of a request is passed on.
const KEY: &str = "x-voltus-api-key";

/// What of an answer's head is passed back, beside its rate limits.
const HEAD: [http::HeaderName; 3] = [CONTENT_TYPE, DATE, RETRY_AFTER];

/// The API as the daemon sees it.
pub struct Replica {
    upstream: Upstream,
    sandbox: Sandbox,
    http: reqwest::Client,
    random: Mutex<SmallRng>,
    /// From then on nothing lags.
    well: CancellationToken,
    lagged: Mutex<u64>,
}

impl Replica {
    /// Listens until `stop`; lags until `well`. Gives its address, too.
    pub async fn start(
        upstream: Upstream,
        sandbox: Sandbox,
        seed: u64,
        tasks: &TaskTracker,
        well: CancellationToken,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, SocketAddr), Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let replica = Arc::new(Self {
            upstream,
            sandbox,
            http: dispatchd::http::client_builder().no_proxy().build()?,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            well,
            lagged: Mutex::default(),
        });
        let mine = Arc::clone(&replica);
        let query = warp::query::raw().or(warp::any().map(String::new)).unify();
        let request = warp::method()
            .and(warp::path::full())
            .and(query)
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes());
        let route = request.then(
            move |method: Method, path: FullPath, query: String, head: HeaderMap, body: Bytes| {
                let replica = Arc::clone(&mine);
                async move {
                    let path = path.as_str();
                    let answer = replica.answer(method, path, &query, &head, body).await;
                    answer.unwrap_or_else(|_| no_answer())
                }
            },
        );
        tasks.spawn(serve(
            listener,
            warp::service(route),
            Bounds::default(),
            stop,
        ));
        Ok((replica, address))
    }

    /// How many answers were older than they could have been.
    pub fn lagged(&self) -> u64 {
        *locked(&self.lagged)
    }

    /// How much this answer lags, if it does.
    fn lag(&self) -> Option<TimeDelta> {
        if self.well.is_cancelled() {
            return None;
        }
        let mut random = locked(&self.random);
        let longest = LAG_MAX.num_milliseconds();
        random
            .random_bool(LAGGING)
            .then(|| TimeDelta::milliseconds(random.random_range(LAG_MIN_MS..longest)))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        query: &str,
        head: &HeaderMap,
        body: Bytes,
    ) -> reqwest::Result<Response> {
        let (came, lag) = (now(), self.lag());
        let url = format!("{}{path}?{query}", self.sandbox.url());
        let url = url.trim_end_matches('?');
        let read = method == Method::GET;
        let mut question = self.http.request(method, url).body(body);
        if let Some(key) = head.get(KEY) {
            question = question.header(KEY, key);
        }
        let answer = question.send().await?;
        let (mut status, head) = (answer.status(), answer.headers().clone());
        let mut body = answer.bytes().await?;
        if let Some(lag) = lag.filter(|_| read) {
            let older = self.older(path, status, &body, came - lag);
            if let Some((then, value)) = older {
                let value = Bytes::from(value.to_string());
                *locked(&self.lagged) += u64::from((status, &body) != (then, &value));
                (status, body) = (then, value);
            }
        }
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        for (name, value) in &head {
            if HEAD.contains(name) || name.as_str().starts_with("x-ratelimit-") {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    /// The answer as it was at `time`. `None` if the API's own stands.
    fn older(
        &self,
        path: &str,
        status: StatusCode,
        body: &[u8],
        time: DateTime<Utc>,
    ) -> Option<(StatusCode, Value)> {
        let mut segments = path.split('/').skip(2);
        if segments.next() != Some("dispatches") {
            return None;
        }
        // What is cut off or an error stays so.
        let shown: Value = serde_json::from_slice(body).ok()?;
        let books = self.upstream.books();
        match segments.next() {
            None if status == StatusCode::OK => {
                Some((status, page(list_at(&books, &shown, time)?)))
            }
            Some(id) if status == StatusCode::OK || status == StatusCode::NOT_FOUND => {
                let then = books.shown_at(id, time)?;
                Some(match &then.json {
                    None => {
                        let body =
                            json!({"message": "there is no such dispatch", "type": "Not Found"});
                        (StatusCode::NOT_FOUND, body)
                    }
                    Some(one) if self.sandbox.faults().wrap_by_id => {
                        (StatusCode::OK, page(vec![one.clone()]))
                    }
                    Some(one) => (StatusCode::OK, one.clone()),
                })
            }
            _ => None,
        }
    }
}

/// The list as it was at `time`; what has no number is as it is now.
fn list_at(books: &Books, now: &Value, time: DateTime<Utc>) -> Option<Vec<Value>> {
    let now = now["dispatches"].as_array()?;
    if now.is_empty() {
        // An empty list is a fault of its own.
        return None;
    }
    let unnumbered = now.iter().filter(|one| {
        let id = one["id"].as_str().unwrap_or_default();
        books.shown_at(id, time).is_none()
    });
    let older = books.listed_at(time);
    Some(unnumbered.cloned().chain(older).collect())
}

fn page(dispatches: Vec<Value>) -> Value {
    json!({"dispatches": dispatches, "page": 0, "perPage": 0})
}

/// The connection closes without an answer, as the sandbox's did.
fn no_answer() -> Response {
    let closed = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    let nothing = futures_util::stream::iter([Err::<Bytes, _>(closed)]);
    warp::reply::stream(nothing).into_response()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
