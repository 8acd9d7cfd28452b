//! The `http:` sink posts each event to a URL.

mod clients;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, Url};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::build::{SinkBuildError, WallClock};
use super::secrets::{Credentials, SigningKey};
use super::spec::HttpTarget;
use super::{Attempt, failed, spoken};
use crate::delivery::{DeliveryTrace, Envelopes, Sink};
use crate::http::{io_reason, reason, takes_proxy};
use crate::model::Event;
use crate::retry::retry_after;

pub use clients::HttpClients;

/// The most events in one POST.
const BATCH: usize = 100;

/// The most of an answer that is read. It is read only so that the connection
/// can be used again.
const ANSWER: usize = 64 * 1024;

/// How long an answer's body may take once its status is known.
const ANSWER_TIME: Duration = Duration::from_secs(1);

const ONE: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
const MANY: HeaderValue =
    HeaderValue::from_static("application/cloudevents-batch+json; charset=utf-8");

/// How long a receiver may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    total: Duration,
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(15),
};

/// Posts events as CloudEvents in structured mode, signed as the Standard
/// Webhooks specification asks if there is a secret.
///
/// Any 2xx means delivered. An attempt that makes no connection is unreachable;
/// everything else fails its subject alone, 410 included. Redirects are not
/// followed. A proxy that the environment names is used, except for receivers on
/// this machine. Attempts that are under way at the same time share no connection. The trace of an attempt is in its
/// headers `traceparent` and `tracestate`, and that of an event in the event.
pub struct HttpSink {
    name: String,
    url: Url,
    credentials: Option<Credentials>,
    batch: bool,
    key: Option<Arc<ArcSwap<SigningKey>>>,
    clock: WallClock,
    client: Client,
    limits: Limits,
    /// How many answers the receiver has given.
    answers: AtomicU64,
}

impl HttpSink {
    pub(super) fn new(
        name: String,
        target: &HttpTarget,
        clock: WallClock,
        clients: &HttpClients,
    ) -> Result<Self, SinkBuildError> {
        let Ok(url) = Url::parse(target.url.expose_secret()) else {
            return Err(SinkBuildError::Address { name });
        };
        let client = match clients.of(&url) {
            Ok(client) => client,
            Err(source) => return Err(SinkBuildError::Http { name, source }),
        };
        Ok(Self {
            name,
            url,
            credentials: target.credentials.clone(),
            batch: target.batch,
            key: target.key.clone(),
            clock,
            client,
            limits: LIMITS,
            answers: AtomicU64::new(0),
        })
    }

    async fn post(
        &self,
        id: &str,
        body: Vec<u8>,
        content_type: HeaderValue,
        trace: Option<&DeliveryTrace>,
    ) -> Attempt {
        let mut request = self
            .client
            .post(self.url.clone())
            .timeout(self.limits.total)
            .header(CONTENT_TYPE, content_type);
        if let Some(Credentials { user, password }) = &self.credentials {
            request = request.basic_auth(user.expose_secret(), Some(password.expose_secret()));
        }
        if let Some(key) = &self.key {
            request = self.signed(request, &key.load(), id, &body);
        }
        for (name, value) in trace.into_iter().flat_map(DeliveryTrace::headers) {
            request = request.header(name, value);
        }
        let answers = self.answers.load(Ordering::Relaxed);
        match request.body(body).send().await {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                self.judged(answer).await
            }
            Err(error) => {
                let answered = self.answers.load(Ordering::Relaxed) != answers;
                self.broken(error, answered)
            }
        }
    }

    fn signed(
        &self,
        request: RequestBuilder,
        key: &SigningKey,
        id: &str,
        body: &[u8],
    ) -> RequestBuilder {
        // The time of this attempt, as the specification asks: a receiver
        // refuses what was signed long ago.
        let timestamp = (self.clock)().timestamp();
        request
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", key.sign(id, timestamp, body))
    }

    async fn judged(&self, answer: Response) -> Attempt {
        let status = answer.status();
        let attempt = if status.is_success() {
            Attempt::Delivered
        } else if status == StatusCode::GONE {
            Attempt::Failed {
                reason: "the receiver answered 410 Gone: it wants no more events".to_owned(),
                retry_after: None,
                gone: true,
            }
        } else {
            Attempt::Failed {
                reason: if status.is_redirection() {
                    format!(
                        "the receiver answered {status}; redirects are not followed: give the address it points to"
                    )
                } else {
                    format!("the receiver answered {status}")
                },
                retry_after: retry_after(answer.headers(), (self.clock)()),
                gone: false,
            }
        };
        // What comes after the status changes nothing.
        let _ = timeout(ANSWER_TIME, drain(answer)).await;
        attempt
    }

    /// There was no answer. `answered` tells whether the receiver answered another
    /// attempt meanwhile.
    fn broken(&self, error: reqwest::Error, answered: bool) -> Attempt {
        if error.is_connect() && error.is_timeout() {
            let reason = format!("no connection within {}", spoken(self.limits.connect));
            if answered {
                // It is busy: the system drops connections that it does not take
                // up in time.
                failed(reason)
            } else {
                Attempt::unreachable(reason)
            }
        } else if error.is_connect() {
            Attempt::unreachable(reason(&error))
        } else if error.is_timeout() {
            failed(format!("no answer within {}", spoken(self.limits.total)))
        } else {
            failed(reason(&error))
        }
    }
}

async fn drain(mut answer: Response) {
    let mut read = 0;
    while read < ANSWER {
        match answer.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            _ => break,
        }
    }
}

/// What `webhook-id` says of a batch: the event's id if there is one, else a
/// hash over all ids, so that the same set has the same id when it comes again.
fn batch_id(events: &[Event]) -> String {
    if let [event] = events {
        return event.id.to_string();
    }
    let mut hash = Sha256::new();
    for event in events {
        hash.update(event.id.as_bytes());
        hash.update(b"\n");
    }
    let hex: String = hash
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("batch_{hex}")
}

impl Sink for HttpSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch(&self) -> usize {
        if self.batch { BATCH } else { 1 }
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async {
            // Behind a proxy only a request could tell.
            if takes_proxy(&self.url) {
                return Ok(());
            }
            let host = self.url.host_str().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = self.url.port_or_known_default().unwrap_or_default();
            let connection = TcpStream::connect((host, port)).await;
            connection
                .map(|_| ())
                .map_err(|error| format!("no connection can be made: {}", io_reason(&error)))
        })
    }

    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
        trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            let envelopes = Envelopes::new(events, trace);
            if self.batch && !events.is_empty() {
                return match serde_json::to_vec(&envelopes) {
                    Ok(body) => self.post(&batch_id(events), body, MANY, trace).await,
                    Err(error) => failed(format!("a batch of events: {error}")),
                };
            }
            for envelope in envelopes.each() {
                let id = &envelope.event.id;
                let attempt = match serde_json::to_vec(&envelope) {
                    Ok(body) => self.post(id, body, ONE, trace).await,
                    Err(error) => failed(format!("event {id}: {error}")),
                };
                if attempt != Attempt::Delivered {
                    return attempt;
                }
            }
            Attempt::Delivered
        })
    }
}

#[cfg(test)]
mod tests;
