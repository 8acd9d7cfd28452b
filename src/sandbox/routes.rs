//! The paths of the API and of the control interface.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::NaiveDate;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use warp::reject::{MethodNotAllowed, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, path};

use super::answer::{Refusal, json_answer};
use super::state::State;
use super::{Inner, PutError, Sandbox, scenarios, telemetry, test_dispatch, webhooks};
use crate::clock::Clock;
use crate::http::{Endpoint, first_of};

/// A version of the API as it stands in a path: a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version(String);

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // chrono alone would take shorter forms, too.
        let dated = text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
        dated.then(|| Self(text.to_owned())).ok_or(())
    }
}

/// The query of `POST /control/dispatches`.
#[derive(Debug, Deserialize)]
struct Put {
    /// Whether webhooks are sent.
    #[serde(default = "yes")]
    notify: bool,
    /// Whether required fields that are missing are added.
    #[serde(default)]
    fill: bool,
}

fn yes() -> bool {
    true
}

/// Everything that the sandbox answers.
pub(super) fn all(inner: &Arc<Inner>) -> Endpoint {
    first_of(dispatches(inner), [webhooks(inner), control(inner)])
        .recover(explain)
        .unify()
        .boxed()
}

fn dispatches(inner: &Arc<Inner>) -> Endpoint {
    let at = |word| path::param::<Version>().and(path(word));
    let list = at("dispatches")
        .and(path::end())
        .and(warp::get())
        .and(with(inner))
        .map(|_, inner: Arc<Inner>| list(&inner))
        .boxed();
    let by_id = at("dispatches")
        .and(path::param::<String>())
        .and(path::end())
        .and(warp::get())
        .and(with(inner))
        .map(|_, id: String, inner: Arc<Inner>| settle(by_id(&inner, &id)))
        .boxed();
    let test = at("dispatches")
        .and(path::end())
        .and(warp::post())
        .and(warp::body::bytes())
        .and(with(inner))
        .map(|_, body: Bytes, inner: Arc<Inner>| {
            settle(parse(&body).and_then(|request| test_dispatch::make(&inner, &request)))
        })
        .boxed();
    let sites = at("sites")
        .and(path::end())
        .and(warp::get())
        .and(with(inner))
        .map(|_, inner: Arc<Inner>| sites(&inner))
        .boxed();
    let telemetry = at("telemetry")
        .and(path("kw"))
        .and(path::end())
        .and(warp::get())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(with(inner))
        .map(|_, query: String, inner: Arc<Inner>| settle(telemetry::kw(&inner, &query)))
        .boxed();
    let scenario = at("scenarios")
        .and(path::end())
        .and(warp::post())
        .and(warp::body::bytes())
        .and(with(inner))
        .map(|_, body: Bytes, inner: Arc<Inner>| {
            settle(parse(&body).and_then(|scenario| scenarios::answer(&inner, scenario)))
        })
        .boxed();
    first_of(list, [by_id, test, sites, telemetry, scenario])
}

fn webhooks(inner: &Arc<Inner>) -> Endpoint {
    let at = || path::param::<Version>().and(path("webhooks"));
    let list = at()
        .and(path::end())
        .and(warp::get())
        .and(with(inner))
        .map(|_, inner: Arc<Inner>| webhooks::list(&inner))
        .boxed();
    let register = at()
        .and(path::end())
        .and(warp::post())
        .and(warp::body::bytes())
        .and(with(inner))
        .then(
            |Version(version), body: Bytes, inner: Arc<Inner>| async move {
                let registered = match parse(&body) {
                    Ok(registration) => webhooks::register(&inner, version, registration).await,
                    Err(refusal) => Err(refusal),
                };
                settle(registered)
            },
        )
        .boxed();
    let delete = at()
        .and(path::param::<String>())
        .and(path::end())
        .and(warp::delete())
        .and(with(inner))
        .map(|_, id: String, inner: Arc<Inner>| settle(webhooks::delete(&inner, &id)))
        .boxed();
    first_of(list, [register, delete])
}

