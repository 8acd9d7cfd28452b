//! The status listener of a daemon that stands by.
//!
//! It tells how this daemon is doing and who leads. What only a leader knows is answered
//! 503 with the leader's name. The routes start in [`Standby::routes`].

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use warp::reply::Response;
use warp::{Filter, path::FullPath};

use super::fingerprint::fingerprint_differs;
use super::guard::Guard;
use super::lease::{Lead, LeaseHealth, LeaseView};
use super::metrics::{StandbyScrape, scraped};
use super::verdict::{Level, Verdict};
use super::{Identity, health, inventory, page, recover};
use crate::clock::{Clock, Now};
use crate::http::{Endpoint, Places, READS, first_of, json_reply, reads, wrong_method};
use crate::inventory::Inventory;
use crate::listener::Traffic;
use crate::model::rfc3339;
use crate::sync::{Leadership, State};
use crate::trace::Tracer;

/// The longest time without a look at the lease after which a standby is ready. It looks
/// every second, and takes over after it has watched the lease for this long.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What is answered on a standby with GET. Everything else is the leader's.
const PATHS: [&str; 6] = ["/", "/healthz", "/readyz", "/leader", "/status", "/metrics"];

/// What the status listener of a standby needs.
#[derive(Debug, Clone)]
pub struct Standby<C> {
    /// What this daemon knows of the lease.
    pub lease: LeaseView,
    /// What this daemon would lead with, as [`Fingerprint`](super::Fingerprint) writes it: a
    /// secret may be replaced.
    pub fingerprint: watch::Receiver<Arc<str>>,
    /// Counts of webhooks.
    pub traffic: Arc<Traffic>,
    /// Who is connected: to the webhook listener, and to this one.
    pub listeners: [Arc<Places>; 2],
    /// Which daemon this is.
    pub identity: Identity,
    /// The time between two polls, if it led.
    pub poll_interval: Duration,
    /// Counts what became of spans.
    pub tracer: Tracer,
    /// When the daemon started, UTC.
    pub started_at: DateTime<Utc>,
    /// Tells the time.
    pub clock: C,
}

impl<C: Clock + Clone> Standby<C> {
    /// The routes of the status listener, behind `guard`.
    pub fn routes(self, guard: Guard) -> Endpoint {
        let standby = Arc::new(self);
        let with = {
            let standby = Arc::clone(&standby);
            warp::any().map(move || Arc::clone(&standby))
        };
        let page = page::Page::of_standby();
        let page = warp::path::end()
            .and(guard.clone().page_filter())
            .and(reads())
            .and(warp::header::headers_cloned())
            .map(move |headers: HeaderMap| page.show(&headers))
            .boxed();
        let healthz = warp::path!("healthz")
            .and(reads())
            .map(super::alive)
            .boxed();
        let readyz = warp::path!("readyz")
            .and(reads())
            .and(with.clone())
            .map(|standby: Arc<Self>| standby.readiness())
            .boxed();
        let leader = warp::path!("leader")
            .and(reads())
            .and(with.clone())
            .map(|standby: Arc<Self>| standby.now().lead.answer())
            .boxed();
        let status = warp::path!("status")
            .and(reads())
            .and(with.clone())
            .map(|standby: Arc<Self>| standby.status())
            .boxed();
        let metrics = warp::path!("metrics")
            .and(reads())
            .and(warp::header::headers_cloned())
            .and(with.clone())
            .map(|headers: HeaderMap, standby: Arc<Self>| standby.metrics(&headers))
            .boxed();
        let rest = warp::path::full()
            .and(with)
            .map(|path: FullPath, standby: Arc<Self>| {
                if PATHS.contains(&path.as_str()) {
                    wrong_method(READS)
                } else {
                    let reason = "this daemon stands by: ask the leader";
                    standby.now().lead.refusal(reason)
                }
            })
            .boxed();
        let guarded = first_of(status, [metrics, rest]);
        let guarded = guard.filter().and(guarded).boxed();
        first_of(healthz, [readyz, leader, page, guarded])
            .recover(recover)
            .unify()
            .boxed()
    }

    fn now(&self) -> Moment {
        let now = self.clock.now();
        let health = self.lease.health.borrow().clone();
        let mut lead = self.lease.lead(&self.identity.node, now.mono);
        // These routes answer until the parts of a leader are there: before that it does
        // not lead for those who ask.
        let loads = std::mem::take(&mut lead.is_ours);
        let unseen = unseen(&health, now);
        Moment {
            now,
            differs: self.differs(),
            health,
            lead,
            loads,
            unseen,
            barred: self.lease.barred.borrow().clone(),
        }
    }

