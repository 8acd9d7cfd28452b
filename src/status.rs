//! The status listener, for operators.
//!
//! Every answer is made from one committed state (rule R13).

mod accept;
mod cached;
mod events;
mod fingerprint;
mod guard;
mod health;
mod inventory;
mod lease;
mod long;
mod metrics;
mod openapi;
mod outbox;
mod page;
mod query;
mod report;
mod routing;
mod schedule;
mod site_override;
mod sites;
mod standby;
#[cfg(test)]
mod testing;
mod verdict;

use std::convert::Infallible;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::clock::Clock;
use crate::http::{
    Endpoint, Hangup, Places, READS, first_of, json_reply, not_served, reads, set_retry_after,
    wrong_method,
};
use crate::inventory::Inventory;
use crate::listener::Traffic;
use crate::store::StoreHandle;
use crate::sync::{Inbox, Timings, View, WaiterReply};
use crate::trace::Tracer;
use crate::voltus::{Environment, Signals};

pub use events::EventStream;
pub use fingerprint::{Fingerprint, SecretMark, fingerprint_differs};
pub use guard::Guard;
pub use lease::{LeaseHealth, LeaseView, Losses};
pub use long::LongAnswers;
pub use routing::Routing;
pub use standby::Standby;

/// Which daemon this is, and whom it follows.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The daemon's name, for people.
    pub node: Arc<str>,
    /// The API's host, with its port if that is not the usual one.
    pub api_host: Arc<str>,
    /// What the API's address stands for.
    pub environment: Environment,
}

impl Identity {
    /// The API, as `/status` shows it.
    fn api(&self) -> Value {
        json!({"host": self.api_host, "environment": self.environment.name()})
    }
}

/// What the status listener needs.
#[derive(Debug, Clone)]
pub struct Status<C> {
    /// The committed state.
    pub view: watch::Receiver<View>,
    /// Where polls are asked for.
    pub inbox: Inbox,
    /// Where histories are read.
    pub store: StoreHandle,
    /// The event stream.
    pub events: EventStream,
    /// Counts of webhooks.
    pub traffic: Arc<Traffic>,
    /// Who is connected: to the webhook listener, and to this one.
    pub listeners: [Arc<Places>; 2],
    /// How long the API and the disk take.
    pub timings: Arc<Timings>,
    /// What the API tells in passing.
    pub signals: Arc<Signals>,
    /// How many long answers are under way.
    pub long: LongAnswers,
    /// The same for metrics, which must not wait for what people ask.
    pub scrapes: LongAnswers,
    /// Which daemon this is.
    pub identity: Identity,
    /// Which sinks get what.
    pub routing: Arc<Routing>,
    /// Which sites are enrolled.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// Where a look at the enrolled sites is asked for.
    pub inventory_wanted: Arc<Notify>,
    /// What this daemon knows of the lease. `None` if its store is not shared: then it
    /// leads.
    pub lease: Option<LeaseView>,
    /// Counts what became of spans.
    pub tracer: Tracer,
    /// When the daemon started, UTC.
    pub started_at: DateTime<Utc>,
    /// Tells the time.
    pub clock: C,
}

impl<C: Clock + Clone> Status<C> {
    /// The routes of the status listener, behind `guard`.
    pub fn routes(self, guard: Guard) -> Endpoint {
        let status = Arc::new(self);
        let guarded = first_of(Self::reading(&status), [Self::acting(&status)]);
        let guarded = guard.clone().filter().and(guarded).boxed();
        first_of(Self::open_to_all(&status, guard), [guarded])
            .recover(recover)
            .unify()
            .boxed()
    }

    fn with(
        status: &Arc<Self>,
    ) -> impl Filter<Extract = (Arc<Self>,), Error = Infallible> + Clone + use<C> {
        let status = Arc::clone(status);
        warp::any().map(move || Arc::clone(&status))
    }

    /// What a probe asks, and the page that asks for a token.
    fn open_to_all(status: &Arc<Self>, guard: Guard) -> Endpoint {
        let with = Self::with(status);
        let healthz = warp::path!("healthz").and(reads()).map(alive).boxed();
        let readyz = warp::path!("readyz")
            .and(reads())
            .and(with.clone())
            .map(|status: Arc<Self>| status.readiness())
            .boxed();
        let leader = warp::path!("leader")
            .and(reads())
            .and(with)
            .map(|status: Arc<Self>| status.leader())
            .boxed();
        let page = page::Page::new();
        let page = warp::path::end()
            .and(guard.page_filter())
            .and(reads())
            .and(warp::header::headers_cloned())
            .map(move |headers: HeaderMap| page.show(&headers))
            .boxed();
        first_of(healthz, [readyz, leader, page])
    }