fn control(inner: &Arc<Inner>) -> Endpoint {
    let at = |word| path("control").and(path(word));
    let sandbox = || with(inner).map(Sandbox);
    let faults = at("faults")
        .and(path::end())
        .and(warp::get())
        .and(sandbox())
        .map(|sandbox: Sandbox| json_answer(StatusCode::OK, &sandbox.faults()))
        .boxed();
    let set_faults = at("faults")
        .and(path::end())
        .and(warp::put())
        .and(warp::body::bytes())
        .and(sandbox())
        .map(|body: Bytes, sandbox: Sandbox| {
            settle(parse::<Value>(&body).and_then(|patch| {
                let faults = sandbox.change_faults(&patch);
                let faults = faults.map_err(|error| Refusal::bad_request(error.to_string()))?;
                Ok(json_answer(StatusCode::OK, &faults))
            }))
        })
        .boxed();
    let log = at("log")
        .and(path::end())
        .and(warp::get())
        .and(sandbox())
        .map(|sandbox: Sandbox| json_answer(StatusCode::OK, &sandbox.log()))
        .boxed();
    let put = at("dispatches")
        .and(path::end())
        .and(warp::post())
        .and(warp::query::<Put>())
        .and(warp::body::bytes())
        .and(sandbox())
        .map(|Put { notify, fill }, body: Bytes, sandbox: Sandbox| {
            settle(parse::<Value>(&body).and_then(|dispatch| {
                let dispatch = if fill {
                    sandbox.completed(dispatch)
                } else {
                    dispatch
                };
                sandbox
                    .put(dispatch.clone(), notify)
                    .map_err(|error: PutError| Refusal::bad_request(error.to_string()))?;
                Ok(json_answer(StatusCode::OK, &dispatch))
            }))
        })
        .boxed();
    let remove = at("dispatches")
        .and(path::param::<String>())
        .and(path::end())
        .and(warp::delete())
        .and(sandbox())
        .map(|id: String, sandbox: Sandbox| {
            if sandbox.remove(&id) {
                StatusCode::NO_CONTENT.into_response()
            } else {
                Refusal::not_found("there is no such dispatch").into_response()
            }
        })
        .boxed();
    first_of(faults, [set_faults, log, put, remove])
}

/// `{"dispatches": [...], "page": 0, "perPage": 0}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    dispatches: Vec<Arc<Value>>,
    page: u32,
    per_page: u32,
}

impl Page {
    fn of(dispatches: Vec<Arc<Value>>) -> Response {
        let page = Self {
            dispatches,
            page: 0,
            per_page: 0,
        };
        json_answer(StatusCode::OK, &page)
    }
}

fn list(inner: &Inner) -> Response {
    let now = inner.clock.now().wall;
    Page::of(inner.look(|state| state.list(now)))
}

fn sites(inner: &Inner) -> Response {
    let sites = inner.look(State::sites);
    json_answer(
        StatusCode::OK,
        &json!({"sites": sites, "page": 0, "perPage": 0}),
    )
}

fn by_id(inner: &Inner, id: &str) -> Result<Response, Refusal> {
    let now = inner.clock.now().wall;
    let (dispatch, wrapped) =
        inner.look(|state| (state.dispatch(id, now), state.faults.wrap_by_id));
    let dispatch = dispatch.ok_or_else(|| Refusal::not_found("there is no such dispatch"))?;
    Ok(if wrapped {
        Page::of(vec![dispatch])
    } else {
        json_answer(StatusCode::OK, &dispatch)
    })
}

fn with(
    inner: &Arc<Inner>,
) -> impl Filter<Extract = (Arc<Inner>,), Error = Infallible> + Clone + use<> {
    let inner = Arc::clone(inner);
    warp::any().map(move || Arc::clone(&inner))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))
}

fn settle(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(Reply::into_response)
}

/// Says in the API's own shape why no route took a request.
async fn explain(rejection: Rejection) -> Result<Response, Infallible> {
    let refusal = if rejection.is_not_found() {
        Refusal::not_found("there is nothing here")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
    } else {
        Refusal::bad_request("the query cannot be read")
    };
    Ok(refusal.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_whole_date() {
        assert!("2022-04-15".parse::<Version>().is_ok());
        for wrong in [
            "2022-4-15",
            "2022-13-01",
            "20220415",
            "v1",
            "2022-04-155",
            "",
        ] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
