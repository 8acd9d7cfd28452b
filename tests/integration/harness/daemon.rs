//! A running dispatchd, seen through its two listeners.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use http::HeaderMap;
use reqwest::{Body, RequestBuilder};
use serde_json::{Value, json};

use super::{Heard, Process, wait_for, wait_until};

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null if it is not JSON.
    pub json: Value,
}

impl Answer {
    /// A header as text, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A daemon that answers. It is a [`Process`] too.
pub struct Daemon {
    process: Process,
    /// Where webhooks come in.
    pub listener: SocketAddr,
    /// Where the status is told.
    pub status: SocketAddr,
    /// Asks it.
    pub http: reqwest::Client,
}

impl Daemon {
    /// Waits until the process answers.
    pub async fn of(mut process: Process) -> Self {
        let (listener, status) = wait_for("a daemon that says where it listens", async || {
            let log = process.log();
            let after = |words: &str| {
                let line = log
                    .iter()
                    .find_map(|line| Some(line.split_once(words)?.1))?;
                line.split('/').next()?.parse().ok()
            };
            let ended = process.ended();
            assert!(ended.is_none(), "{ended:?}: {log:?}");
            Some((
                after("webhooks come in at http://")?,
                after("status is told at http://")?,
            ))
        })
        .await;
        Self {
            process,
            listener,
            status,
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
        }
    }

    /// Where webhooks are posted to.
    pub fn webhook_url(&self) -> String {
        format!("http://{}/dispatch-listener", self.listener)
    }

    /// A path of the status listener.
    pub fn status_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.status)
    }

    /// Posts `body` as a webhook.
    pub async fn post(&self, body: impl Into<Body>) -> Answer {
        ask(self.http.post(self.webhook_url()).body(body)).await
    }

    /// A webhook about the dispatch `id`.
    pub async fn webhook(&self, id: &str) -> Answer {
        self.post(hint(&format!("/2022-04-15/dispatches/{id}")))
            .await
    }

    /// Asks the status listener.
    pub async fn get(&self, path: &str) -> Answer {
        ask(self.http.get(self.status_url(path))).await
    }

    /// Asks for a poll, and waits for it.
    pub async fn poll(&self) -> Answer {
        ask(self.http.post(self.status_url("/poll"))).await
    }

    /// `GET /schedule`
    pub async fn schedule(&self) -> Value {
        self.get("/schedule").await.json
    }

    /// The dispatch as the schedule has it.
    pub async fn entry(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("/schedule/{id}")).await;
        (answer.status == 200).then_some(answer.json)
    }

    /// Where the dispatch stands, empty if it is not in the schedule.
    pub async fn phase(&self, id: &str) -> String {
        let entry = self.entry(id).await.unwrap_or_default();
        entry["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the dispatch stands there, and gives it.
    pub async fn wait_for_phase(&self, id: &str, phase: &str) -> Value {
        wait_for(&format!("{id} is {phase}"), async || {
            self.entry(id).await.filter(|entry| entry["phase"] == phase)
        })
        .await
    }

    /// The schedule's revision.
    pub async fn revision(&self) -> u64 {
        self.schedule().await["revision"].as_u64().unwrap()
    }

    /// `GET /status`
    pub async fn health(&self) -> Value {
        self.get("/status").await.json
    }

    /// Waits until a poll has succeeded.
    pub async fn wait_until_ready(&self) {
        wait_until("the daemon is ready", async || {
            self.get("/readyz").await.status == 200
        })
        .await;
    }

    /// The events about `subject`, in the order in which they came.
    pub fn events_of(&self, subject: &str) -> Vec<Heard> {
        let mut events = self.events();
        events.retain(|heard| heard.text("subject") == subject);
        events
    }

    /// Their types.
    pub fn types_of(&self, subject: &str) -> Vec<String> {
        let events = self.events_of(subject);
        events
            .iter()
            .map(|heard| heard.text("type").to_owned())
            .collect()
    }

    /// Waits for an event of this type about `subject`, and gives the first.
    pub async fn wait_for_event(&self, subject: &str, kind: &str) -> Heard {
        wait_for(&format!("{kind} of {subject}"), async || {
            let events = self.events_of(subject);
            events.into_iter().find(|heard| heard.text("type") == kind)
        })
        .await
    }

    /// Waits until the first sink has got everything, and what came out on
    /// standard output has been read.
    pub async fn wait_until_delivered(&self) {
        wait_until("everything is delivered", async || {
            let sink = &self.health().await["delivery"][0];
            let read = self.events().len() as u64;
            sink["pending"] == 0 && (sink["sink"] != "stdout" || sink["delivered"] == read)
        })
        .await;
    }

    /// A line of `/proc/PID/status`, in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    }
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The body of a webhook about `resource`.
pub fn hint(resource: &str) -> String {
    json!({"event": {"name": "dispatch.update"}, "resource": resource}).to_string()
}

/// Sends a request and reads the answer.
pub async fn ask(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        json: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default(),
    }
}
