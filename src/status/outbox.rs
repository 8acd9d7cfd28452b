//! `GET /outbox` and `POST /outbox/{id}/skip`: which events are pending at each
//! sink, and how an operator gives one up.

use std::time::Duration;

use chrono::SubsecRound;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::watch;
use warp::reply::Response;

use crate::delivery::PendingEvent;
use crate::http::{json_reply, refusal, set_retry_after};
use crate::model::rfc3339;
use crate::sync::{Inbox, PendingRequest, SinkPending, SkipRequest, View, WaiterReply};

/// How many events of a sink are listed, unless a number is asked for.
const LIMIT: usize = 100;

/// The most events of a sink that are listed.
const LIMIT_MAX: usize = 1000;

/// Lists what is pending.
pub(super) async fn list(inbox: &Inbox, view: &watch::Receiver<View>, query: &str) -> Response {
    let request = match read(query) {
        Ok(request) => request,
        Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
    };
    match inbox.pending(request).await {
        WaiterReply::Pending(sinks) => {
            let view = view.borrow().clone();
            let sinks: Vec<Value> = sinks.iter().map(|sink| shown(sink, &view)).collect();
            json_reply(StatusCode::OK, &json!({"sinks": sinks}))
        }
        WaiterReply::Unknown => refusal(StatusCode::NOT_FOUND, "no sink has this name"),
        outcome => not_now(&outcome),
    }
}

/// Gives an event up.
pub(super) async fn skip(inbox: &Inbox, event: &str, query: &str) -> Response {
    let event = percent_decode_str(event).decode_utf8_lossy().into_owned();
    let mut sink = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "sink" {
            sink = Some(value.into_owned());
        }
    }
    let request = SkipRequest {
        event: event.clone(),
        sink,
    };
    match inbox.skip(request).await {
        WaiterReply::Skipped(sinks) => {
            json_reply(StatusCode::OK, &json!({"skipped": event, "sinks": sinks}))
        }
        WaiterReply::Unknown => refusal(StatusCode::NOT_FOUND, "no such event is pending"),
        WaiterReply::PendingAt(sinks) => {
            let names = sinks.join(", ");
            let reason = format!("the event is pending at several sinks, name one: {names}");
            refusal(StatusCode::CONFLICT, &reason)
        }
        outcome => not_now(&outcome),
    }
}

fn read(query: &str) -> Result<PendingRequest, String> {
    let mut request = PendingRequest {
        limit: LIMIT,
        ..PendingRequest::default()
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "sink" => request.sink = Some(value.into_owned()),
            "after" => {
                // Positions fit a signed integer, as the description says.
                let after = value.parse::<i64>().ok();
                request.after = after
                    .and_then(|after| u64::try_from(after).ok())
                    .ok_or_else(|| format!("after={value}: not a position"))?;
            }
            "limit" => {
                let limit = value.parse().ok();
                request.limit = limit
                    .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                    .ok_or_else(|| format!("limit={value}: give a number from 1 to {LIMIT_MAX}"))?;
            }
            _ => {}
        }
    }
    Ok(request)
}

fn shown(sink: &SinkPending, view: &View) -> Value {
    let health = view.sinks.iter().find(|health| *health.name == *sink.sink);
    let events: Vec<Value> = sink.events.iter().map(event).collect();
    json!({
        "sink": sink.sink,
        "state": health.map(|health| health.condition.name()),
        "pending": health.map_or(sink.events.len() as u64, |health| health.pending),
        "failed_attempts": health.map(|health| health.failed_attempts),
        "last_error": health.and_then(|health| health.last_error.as_deref()),
        "events": events,
    })
}

fn event(event: &PendingEvent) -> Value {
    json!({
        "position": event.position,
        "id": event.id,
        "type": event.event_type,
        "subject": event.subject,
        "since": rfc3339(event.since),
        "failed_attempts": event.attempts,
        "last_error": event.last_reason,
        "next_attempt": event.next_attempt.map(|at| rfc3339(at.trunc_subsecs(3))),
    })
}

/// The answer to an operator for whom something could not be done now.
pub(super) fn not_now(outcome: &WaiterReply) -> Response {
    let (reason, retry_after) = match outcome {
        WaiterReply::Unavailable {
            reason,
            retry_after,
        } => (reason.as_str(), *retry_after),
        _ => ("too many wait already", Duration::from_secs(1)),
    };
    let mut reply = refusal(StatusCode::SERVICE_UNAVAILABLE, reason);
    set_retry_after(&mut reply, retry_after);
    reply
}
