//! The registration of webhooks.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use warp::reply::Response;

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::deliveries::post;
use super::log::Outcome;

/// What a webhook tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum Event {
    /// A dispatch is new.
    #[serde(rename = "dispatch.create")]
    Create,
    /// A dispatch has changed.
    #[serde(rename = "dispatch.update")]
    Update,
}

impl Event {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "dispatch.create",
            Self::Update => "dispatch.update",
        }
    }
}

/// A registered webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The sandbox's id for it.
    pub id: String,
    /// Where events are posted to.
    pub url: String,
    /// The events it wants.
    pub events: Vec<Event>,
    /// The version of the API it was registered under. It is in the path of
    /// what it tells of.
    #[serde(skip)]
    pub version: String,
}

/// The body of `POST /webhooks`.
#[derive(Debug, Deserialize)]
pub(super) struct Registration {
    url: String,
    events: Vec<Event>,
}

/// Registers a webhook, if it answers the first post with exactly 200.
pub(super) async fn register(
    inner: &Inner,
    version: String,
    registration: Registration,
) -> Result<Response, Refusal> {
    let Registration { url, events } = registration;
    let parsed = Url::parse(&url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Refusal::bad_request("`url` must be an http or https URL"))?;
    if events.is_empty() {
        return Err(Refusal::bad_request("`events` must name an event"));
    }
    let greeting = json!({"event": {"name": ""}, "resource": ""});
    match post(inner, parsed.as_str(), &greeting).await {
        Outcome::Answered(200) => {}
        Outcome::Answered(status) => {
            let message = format!("the webhook must answer 200, it answered {status}");
            return Err(Refusal::bad_request(message));
        }
        Outcome::Failed(reason) => {
            let message = format!("the webhook must answer 200, it did not answer: {reason}");
            return Err(Refusal::bad_request(message));
        }
        // A single post has no other outcome.
        Outcome::Dropped | Outcome::Unregistered => {}
    }
    let webhook = inner.with(|state| {
        let webhook = Webhook {
            id: state.dice.id(),
            url,
            events,
            version,
        };
        state.webhooks.push(webhook.clone());
        webhook
    });
    Ok(json_answer(StatusCode::OK, &webhook))
}

/// All registered webhooks.
pub(super) fn list(inner: &Inner) -> Response {
    let webhooks = inner.look(|state| state.webhooks.clone());
    json_answer(
        StatusCode::OK,
        &json!({"webhooks": webhooks, "page": 0, "perPage": 0}),
    )
}

/// Deletes a webhook and answers what it was.
pub(super) fn delete(inner: &Inner, id: &str) -> Result<Response, Refusal> {
    let deleted = inner.with(|state| {
        let place = state.webhooks.iter().position(|webhook| webhook.id == id)?;
        Some(state.webhooks.remove(place))
    });
    deleted
        .map(|webhook| json_answer(StatusCode::OK, &webhook))
        .ok_or_else(|| Refusal::not_found("there is no such webhook"))
}
