//! Voltus's published acceptance tests, as scenario requests.
//!
//! ```text
//!              now      start     +length
//! basic         P---------[==========)              end known at once
//! ancillary                P[=========U             open, the update ends it
//! two                      P[=========U    P[=========U
//! abutting                 P[=========U=========U   the second known early
//! overlapping              P[=========U
//!                               P[=========U
//! cancelled     P----X     [          )             called off before it starts
//! setpoints     P----+====[=====+====)              missing at first, come and change
//! setpoints-none           P[=========)             null, then an empty list
//! setpoints-abutting       P[====+====)             each begins where one ends
//! setpoints-incomplete     P[====+====)             one lacks its end, one its amount
//! ```
//! `P` publishes the dispatch. Each of the others is an update of it: `+` changes its
//! setpoints, `U` sets its end to that moment, and `X` sets `authorized` to false.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::model::{Kilowatts, rfc3339};

/// One of the acceptance tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acceptance {
    /// Start and end known at once. Curtail by the start, release at the end.
    Basic,
    /// Starts at once and without an end; an update ends it. Curtail at once,
    /// release when the update comes.
    Ancillary,
    /// Two of that kind, with a gap of half their length.
    Two,
    /// Two of that kind, the second beginning where the first ends. It is
    /// published a quarter of the length ahead, or nobody could know that no
    /// release is due between them.
    Abutting,
    /// Two of that kind, the second beginning half-way through the first.
    Overlapping,
    /// Called off half-way to its start. Never curtail.
    Cancelled,
    /// As basic, with setpoints that are missing at first: an update brings them
    /// before the start, another one changes them half-way through.
    Setpoints,
    /// As basic, with setpoints that are `null`, then an empty list.
    SetpointsNone,
    /// As basic, with setpoints each of which begins where the one before ends.
    SetpointsAbutting,
    /// As basic, with setpoints one of which has no end and one no amount.
    SetpointsIncomplete,
}

/// A text that names no acceptance test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no acceptance test called `{0}`")]
pub struct UnknownAcceptance(String);

impl Acceptance {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Basic,
        Self::Ancillary,
        Self::Two,
        Self::Abutting,
        Self::Overlapping,
        Self::Cancelled,
        Self::Setpoints,
        Self::SetpointsNone,
        Self::SetpointsAbutting,
        Self::SetpointsIncomplete,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Ancillary => "ancillary",
            Self::Two => "two",
            Self::Abutting => "abutting",
            Self::Overlapping => "overlapping",
            Self::Cancelled => "cancelled",
            Self::Setpoints => "setpoints",
            Self::SetpointsNone => "setpoints-none",
            Self::SetpointsAbutting => "setpoints-abutting",
            Self::SetpointsIncomplete => "setpoints-incomplete",
        }
    }
}

impl fmt::Display for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Acceptance {
    type Err = UnknownAcceptance;

    fn from_str(text: &str) -> Result<Self, UnknownAcceptance> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownAcceptance(text.to_owned()))
    }
}

/// A site that a scenario calls on.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSpec {
    /// The upstream's id for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The customer's own name for it.
    pub customer_location_id: String,
    /// What it is to curtail, in kW.
    pub commitment: Kilowatts,
}

/// The body of a `POST /scenarios` that runs `kind`, published from `now` on.
/// The first dispatch begins at `start`; each lasts for `length`, of which a
/// few seconds are enough.
pub fn acceptance(
    kind: Acceptance,
    now: DateTime<Utc>,
    start: DateTime<Utc>,
    length: TimeDelta,
    sites: &[SiteSpec],
) -> Value {
    let cast = Cast { length, sites };
    let second = |begins: DateTime<Utc>, published: DateTime<Utc>| {
        json!({
            "Dispatch 1": cast.open_ended(start, start),
            "Dispatch 2": cast.open_ended(begins, published),
        })
    };
    let dispatches = match kind {
        Acceptance::Basic => json!({"Dispatch": cast.planned(now, start)}),
        Acceptance::Ancillary => json!({"Dispatch": cast.open_ended(start, start)}),
        Acceptance::Two => {
            let begins = later(later(start, length), length / 2);
            second(begins, begins)
        }
        Acceptance::Abutting => second(later(start, length), later(start, length - length / 4)),
        Acceptance::Overlapping => {
            let begins = later(start, length / 2);
            second(begins, begins)
        }
        Acceptance::Cancelled => json!({"Dispatch": cast.called_off(now, start)}),
        Acceptance::Setpoints
        | Acceptance::SetpointsNone
        | Acceptance::SetpointsAbutting
        | Acceptance::SetpointsIncomplete => {
            json!({"Dispatch": cast.with_setpoints(kind, now, start)})
        }
    };
    json!({"name": kind.name(), "scenario_type": "custom", "dispatches": dispatches})
}

