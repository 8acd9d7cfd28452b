//! The `basic` form of a scenario: one dispatch or two whose times are known at
//! once, and perhaps a time at which they are cancelled.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Part, Scene};
use crate::model::rfc3339;
use crate::sandbox::answer::Refusal;
use crate::sandbox::fixture;

/// A `basic` scenario whose notification is older than this publishes nothing:
/// Voltus's way to call the previous scenario off is a notification a year ago.
const CALLED_OFF: TimeDelta = TimeDelta::days(360);

/// The longest gap or overlap of two dispatches, in minutes: a year.
const LONGEST_GAP: f64 = 366.0 * 24.0 * 60.0;

/// The `basic` form.
#[derive(Debug, Deserialize)]
pub(in crate::sandbox) struct Basic {
    pub(super) name: Option<String>,
    /// When it is published. Now, if not given.
    notification_time: Option<DateTime<Utc>>,
    #[serde(default)]
    start_time: Value,
    end_time: Option<Value>,
    /// From then on `authorized` is false.
    cancel_time: Option<DateTime<Utc>>,
    /// There is a second dispatch, as long as the first, that begins so long
    /// after the end of the first. A negative number makes them overlap.
    minutes_between_dispatches: Option<f64>,
    sites: Option<Vec<Value>>,
    program: Option<Map<String, Value>>,
}

impl Basic {
    /// The dispatches by name. None if the scenario only calls the previous one
    /// off.
    pub(super) fn dispatches(self, now: DateTime<Utc>) -> Result<BTreeMap<String, Part>, Refusal> {
        let notified = self.notification_time.unwrap_or(now);
        if notified < now - CALLED_OFF {
            return Ok(BTreeMap::new());
        }
        let mut times = vec![(self.start_time.clone(), self.end_time.clone())];
        if let Some(minutes) = self.minutes_between_dispatches {
            times.push(self.second(minutes)?);
        }
        let names: &[&str] = match times.len() {
            1 => &["Dispatch"],
            _ => &["Dispatch 1", "Dispatch 2"],
        };
        let parts = times.into_iter().map(|(start, end)| {
            let mut dispatch = Map::from_iter([("start_time".to_owned(), start)]);
            dispatch.extend(end.map(|end| ("end_time".to_owned(), end)));
            let sites = self.sites.as_deref().map(fixture::completed_sites);
            dispatch.extend(sites.map(|sites| ("sites".to_owned(), sites)));
            let program = self.program.clone().map(fixture::completed_program);
            dispatch.extend(program.map(|program| ("program".to_owned(), program)));
            self.part(dispatch, notified)
        });
        Ok(names.iter().map(ToString::to_string).zip(parts).collect())
    }

    /// The states of one dispatch.
    fn part(&self, dispatch: Map<String, Value>, notified: DateTime<Utc>) -> Part {
        let mut states = vec![Scene {
            published_time: notified,
            dispatch: dispatch.clone(),
        }];
        states.extend(self.cancel_time.map(|cancelled| {
            let mut dispatch = dispatch;
            dispatch.insert("authorized".to_owned(), false.into());
            Scene {
                published_time: cancelled.max(notified),
                dispatch,
            }
        }));
        Part { states }
    }

