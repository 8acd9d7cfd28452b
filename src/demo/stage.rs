//! Sandbox and daemon in one process.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Pace;
use super::feed::{self, Heard};
use super::story::Missing;
use super::teller::Teller;
use crate::config::{Config, ConfigError, Origins, RunOptions};
use crate::daemon::{Daemon, DaemonError};
use crate::model::WEBHOOK_PATH;
use crate::sandbox::{Options, Sandbox, StartError};

/// Why the stage could not be set.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The sandbox has no address.
    #[error("the sandbox gets no address: {0}")]
    Bind(#[source] std::io::Error),
    /// The sandbox does not start.
    #[error(transparent)]
    Sandbox(#[from] StartError),
    /// The options are none of `dispatchd run`.
    #[error(transparent)]
    Options(#[from] clap::Error),
    /// The options do not go together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The daemon does not start, or has ended by itself.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The client of the status listener cannot be made.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The event stream does not open.
    #[error("the event stream does not open")]
    NoEvents,
}

/// A sandbox, a daemon that takes it for Voltus, and a client of the daemon.
#[derive(Debug)]
pub struct Stage {
    sandbox: Sandbox,
    webhooks: String,
    status: String,
    http: reqwest::Client,
    heard: watch::Receiver<Option<Vec<Heard>>>,
    daemon: JoinHandle<Result<(), DaemonError>>,
    /// The daemon has ended.
    over: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    /// Starts both on free ports, with the daemon's webhook registered. The
    /// teller tells every event from then on.
    ///
    /// # Errors
    /// When either does not start.
    pub async fn set(pace: &Pace, teller: &Teller) -> Result<Self, DemoError> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let socket = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(DemoError::Bind)?;
        let options = Options {
            fixture: false,
            ..Options::default()
        };
        // It ends after the daemon, with this handle's `stop`.
        let sandbox = Sandbox::start(options, socket, CancellationToken::new())?;
        let daemon = Daemon::start(&Arc::new(config(&sandbox.url(), pace.poll)?)).await?;
        let webhooks = format!("http://{}{}", daemon.listen(), WEBHOOK_PATH);
        let status = format!("http://{}", daemon.status_listen());
        sandbox.add_webhook(webhooks.as_str());
        let over = CancellationToken::new();
        let ends = over.clone().drop_guard();
        let running = daemon.run(stop.clone());
        let daemon = tasks.spawn(async move {
            let _ends = ends;
            running.await
        });

        let http = crate::http::client_builder().no_proxy().build()?;
        let (sender, mut heard) = watch::channel(None);
        let listening = feed::listen(
            http.clone(),
            format!("{status}/events"),
            teller.clone(),
            sender,
        );
        tasks.spawn(stop.clone().run_until_cancelled_owned(listening));
        let opened = heard.wait_for(Option::is_some);
        match tokio::time::timeout(Duration::from_secs(10), opened).await {
            Ok(Ok(_)) => {}
            _ => return Err(DemoError::NoEvents),
        }
        Ok(Self {
            sandbox,
            webhooks,
            status,
            http,
            heard,
            daemon,
            over,
            stop,
            tasks,
        })
    }

    /// The stand-in for Voltus.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Where the daemon takes webhooks.
    pub fn webhooks_url(&self) -> &str {
        &self.webhooks
    }

    /// Where the daemon is asked.
    pub fn status_url(&self) -> &str {
        &self.status
    }

    /// All events so far, and news of later ones.
    pub(super) fn heard(&self) -> watch::Receiver<Option<Vec<Heard>>> {
        self.heard.clone()
    }

    /// What the status listener answers.
    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Value), Missing> {
        let failed = |error: reqwest::Error| Missing(format!("GET {path} failed: {error}"));
        let request = self.http.get(format!("{}{path}", self.status));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        Ok((status, response.json().await.map_err(failed)?))
    }

    /// Returns when the daemon has ended, which it should not do by itself.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Ends both, the daemon first.
    ///
    /// # Errors
    /// When the daemon had ended by itself.
    pub async fn strike(self) -> Result<(), DemoError> {
        self.stop.cancel();
        let ended = self.daemon.await;
        self.sandbox.stop();
        self.sandbox.stopped().await;
        self.tasks.close();
        self.tasks.wait().await;
        ended.unwrap_or(Err(DaemonError::Task("the daemon")))?;
        Ok(())
    }
}

/// What `dispatchd run` would run with, given these options and no variables:
/// what the operator has set for the real daemon is none of ours.
fn config(api_url: &str, poll: Duration) -> Result<Config, DemoError> {
    let poll = format!("{}ms", poll.as_millis());
    let command = RunOptions::augment_args(Command::new("run"));
    let command = command.mut_args(|arg| arg.env(None::<&'static str>));
    let matches = command.clone().try_get_matches_from([
        "run",
        "--api-url",
        api_url,
        "--listen",
        "127.0.0.1:0",
        "--status-listen",
        "127.0.0.1:0",
        "--poll-interval",
        &poll,
        "--state",
        ":memory:",
        "--sink",
        "none",
    ])?;
    let options = RunOptions::from_arg_matches(&matches)?;
    let origins = Origins::new(&command, &matches, None);
    Ok(Config::check(options, &origins, &|_| None)?)
}
