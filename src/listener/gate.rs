//! What a request must pass before a listener takes it on as a webhook, on the leader
//! as on a standby (rule R8).
//!
//! [`Gate`] checks peer, path and method, reads the body within bounds, and reads the
//! hint from it. What is then done with the [`Webhook`] is for the listener to say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, Method, StatusCode};
use subtle::ConstantTimeEq;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;

use super::fellows::Fellows;
use super::hint::{self, Hint, HintError};
use super::notices::Notices;
use super::{Answered, Peers, Traffic, come_back, path_with};
use crate::clock::{Clock, Mono};
use crate::http::{Peer, RequestError, no_such_path, read_request, refusal, wrong_method};
use crate::model::WEBHOOK_PATH;
use crate::secret::Secret;
use crate::trace::{TraceContext, Tracer};

/// What is checked, and by what.
pub(super) struct Gate<C> {
    /// With it the path is longer by a slash and this.
    pub secret: Option<Secret>,
    /// How daemons of this store know each other. `None` if the store is not shared.
    pub fellows: Option<Fellows>,
    /// Bounds what one peer may ask.
    pub peers: Arc<Peers>,
    /// Counts what came.
    pub traffic: Arc<Traffic>,
    /// Whether webhooks count that other daemons of this store pass on. They come to a
    /// standby by mistake, and have been counted by the daemon that their sender asked.
    pub counts_passed_on: bool,
    /// Opens a span for each webhook.
    pub tracer: Tracer,
    /// Tells when it came.
    pub clock: C,
    /// Logs what was turned away.
    pub notices: Notices,
}

/// A webhook that has passed the gate.
#[derive(Debug)]
pub(super) struct Webhook {
    /// The path that it came to.
    pub path: String,
    /// What it says.
    pub body: Vec<u8>,
    /// The same, read.
    pub hint: Hint,
    /// Another daemon claims to have passed it on. Whether that is true was not checked.
    pub claims_passed_on: bool,
    /// What it belongs under, as its sender says. `None` if nothing is traced.
    pub trace: Option<TraceContext>,
}

impl<C: Clock + Clone> Gate<C> {
    /// Routes that answer what does not pass, and have `answer` say what comes of the rest.
    pub fn routes<F, A>(self: &Arc<Self>, answer: F) -> BoxedFilter<(Response,)>
    where
        F: Fn(Webhook) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = (Answered, Response)> + Send,
    {
        let gate = Arc::clone(self);
        warp::path::full()
            .and(warp::method())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<Peer>())
            .and(warp::body::stream())
            .then(
                move |path: FullPath, method: Method, headers: HeaderMap, peer, stream| {
                    let (gate, answer) = (Arc::clone(&gate), answer.clone());
                    async move {
                        let fellows = gate.fellows.as_ref();
                        let fellows = fellows.filter(|fellows| fellows.have_sent(&headers));
                        let peer = gate.peers.peer(peer, &headers);
                        let refusal = gate.refuse(path.as_str(), &method, peer, fellows.is_some());
                        let mut reply = match refusal {
                            Some(refusal) => refusal,
                            None => {
                                let webhook = gate.read(&path, &headers, stream).await;
                                let counts = fellows.is_none() || gate.counts_passed_on;
                                gate.answer(webhook, peer, counts, answer).await
                            }
                        };
                        if let Some(fellows) = fellows {
                            fellows.sign(&mut reply);
                        }
                        reply
                    }
                },
            )
            .boxed()
    }

    /// The answer to what is no webhook, or comes too fast. A fellow daemon has checked
    /// peer and path already, by its own rate and secret.
    fn refuse(
        &self,
        path: &str,
        method: &Method,
        peer: Option<IpAddr>,
        is_fellow: bool,
    ) -> Option<Response> {
        if !is_fellow && !self.peers.allow(peer) {
            self.count(Answered::Rejected);
            self.notices.too_many(peer, self.now());
            Some(come_back(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests",
                Duration::from_secs(1),
            ))
        } else if !(self.is_at(path) || (is_fellow && is_below(path))) {
            // Voltus posts. What else asks is a scanner, or a person.
            if method == Method::POST {
                self.count(Answered::WrongPath);
                self.notices.wrong_path(peer, self.now());
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

    async fn read<B: Buf>(
        &self,
        path: &FullPath,
        headers: &HeaderMap,
        stream: impl Stream<Item = Result<B, warp::Error>>,
    ) -> Result<Webhook, Wrong> {
        let body = read_request(headers, stream).await.map_err(Wrong::Body)?;
        let hint = hint::read(&body).map_err(Wrong::Hint)?;
        Ok(Webhook {
            path: path.as_str().to_owned(),
            body,
            hint,
            claims_passed_on: Fellows::claim_to_have_sent(headers),
            trace: match self.tracer.is_on() {
                true => TraceContext::from_headers(headers),
                false => None,
            },
        })
    }

    /// Only now, with a whole body, the webhook waits with others.
    async fn answer<A>(
        &self,
        webhook: Result<Webhook, Wrong>,
        peer: Option<IpAddr>,
        counts: bool,
        answer: impl Fn(Webhook) -> A,
    ) -> Response
    where
        A: Future<Output = (Answered, Response)> + Send,
    {
        let begun = self.now();
        let (answered, reply) = match webhook {
            Ok(webhook) => answer(webhook).await,
            Err(wrong) => {
                self.notices.rejected(&wrong, peer, begun);
                let reply = refusal(wrong.status(), &wrong.to_string());
                (Answered::Rejected, reply)
            }
        };
        if counts {
            self.count(answered);
            let took = self.now().saturating_sub(begun);
            self.traffic.took(answered, took);
        }
        reply
    }

    /// The time on the clock that does not jump.
    pub fn now(&self) -> Mono {
        self.clock.now().mono
    }

    fn count(&self, answered: Answered) {
        self.traffic.count(answered, self.clock.now().wall);
    }
}

/// Whether `path` is the webhook's path with any secret, or none.
fn is_below(path: &str) -> bool {
    let rest = path.strip_prefix(WEBHOOK_PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