    /// In what this daemon would act differently from the leader.
    fn differs(&self) -> Vec<&'static str> {
        match &*self.lease.leadership.borrow() {
            Leadership::Standby { leader: Some(row) } if !row.given_back => {
                fingerprint_differs(&self.fingerprint.borrow(), &row.fingerprint)
            }
            _ => Vec::new(),
        }
    }

    /// Whether it may take over.
    fn readiness(&self) -> Response {
        match self.now().reason() {
            None => json_reply(StatusCode::OK, &json!({"ready": true})),
            Some(reason) => {
                let body = json!({"ready": false, "reason": reason});
                json_reply(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response {
        let moment = self.now();
        let scrape = StandbyScrape {
            ready: moment.reason().is_none(),
            now: moment.now,
            lead: moment.lead,
            health: moment.health,
            traffic: Arc::clone(&self.traffic),
            listeners: self.listeners.clone(),
            tracer: self.tracer.clone(),
        };
        scraped(headers, scrape)
    }

    /// The fields of a leader's status. What only a leader knows is null or empty.
    fn status(&self) -> Response {
        let moment = self.now();
        let error = &moment.unseen;
        let counted = json!({"absent": null, "lower": null});
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": self.started_at,
            "now": moment.now.wall,
            "node": self.identity.node,
            "role": moment.lead.role(),
            "leadership": moment.lead.shown(),
            "api": self.identity.api(),
            "verdict": {
                "schedule": moment.verdict(),
                "told": Verdict {
                    level: Level::Ok,
                    text: "A standby tells no site what to do: the leader does.".to_owned(),
                },
            },
            "untold_sites": null,
            "untold": [],
            "unrouted_sites": null,
            "unrouted": [],
            "unrouted_commands": 0,
            "overridden_sites": null,
            "overridden": [],
            "inventory": inventory::shown(&Inventory::default()),
            "due_commands": [],
            "sync": {
                "state": State::Starting.name(),
                "poll_interval_seconds": self.poll_interval.as_secs_f64(),
                "polls": {"succeeded": 0, "failed": 0},
                "last_poll": null,
                "last_successful_poll": null,
                "next_poll": null,
                "webhooks": health::webhooks(&self.traffic),
                "missed_webhooks": 0,
                "heals": 0,
                "unannounced_changes": 0,
                "polled_only_changes": 0,
                "registration": null,
                "outdated_answers": 0,
                "unreadable_dispatches": 0,
                "unreadable_sites": 0,
                "unreadable_amounts": 0,
                "unreadable_details": 0,
                "extra_dropped": 0,
                "unreadable": health::unreadable(&Default::default()),
                "rewinds": 0,
                "slowdown": null,
                "in_doubt": counted,
                "mass_absence": null,
            },
            "store": {"ok": error.is_none(), "error": error},
            "schedule": {
                "revision": null, "scheduled": null, "active": null, "ended": null, "cancelled": null,
            },
            "delivery": [],
        });
        json_reply(StatusCode::OK, &body)
    }
}

/// What a standby knows at one moment.
struct Moment {
    now: Now,
    health: LeaseHealth,
    lead: Lead,
    /// Whether it has taken the lead, and loads the state.
    loads: bool,
    /// Why the lease is not seen.
    unseen: Option<String>,
    /// In what this daemon would act differently from the leader.
    differs: Vec<&'static str>,
    /// Why it could not lead, and what to do.
    barred: Option<Arc<str>>,
}

impl Moment {
    /// Why it must not take over.
    fn reason(&self) -> Option<String> {
        if self.loads {
            return Some("this daemon has taken the lead, and loads the state".to_owned());
        }
        let differs = (!self.differs.is_empty()).then(|| {
            format!(
                "this daemon would act differently from the leader{}: it differs in {}; configure both \
                 alike and restart one of them",
                self.leader(),
                self.differs.join(", ")
            )
        });
        let barred = self.barred.as_ref();
        let barred = barred.map(|reason| format!("this daemon takes nothing over: {reason}"));
        let reasons = self.unseen.iter().cloned().chain(barred).chain(differs);
        let reasons: Vec<String> = reasons.collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn leader(&self) -> String {
        let leader = self.lead.leader.as_ref();
        leader.map_or_else(String::new, |leader| format!(" {leader}"))
    }

    fn verdict(&self) -> Verdict {
        let who = match (&self.lead.leader, self.lead.since) {
            (Some(leader), Some(since)) => format!("{leader} leads since {}", rfc3339(since)),
            (Some(leader), None) => format!("{leader} leads"),
            (None, _) => "no daemon is known to lead".to_owned(),
        };
        let (level, reason) = match self.reason() {
            Some(reason) if self.unseen.is_some() || self.lead.leader.is_none() => {
                (Level::Error, format!("it must not take over: {reason}"))
            }
            Some(reason) => (Level::Warning, format!("it is not ready: {reason}")),
            None if self.lead.leader.is_none() => {
                let soon = "one that is ready takes over within ten seconds";
                (Level::Warning, soon.to_owned())
            }
            None => {
                let text = format!("This daemon stands by: {who}.");
                return Verdict {
                    level: Level::Ok,
                    text,
                };
            }
        };
        Verdict {
            level,
            text: format!("This daemon stands by: {who}; {reason}."),
        }
    }
}

/// Why the lease is not seen.
fn unseen(health: &LeaseHealth, now: Now) -> Option<String> {
    let because = match &health.error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    match health.age(now.mono) {
        Some(age) if age <= SEEN_WITHIN => None,
        Some(age) => {
            let age = Duration::from_secs(age.as_secs());
            let age = humantime::format_duration(age);
            Some(format!("the lease has not been seen for {age}{because}"))
        }
        None => Some(format!("the lease has not been seen yet{because}")),
    }
}

#[cfg(test)]
mod tests;
