//! The webhook endpoint of a standby: it passes webhooks on to the leader.
//!
//! [`Forward`] checks them as the leader's listener does, so that the leader is not
//! asked in vain. It passes each on once, and never one that was passed on already, so
//! that no webhook goes round in circles.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use url::Url;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::fellows::{Fellows, PASSED_ON};
use super::gate::{Gate, Webhook};
use super::hint::Hint;
use super::notices::Notices;
use super::{Answered, Peers, Traffic, come_back};
use crate::clock::Clock;
use crate::http::{BodyError, client_for, describe, json_reply, read_body, reason};
use crate::secret::Secret;
use crate::store::LeaseRow;
use crate::sync::Leadership;
use crate::trace::{Span, TraceContext, Tracer};

/// Webhooks that wait for the leader's answer at once. Each holds up to 64 KiB and a
/// connection.
const FORWARDS: usize = 1024;

/// Longest answer of the leader that is passed on, in bytes.
const ANSWER_MAX: u64 = 16 * 1024;

/// When a webhook that could not be passed on may come again: a standby takes over
/// within ten seconds.
const COME_BACK: Duration = Duration::from_secs(5);

/// How long a connection to the leader is kept without a webhook. The leader closes it
/// after 15 s.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// What the webhook listener of a standby needs.
#[derive(Clone)]
pub struct Forward<C> {
    /// Who leads.
    pub leader: watch::Receiver<Leadership>,
    /// The name of this process in the lease. It passes nothing on to itself.
    pub holder: Arc<str>,
    /// With it the path is longer by a slash and this.
    pub secret: Option<Secret>,
    /// What the daemons of one store know each other by.
    pub store_secret: Arc<str>,
    /// Bounds what one peer may ask.
    pub peers: Arc<Peers>,
    /// Counts what came.
    pub traffic: Arc<Traffic>,
    /// The longest that a webhook waits for the leader's answer.
    pub deadline: Duration,
    /// Opens a span for each webhook.
    pub tracer: Tracer,
    /// Tells when it came.
    pub clock: C,
}

impl<C> fmt::Debug for Forward<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").finish_non_exhaustive()
    }
}

impl<C: Clock + Clone> Forward<C> {
    /// The routes of the listener.
    pub fn routes(self) -> BoxedFilter<(Response,)> {
        let fellows = Fellows::new(&self.store_secret);
        let gate = Arc::new(Gate {
            secret: self.secret,
            fellows: fellows.clone(),
            peers: self.peers,
            traffic: self.traffic,
            counts_passed_on: false,
            tracer: self.tracer,
            clock: self.clock,
            notices: Notices::default(),
        });
        let way = Arc::new(Way {
            leader: self.leader,
            holder: self.holder,
            fellows,
            client: client().map_err(describe),
            places: Semaphore::new(FORWARDS),
            deadline: self.deadline,
        });
        let notices = Arc::clone(&gate);
        gate.routes(move |webhook| {
            let (way, gate) = (Arc::clone(&way), Arc::clone(&notices));
            async move {
                let is_other = matches!(webhook.hint, Hint::Other { .. });
                let span = opened(&gate.tracer, &webhook);
                let (answered, reply) = match way.pass_on(webhook, span.context()).await {
                    Ok(reply) => {
                        gate.traffic.count_passed_on();
                        (answered(reply.status(), is_other), reply)
                    }
                    Err(why) => {
                        gate.notices.not_passed_on(&why, gate.now());
                        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
                        let reply = come_back(unavailable, why.told(), why.retry_after());
                        (Answered::Failed, reply)
                    }
                };
                span.answered(reply.status().as_u16(), answered.name());
                (answered, reply)
            }
        })
    }
}

/// The span of a webhook about a dispatch. Of another one there is none, as at the leader.
fn opened(tracer: &Tracer, webhook: &Webhook) -> Span {
    match &webhook.hint {
        Hint::Dispatch(id) => tracer.webhook(webhook.trace.as_ref(), id.as_str()),
        Hint::Handshake | Hint::Other { .. } => Span::default(),
    }
}

/// Asks the leader and nobody else: no proxy that the environment names, no redirect.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    // The leader's URL may change to `https` later on. With this one, a system without CA
    // certificates gets a client too, to which every TLS server is a stranger.
    #[expect(clippy::expect_used, reason = "it is written here")]
    let any = Url::parse("http://leader").expect("a URL");
    client_for(&any, |builder| {
        builder.no_proxy().pool_idle_timeout(KEPT_FOR)
    })
}

/// How a webhook was answered, by the leader's status.
fn answered(status: StatusCode, is_other: bool) -> Answered {
    if status.is_success() && is_other {
        Answered::Ignored
    } else if status.is_success() {
        Answered::Accepted
    } else if status.is_client_error() {
        Answered::Rejected
    } else {
        Answered::Failed
    }
}

/// The way to the leader.
struct Way {
    leader: watch::Receiver<Leadership>,
    holder: Arc<str>,
    fellows: Option<Fellows>,
    client: Result<reqwest::Client, String>,
    places: Semaphore,
    deadline: Duration,
}

