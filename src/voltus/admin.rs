//! What is asked of the API beside dispatches: webhooks, enrolled sites, scenarios,
//! test dispatches, and what time it is there.
//!
//! Those of a command are few and far between, so nothing limits them. The daemon,
//! which keeps its webhook registered, asks its limiter before each of them, and so
//! does each redirect (rule R9).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::header::DATE;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Response;
use serde_json::{Value, json};

use super::client::{LIST_TIMEOUT, SharedReader, away_if_large, read_whole_list};
use super::enrolled::{EnrolledSites, read_enrolled_sites};
use super::transport::{Transport, body};
use super::webhook::{EVENTS, read_webhook, read_webhooks};
use super::{
    ApiError, ApiKey, ApiResponse, ClientError, ClientSettings, RedirectLimiter, RedirectRefusal,
    Webhook, WebhookId, WebhookUrl,
};
use crate::clock::Clock;
use crate::model::{DispatchId, rfc3339};

/// The longest silence. The API asks a webhook's URL before it says that it is
/// registered, so it may be silent for longer than with other questions.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that one request may take, whole.
const TIMEOUT: Duration = Duration::from_secs(45);

/// The longest list of webhooks, or answer to an order.
const BODY_MAX: u64 = 4 * 1024 * 1024;

/// What an answer by id is looked for in: no deeper than that.
const DEPTH: usize = 4;

/// A client for what operators do.
#[derive(Debug)]
pub struct Admin<C> {
    transport: Transport<C>,
    max_body: u64,
}

/// A look at the API: whether it answers, what, and when it thinks that is.
#[derive(Debug)]
pub struct Look {
    /// The list of dispatches, or why there is none.
    pub list: Result<ApiResponse, ApiError>,
    /// How far the API's clock is ahead of ours, and by how much that may be
    /// wrong. `None` when it did not tell the time.
    pub ahead: Option<(TimeDelta, TimeDelta)>,
    /// How long the answer took to begin.
    pub took: Duration,
}