    /// Start and end of the second of two dispatches.
    fn second(&self, minutes: f64) -> Result<(Value, Option<Value>), Refusal> {
        const WHAT: &str = "minutes_between_dispatches";
        if !(-LONGEST_GAP..=LONGEST_GAP).contains(&minutes) {
            let message = format!("`{WHAT}` must be a number of minutes within a year");
            return Err(Refusal::bad_request(message));
        }
        let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
        let first = time(&self.start_time).zip(self.end_time.as_ref().and_then(time));
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        let gap = TimeDelta::milliseconds((minutes * 60_000.0) as i64);
        let second = first.and_then(|(start, end)| {
            let second = end.checked_add_signed(gap)?.to_utc();
            Some((second, second.checked_add_signed(end - start)?))
        });
        let (start, end) = second.ok_or_else(|| {
            let message = format!("`{WHAT}` needs `start_time` and `end_time` as RFC 3339 times");
            Refusal::bad_request(message)
        })?;
        Ok((rfc3339(start).into(), Some(rfc3339(end).into())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Scenario, Step};
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn steps(scenario: Value) -> Result<Vec<Step>, Refusal> {
        let scenario: Scenario = serde_json::from_value(scenario).unwrap();
        scenario.steps(now())
    }

    #[test]
    fn a_basic_scenario_is_published_now_unless_it_says_when() {
        let mut scenario = json!({
            "scenario_type": "basic",
            "start_time": "2027-01-01T00:00:00Z",
            "end_time": "2027-01-01T01:00:00Z",
        });
        assert_eq!(steps(scenario.clone()).unwrap()[0].at, now());
        scenario["notification_time"] = "2026-12-31T23:00:00+01:00".into();
        let step = steps(scenario).unwrap().remove(0);
        assert_eq!(step.at.to_rfc3339(), "2026-12-31T22:00:00+00:00");
        assert_eq!(step.dispatch["end_time"], "2027-01-01T01:00:00Z");
    }

    fn basic(more: Value) -> Value {
        let mut scenario = json!({
            "scenario_type": "basic",
            "start_time": "2027-01-15T08:00:00Z",
            "end_time": "2027-01-15T09:00:00Z",
        });
        let more = more.as_object().cloned().unwrap_or_default();
        scenario.as_object_mut().unwrap().extend(more);
        scenario
    }

    #[test]
    fn a_cancel_time_publishes_the_dispatch_again_as_not_authorized() {
        let at = "2027-01-15T08:30:00+00:00";
        let steps = steps(basic(json!({"cancel_time": at}))).unwrap();
        assert_eq!(steps.len(), 2);
        assert!(steps[0].dispatch.get("authorized").is_none());
        assert_eq!(steps[1].at.to_rfc3339(), at);
        assert_eq!(steps[1].dispatch["authorized"], false);
        assert_eq!(steps[1].dispatch["end_time"], "2027-01-15T09:00:00Z");
    }

    #[test]
    fn a_dispatch_is_not_cancelled_before_it_is_published() {
        let cancelled = json!({"cancel_time": "2020-01-01T00:00:00Z"});
        let steps = steps(basic(cancelled)).unwrap();
        assert_eq!(steps[1].at, now());
        assert_eq!(steps[1].dispatch["authorized"], false);
    }

    #[test]
    fn two_dispatches_lie_so_many_minutes_apart() {
        for (minutes, start, end) in [
            (15.0, "2027-01-15T09:15:00.000Z", "2027-01-15T10:15:00.000Z"),
            (0.0, "2027-01-15T09:00:00.000Z", "2027-01-15T10:00:00.000Z"),
            (
                -30.0,
                "2027-01-15T08:30:00.000Z",
                "2027-01-15T09:30:00.000Z",
            ),
            (0.5, "2027-01-15T09:00:30.000Z", "2027-01-15T10:00:30.000Z"),
        ] {
            let steps = steps(basic(json!({"minutes_between_dispatches": minutes}))).unwrap();
            let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(names, ["Dispatch 1", "Dispatch 2"]);
            assert_eq!(steps[0].dispatch["start_time"], "2027-01-15T08:00:00Z");
            let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap());
            for (field, wanted) in [("start_time", start), ("end_time", end)] {
                assert_eq!(
                    time(&steps[1].dispatch[field]),
                    time(&wanted.into()),
                    "{minutes}"
                );
            }
        }
    }

    #[test]
    fn two_dispatches_need_times_and_a_gap_within_a_year() {
        for (more, said) in [
            (
                json!({"minutes_between_dispatches": 1e300}),
                "within a year",
            ),
            (
                json!({"minutes_between_dispatches": -600_000}),
                "within a year",
            ),
            (
                json!({"minutes_between_dispatches": 5, "end_time": null}),
                "`end_time`",
            ),
            (
                json!({"minutes_between_dispatches": 5, "start_time": "noon"}),
                "`start_time`",
            ),
        ] {
            let refusal = steps(basic(more)).unwrap_err();
            assert!(refusal.message.contains(said), "{refusal}");
        }
    }

    #[test]
    fn a_notification_a_year_ago_publishes_nothing() {
        let year_ago = rfc3339(now() - TimeDelta::days(365));
        let called_off = basic(json!({"notification_time": year_ago, "cancel_time": year_ago}));
        assert_eq!(steps(called_off).unwrap(), []);
        let without_times = json!({"scenario_type": "basic", "notification_time": year_ago});
        assert_eq!(steps(without_times).unwrap(), []);
        let yesterday = rfc3339(now() - TimeDelta::days(1));
        let late = basic(json!({"notification_time": yesterday}));
        assert_eq!(steps(late).unwrap().len(), 1);
    }

    #[test]
    fn sites_and_program_that_say_little_are_completed() {
        let steps = steps(basic(json!({
            "sites": [{"name": "Mill", "customer_location_id": "7"}, {"id": "x", "commitment": 5}],
            "program": {"name": "Mine"},
        })))
        .unwrap();
        let dispatch = &steps[0].dispatch;
        assert_eq!(dispatch["program"]["name"], "Mine");
        for field in ["id", "timezone", "market", "program_type"] {
            assert!(!dispatch["program"][field].is_null(), "{field}");
        }
        let sites = dispatch["sites"].as_array().unwrap();
        assert_eq!(sites[0]["id"], "site-1");
        assert_eq!(sites[0]["name"], "Mill");
        assert_eq!(sites[0]["commitment"], Value::Null);
        assert_eq!(sites[1]["id"], "x");
        assert_eq!(sites[1]["customer_location_id"], "");
        assert_eq!(sites[1]["commitment"], 5);
    }
}
