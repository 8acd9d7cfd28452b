//! One request to the API, with the key, and what a failure of it means.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use reqwest::Response;
use serde_json::Value;
use url::Url;

use super::wire::read_error;
use super::{ApiError, ApiKey, ClientError, ClientSettings, Signals};
use crate::clock::Clock;
use crate::http::{BodyError, bounded_client, describe, read_body};
use crate::retry::retry_after;

/// The header that the key travels in.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-voltus-api-key");

/// What is read of an answer that is an error, or of a few words.
pub(super) const SHORT_BODY: u64 = 64 * 1024;

/// Sends requests to the configured host alone, and follows no redirect (rule
/// R8).
#[derive(Debug)]
pub(super) struct Transport<C> {
    http: reqwest::Client,
    /// The base with the version behind it.
    root: Url,
    key: Arc<ApiKey>,
    signals: Arc<Signals>,
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
        let http = bounded_client(&settings.base, pause)
            .map_err(|error| ClientError::Build(describe(error)))?;
        let mut root = settings.base.clone();
        root.path_segments_mut()
            .map_err(|()| ClientError::Base(settings.base.clone()))?
            .pop_if_empty()
            .push(&settings.version);
        Ok(Self {
            http,
            root,
            key,
            signals: Arc::default(),
            clock,
        })
    }

    /// Sends a request to the path of `segments` and returns its answer,
    /// whatever its status.
    pub async fn send(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Response, ApiError> {
        let mut url = self.root.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        let mut request = self
            .http
            .request(method, url)
            .header(KEY_HEADER, self.key.header())
            .timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(transport)?;
        self.signals.note(response.headers(), self.clock.now().wall);
        Ok(response)
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
                }
            }
            _ if status.is_redirection() => ApiError::Redirect {
                status: status.as_u16(),
            },
            _ => ApiError::Status {
                status: status.as_u16(),
                message: message_of(response).await,
                retry_after,
            },
        }
    }

    /// The key may have been rotated: the next question takes what the file
    /// says now.
    fn reload_key(&self) {
        match self.key.reload() {
            Ok(true) => tracing::info!("the API key was read again from its file and is another"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the API key could not be read again"),
        }
    }
}

async fn message_of(response: Response) -> String {
    match body(response, SHORT_BODY).await {
        Ok(body) => read_error(&body).map_or_else(
            || "no message in the API's own words".to_owned(),
            |body| body.message.chars().take(200).collect(),
        ),
        Err(error) => error.to_string(),
    }
}

/// The body, unless it is longer than `limit` bytes.
pub(super) async fn body(response: Response, limit: u64) -> Result<Vec<u8>, ApiError> {
    read_body(response, limit)
        .await
        .map_err(|error| match error {
            BodyError::TooLong { limit } => ApiError::TooLong { limit },
            BodyError::Broken(error) => transport(error),
        })
}

fn transport(error: reqwest::Error) -> ApiError {
    if error.is_timeout() {
        ApiError::TimedOut
    } else {
        ApiError::Unreachable(describe(error))
    }
}
