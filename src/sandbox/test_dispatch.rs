//! `POST /dispatches`: a dispatch with `test: true`.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use warp::reply::{Reply, Response};

use super::Inner;
use super::answer::Refusal;
use super::deliveries::announce;
use super::fixture;
use crate::clock::Clock;
use crate::model::rfc3339;

/// How far ahead a test dispatch may reach.
const WITHIN: TimeDelta = TimeDelta::hours(72);

/// How far in the past a start may be that is meant to be now: the request was
/// under way, and callers write whole seconds.
const SLACK: TimeDelta = TimeDelta::seconds(5);

/// The body of `POST /dispatches`.
#[derive(Debug, Deserialize)]
pub(super) struct TestDispatch {
    start_time: DateTime<Utc>,
    end_time: DateTime<Utc>,
    program_id: Option<i64>,
}

impl TestDispatch {
    fn check(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        let fault = if self.start_time < now - SLACK {
            "`start_time` must not be in the past"
        } else if self.end_time <= self.start_time {
            "`end_time` must be after `start_time`"
        } else if self.end_time > now + WITHIN {
            "`start_time` and `end_time` must be within the next 72 hours"
        } else {
            return Ok(());
        };
        Err(Refusal::bad_request(fault))
    }
}

/// Makes the dispatch and tells the webhooks. The answer has no body, as the
/// OpenAPI reference shows none: who wants the id looks for it in the list.
pub(super) fn make(inner: &Arc<Inner>, request: &TestDispatch) -> Result<Response, Refusal> {
    let now = inner.clock.now().wall;
    request.check(now)?;
    let mut program = fixture::program();
    if let Some(id) = request.program_id {
        program["id"] = id.into();
    }
    inner.with(|state| {
        let id = state.dice.id();
        let dispatch = json!({
            "id": id,
            "authorized": true,
            "test": true,
            "start_time": rfc3339(request.start_time),
            "end_time": rfc3339(request.end_time),
            "creation_time": rfc3339(now),
            "modification_number": 0,
            "program": program,
            "sites": fixture::sites(),
        });
        let event = state.put(&id, dispatch, false);
        announce(inner, state, &id, event);
    });
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_dispatch_lies_within_the_next_72_hours() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let allowed = |start: i64, end: i64| {
            let request = TestDispatch {
                start_time: now + TimeDelta::seconds(start),
                end_time: now + TimeDelta::seconds(end),
                program_id: None,
            };
            request.check(now).is_ok()
        };
        let limit = 72 * 3600;
        assert!(allowed(0, 10));
        assert!(allowed(limit - 10, limit));
        assert!(!allowed(limit - 10, limit + 1));
        assert!(!allowed(10, 10));
        assert!(!allowed(-10, 10));
        assert!(!allowed(-120, -60));
        assert!(!allowed(limit + 1, limit + 2));
    }
}
