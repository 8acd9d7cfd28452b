//! Receivers of events, with bad manners.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dispatchd::http::{Bounds, serve};
use http::StatusCode;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;

use crate::Fault;

/// How a receiver treats what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Good,
    /// Says that it cannot now.
    Down,
    /// Says nothing until it is up again, and then that it could not.
    Silent,
    /// Takes it at once and answers late.
    Slow,
    /// Takes it, and sometimes says that it did not.
    Lies,
}

/// An event, as far as a receiver looks at it.
#[derive(Debug, Deserialize)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    sequence: u64,
    data: Value,
}

/// The newest word about a subject.
#[derive(Debug, Clone)]
pub struct Word {
    pub kind: String,
    pub sequence: u64,
    pub data: Value,
}

/// What a receiver has heard so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Events that came, copies included.
    pub arrived: u64,
    /// The sequences that came: they are unique over all events.
    pub sequences: HashSet<u64>,
    /// The newest word by `family/subject`.
    pub newest: BTreeMap<String, Word>,
    /// The newest release by site.
    releases: BTreeMap<String, u64>,
    /// What came in an order in which it must not.
    pub disorder: Vec<String>,
    /// Commands to curtail that came after the release that supersedes them.
    pub late_curtails: Vec<String>,
    /// What was refused or not answered.
    pub refused: u64,
}

impl Heard {
    fn take(&mut self, event: Incoming) {
        let Incoming {
            kind,
            subject,
            sequence,
            data,
        } = event;
        self.arrived += 1;
        let new = self.sequences.insert(sequence);
        let family = kind.split('.').next().unwrap_or_default().to_owned();
        let key = format!("{family}/{subject}");
        let last = self.newest.get(&key).map_or(0, |word| word.sequence);
        if family == "site" {
            if kind == "site.release" {
                let released = self.releases.entry(subject).or_default();
                *released = sequence.max(*released);
            } else if let Some(released) = self.releases.get(&subject)
                && *released > sequence
            {
                self.late_curtails.push(format!(
                    "{kind} {sequence} of {subject} came after the release {released}"
                ));
            }
        }
        if new && sequence < last && family != "site" {
            self.disorder
                .push(format!("{kind} {sequence} of {key} came after {last}"));
        }
        if sequence >= last {
            let word = Word {
                kind,
                sequence,
                data,
            };
            self.newest.insert(key, word);
        }
    }
}

/// A receiver. Clones are handles of the same one.
#[derive(Clone)]
pub struct Receiver {
    pub name: &'static str,
    /// What it is called on the command line.
    pub sink: String,
    manner: watch::Sender<Manner>,
    heard: Arc<Mutex<Heard>>,
}

impl Receiver {
    /// One that listens until `stop`.
    pub async fn start(
        name: &'static str,
        query: &str,
        seed: u64,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self {
            name,
            sink: format!("http://{}/{name}{query}", listener.local_addr()?),
            manner: watch::Sender::new(Manner::Good),
            heard: Arc::default(),
        };
        let random = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        let mine = receiver.clone();
        let route = warp::body::bytes().then(move |body: Bytes| {
            let (receiver, random) = (mine.clone(), Arc::clone(&random));
            async move {
                let luck: f64 = locked(&random).random();
                receiver.receive(&body, luck).await
            }
        });
        tasks.spawn(serve(
            listener,
            warp::service(route),
            Bounds::default(),
            stop,
        ));
        Ok(receiver)
    }

    /// How it behaves from now on.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// What it has heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    async fn receive(&self, body: &[u8], luck: f64) -> StatusCode {
        let manner = *self.manner.borrow();
        if matches!(manner, Manner::Down | Manner::Silent) {
            self.heard().refused += 1;
            if manner == Manner::Silent {
                let mut changes = self.manner.subscribe();
                // The sender lives in `self`.
                let _ = changes.wait_for(|manner| *manner != Manner::Silent).await;
            }
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let events: Vec<Incoming> = match body.first() {
            Some(b'[') => serde_json::from_slice(body).unwrap(),
            _ => vec![serde_json::from_slice(body).unwrap()],
        };
        {
            let mut heard = self.heard();
            for event in events {
                heard.take(event);
            }
        }
        match manner {
            Manner::Slow => {
                tokio::time::sleep(Duration::from_millis(50).mul_f64(1.0 + luck * 20.0)).await;
                StatusCode::NO_CONTENT
            }
            Manner::Lies if luck < 0.25 => {
                self.heard().refused += 1;
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::NO_CONTENT,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