    /// What is looked at.
    fn reading(status: &Arc<Self>) -> Endpoint {
        let with = Self::with(status);
        let health = warp::path!("status")
            .and(reads())
            .and(with.clone())
            .map(|status: Arc<Self>| status.health())
            .boxed();
        let schedule = warp::path!("schedule")
            .and(reads())
            .and(query::raw())
            .and(warp::header::headers_cloned())
            .and(with.clone())
            .then(
                |query: String, headers: HeaderMap, status: Arc<Self>| async move {
                    let view = status.view.borrow().clone();
                    schedule::list(view, &status.long, &query, &headers).await
                },
            )
            .boxed();
        let entry = warp::path!("schedule" / String)
            .and(reads())
            .and(with.clone())
            .then(|id: String, status: Arc<Self>| async move {
                schedule::one(&status.view, &status.store, &status.long, &id).await
            })
            .boxed();
        let report = warp::path!("report" / String)
            .and(reads())
            .and(warp::header::headers_cloned())
            .and(with.clone())
            .then(
                |id: String, headers: HeaderMap, status: Arc<Self>| async move {
                    report::one(&status, &id, &headers).await
                },
            )
            .boxed();
        let sites = warp::path!("sites")
            .and(reads())
            .and(query::raw())
            .and(warp::header::headers_cloned())
            .and(with.clone())
            .then(
                |query: String, headers: HeaderMap, status: Arc<Self>| async move {
                    sites::list(status.sites(), &status.long, &query, &headers).await
                },
            )
            .boxed();
        let site = warp::path!("sites" / String)
            .and(reads())
            .and(warp::header::headers_cloned())
            .and(with.clone())
            .map(|id: String, headers: HeaderMap, status: Arc<Self>| {
                sites::one(&status.sites(), &id, &headers)
            })
            .boxed();
        let events = warp::path!("events")
            .and(reads())
            .and(query::raw())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<Hangup>())
            .and(with.clone())
            .map(
                |query: String, headers: HeaderMap, hangup, status: Arc<Self>| {
                    status.events.open(&query, &headers, hangup)
                },
            )
            .boxed();
        let interface = warp::path!("openapi.json")
            .and(reads())
            .and(warp::header::headers_cloned())
            .map(|headers: HeaderMap| openapi::show(&headers))
            .boxed();
        let metrics =
            warp::path!("metrics")
                .and(reads())
                .and(warp::header::headers_cloned())
                .and(with.clone())
                .then(|headers: HeaderMap, status: Arc<Self>| async move {
                    status.metrics(&headers).await
                })
                .boxed();
        let outbox = warp::path!("outbox")
            .and(reads())
            .and(query::raw())
            .and(with)
            .then(|query: String, status: Arc<Self>| async move {
                outbox::list(&status.inbox, &status.view, &query).await
            })
            .boxed();
        first_of(
            health,
            [
                schedule, entry, report, sites, site, events, interface, metrics, outbox,
            ],
        )
    }

    /// What an operator orders.
    fn acting(status: &Arc<Self>) -> Endpoint {
        let with = Self::with(status);
        let site_override = warp::path!("sites" / String / "override")
            .and(warp::method())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .and(with.clone())
            .then(
                |site: String, method: Method, headers: HeaderMap, body, status: Arc<Self>| async move {
                    match method {
                        Method::PUT => status.set_override(&site, &headers, body).await,
                        Method::DELETE => status.end_override(&site).await,
                        _ => wrong_method("PUT, DELETE"),
                    }
                },
            )
            .boxed();
        let skip = warp::path!("outbox" / String / "skip")
            .and(warp::method())
            .and(query::raw())
            .and(with.clone())
            .then(
                |event: String, method: Method, query: String, status: Arc<Self>| async move {
                    if method == Method::POST {
                        outbox::skip(&status.inbox, &event, &query).await
                    } else {
                        wrong_method("POST")
                    }
                },
            )
            .boxed();
        let poll = warp::path!("poll")
            .and(warp::method())
            .and(with)
            .then(|method: Method, status: Arc<Self>| async move {
                if method == Method::POST {
                    status.poll().await
                } else {
                    wrong_method("POST")
                }
            })
            .boxed();
        first_of(site_override, [skip, poll])
    }

    async fn poll(&self) -> Response {
        self.inventory_wanted.notify_one();
        match self.inbox.poll().await {
            WaiterReply::Applied
            | WaiterReply::Granted
            | WaiterReply::Pending(_)
            | WaiterReply::Skipped(_)
            | WaiterReply::PendingAt(_) => {
                let revision = self.view.borrow().schedule.revision();
                json_reply(StatusCode::OK, &json!({"ok": true, "revision": revision}))
            }
            WaiterReply::Unavailable {
                reason,
                retry_after,
            } => not_polled(&reason, retry_after),
            WaiterReply::Busy | WaiterReply::Unknown => {
                not_polled("too many wait already", std::time::Duration::from_secs(1))
            }
        }
    }
}

/// The answer to `/healthz`.
fn alive() -> Response {
    json_reply(StatusCode::OK, &json!({"alive": true}))
}

fn not_polled(reason: &str, retry_after: std::time::Duration) -> Response {
    let body = json!({"ok": false, "error": reason});
    let mut reply = json_reply(StatusCode::SERVICE_UNAVAILABLE, &body);
    set_retry_after(&mut reply, retry_after);
    reply
}

async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(match rejection.find::<guard::Refusal>() {
        Some(refused) => refused.reply().into_response(),
        None => not_served(&rejection, READS),
    })
}
