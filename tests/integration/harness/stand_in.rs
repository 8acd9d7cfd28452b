//! `dispatchd sandbox` as a process, for tests of what its clients see.

use std::process::Command;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::{Answer, Process, ask, wait_for};

/// A sandbox that answers. It is killed when this is dropped.
pub struct StandIn {
    _process: Process,
    /// The base of its API.
    pub url: String,
    http: reqwest::Client,
}

impl StandIn {
    /// Starts it with these options, on a port of its own.
    pub async fn start(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
        command
            .env_clear()
            .args(["sandbox", "--listen", "127.0.0.1:0"])
            .args(options);
        let process = Process::spawn(&mut command);
        let url = wait_for("the sandbox says where it is", async || {
            let log = process.log();
            let line = log.iter().find(|line| line.contains("answers at"))?;
            Some(line.rsplit_once(' ')?.1.to_owned())
        })
        .await;
        Self {
            _process: process,
            url,
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
        }
    }

    /// A request with the public key, as Voltus's example programs send it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .header("X-Voltus-API-Key", "secret")
            .header("Accept", "application/json")
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        ask(self.request(Method::GET, path)).await
    }

    /// `POST`
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        ask(self.request(Method::POST, path).json(body)).await
    }

    /// `GET /control/log`
    pub async fn log(&self) -> Value {
        self.get("/control/log").await.json
    }
}
