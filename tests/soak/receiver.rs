//! HTTP receivers of events, with bad manners: [`Receiver`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use dispatchd::http::{Bounds, serve};
use http::StatusCode;
use http::header::RETRY_AFTER;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::reply::{Reply, Response};

use crate::Fault;
use crate::clock::now;
use crate::heard::{Attempt, Ended, Heard, Incoming};
use crate::senders::Senders;

/// How a receiver treats all that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Good,
    /// Says that it cannot now.
    Down,
    /// Says that it cannot for so many seconds.
    Busy(u64),
    /// Says nothing until it is up again, and then that it could not.
    Silent,
    /// Takes it at once and answers late.
    Slow,
    /// Takes it, and sometimes says that it did not.
    Lies,
}

impl Manner {
    /// Whether it takes nothing.
    fn is_fault(self) -> bool {
        matches!(self, Self::Down | Self::Busy(_) | Self::Silent)
    }
}

/// How a receiver treats one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It says nothing until the trouble is over, and then that it could not. Some
    /// events it takes before.
    Hangs,
    /// It says 410.
    Gone,
    /// It says 503, and that it can after so many seconds.
    Busy(u64),
}

/// What an address says after its question mark.
type Query = HashMap<String, String>;

/// A receiver. Clones are handles of the same one.
#[derive(Clone)]
pub struct Receiver {
    pub name: &'static str,
    /// What it is called on the command line.
    pub sink: String,
    manner: watch::Sender<Manner>,
    troubles: watch::Sender<HashMap<String, Trouble>>,
    heard: Arc<Mutex<Heard>>,
}

/// A request under way. Whatever becomes of it, its end is noted.
struct Visit {
    heard: Arc<Mutex<Heard>>,
    begun: DateTime<Utc>,
    /// Its site commands: site and sequence.
    commands: Vec<(String, u64)>,
    ended: Ended,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let ended_at = now();
        let mut heard = locked(&self.heard);
        for (site, sequence) in self.commands.drain(..) {
            heard.attempts.entry(site).or_default().push(Attempt {
                begun: self.begun,
                ended_at,
                sequence,
                ended: self.ended,
            });
        }
    }
}

/// What a receiver says.
#[derive(Debug, Clone, Copy)]
struct Answer {
    status: StatusCode,
    retry_after: Option<u64>,
}

impl From<StatusCode> for Answer {
    fn from(status: StatusCode) -> Self {
        Self {
            status,
            retry_after: None,
        }
    }
}

impl Answer {
    fn busy(seconds: u64) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(seconds),
        }
    }

    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Receiver {
    /// One that listens until `stop`.
    pub async fn start(
        name: &'static str,
        query: &str,
        seed: u64,
        senders: Senders,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self {
            name,
            sink: format!("http://{}/{name}{query}", listener.local_addr()?),
            manner: watch::Sender::new(Manner::Good),
            troubles: watch::Sender::default(),
            heard: Arc::default(),
        };
        let random = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        let mine = receiver.clone();
        let by = warp::query::<Query>();
        let route = warp::body::bytes()
            .and(by)
            .then(move |body: Bytes, query: Query| {
                let (receiver, random) = (mine.clone(), Arc::clone(&random));
                if let Some(by) = query.get("by") {
                    senders.note(by, now());
                }
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
        let mut heard = self.heard();
        match manner.is_fault() {
            true => heard.faults.begin(now()),
            false => heard.faults.end(now()),
        }
        drop(heard);
        self.manner.send_replace(manner);
    }

    /// How it treats a subject from now on. `false` if that is in trouble already.
    pub fn trouble(&self, subject: &str, trouble: Trouble) -> bool {
        let mut begins = false;
        self.troubles.send_if_modified(|troubles| {
            begins = !troubles.contains_key(subject);
            if begins {
                troubles.insert(subject.to_owned(), trouble);
            }
            begins
        });
        if begins {
            let mut heard = self.heard();
            let faults = heard.subject_faults.entry(subject.to_owned());
            faults.or_default().begin(now());
        }
        begins
    }

    /// A subject is treated well again.
    pub fn well(&self, subject: &str) {
        self.troubles.send_modify(|troubles| {
            troubles.remove(subject);
        });
        if let Some(faults) = self.heard().subject_faults.get_mut(subject) {
            faults.end(now());
        }
    }

    /// What it has heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    async fn receive(&self, body: &[u8], luck: f64) -> Response {
        let begun = now();
        let events: Vec<Incoming> = match body.first() {
            Some(b'[') => serde_json::from_slice(body).unwrap(),
            _ => vec![serde_json::from_slice(body).unwrap()],
        };
        let commands = events.iter().filter(|event| event.family() == "site");
        let commands = commands.map(|event| (event.subject.clone(), event.sequence));
        let mut visit = Visit {
            heard: Arc::clone(&self.heard),
            begun,
            commands: commands.collect(),
            // Unless it gets an answer.
            ended: Ended::GivenUp,
        };
        let answer = self.treat(events, luck).await;
        visit.ended = match answer.status.is_success() {
            true => Ended::Acknowledged,
            false => {
                self.heard().refused += 1;
                Ended::Refused {
                    retry_after: answer.retry_after,
                }
            }
        };
        answer.into_response()
    }

    async fn treat(&self, events: Vec<Incoming>, luck: f64) -> Answer {
        let manner = *self.manner.borrow();
        match manner {
            Manner::Down => return StatusCode::SERVICE_UNAVAILABLE.into(),
            Manner::Busy(seconds) => return Answer::busy(seconds),
            Manner::Silent => {
                let mut changes = self.manner.subscribe();
                // The sender lives in `self`.
                let _ = changes.wait_for(|manner| *manner != Manner::Silent).await;
                return StatusCode::SERVICE_UNAVAILABLE.into();
            }
            Manner::Good | Manner::Slow | Manner::Lies => {}
        }
        let troubled = {
            let troubles = self.troubles.borrow();
            let mut found = events.iter().filter_map(|event| {
                let trouble = troubles.get(&event.subject)?;
                Some((event.subject.clone(), *trouble))
            });
            found.next()
        };
        match troubled {
            None => self.take(events),
            Some((_, Trouble::Gone)) => return StatusCode::GONE.into(),
            Some((_, Trouble::Busy(seconds))) => return Answer::busy(seconds),
            Some((subject, Trouble::Hangs)) => {
                if luck < 0.3 {
                    self.take(events);
                }
                let mut changes = self.troubles.subscribe();
                let well = |troubles: &HashMap<String, Trouble>| !troubles.contains_key(&subject);
                // The sender lives in `self`.
                let _ = changes.wait_for(well).await;
                return StatusCode::SERVICE_UNAVAILABLE.into();
            }
        }
        match manner {
            Manner::Slow => {
                tokio::time::sleep(Duration::from_millis(50).mul_f64(1.0 + luck * 20.0)).await;
                StatusCode::NO_CONTENT.into()
            }
            Manner::Lies if luck < 0.25 => StatusCode::INTERNAL_SERVER_ERROR.into(),
            _ => StatusCode::NO_CONTENT.into(),
        }
    }

    fn take(&self, events: Vec<Incoming>) {
        let at = now();
        let mut heard = self.heard();
        for event in events {
            heard.take(event, at);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
