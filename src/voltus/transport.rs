//! Sends one request to the API with the key, and tells what a failure means.

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderName, Method, StatusCode};
use reqwest::Response;
use serde_json::Value;
use url::Url;

use super::connections::Connections;
use super::redirects::{Notices, follow, is_permanent, is_redirect, root_of};
use super::wire::read_error;
use super::{
    ApiError, ApiKey, ClientError, ClientSettings, RedirectLimiter, RedirectRefusal, Signals, Stamp,
};
use crate::clock::Clock;
use crate::http::{BodyError, bounded_client, describe, read_body, reason};
use crate::retry::retry_after;
use crate::seldom::Rarely;

/// The header that the key travels in.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-voltus-api-key");

/// What is read of an answer that is an error, or of a few words.
pub(super) const SHORT_BODY: u64 = 64 * 1024;

/// Sends requests to the configured origin alone. Follows redirects within it
/// (rule R8).
#[derive(Debug)]
pub(super) struct Transport<C> {
    connections: Connections,
    base: Url,
    /// The base with the version behind it.
    root: Url,
    key: Arc<ApiKey>,
    signals: Arc<Signals>,
    notices: Notices,
    /// What each redirect waits for. `None` for the few requests of a command.
    limiter: Option<RedirectLimiter>,
    clock: C,
}

impl<C: Clock> Transport<C> {
    /// `pause` is the longest silence within an answer.
    pub fn new(
        settings: &ClientSettings,
        key: Arc<ApiKey>,
        pause: Duration,
        clock: C,
    ) -> Result<Self, ClientError> {
        let base = settings.base.clone();
        let build = move || bounded_client(&base, pause);
        let connections = Connections::new(build, clock.now().mono)
            .map_err(|error| ClientError::Build(describe(error)))?;
        Self::over(connections, settings, key, clock)
    }

    /// One that sends its requests over `connections`.
    pub fn over(
        connections: Connections,
        settings: &ClientSettings,
        key: Arc<ApiKey>,
        clock: C,
    ) -> Result<Self, ClientError> {
        let mut root = settings.base.clone();
        root.path_segments_mut()
            .map_err(|()| ClientError::Base(settings.base.clone()))?
            .pop_if_empty()
            .push(&settings.version);
        Ok(Self {
            connections,
            base: settings.base.clone(),
            root,
            key,
            signals: Arc::default(),
            notices: Notices::default(),
            limiter: None,
            clock,
        })
    }

    /// From now on each redirect waits for `limiter` before it is followed.
    pub fn limit_redirects(&mut self, limiter: RedirectLimiter) {
        self.limiter = Some(limiter);
    }

