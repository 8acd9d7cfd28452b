//! What the status listener tells of the lease, on the leader as on a standby.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use warp::reply::Response;

use crate::clock::Mono;
use crate::http::{json_reply, set_retry_after};
use crate::model::rfc3339;
use crate::sync::Leadership;

/// When a request for the leader may come again.
const COME_BACK: Duration = Duration::from_secs(5);

/// What a daemon with a shared store knows of the lease.
#[derive(Debug, Clone)]
pub struct LeaseView {
    /// Whether this daemon leads.
    pub leadership: watch::Receiver<Leadership>,
    /// How its calls to the store fare.
    pub health: watch::Receiver<LeaseHealth>,
    /// What this daemon has found missing when it took the lead.
    pub losses: watch::Receiver<Losses>,
    /// Why this daemon could not lead, and what to do. `None`: it could.
    pub barred: watch::Receiver<Option<Arc<str>>>,
}

/// How often this daemon took the lead of a store that may lack the last commits of an
/// earlier leader, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// How often.
    pub count: u64,
    /// When it last did, UTC.
    pub last: Option<DateTime<Utc>>,
}

/// How the calls to the store fare that concern the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseHealth {
    /// When the last look or renewal that succeeded ended. `None` before the first.
    pub seen: Option<Mono>,
    /// Why the last one failed. `None` if it succeeded.
    pub error: Option<Arc<str>>,
    /// How often another daemon than before was seen to lead, this one included, since
    /// the start. The first one is not counted.
    pub changes: u64,
    /// When this daemon last took over, UTC, as the lease says.
    pub led_since: Option<DateTime<Utc>>,
    /// This daemon stands by, and has watched for long enough to know that nobody leads.
    pub vacant: bool,
}

impl LeaseHealth {
    /// How long ago the lease was last seen.
    pub(super) fn age(&self, now: Mono) -> Option<Duration> {
        self.seen.map(|seen| now.saturating_sub(seen))
    }
}

/// Who leads, as this daemon knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lead {
    /// Whether this daemon leads and may act.
    pub is_ours: bool,
    /// The newest term that is known.
    pub term: Option<u64>,
    /// The name of the daemon that leads. `None` if nobody does, or if it is not known.
    pub leader: Option<Arc<str>>,
    /// When that daemon took over, by its own clock.
    pub since: Option<DateTime<Utc>>,
    /// What this daemon has found missing when it took the lead.
    pub losses: Losses,
}

impl LeaseView {
    /// Who leads at `now`. `node` is the name of this daemon.
    pub(super) fn lead(&self, node: &Arc<str>, now: Mono) -> Lead {
        let leadership = self.leadership.borrow();
        let losses = *self.losses.borrow();
        match &*leadership {
            Leadership::Leading { term, .. } | Leadership::Suspended { term } => Lead {
                is_ours: is_trusted(&leadership, now),
                term: Some(*term),
                leader: Some(Arc::clone(node)),
                since: self.health.borrow().led_since,
                losses,
            },
            Leadership::Standby { leader: row } | Leadership::Deposed { by: row, .. } => {
                let vacant = self.health.borrow().vacant;
                let held = row.as_ref().filter(|row| !row.given_back && !vacant);
                Lead {
                    is_ours: false,
                    term: row.as_ref().map(|row| row.term),
                    leader: held.map(|row| Arc::clone(&row.node)),
                    since: held.map(|row| row.since),
                    losses,
                }
            }
        }
    }
}

/// Whether the daemon leads and may act at `now`. The channel may be a moment behind the
/// clock.
fn is_trusted(leadership: &Leadership, now: Mono) -> bool {
    match leadership {
        Leadership::Leading { trusted_until, .. } => now < *trusted_until,
        _ => false,
    }
}

impl Lead {
    /// What the contract calls it.
    pub fn role(&self) -> &'static str {
        match self.is_ours {
            true => "leader",
            false => "standby",
        }
    }

    /// As `/status` shows it.
    pub fn shown(&self) -> Value {
        json!({
            "term": self.term,
            "leader": self.leader,
            "since": self.since.map(rfc3339),
            "commits_lost_at": self.losses.last.map(rfc3339),
        })
    }

    /// The answer to `/leader`, for load balancers.
    pub fn answer(&self) -> Response {
        match self.is_ours {
            true => leads(),
            false => self.refusal("this daemon does not lead"),
        }
    }

    /// Says no, and who leads.
    pub fn refusal(&self, reason: &str) -> Response {
        let body = json!({"error": reason, "leader": self.leader});
        let mut reply = json_reply(StatusCode::SERVICE_UNAVAILABLE, &body);
        set_retry_after(&mut reply, COME_BACK);
        reply
    }
}

/// The answer to `/leader` of the daemon that leads.
pub(super) fn leads() -> Response {
    json_reply(StatusCode::OK, &json!({"role": "leader"}))
}
