//! What every request passes before and after the routes: the key, the rate,
//! and the faults.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use secrecy::ExposeSecret;
use tower::{Service, ServiceExt};
use warp::reply::{Reply, Response};

use super::answer::{Question, RawAnswer, Refusal, cut_off, withheld};
use super::budget::Allowance;
use super::dice::Luck;
use super::log::SeenRequest;
use super::routes::{self, Version};
use super::{Inner, KEY_HEADER};
use crate::clock::Clock;
use crate::http::RequestBody;

/// The longest body taken, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// How many bytes of a longer body are heard out. A sender that is cut short
/// may lose the answer that tells it why.
const HEARD_OUT: usize = 16 * MAX_BODY;

/// The longest a body may take to come in.
const BODY_TIME: Duration = Duration::from_secs(15);

/// Everything that the sandbox answers, as a service.
pub(super) fn service(
    inner: Arc<Inner>,
) -> impl Service<Request<RequestBody>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let routes = warp::service(routes::all(&inner));
    tower::service_fn(move |request: Request<RequestBody>| {
        let (inner, routes) = (Arc::clone(&inner), routes.clone());
        async move {
            Ok(if request.uri().path().starts_with("/control/") {
                match whole(request).await {
                    Ok(request) => ask(routes, request).await,
                    Err(refusal) => refusal.into_response(),
                }
            } else {
                seen(&inner, routes, request).await
            })
        }
    })
}

/// Answers a request of the API and keeps the log of requests.
async fn seen<S>(inner: &Inner, routes: S, request: Request<RequestBody>) -> Response
where
    S: Service<Request<Full<Bytes>>, Response = Response, Error = Infallible>,
{
    let now = inner.clock.now();
    let headers = request.headers();
    let key = headers.get(KEY_HEADER);
    let entry = SeenRequest {
        at: now.wall,
        method: request.method().to_string(),
        path: request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        status: None,
        headers: headers.keys().map(ToString::to_string).collect(),
        key: key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
    };
    // All chances are drawn as the request comes in, so that the order of
    // requests settles them.
    let (number, luck, allowance, delay) = inner.with(|state| {
        let luck = state.dice.luck(&state.faults);
        let limit = state.faults.rate_limit_per_minute;
        let allowance = state.budget.take(now.mono, limit);
        (
            state.requests.push(entry),
            luck,
            allowance,
            Duration::from_millis(state.faults.api_delay_ms),
        )
    });
    let answer = async {
        if inner.look(|state| state.down) {
            return None;
        }
        let mut response = api(inner, routes, request, luck, allowance).await;
        announce_rate(&mut response, allowance);
        // From here on the answer is settled, whatever changes meanwhile.
        inner.with(|state| {
            if let Some(entry) = state.requests.get_mut(number) {
                entry.status = Some(response.status().as_u16());
            }
        });
        tokio::time::sleep(delay).await;
        Some(response)
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = inner.stop.cancelled() => None,
    };
    answer.unwrap_or_else(withheld)
}

async fn api<S>(
    inner: &Inner,
    routes: S,
    request: Request<RequestBody>,
    luck: Luck,
    allowance: Allowance,
) -> Response
where
    S: Service<Request<Full<Bytes>>, Response = Response, Error = Infallible>,
{
    let answer = match admit(inner, request, luck, allowance).await {
        Ok(request) => match put_in(inner, &request) {
            Some(answer) => return answer.into_response(inner.stop.clone()),
            None => ask(routes, request).await,
        },
        Err(refusal) => refusal.into_response(),
    };
    if luck.truncated {
        cut_off(answer).await
    } else {
        answer
    }
}

/// The request, whole, if it is let in.
async fn admit(
    inner: &Inner,
    request: Request<RequestBody>,
    luck: Luck,
    allowance: Allowance,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let key = request.headers().get(KEY_HEADER);
    if key.is_none_or(|key| key.as_bytes() != inner.api_key.expose_secret().as_bytes()) {
        let message = "the X-Voltus-API-Key is missing or wrong";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, message));
    }
    if allowance.refused {
        let message = format!("more than {} requests a minute", allowance.limit);
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, message));
    }
    if luck.error {
        let status = inner.look(|state| state.faults.api_error_status);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Err(Refusal::new(status, "an error that was asked for"));
    }
    whole(request).await
}

/// The answer that a test put in for this request, if any.
fn put_in(inner: &Inner, request: &Request<Full<Bytes>>) -> Option<RawAnswer> {
    if request.method() != Method::GET {
        return None;
    }
    let mut segments = request.uri().path().split('/').skip(1);
    let _version: Version = segments.next()?.parse().ok()?;
    match segments.next()? {
        "dispatches" => {}
        "sites" => return inner.look(|state| state.overrides.get(&Question::Sites).cloned()),
        _ => return None,
    }
    let id = segments.next().filter(|id| !id.is_empty());
    inner.look(|state| {
        let answer = match id {
            None => state.overrides.get(&Question::List),
            Some(id) => state
                .overrides
                .get(&Question::Id(id.to_owned()))
                .or_else(|| state.overrides.get(&Question::ById)),
        };
        answer.cloned()
    })
}

async fn ask<S>(routes: S, request: Request<Full<Bytes>>) -> Response
where
    S: Service<Request<Full<Bytes>>, Response = Response, Error = Infallible>,
{
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The request with its body read.
async fn whole(request: Request<RequestBody>) -> Result<Request<Full<Bytes>>, Refusal> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIME, read(body)).await {
        Ok(body) => Ok(Request::from_parts(parts, Full::new(body?))),
        Err(_) => {
            let message = "the body did not come in time";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

async fn read(mut body: RequestBody) -> Result<Bytes, Refusal> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::bad_request("the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= MAX_BODY {
            kept.extend_from_slice(&data);
        } else if length > HEARD_OUT {
            break;
        }
    }
    if length > MAX_BODY {
        let message = format!("the body is longer than {MAX_BODY} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(kept.freeze())
}

/// The upstream puts these on every answer.
fn announce_rate(response: &mut Response, allowance: Allowance) {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", allowance.limit.into());
    headers.insert("x-ratelimit-remaining", allowance.remaining.into());
    headers.insert("x-ratelimit-reset", allowance.reset.into());
    if allowance.refused && response.status() == StatusCode::TOO_MANY_REQUESTS {
        let wait = HeaderValue::from(allowance.reset);
        response.headers_mut().insert(RETRY_AFTER, wait);
    }
}