impl<C: Clock> Admin<C> {
    /// A client for the API at `settings`.
    ///
    /// # Errors
    /// When the system has no CA certificates, or the URL takes no path.
    pub fn new(settings: &ClientSettings, key: Arc<ApiKey>, clock: C) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Transport::new(settings, key, READ_TIMEOUT, clock)?,
            max_body: settings.max_body,
        })
    }

    /// From now on each redirect waits for `limiter` before it is followed.
    pub fn limit_redirects(&mut self, limiter: RedirectLimiter) {
        self.transport.limit_redirects(limiter);
    }

    /// The webhooks that are registered.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, ApiError> {
        let answer = self.send(Method::GET, &["webhooks"], None).await?;
        let (webhooks, unread) = read_webhooks(&answer).map_err(|error| {
            ApiError::Unreadable(error.to_string()).at(&self.transport.url(&["webhooks"]))
        })?;
        if unread > 0 {
            tracing::warn!(
                count = unread,
                "some of the registered webhooks could not be read and are left out"
            );
        }
        Ok(webhooks)
    }

    /// The sites that are enrolled under the key. Their list may be as long as one of
    /// dispatches.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sites(&self) -> Result<EnrolledSites, ApiError> {
        let answer = async {
            let response = self
                .transport
                .send(Method::GET, &["sites"], None, LIST_TIMEOUT)
                .await?;
            if response.status() != StatusCode::OK {
                return Err(self.transport.error(response).await);
            }
            let url = response.url().clone();
            let body = body(response, self.max_body).await?;
            let sites = away_if_large(body, read_enrolled_sites).await;
            sites.map_err(|error| error.at(&url))
        };
        let answer = answer.await;
        if answer.is_err() {
            self.transport.give_up_connections();
        }
        answer
    }

    /// Registers a webhook for all events. The API asks `url` before it answers.
    /// Returns the id where it is told.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register(&self, url: &WebhookUrl) -> Result<Option<WebhookId>, ApiError> {
        let events: Value = EVENTS.iter().map(|name| json!({"name": name})).collect();
        let order = json!({"url": url.expose(), "events": events});
        let answer = self
            .send(Method::POST, &["webhooks"], Some(&order))
            .await
            .map_err(|error| without(url, error))?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        Ok(read_webhook(&answer).map(|webhook| webhook.id))
    }

    /// Takes a registration away. `false` if there was none.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn delete(&self, id: &WebhookId) -> Result<bool, ApiError> {
        let deleted = self
            .send(Method::DELETE, &["webhooks", id.as_str()], None)
            .await;
        match deleted {
            Ok(_) => Ok(true),
            Err(ApiError::Status { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts a scenario. Returns the ids of its dispatches as far as they are
    /// told, in the order of the answer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn start_scenario(&self, order: &Value) -> Result<Vec<DispatchId>, ApiError> {
        let answer = self.send(Method::POST, &["scenarios"], Some(order)).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let mut ids = Vec::new();
        if let Some(dispatches) = answer.get("dispatches") {
            collect_ids(dispatches, DEPTH, &mut ids);
        }
        Ok(ids)
    }

    /// Makes a test dispatch for the program, or for Voltus's test program without
    /// one. Returns its id if it is told: the reference shows
    /// no body, so who wants it may have to look for it in the list.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn make_test_dispatch(
        &self,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        program_id: Option<i64>,
    ) -> Result<Option<DispatchId>, ApiError> {
        let mut order = json!({"start_time": rfc3339(start), "end_time": rfc3339(end)});
        if let Some(program_id) = program_id {
            order["program_id"] = program_id.into();
        }
        let answer = self
            .send(Method::POST, &["dispatches"], Some(&order))
            .await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let mut ids = Vec::new();
        collect_ids(&answer, 1, &mut ids);
        if let Some(dispatches) = answer.get("dispatches") {
            collect_ids(dispatches, 2, &mut ids);
        }
        Ok(ids.into_iter().next())
    }

    /// Asks for the list, and compares clocks by the way.
    pub async fn look(&self) -> Look {
        let clock = self.transport.clock();
        let before = clock.now();
        let sent = self
            .transport
            .send(Method::GET, &["dispatches"], None, LIST_TIMEOUT)
            .await;
        let after = clock.now();
        let took = after.mono.saturating_sub(before.mono);
        let ahead = sent
            .as_ref()
            .ok()
            .and_then(|response| ahead(response.headers(), before.wall, after.wall));
        let list = match sent {
            Ok(response) if response.status() == StatusCode::OK => {
                let stamp = self.transport.stamp(&response);
                let url = response.url().clone();
                match body(response, self.max_body).await {
                    Ok(body) => read_whole_list(body, &SharedReader::default(), stamp)
                        .await
                        .map_err(|error| error.at(&url)),
                    Err(error) => Err(error),
                }
            }
            Ok(response) => Err(self.transport.error(response).await),
            Err(error) => Err(error),
        };
        Look { list, ahead, took }
    }

    /// The body of an answer that says that it was done.
    async fn send(
        &self,
        method: Method,
        segments: &[&str],
        order: Option<&Value>,
    ) -> Result<Vec<u8>, ApiError> {
        let answer = async {
            let response: Response = self
                .transport
                .send(method, segments, order, TIMEOUT)
                .await?;
            if response.status().is_success() {
                match body(response, BODY_MAX).await {
                    // No option allows more.
                    Err(ApiError::TooLong { limit }) => {
                        let url = self.transport.url(segments);
                        Err(ApiError::Unreadable(format!("longer than {limit} bytes")).at(&url))
                    }
                    read => read,
                }
            } else {
                Err(self.transport.error(response).await)
            }
        };
        let answer = answer.await;
        if answer.is_err() {
            self.transport.give_up_connections();
        }
        answer
    }
}

/// The error without the URL, should the API repeat it in its message.
fn without(url: &WebhookUrl, error: ApiError) -> ApiError {
    match error {
        ApiError::Status {
            status,
            message,
            retry_after,
        } => ApiError::Status {
            status,
            message: url.hide_in(&message),
            retry_after,
        },
        ApiError::Redirect {
            status,
            refusal: RedirectRefusal::NotRepeatable(to),
        } => ApiError::Redirect {
            status,
            refusal: RedirectRefusal::NotRepeatable(url.hide_in(&to)),
        },
        other => other,
    }
}

/// Gathers the ids of dispatches: the value's own, or those of its parts, which
/// may be ids themselves.
fn collect_ids(value: &Value, depth: usize, ids: &mut Vec<DispatchId>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match value {
        Value::Object(fields) => match fields.get("id") {
            Some(Value::String(id)) => ids.extend(DispatchId::new(id)),
            _ => {
                for part in fields.values() {
                    collect_ids(part, depth, ids);
                }
            }
        },
        Value::Array(parts) => {
            for part in parts {
                collect_ids(part, depth, ids);
            }
        }
        Value::String(id) => ids.extend(DispatchId::new(id)),
        _ => {}
    }
}

/// How far the `Date` of an answer, which has whole seconds, is ahead of the
/// middle between question and answer.
fn ahead(
    headers: &HeaderMap,
    before: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Option<(TimeDelta, TimeDelta)> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs: DateTime<Utc> = httpdate::parse_http_date(date).ok()?.into();
    let half = TimeDelta::milliseconds(500);
    let way = (after - before) / 2;
    let ours = before.checked_add_signed(way)?;
    Some((theirs - ours + half, way.abs() + half))
}

#[cfg(test)]
mod tests;