impl Way {
    /// What the leader answers.
    async fn pass_on(
        &self,
        webhook: Webhook,
        trace: Option<TraceContext>,
    ) -> Result<Response, NotPassedOn> {
        if webhook.claims_passed_on {
            let leader = self.leaders_url().ok().map(|(_, leader)| leader);
            return Err(NotPassedOn::Twice(leader));
        }
        let fellows = self.fellows.as_ref().ok_or(NotPassedOn::NoSecret)?;
        let (mut url, leader) = self.leaders_url()?;
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{}", webhook.path));
        let client = self.client.as_ref();
        let client = client.map_err(|reason| NotPassedOn::Client(reason.clone()))?;
        let _place = self.places.try_acquire().map_err(|_| NotPassedOn::Busy)?;
        let unreachable = |error: reqwest::Error| match error.is_timeout() {
            true => NotPassedOn::TooSlow(leader.clone(), self.deadline),
            false => NotPassedOn::Unreachable(leader.clone(), reason(&error)),
        };
        let mut request = client
            .post(url)
            // From the connection to the end of the answer.
            .timeout(self.deadline)
            .header(CONTENT_TYPE, "application/json")
            .header(PASSED_ON, fellows.token())
            .body(webhook.body);
        for (name, value) in trace.iter().flat_map(TraceContext::fields) {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // A 200 of another server would be a promise that nobody keeps (rule R5).
        if !fellows.have_answered(&headers) {
            return Err(NotPassedOn::Stranger(leader, status));
        }
        let body = read_body(answer, ANSWER_MAX)
            .await
            .map_err(|error| match error {
                BodyError::Broken(error) => unreachable(error),
                BodyError::TooLong { .. } => NotPassedOn::Stranger(leader.clone(), status),
            })?;
        let body: Value =
            serde_json::from_slice(&body).map_err(|_| NotPassedOn::Stranger(leader, status))?;
        Ok(as_answered(status, &headers, &body))
    }

    /// Where the leader takes webhooks, and the same for people.
    fn leaders_url(&self) -> Result<(Url, Leader), NotPassedOn> {
        let leadership = self.leader.borrow();
        let row = leader_of(&leadership, &self.holder).ok_or(NotPassedOn::NoLeader)?;
        let advertise = row.advertise.as_deref().ok_or(NotPassedOn::NoAddress)?;
        let url = Url::parse(advertise).map_err(|_| NotPassedOn::NoAddress)?;
        let leader = Leader {
            node: Arc::clone(&row.node),
            advertise: advertise.into(),
        };
        Ok((url, leader))
    }
}

/// The daemon that leads, if it is another one than `holder` and known.
fn leader_of<'a>(leadership: &'a Leadership, holder: &str) -> Option<&'a LeaseRow> {
    let row = match leadership {
        Leadership::Standby { leader: row } | Leadership::Deposed { by: row, .. } => {
            row.as_ref()?
        }
        Leadership::Leading { .. } | Leadership::Suspended { .. } => return None,
    };
    (!row.given_back && *row.holder != *holder).then_some(row)
}

fn as_answered(status: StatusCode, headers: &HeaderMap, body: &Value) -> Response {
    let mut reply = json_reply(status, body);
    if let Some(after) = headers.get(RETRY_AFTER) {
        reply.headers_mut().insert(RETRY_AFTER, after.clone());
    }
    reply
}

/// The leader, as its lease names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    node: Arc<str>,
    advertise: Arc<str>,
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the leader {} (--advertise {})",
            self.node, self.advertise
        )
    }
}

/// Names the option that says where a leader is reached, if it is known who leads.
fn advertised(leader: Option<&Leader>) -> String {
    leader.map_or_else(
        || "no other daemon is known to lead now".to_owned(),
        |leader| {
            format!(
                "if this goes on, the address of {leader} leads to this daemon: correct it there"
            )
        },
    )
}

/// Why a webhook was not passed on, or not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPassedOn {
    #[error(
        "a daemon has passed it on to this one, which does not lead; {}",
        advertised(.0.as_ref())
    )]
    Twice(Option<Leader>),
    #[error("no other daemon is known to lead")]
    NoLeader,
    #[error("the leader tells no address: set --advertise there")]
    NoAddress,
    #[error("the secret of the store cannot be used")]
    NoSecret,
    #[error("the HTTP client cannot start: {0}")]
    Client(String),
    #[error("too many webhooks wait for the leader")]
    Busy,
    #[error("{0} cannot be reached: {1}; if that address is wrong, correct it there")]
    Unreachable(Leader, String),
    #[error(
        "{0} did not answer within {within}; if that address is wrong, correct it there",
        within = humantime::format_duration(*.1)
    )]
    TooSlow(Leader, Duration),
    #[error(
        "at the address of {0} no daemon of this database answers, but somebody else ({1}); correct it there"
    )]
    Stranger(Leader, StatusCode),
}

impl NotPassedOn {
    /// What the sender is told. The whole reason stays in the log.
    fn told(&self) -> &'static str {
        match self {
            Self::Busy => "too many webhooks wait",
            Self::NoLeader
            | Self::NoAddress
            | Self::NoSecret
            | Self::Client(_)
            | Self::Twice(_) => "this daemon stands by and knows no leader",
            Self::Unreachable(..) | Self::TooSlow(..) | Self::Stranger(..) => {
                "the leader does not answer"
            }
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Busy => Duration::from_secs(1),
            _ => COME_BACK,
        }
    }
}

#[cfg(test)]
mod tests;
