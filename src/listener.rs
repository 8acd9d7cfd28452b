//! The webhook endpoint, which faces the Internet.
//!
//! A webhook is a hint: of what it says only a dispatch's id is used (rule
//! R8). Callers cannot be told apart from strangers, so everything they send is
//! bounded, and what they are answered says nothing of the configuration.

mod body;
pub(crate) mod hint;
mod peers;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use subtle::ConstantTimeEq;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;

use crate::clock::Clock;
use crate::http::{Peer, json_reply, no_such_path, refusal, wrong_method};
use crate::secret::Secret;
use crate::sync::{Inbox, Verdict};

use body::BodyError;
use hint::Hint;
pub use peers::Peers;
pub use traffic::{Answered, Traffic};

/// The path that webhooks are posted to.
pub const PATH: &str = "/dispatch-listener";

/// The longest body of a webhook, in bytes.
pub const BODY_MAX: usize = 64 * 1024;

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
        warp::path::full()
            .and(warp::method())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<Peer>())
            .and(warp::body::stream())
            .then(move |path: FullPath, method, headers, peer, stream| {
                let listener = Arc::clone(&listener);
                async move {
                    if let Some(refusal) = listener.refuse(&path, &method, &headers, peer) {
                        return refusal;
                    }
                    let body = body::read(&headers, stream).await;
                    listener.answer(body).await
                }
            })
            .boxed()
    }

    /// The answer to what is no webhook, or comes too fast.
    fn refuse(
        &self,
        path: &FullPath,
        method: &Method,
        headers: &HeaderMap,
        peer: Option<Peer>,
    ) -> Option<Response> {
        if !self.peers.allow(peer, headers) {
            self.count(Answered::Rejected);
            Some(come_back(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests",
                Duration::from_secs(1),
            ))
        } else if !self.is_at(path.as_str()) {
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

    async fn answer(&self, body: Result<Vec<u8>, BodyError>) -> Response {
        let begun = self.clock.now().mono;
        let (answered, reply) = match body.as_deref().map(hint::read) {
            Err(error) => (
                Answered::Rejected,
                refusal(error.status(), &error.to_string()),
            ),
            Ok(Err(error)) => (
                Answered::Rejected,
                refusal(StatusCode::BAD_REQUEST, &error.to_string()),
            ),
            Ok(Ok(Hint::Handshake)) => (Answered::Accepted, accepted("ready")),
            Ok(Ok(Hint::Other { kind })) => {
                tracing::info!(kind, "a webhook about another kind of resource was ignored");
                (Answered::Ignored, accepted("ignored"))
            }
            Ok(Ok(Hint::Dispatch(id))) => {
                let verdict = self.inbox.webhook(id.clone()).await;
                tracing::debug!(dispatch = %id, ?verdict, "a webhook was answered");
                settled(&verdict)
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

/// The path that webhooks are posted to, with the secret if there is one.
pub fn path_with(secret: Option<&SecretString>) -> String {
    match secret {
        Some(secret) => format!("{PATH}/{}", secret.expose_secret()),
        None => PATH.to_owned(),
    }
}

/// What is answered once the dispatch is settled, or cannot be. The reasons
/// stay in the log.
fn settled(verdict: &Verdict) -> (Answered, Response) {
    match verdict {
        Verdict::Settled | Verdict::Pending(_) | Verdict::Skipped(_) => {
            (Answered::Accepted, accepted("settled"))
        }
        Verdict::Unknown => (
            Answered::Rejected,
            refusal(StatusCode::NOT_FOUND, "no such dispatch"),
        ),
        Verdict::Unavailable { retry_after, .. } => (
            Answered::Failed,
            come_back(
                StatusCode::SERVICE_UNAVAILABLE,
                "not settled yet",
                *retry_after,
            ),
        ),
        Verdict::Busy => (
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
