//! Makes responses in JSON.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::seldom::Rarely;

/// `body` as JSON.
pub fn json_reply(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut reply = Response::new(bytes.into());
            *reply.status_mut() = status;
            json_headers(&mut reply);
            reply
        }
        Err(error) => {
            log_unwritten(&error);
            let mut reply = Response::default();
            *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            reply
        }
    }
}

/// Says that an answer is JSON.
pub(super) fn json_headers(reply: &mut Response) {
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

fn log_unwritten(error: &serde_json::Error) {
    static LINE: Rarely = Rarely::new();
    if let Some(count) = LINE.count() {
        tracing::error!(%error, count, "an answer could not be written as JSON");
    }
}

/// The answer in place of one that could not be written as JSON.
pub fn unwritten(error: &serde_json::Error) -> Response {
    log_unwritten(error);
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
}

/// The answer to a request for a path that is not there.
pub fn no_such_path() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such path")
}

/// Says no, and why.
pub fn refusal(status: StatusCode, reason: &str) -> Response {
    json_reply(status, &json!({"error": reason}))
}

/// Says when to come back, in whole seconds and at least one.
pub fn set_retry_after(reply: &mut Response, after: Duration) {
    let seconds = after.as_millis().div_ceil(1000).clamp(1, 300);
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        reply.headers_mut().insert(header::RETRY_AFTER, value);
    }
}

/// The methods of [`reads`].
pub const READS: &str = "GET, HEAD";

/// Takes requests that only read. To HEAD, which watchdogs of other systems send, the server
/// answers as to GET and leaves the body out.
pub fn reads() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::get().or(warp::head()).unify()
}

/// The answer to a request whose method is none of `allow`.
pub fn wrong_method(allow: &'static str) -> Response {
    let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    reply
}

/// The answer to a request that no route took. `allow` are the methods of the
/// path, if it was the right one.
pub fn not_served(rejection: &Rejection, allow: &'static str) -> Response {
    if rejection.is_not_found() {
        no_such_path()
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        wrong_method(allow)
    } else {
        static LINE: Rarely = Rarely::new();
        tracing::debug!(
            ?rejection,
            "a request was rejected for an unforeseen reason"
        );
        if let Some(count) = LINE.count() {
            tracing::warn!(
                count,
                "requests were answered 400 for a reason that dispatchd does not know; RUST_LOG=debug shows it"
            );
        }
        refusal(StatusCode::BAD_REQUEST, "the request cannot be understood")
    }
}
