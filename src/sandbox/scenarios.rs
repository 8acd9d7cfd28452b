//! Simulated runs: dispatches that take one state after another. Start with
//! [`Scenario`], the body of a request, and [`start`].

mod basic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use warp::reply::Response;

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::deliveries::announce;
use super::state::State;
use crate::clock::Clock;
use basic::Basic;

/// The wall clock is read again at least this often, so that a jump or a
/// suspend is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The body of `POST /scenarios`.
#[derive(Debug, Deserialize)]
#[serde(tag = "scenario_type", rename_all = "lowercase")]
pub(super) enum Scenario {
    /// One or two dispatches whose times are known at once.
    Basic(Box<Basic>),
    /// Any dispatches in any states.
    Custom(Custom),
}

/// The `custom` form.
#[derive(Debug, Deserialize)]
pub(super) struct Custom {
    name: Option<String>,
    dispatches: BTreeMap<String, Part>,
}

/// What happens to one dispatch of it.
#[derive(Debug, Deserialize)]
struct Part {
    states: Vec<Scene>,
}

/// One of its states.
#[derive(Debug, Deserialize)]
struct Scene {
    published_time: DateTime<Utc>,
    dispatch: Map<String, Value>,
}

/// A state that is to be published.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    at: DateTime<Utc>,
    /// The dispatch's name within the scenario.
    name: String,
    dispatch: Map<String, Value>,
}

impl Scenario {
    fn kind(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Custom(_) => "custom",
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Basic(basic) => basic.name.as_deref(),
            Self::Custom(custom) => custom.name.as_deref(),
        }
    }

    /// All states in the order of their publication. Those of one moment keep
    /// the order of the names, and for one name that of the request.
    fn steps(self, now: DateTime<Utc>) -> Result<Vec<Step>, Refusal> {
        let dispatches = match self {
            Self::Basic(basic) => basic.dispatches(now)?,
            Self::Custom(custom) => custom.dispatches,
        };
        let mut steps = Vec::new();
        for (name, part) in dispatches {
            if part.states.is_empty() {
                let message = format!("the dispatch `{name}` has no states");
                return Err(Refusal::bad_request(message));
            }
            for scene in part.states {
                check_times(&name, &scene.dispatch)?;
                steps.push(Step {
                    at: scene.published_time,
                    name: name.clone(),
                    dispatch: scene.dispatch,
                });
            }
        }
        steps.sort_by_key(|step| step.at);
        Ok(steps)
    }
}

/// The times must be readable. Everything else is passed on as it is, so that
/// a scenario can hold what a client may stumble over.
fn check_times(name: &str, dispatch: &Map<String, Value>) -> Result<(), Refusal> {
    let readable = |value: &Value| {
        let text = value.as_str();
        text.is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok())
    };
    let fault = if !dispatch.get("start_time").is_some_and(readable) {
        "start_time"
    } else if !dispatch
        .get("end_time")
        .is_none_or(|end| end.is_null() || readable(end))
    {
        "end_time"
    } else {
        return Ok(());
    };
    Err(Refusal::bad_request(format!(
        "`{fault}` of the dispatch `{name}` must be an RFC 3339 time"
    )))
}

/// Starts a run in place of the previous one, whose dispatches disappear.
/// What is due is published before this returns. Returns the ids by name.
pub(super) fn start(
    inner: &Arc<Inner>,
    scenario: Scenario,
) -> Result<BTreeMap<String, String>, Refusal> {
    let now = inner.clock.now().wall;
    let steps = scenario.steps(now)?;
    let run = inner.stop.child_token();
    let (ids, to_come) = inner.with(|state| {
        state.end_scenario(run.clone());
        let names = steps.iter().map(|step| step.name.clone());
        let mut ids: BTreeMap<String, String> = names.map(|name| (name, String::new())).collect();
        // By name, so that the seed alone settles which gets which.
        for id in ids.values_mut() {
            *id = state.dice.id();
        }
        let (due, to_come): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| step.at <= now);
        for step in due {
            publish(inner, state, &ids, step);
        }
        (ids, to_come)
    });
    if !to_come.is_empty() {
        let (inner_of_run, ids) = (Arc::clone(inner), ids.clone());
        inner.spawn(async move {
            for step in to_come {
                tokio::select! {
                    () = run.cancelled() => return,
                    () = wait_for(&inner_of_run, step.at) => {}
                }
                inner_of_run.with(|state| {
                    // It may have been overwritten since.
                    if !run.is_cancelled() {
                        publish(&inner_of_run, state, &ids, step);
                    }
                });
            }
        });
    }
    Ok(ids)
}

/// `POST /scenarios`. The answer tells the ids; its shape is this sandbox's
/// own, as the upstream documents none.
pub(super) fn answer(inner: &Arc<Inner>, scenario: Scenario) -> Result<Response, Refusal> {
    let mut answer = json!({"name": scenario.name(), "scenario_type": scenario.kind()});
    answer["dispatches"] = start(inner, scenario)?
        .into_iter()
        .map(|(name, id)| (name, json!({"id": id})))
        .collect();
    Ok(json_answer(StatusCode::OK, &answer))
}

fn publish(inner: &Arc<Inner>, state: &mut State, ids: &BTreeMap<String, String>, step: Step) {
    if let Some(id) = ids.get(&step.name) {
        let event = state.publish(id, step.dispatch, inner.clock.now().wall);
        announce(inner, state, id, event);
    }
}

/// Returns once the wall clock has come to `at`.
async fn wait_for(inner: &Inner, at: DateTime<Utc>) {
    loop {
        let now = inner.clock.now();
        let left = match (at - now.wall).to_std() {
            Ok(left) if !left.is_zero() => left,
            _ => return,
        };
        inner
            .clock
            .sleep_until(now.mono + left.min(LONGEST_SLEEP))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn steps(scenario: Value) -> Result<Vec<Step>, Refusal> {
        let scenario: Scenario = serde_json::from_value(scenario).unwrap();
        scenario.steps(now())
    }

    #[test]
    fn states_are_published_in_the_order_of_their_times() {
        let state = |at: &str| {
            json!({
                "published_time": format!("2027-01-01T00:00:{at}Z"),
                "dispatch": {"start_time": "2027-01-01T00:00:00Z"},
            })
        };
        let scenario = json!({"scenario_type": "custom", "dispatches": {
            "a": {"states": [state("05"), state("01")]},
            "b": {"states": [state("01"), state("03")]},
        }});
        let steps = steps(scenario).unwrap();
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "a"]);
    }

    #[test]
    fn a_scenario_without_states_or_readable_times_is_refused() {
        let custom = |part: Value| json!({"scenario_type": "custom", "dispatches": {"a": part}});
        let state = |dispatch: Value| json!({"states": [{"published_time": "2027-01-01T00:00:00Z", "dispatch": dispatch}]});
        let time = "2027-01-01T00:00:00Z";
        for (part, said) in [
            (json!({"states": []}), "no states"),
            (state(json!({})), "start_time"),
            (state(json!({"start_time": "noon"})), "start_time"),
            (
                state(json!({"start_time": time, "end_time": 5})),
                "end_time",
            ),
        ] {
            let refusal = steps(custom(part)).unwrap_err();
            assert!(refusal.message.contains(said), "{refusal}");
        }
        assert!(steps(custom(state(json!({"start_time": time, "end_time": null})))).is_ok());
    }
}
