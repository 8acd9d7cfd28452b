//! The sandbox as its clients see it, over loopback.

mod api;
mod faults;
mod scenarios;
mod webhooks;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use warp::Filter;

use super::*;
use crate::model::rfc3339;

/// Longer than any test should need.
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> DateTime<Utc> {
    SystemClock::new().now().wall
}

/// A time so many seconds from now.
fn within(seconds: i64) -> String {
    rfc3339(now() + TimeDelta::seconds(seconds))
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// A sandbox and a client of it.
struct Rig {
    sandbox: Sandbox,
    client: reqwest::Client,
}

impl Rig {
    /// One without the fixture.
    async fn new() -> Self {
        Self::with(Options {
            fixture: false,
            seed: Some(1),
            ..Options::default()
        })
        .await
    }

    async fn with(options: Options) -> Self {
        let stop = CancellationToken::new();
        let sandbox = Sandbox::start(options, listener().await, stop).unwrap();
        let client = crate::http::client_builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { sandbox, client }
    }

    /// A request without a key.
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.sandbox.url());
        self.client.request(method, url)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = format!("/2022-04-15/{path}");
        self.bare(method, &path).header(KEY_HEADER, "secret")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    async fn control(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.bare(method, &format!("/control/{path}")).json(body)).await
    }

    /// The ids in the list.
    async fn listed(&self) -> Vec<String> {
        let (status, body) = self.get("dispatches").await;
        assert_eq!(status, 200, "{body}");
        let dispatches = body["dispatches"].as_array().unwrap();
        dispatches.iter().map(|d| text(&d["id"])).collect()
    }

    async fn until(&self, condition: impl Fn(&Sandbox) -> bool) {
        let waiting = self.sandbox.wait_until(condition);
        let held = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        assert!(held, "the sandbox ended");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Status and body; null for a body that is no JSON.
async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A listener for webhooks that answers as it is told.
#[derive(Clone)]
struct Receiver {
    url: String,
    /// What to answer, in order; 200 after the last.
    answers: Arc<Mutex<VecDeque<u16>>>,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    async fn new(answers: impl IntoIterator<Item = u16>) -> Self {
        let listener = listener().await;
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            received: Arc::default(),
        };
        let this = receiver.clone();
        let hook = warp::path("hook")
            .and(warp::body::json())
            .map(move |body: Value| {
                this.received.lock().unwrap().push(body);
                let status = this.answers.lock().unwrap().pop_front().unwrap_or(200);
                StatusCode::from_u16(status).unwrap()
            });
        let service = warp::service(hook);
        let serving = http::serve(
            listener,
            service,
            Bounds::default(),
            CancellationToken::new(),
        );
        // It ends with the test's runtime.
        TaskTracker::new().spawn(serving);
        receiver
    }

    fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }
}