/// What the dispatches of one scenario share.
struct Cast<'a> {
    length: TimeDelta,
    sites: &'a [SiteSpec],
}

impl Cast<'_> {
    fn planned(&self, published: DateTime<Utc>, start: DateTime<Utc>) -> Value {
        let mut first = self.state(published, start, "capacity");
        first.insert("end_time".into(), rfc3339(later(start, self.length)).into());
        json!({"states": [publish(published, first)]})
    }

    /// A planned dispatch whose setpoints take one state after another. The upstream
    /// publishes neither the name nor the shape of these fields: both are invented.
    fn with_setpoints(&self, kind: Acceptance, now: DateTime<Utc>, start: DateTime<Utc>) -> Value {
        let half = later(start, self.length / 2);
        let end = later(start, self.length);
        let point = |from, to, kw: f64| json!({"start_time": rfc3339(from), "end_time": rfc3339(to), "kw": kw});
        let before_start = now + (start - now) / 2;
        let states = match kind {
            Acceptance::SetpointsNone => vec![(now, Some(Value::Null)), (half, Some(json!([])))],
            Acceptance::SetpointsAbutting => vec![
                (
                    now,
                    Some(json!([point(start, half, 4.5), point(half, end, 7.0)])),
                ),
                (
                    half,
                    Some(json!([point(start, half, 4.5), point(half, end, 2.5)])),
                ),
            ],
            Acceptance::SetpointsIncomplete => vec![
                (
                    now,
                    Some(json!([{"start_time": rfc3339(start), "kw": 4.5}])),
                ),
                (
                    half,
                    Some(json!([{"start_time": rfc3339(half), "end_time": rfc3339(end)}])),
                ),
            ],
            _ => vec![
                (now, None),
                (before_start, Some(json!([point(start, end, 4.5)]))),
                (half, Some(json!([point(start, end, 7.0)]))),
            ],
        };
        let mut first = self.state(now, start, "capacity");
        first.insert("end_time".into(), rfc3339(end).into());
        let states = states
            .into_iter()
            .enumerate()
            .map(|(number, (at, setpoints))| {
                let mut state = first.clone();
                state.insert("modification_number".into(), number.into());
                if let Some(setpoints) = setpoints {
                    let sites = state.get_mut("sites").and_then(Value::as_array_mut);
                    for site in sites.into_iter().flatten() {
                        site["setpoints"] = setpoints.clone();
                    }
                    state.insert("setpoints".into(), setpoints);
                }
                publish(at, state)
            });
        json!({"states": states.collect::<Vec<Value>>()})
    }

    fn called_off(&self, published: DateTime<Utc>, start: DateTime<Utc>) -> Value {
        let mut first = self.state(published, start, "capacity");
        first.insert("end_time".into(), rfc3339(later(start, self.length)).into());
        let mut last = first.clone();
        last.insert("authorized".into(), false.into());
        last.insert("modification_number".into(), 1.into());
        let called_off = published + (start - published) / 2;
        json!({"states": [publish(published, first), publish(called_off, last)]})
    }

    fn open_ended(&self, start: DateTime<Utc>, published: DateTime<Utc>) -> Value {
        let end = later(start, self.length);
        let first = self.state(published, start, "ancillary_services");
        let mut last = first.clone();
        last.insert("end_time".into(), rfc3339(end).into());
        last.insert("modification_number".into(), 1.into());
        last.insert("metadata".into(), json!({"sandbox": true}));
        json!({"states": [publish(published, first), publish(end, last)]})
    }

    fn state(
        &self,
        created: DateTime<Utc>,
        start: DateTime<Utc>,
        program_type: &str,
    ) -> Map<String, Value> {
        let sites: Value = self
            .sites
            .iter()
            .map(|site| {
                json!({
                    "id": site.id,
                    "name": site.name,
                    "customer_location_id": site.customer_location_id,
                    "commitment": site.commitment,
                })
            })
            .collect();
        Map::from_iter([
            ("authorized".into(), true.into()),
            ("test".into(), false.into()),
            ("creation_time".into(), rfc3339(created).into()),
            ("start_time".into(), rfc3339(start).into()),
            ("modification_number".into(), 0.into()),
            ("sites".into(), sites),
            (
                "program".into(),
                json!({
                    "id": 1111,
                    "name": "Acceptance",
                    "timezone": "US/Pacific",
                    "market": "CAISO",
                    "program_type": program_type,
                }),
            ),
        ])
    }
}

