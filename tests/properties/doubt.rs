//! What cannot be read changes no site's command, wherever it stands in an answer.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{RULES, at};
use dispatchd::engine::{Observation, Request, Schedule, SitePlan, plan, reconcile};
use dispatchd::model::{Answer, Asked, List, SiteState, Source};
use dispatchd::voltus::{Problems, read_list};

/// A place in an answer, as a JSON pointer, and what cannot be read there, as JSON text. An empty
/// text takes the place away.
#[derive(Debug, Clone)]
struct Fault {
    place: String,
    text: &'static str,
}

/// The dispatches of a good answer: two hold `s` and `t`, one will.
fn good() -> Value {
    let site = |id: &str, kw: Value| {
        json!({"id": id, "name": format!("Plant {id}"), "customer_location_id": "7",
               "commitment": kw, "drop_by": null})
    };
    let dispatch = |id: &str, start: i64, end: Option<i64>, sites: Value| {
        json!({"id": id, "authorized": true, "test": false, "start_time": at(start),
               "end_time": end.map(at), "creation_time": at(-99), "modification_number": 3,
               "program": {"id": 867, "name": "Peak"}, "metadata": {"note": 1}, "sites": sites})
    };
    json!([
        dispatch(
            "a",
            -50,
            Some(50),
            json!([site("s", json!(5)), site("t", json!(6))])
        ),
        dispatch(
            "b",
            -20,
            None,
            json!([site("t", json!(7)), site("u", Value::Null)])
        ),
        dispatch("c", 40, Some(90), json!([site("s", json!(9))])),
    ])
}

fn fault() -> impl Strategy<Value = Fault> {
    let odd = |texts: &'static [&'static str]| prop::sample::select(texts);
    let top = prop_oneof![
        ("authorized", odd(&["\"yes\"", "1", "null", "{}", ""])),
        ("test", odd(&["\"no\"", "7", "[]"])),
        ("start_time", odd(&["\"noon\"", "7", "null", "{}", ""])),
        ("end_time", odd(&["\"2026-11-24\"", "7", "false", "{}"])),
        (
            "modification_number",
            odd(&["\"x\"", "1.5", "true", "1e400"])
        ),
        ("creation_time", odd(&["7", "\"x\"", "{}"])),
        ("program", odd(&["7", "[]", "\"Peak\"", "{\"id\": \"x\"}"])),
        ("metadata", odd(&["\"\\ud800\"", "1e400"])),
        ("sites", odd(&["null", "{}", "7", "\"s\"", "1e400", ""])),
        ("id", odd(&["null", "7", "\"a/b\"", "\"\"", ""])),
    ];
    let top = (0..3usize, top).prop_map(|(dispatch, (field, text))| Fault {
        place: format!("/{dispatch}/{field}"),
        text,
    });
    let whole =
        (0..3usize, odd(&["null", "7", "[]", "\"a\""])).prop_map(|(dispatch, text)| Fault {
            place: format!("/{dispatch}"),
            text,
        });
    let in_site = prop_oneof![
        3 => (Just("/commitment"), odd(&["\"5\"", "true", "{}", "[]", "1e400"])),
        1 => (Just("/drop_by"), odd(&["\"5\"", "1e400", "{}"])),
        2 => (Just("/id"), odd(&["null", "{}", "\"\"", "true", "1e400", ""])),
        1 => (Just("/name"), odd(&["{}", "true", "\"\\ud800\"", "1e400"])),
        1 => (Just("/customer_location_id"), odd(&["[]", "false"])),
        1 => (Just(""), odd(&["null", "7", "[]", "\"s\""])),
    ];
    let in_site = (0..3usize, 0..2usize, in_site).prop_map(|(dispatch, site, (field, text))| {
        let place = format!("/{dispatch}/sites/{site}{field}");
        Fault { place, text }
    });
    prop_oneof![3 => top, 1 => whole, 4 => in_site]
}

/// The answer with these faults. One in a place that is not there, or not any more,
/// is none.
fn answer(faults: &[Fault]) -> String {
    let mut dispatches = good();
    for (number, Fault { place, text }) in faults.iter().enumerate() {
        if text.is_empty() {
            let (parent, field) = place.rsplit_once('/').unwrap();
            let parent = dispatches.pointer_mut(parent);
            parent.and_then(|parent| parent.as_object_mut()?.remove(field));
        } else if let Some(value) = dispatches.pointer_mut(place) {
            *value = format!("?{number}?").into();
        }
    }
    let mut body = json!({"dispatches": dispatches}).to_string();
    for (number, fault) in faults.iter().enumerate() {
        body = body.replace(&format!("\"?{number}?\""), fault.text);
    }
    body
}

#[derive(Default)]
struct Daemon {
    schedule: Schedule,
    plan: SitePlan,
    asked: u64,
}

impl Daemon {
    fn take(&mut self, now: i64, observation: &Observation) {
        let schedule = std::mem::take(&mut self.schedule);
        let (schedule, outcome) = reconcile(schedule, observation, at(now), &RULES);
        let before = std::mem::take(&mut self.plan);
        self.plan = plan(before, &schedule, &outcome, at(now), &RULES).plan;
        self.schedule = schedule;
    }

    fn list(&mut self, now: i64, list: Arc<List>) {
        self.asked += 1;
        let asked = Asked {
            term: 1,
            count: self.asked,
        };
        let request = Request {
            source: Source::Poll,
            asked,
            issued: Duration::ZERO,
            answered: Duration::ZERO,
            clock_agrees: true,
        };
        let answer = Answer::List(list);
        self.take(now, &Observation::Api { request, answer });
    }

    fn sites(&self) -> Vec<SiteState> {
        self.plan
            .sites()
            .map(|site| SiteState::clone(site))
            .collect()
    }
}

fn read(faults: &[Fault]) -> (Arc<List>, Problems) {
    let body = answer(faults);
    read_list(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// What a site was told, but for the amount.
fn command(site: &SiteState) -> SiteState {
    SiteState {
        commitment_kw: None,
        ..site.clone()
    }
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn what_cannot_be_read_changes_no_sites_command(
        first in prop::collection::vec(fault(), 1..4),
        second in prop::collection::vec(fault(), 0..4),
    ) {
        let mut daemon = Daemon::default();
        let (whole, problems) = read(&[]);
        prop_assert!(problems.is_empty());
        daemon.list(0, Arc::clone(&whole));
        let before = daemon.sites();
        for (now, faults) in (1..).zip([&first, &first, &second]) {
            let (list, _) = read(faults);
            daemon.list(now, list);
            let after = daemon.sites();
            prop_assert_eq!(after.len(), before.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(command(before), command(after), "{:?}", faults);
                let amount = after.commitment_kw;
                let known = [5.0, 6.0, 7.0].map(|kw| Some(dispatchd::model::Kilowatts(kw)));
                prop_assert!(amount.is_none() || known.contains(&amount), "{:?}", amount);
                prop_assert!(amount <= before.commitment_kw);
            }
        }
        daemon.list(4, whole);
        prop_assert_eq!(daemon.sites(), before, "a good answer mends all");
    }
}