    /// Where the path of `segments` is, if no redirect leads elsewhere.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    /// Sends a request to the path of `segments` and returns its answer,
    /// whatever its status. Redirects within the origin are followed; with them
    /// all it takes no longer than `timeout`.
    pub async fn send(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Response, ApiError> {
        let begun = self.clock.now().mono;
        let (http, moved_to) = self.connections.client(begun).await;
        // What changes something follows each redirect anew.
        let moved_to = moved_to.filter(|_| method == Method::GET);
        let mut url = moved_to.as_ref().unwrap_or(&self.root).clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        let mut followed = 0;
        let mut permanent = true;
        loop {
            let taken = self.clock.now().mono.saturating_sub(begun);
            let left = timeout.saturating_sub(taken);
            let response = self
                .send_once(&http, method.clone(), url.clone(), body, left)
                .await?;
            let status = response.status();
            if !is_redirect(status) {
                if moved_to.is_none() {
                    self.notices
                        .answered_at(&self.root, &self.base, segments, &url);
                    if followed > 0 && permanent && status.is_success() {
                        self.connections.moved_to(root_of(&url, segments));
                    }
                } else if !status.is_success() && status != StatusCode::NOT_FOUND {
                    self.connections.moved_to(None);
                }
                return Ok(response);
            }
            permanent &= is_permanent(status);
            let refused = |refusal| ApiError::Redirect {
                status: status.as_u16(),
                refusal,
            };
            url = follow(&url, &method, status, response.headers(), followed).map_err(refused)?;
            followed += 1;
            let taken = self.clock.now().mono.saturating_sub(begun);
            let left = timeout.saturating_sub(taken);
            self.wait_for_limiter(left).await.map_err(refused)?;
        }
    }

    /// Waits until the budget allows the request that follows a redirect, for
    /// `left` at most.
    pub(super) async fn wait_for_limiter(&self, left: Duration) -> Result<(), RedirectRefusal> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        match tokio::time::timeout(left, limiter.token()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RedirectRefusal::Stopping),
            Err(_) => Err(RedirectRefusal::NoBudget),
        }
    }

    async fn send_once(
        &self,
        http: &reqwest::Client,
        method: Method,
        url: Url,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Response, ApiError> {
        let mut request = http
            .request(method, url.clone())
            .header(KEY_HEADER, self.key.header())
            // What a cache has kept is an answer to an older question.
            .header(CACHE_CONTROL, "no-cache")
            .timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| transport(&error, &url))?;
        self.signals.note(response.headers(), self.clock.now());
        Ok(response)
    }

    /// When an answer that has just come was made.
    pub fn stamp(&self, response: &Response) -> Stamp {
        Stamp::read(response.headers(), self.clock.now())
    }

    /// The next request goes out on a new connection, to the address that the
    /// API's name has then.
    pub fn give_up_connections(&self) {
        self.connections.give_up();
    }

    /// What its answers tell in passing.
    pub fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// What an answer with a status of failure says.
    pub async fn error(&self, response: Response) -> ApiError {
        let status = response.status();
        let retry_after = retry_after(response.headers(), self.clock.now().wall);
        match status {
            StatusCode::TOO_MANY_REQUESTS => ApiError::TooFast { retry_after },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.reload_key();
                ApiError::KeyRefused {
                    status: status.as_u16(),
                    key: self.key.source().clone(),
                }
            }
            _ if status.is_redirection() => ApiError::Redirect {
                status: status.as_u16(),
                refusal: RedirectRefusal::NoAddress,
            },
            _ => failure(response, retry_after).await,
        }
    }

    /// The key may have been rotated: the next question takes what the file
    /// says now.
    fn reload_key(&self) {
        match self.key.reload() {
            Ok(true) => tracing::info!("the API key was read again from its file and is another"),
            Ok(false) => {}
            Err(error) => {
                static LINE: Rarely = Rarely::new();
                if let Some(count) = LINE.count() {
                    tracing::error!(%error, count, "the API key could not be read again; the key from before is sent on");
                }
            }
        }
    }
}

/// What an answer with a status of failure says that means nothing in particular.
async fn failure(response: Response, retry_after: Option<Duration>) -> ApiError {
    let status = response.status().as_u16();
    let url = response.url().clone();
    // Without a body, it is the status that counts.
    let body = body(response, SHORT_BODY).await.unwrap_or_default();
    match read_error(&body) {
        None => ApiError::Foreign {
            status,
            url: url.into(),
            retry_after,
        },
        Some(body) => {
            let mut message: String = body.message.chars().take(200).collect();
            if status == StatusCode::NOT_FOUND {
                message.push_str(&format!(" ({url}); is --api-url right, and --api-version?"));
            }
            ApiError::Status {
                status,
                message,
                retry_after,
            }
        }
    }
}

/// The body, unless it is longer than `limit` bytes.
pub(super) async fn body(response: Response, limit: u64) -> Result<Vec<u8>, ApiError> {
    let url = response.url().clone();
    read_body(response, limit)
        .await
        .map_err(|error| match error {
            BodyError::TooLong { limit } => ApiError::TooLong { limit },
            BodyError::Broken(error) => transport(&error, &url),
        })
}

/// What it means that the request for `url` has no answer.
fn transport(error: &reqwest::Error, url: &Url) -> ApiError {
    if error.is_connect() {
        let origin = url.origin().ascii_serialization();
        ApiError::Unreachable(format!("{origin}: {}", reason(error)))
    } else if error.is_timeout() {
        ApiError::TimedOut(url.to_string())
    } else {
        ApiError::Interrupted(format!("{url}: {}", reason(error)))
    }
}
