//! The webhook endpoint, which faces the Internet.
//!
//! A webhook is a hint: of what it says only a dispatch's id is used (rule
//! R8). Callers cannot be told apart from strangers, so everything they send is
//! bounded, and what they are answered says nothing of the configuration.

mod fellows;
mod forward;
mod gate;
pub(crate) mod hint;
mod notices;
mod peers;
mod traffic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::clock::Clock;
use crate::http::{json_reply, refusal};
use crate::model::WEBHOOK_PATH;
use crate::secret::Secret;
use crate::sync::{Inbox, WaiterReply};
use crate::trace::Tracer;

use fellows::Fellows;
pub use forward::Forward;
use gate::{Gate, Webhook};
use hint::Hint;
use notices::Notices;
pub use peers::Peers;
pub use traffic::{Answered, Traffic};

/// What the listener of a daemon that leads needs.
#[derive(Clone)]
pub struct Listener<C> {
    /// Where hints go.
    pub inbox: Inbox,
    /// With it the path is longer by a slash and this.
    pub secret: Option<Secret>,
    /// What the daemons of one store know each other by. `None` if the store is not
    /// shared: then nobody passes webhooks on.
    pub store_secret: Option<Arc<str>>,
    /// Bounds what one peer may ask.
    pub peers: Arc<Peers>,
    /// Counts what came.
    pub traffic: Arc<Traffic>,
    /// Opens a span for each webhook.
    pub tracer: Tracer,
    /// Tells when it came.
    pub clock: C,
}

impl<C> fmt::Debug for Listener<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl<C: Clock + Clone> Listener<C> {
    /// The routes of the listener.
    pub fn routes(self) -> BoxedFilter<(Response,)> {
        let gate = Arc::new(Gate {
            secret: self.secret,
            fellows: self.store_secret.as_deref().and_then(Fellows::new),
            peers: self.peers,
            traffic: self.traffic,
            counts_passed_on: true,
            tracer: self.tracer,
            clock: self.clock,
            notices: Notices::default(),
        });
        let (inbox, notices) = (self.inbox, Arc::clone(&gate));
        gate.routes(move |webhook| {
            let (inbox, gate) = (inbox.clone(), Arc::clone(&notices));
            async move { answer(webhook, &inbox, &gate).await }
        })
    }
}

async fn answer<C: Clock + Clone>(
    webhook: Webhook,
    inbox: &Inbox,
    gate: &Gate<C>,
) -> (Answered, Response) {
    let notices = &gate.notices;
    let id = match webhook.hint {
        Hint::Handshake => return (Answered::Accepted, accepted("ready")),
        Hint::Other { kind } => {
            notices.ignored(&kind, gate.now());
            return (Answered::Ignored, accepted("ignored"));
        }
        Hint::Dispatch(id) => id,
    };
    let span = gate.tracer.webhook(webhook.trace.as_ref(), id.as_str());
    let outcome = inbox.webhook(id.clone(), span.context()).await;
    let (answered, reply) = settled(&outcome);
    span.answered(reply.status().as_u16(), answered.name());
    match answered {
        Answered::Rejected => notices.unknown(&id, gate.now()),
        Answered::Failed => {
            let reason = outcome.reason().unwrap_or("too many webhooks wait");
            notices.failed(&id, reason, gate.now());
        }
        Answered::Accepted | Answered::Ignored | Answered::WrongPath => {}
    }
    tracing::debug!(
        dispatch = %id,
        outcome = answered.name(),
        status = reply.status().as_u16(),
        reason = outcome.reason(),
        "a webhook was answered"
    );
    (answered, reply)
}

/// The path that webhooks are posted to, with the secret if there is one.
pub fn path_with(secret: Option<&SecretString>) -> String {
    match secret {
        Some(secret) => format!("{WEBHOOK_PATH}/{}", secret.expose_secret()),
        None => WEBHOOK_PATH.to_owned(),
    }
}

/// What is answered once the dispatch is settled, or cannot be. The reasons
/// stay in the log.
fn settled(outcome: &WaiterReply) -> (Answered, Response) {
    match outcome {
        WaiterReply::Applied
        | WaiterReply::Granted
        | WaiterReply::Pending(_)
        | WaiterReply::Skipped(_)
        | WaiterReply::PendingAt(_) => (Answered::Accepted, accepted("settled")),
        WaiterReply::Unknown => (
            Answered::Rejected,
            refusal(StatusCode::NOT_FOUND, "no such dispatch"),
        ),
        WaiterReply::Unavailable { retry_after, .. } => (
            Answered::Failed,
            come_back(
                StatusCode::SERVICE_UNAVAILABLE,
                "not settled yet",
                *retry_after,
            ),
        ),
        WaiterReply::Busy => (
            Answered::Failed,
            come_back(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many webhooks wait",
                Duration::from_secs(1),
            ),
        ),
    }
}

fn accepted(status: &str) -> Response {
    json_reply(StatusCode::OK, &json!({"status": status}))
}

fn come_back(status: StatusCode, reason: &str, after: Duration) -> Response {
    let mut reply = refusal(status, reason);
    crate::http::set_retry_after(&mut reply, after);
    reply
}