/// `time` moved by `delta`, as far as a time can go.
fn later(time: DateTime<Utc>, delta: TimeDelta) -> DateTime<Utc> {
    time.checked_add_signed(delta)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn publish(at: DateTime<Utc>, dispatch: Map<String, Value>) -> Value {
    json!({"published_time": rfc3339(at), "dispatch": dispatch})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn scenario(kind: Acceptance) -> Value {
        let site = SiteSpec {
            id: "s1".into(),
            name: "One".into(),
            customer_location_id: "L1".into(),
            commitment: Kilowatts(12.0),
        };
        acceptance(kind, at(0), at(10), TimeDelta::seconds(8), &[site])
    }

    fn time(value: &Value) -> DateTime<Utc> {
        value.as_str().unwrap().parse().unwrap()
    }

    #[test]
    fn a_basic_dispatch_is_published_at_once_with_its_end() {
        let states = &scenario(Acceptance::Basic)["dispatches"]["Dispatch"]["states"];
        assert_eq!(states.as_array().unwrap().len(), 1);
        assert_eq!(time(&states[0]["published_time"]), at(0));
        assert_eq!(time(&states[0]["dispatch"]["start_time"]), at(10));
        assert_eq!(time(&states[0]["dispatch"]["end_time"]), at(18));
        assert_eq!(states[0]["dispatch"]["sites"][0]["commitment"], 12);
    }

    #[test]
    fn an_ancillary_dispatch_learns_its_end_when_it_comes() {
        let states = &scenario(Acceptance::Ancillary)["dispatches"]["Dispatch"]["states"];
        assert_eq!(time(&states[0]["published_time"]), at(10));
        assert_eq!(states[0]["dispatch"].get("end_time"), None);
        assert_eq!(time(&states[1]["published_time"]), at(18));
        assert_eq!(time(&states[1]["dispatch"]["end_time"]), at(18));
        assert!(states[1]["dispatch"]["metadata"].is_object());
        assert_eq!(states[1]["dispatch"]["modification_number"], 1);
    }

    #[test]
    fn the_second_of_two_begins_after_at_or_before_the_first_ones_end() {
        for (kind, begins) in [
            (Acceptance::Two, 22),
            (Acceptance::Abutting, 18),
            (Acceptance::Overlapping, 14),
        ] {
            let dispatches = &scenario(kind)["dispatches"];
            let first = &dispatches["Dispatch 1"]["states"];
            let second = &dispatches["Dispatch 2"]["states"];
            assert_eq!(time(&first[1]["dispatch"]["end_time"]), at(18), "{kind}");
            assert_eq!(time(&second[0]["dispatch"]["start_time"]), at(begins));
        }
        let second = &scenario(Acceptance::Abutting)["dispatches"]["Dispatch 2"]["states"];
        assert_eq!(time(&second[0]["published_time"]), at(16));
    }

    #[test]
    fn a_cancelled_dispatch_is_called_off_before_it_starts() {
        let states = &scenario(Acceptance::Cancelled)["dispatches"]["Dispatch"]["states"];
        assert_eq!(states[0]["dispatch"]["authorized"], true);
        assert_eq!(states[1]["dispatch"]["authorized"], false);
        assert_eq!(time(&states[1]["published_time"]), at(5));
    }

    #[test]
    fn setpoints_take_one_state_after_another_for_the_dispatch_and_its_sites() {
        let states = |kind| scenario(kind)["dispatches"]["Dispatch"]["states"].clone();
        let late = states(Acceptance::Setpoints);
        assert_eq!(late[0]["dispatch"].get("setpoints"), None);
        assert_eq!(time(&late[1]["published_time"]), at(5));
        assert_eq!(late[1]["dispatch"]["setpoints"][0]["kw"], 4.5);
        assert_eq!(late[2]["dispatch"]["sites"][0]["setpoints"][0]["kw"], 7.0);
        assert_eq!(late[2]["dispatch"]["modification_number"], 2);
        let none = states(Acceptance::SetpointsNone);
        assert!(none[0]["dispatch"]["setpoints"].is_null());
        assert_eq!(none[1]["dispatch"]["setpoints"], json!([]));
        let abutting = &states(Acceptance::SetpointsAbutting)[0]["dispatch"]["setpoints"];
        assert_eq!(abutting[0]["end_time"], abutting[1]["start_time"]);
        let incomplete = states(Acceptance::SetpointsIncomplete);
        assert_eq!(
            incomplete[0]["dispatch"]["setpoints"][0].get("end_time"),
            None
        );
        assert_eq!(incomplete[1]["dispatch"]["setpoints"][0].get("kw"), None);
    }

    #[test]
    fn every_acceptance_test_is_found_by_its_name() {
        for kind in Acceptance::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("sixth".parse::<Acceptance>().is_err());
    }
}
