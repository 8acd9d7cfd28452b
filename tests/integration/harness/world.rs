//! A sandbox, a folder, and the dispatches that tests put there.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::clock::{Clock, SystemClock};
use dispatchd::model::rfc3339;
use dispatchd::sandbox::{Options, Question, RawAnswer, Sandbox, SeenRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Daemon, Setup};

/// The wall clock.
pub fn now() -> DateTime<Utc> {
    SystemClock::new().now().wall
}

/// The time in so many milliseconds.
pub fn in_ms(milliseconds: i64) -> DateTime<Utc> {
    now() + TimeDelta::milliseconds(milliseconds)
}

/// A dispatch of one site, which bears its name (see [`site_of`]).
pub fn dispatch(id: &str, number: i64, start: DateTime<Utc>, end: Option<DateTime<Utc>>) -> Value {
    json!({
        "id": id,
        "authorized": true,
        "test": false,
        "start_time": rfc3339(start),
        "end_time": end.map(rfc3339),
        "modification_number": number,
        "program": {"id": 1, "name": "Test", "market": "M", "program_type": "capacity", "timezone": "UTC"},
        "sites": [{"id": site_of(id), "name": "Site", "customer_location_id": "1", "commitment": 12}],
    })
}

/// The site of a [`dispatch`].
pub fn site_of(id: &str) -> String {
    format!("site-{id}")
}

/// Everything around a daemon. It is gone when this is dropped.
pub struct World {
    pub sandbox: Sandbox,
    folder: TempDir,
    _stop: DropGuard,
}

impl World {
    /// An empty one.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// One whose sandbox takes this key only.
    pub async fn with_key(key: &str) -> Self {
        Self::with(Options {
            api_key: key.into(),
            ..Options::default()
        })
        .await
    }

    async fn with(options: Options) -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            fixture: false,
            seed: Some(1),
            ..options
        };
        Self {
            sandbox: Sandbox::start(options, listener, stop.clone()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    /// A daemon that asks this sandbox and lives in this folder.
    pub fn setup(&self) -> Setup {
        Setup::new(&self.sandbox.url(), self.folder().to_owned())
    }

    /// A folder for files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Puts a dispatch there without a word to anybody.
    pub fn put(&self, dispatch: Value) {
        self.sandbox.put(dispatch, false).unwrap();
    }

    /// A dispatch of an hour's time, known to the daemon.
    pub async fn known(&self, daemon: &Daemon, id: &str) {
        self.put(dispatch(id, 1, in_ms(3_600_000), None));
        assert_eq!(daemon.webhook(id).await.status, 200);
    }

    /// Lets things go wrong.
    pub fn faults(&self, patch: Value) {
        self.sandbox.change_faults(&patch).unwrap();
    }

    /// Answers for the list in the API's place, or no longer.
    pub fn list_answers(&self, answer: Option<RawAnswer>) {
        self.sandbox.override_answer(Question::List, answer);
    }

    /// Requests for the list so far.
    pub fn polls(&self) -> Vec<SeenRequest> {
        self.requests_of("/2022-04-15/dispatches")
    }

    /// Requests for the dispatch so far.
    pub fn look_ups(&self, id: &str) -> Vec<SeenRequest> {
        self.requests_of(&format!("/2022-04-15/dispatches/{id}"))
    }

    fn requests_of(&self, path: &str) -> Vec<SeenRequest> {
        let mut requests = self.sandbox.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// Waits for so many polls from now on.
    pub async fn wait_for_polls(&self, polls: usize) {
        let wanted = self.polls().len() + polls;
        super::wait_until("more polls", async || self.polls().len() >= wanted).await;
    }
}
