//! The webhook endpoint, which faces the Internet.
//!
//! A webhook is a hint: of what it says only a dispatch's id is used (rule
//! R8). Callers cannot be told apart from strangers, so everything they send is
//! bounded, and what they are answered says nothing of the configuration.

pub(crate) mod hint;
mod notices;
mod peers;
mod traffic;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use subtle::ConstantTimeEq;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;

use crate::clock::Clock;
use crate::http::{
    Peer, RequestError, json_reply, no_such_path, read_request, refusal, wrong_method,
};
use crate::model::WEBHOOK_PATH;
use crate::secret::Secret;
use crate::sync::{Inbox, WaiterReply};

use hint::{Hint, HintError};
use notices::Notices;
pub use peers::Peers;
pub use traffic::{Answered, Traffic};

/// What the listener needs.
#[derive(Debug, Clone)]
pub struct Listener<C> {
    /// Where hints go.
    pub inbox: Inbox,
    /// With it the path is longer by a slash and this.
    pub secret: Option<Secret>,
    /// Bounds what one peer may ask.
    pub peers: Arc<Peers>,
    /// Counts what came.
    pub traffic: Arc<Traffic>,
    /// Tells when it came.
    pub clock: C,
}

impl<C: Clock + Clone> Listener<C> {
    /// The routes of the listener.
    pub fn routes(self) -> BoxedFilter<(Response,)> {
        let listener = Arc::new(self);
        let notices = Arc::new(Notices::default());
        warp::path::full()
            .and(warp::method())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<Peer>())
            .and(warp::body::stream())
            .then(move |path: FullPath, method, headers, peer, stream| {
                let (listener, notices) = (Arc::clone(&listener), Arc::clone(&notices));
                async move {
                    let peer = listener.peers.peer(peer, &headers);
                    if let Some(refusal) = listener.refuse(&path, &method, peer, &notices) {
                        return refusal;
                    }
                    let body = read_request(&headers, stream).await;
                    let hint = body
                        .map_err(Wrong::Body)
                        .and_then(|body| hint::read(&body).map_err(Wrong::Hint));
                    if let Err(wrong) = &hint {
                        notices.rejected(wrong, peer, listener.clock.now().mono);
                    }
                    // Only now, with a whole body, the webhook waits with others.
                    listener.answer(hint, &notices).await
                }
            })
            .boxed()
    }

    /// The answer to what is no webhook, or comes too fast.
    fn refuse(
        &self,
        path: &FullPath,
        method: &Method,
        peer: Option<IpAddr>,
        notices: &Notices,
    ) -> Option<Response> {
        let now = || self.clock.now().mono;
        if !self.peers.allow(peer) {
            self.count(Answered::Rejected);
            notices.too_many(peer, now());
            Some(come_back(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests",
                Duration::from_secs(1),
            ))
        } else if !self.is_at(path.as_str()) {
            // Voltus posts. What else asks is a scanner, or a person.
            if method == Method::POST {
                self.count(Answered::WrongPath);
                notices.wrong_path(peer, now());
            }
            Some(no_such_path())
        } else if method != Method::POST {
            Some(wrong_method("POST"))
        } else {
            None
        }
    }

    /// Whether webhooks are posted to `path`, compared in constant time.
    fn is_at(&self, path: &str) -> bool {
        let secret = self.secret.as_ref().map(Secret::get);
        let right = path_with(secret.as_deref());
        right.as_bytes().ct_eq(path.as_bytes()).into()
    }

    async fn answer(&self, hint: Result<Hint, Wrong>, notices: &Notices) -> Response {
        let begun = self.clock.now().mono;
        let (answered, reply) = match hint {
            Err(wrong) => (
                Answered::Rejected,
                refusal(wrong.status(), &wrong.to_string()),
            ),
            Ok(Hint::Handshake) => (Answered::Accepted, accepted("ready")),
            Ok(Hint::Other { kind }) => {
                notices.ignored(&kind, self.clock.now().mono);
                (Answered::Ignored, accepted("ignored"))
            }
            Ok(Hint::Dispatch(id)) => {
                let outcome = self.inbox.webhook(id.clone()).await;
                let (answered, reply) = settled(&outcome);
                let now = self.clock.now().mono;
                match answered {
                    Answered::Rejected => notices.unknown(&id, now),
                    Answered::Failed => {
                        let reason = outcome.reason().unwrap_or("too many webhooks wait");
                        notices.failed(&id, reason, now);
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
        };
        self.count(answered);
        let took = self.clock.now().mono.saturating_sub(begun);
        self.traffic.took(answered, took);
        reply
    }

    fn count(&self, answered: Answered) {
        self.traffic.count(answered, self.clock.now().wall);
    }
}

/// Why a webhook is rejected.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Body(RequestError),
    #[error(transparent)]
    Hint(HintError),
}

impl Wrong {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(error) => error.status(),
            Self::Hint(_) => StatusCode::BAD_REQUEST,
        }
    }
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
