//! Asks a running daemon over its status listener.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::Failure;
use super::output::plain;
use crate::config::DaemonAccess;
use crate::http::{BodyError, bounded_client, describe, read_body, reason};

/// The longest that one answer may take, whole.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const BODY_MAX: u64 = 128 * 1024 * 1024;

/// Why the daemon gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// No connection, or it broke.
    #[error(
        "cannot connect to {url}: {reason}. Is dispatchd running? Set --status-url if it listens elsewhere"
    )]
    Unreachable {
        /// Who was asked.
        url: String,
        /// Why there was no answer.
        reason: String,
    },
    /// The daemon refuses the token, or none was given and it needs one.
    #[error("the daemon at {url} {}", .token)]
    Token {
        /// Who was asked.
        url: String,
        /// What is wrong with the token, and what to do.
        token: &'static str,
    },
    /// Any other status.
    #[error("the daemon at {url} answered {status}: {message}")]
    Status {
        /// Who was asked.
        url: String,
        /// The status.
        status: u16,
        /// Why, in its words.
        message: String,
    },
    /// It is no answer of a daemon.
    #[error(
        "{url} is not the status listener of dispatchd: {reason}. Set --status-url to the daemon's status listener"
    )]
    Unreadable {
        /// Who was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client could not be made.
    #[error("the HTTPS client cannot start: {0}; install the system's CA certificates")]
    Client(String),
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// A client of a daemon's status listener.
#[derive(Debug)]
pub(super) struct DaemonClient {
    http: reqwest::Client,
    url: Url,
    token: Option<HeaderValue>,
}

impl DaemonClient {
    pub fn new(access: DaemonAccess) -> Result<Self, Failure> {
        let http = bounded_client(&access.url, TIMEOUT)
            .map_err(|error| AskError::Client(describe(error)))?;
        let token = access.token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let token = token
            .transpose()
            // It was checked with the options.
            .map_err(|error: http::header::InvalidHeaderValue| {
                Failure::Usage(format!("the status token: {error}"))
            })?;
        Ok(Self {
            http,
            url: access.url,
            token,
        })
    }

    /// What the daemon answers at the path of `segments`. `None` where it knows
    /// no such path or dispatch.
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Option<T>, AskError> {
        self.ask(Method::GET, segments, &[]).await
    }

    /// What the daemon answers to `method` at the path of `segments`, with these
    /// names and values as the query. `None` if the answer is 404.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<T>, AskError> {
        self.send(method, segments, query, None).await
    }

    /// The same, with a body.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Option<T>, AskError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).timeout(TIMEOUT);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let body = read_body(response, BODY_MAX)
            .await
            .map_err(|error| match error {
                BodyError::TooLong { .. } => self.unreadable(error.to_string()),
                BodyError::Broken(error) => self.unreachable(error),
            })?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| self.unreadable(error.to_string())),
            _ => {
                // A daemon says why in these words; another server does not.
                let Some(message) = message(&body) else {
                    return Err(self.unreadable(format!("it answered {status}")));
                };
                match status {
                    StatusCode::NOT_FOUND => Ok(None),
                    StatusCode::UNAUTHORIZED => Err(AskError::Token {
                        url: self.name(),
                        token: match self.token {
                            Some(_) => {
                                "refuses the status token; give the token that the daemon has"
                            }
                            None => {
                                "asks for its status token; give it as --status-token-file or --status-token"
                            }
                        },
                    }),
                    _ => Err(AskError::Status {
                        url: self.name(),
                        status: status.as_u16(),
                        message,
                    }),
                }
            }
        }
    }

    /// The same, where every daemon has an answer.
    pub async fn expect<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, AskError> {
        self.get(segments)
            .await?
            .ok_or_else(|| self.unreadable(format!("it has no /{}", segments.join("/"))))
    }

    /// What it is called to operators.
    pub fn name(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    fn unreachable(&self, error: reqwest::Error) -> AskError {
        if error.is_timeout() {
            return self.too_slow(TIMEOUT);
        }
        AskError::Unreachable {
            url: self.name(),
            reason: reason(&error),
        }
    }

    /// It has not answered within `limit`.
    pub fn too_slow(&self, limit: Duration) -> AskError {
        AskError::Unreachable {
            url: self.name(),
            reason: format!("no answer within {}", humantime::format_duration(limit)),
        }
    }

    fn unreadable(&self, reason: String) -> AskError {
        AskError::Unreadable {
            url: self.name(),
            reason,
        }
    }
}

/// The daemon's own words for a refusal.
fn message(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
        /// A standby tells who leads.
        leader: Option<String>,
    }
    let Refusal { error, leader } = serde_json::from_slice(body).ok()?;
    let leader = leader.map_or_else(String::new, |leader| format!(" ({leader} leads)"));
    Some(plain(&(error + &leader)).chars().take(200).collect())
}
