//! A field of a dispatch that holds sites, with any JSON in its place. If that
//! cannot be read, no site is released, and each is told the same end and the same
//! dispatches.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatchd::engine::{Observation, Request, Rules, Schedule, SitePlan, plan, reconcile};
use dispatchd::model::{Answer, Asked, List, SiteState, Source};
use dispatchd::voltus::read_list;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use serde_json::value::RawValue;

const PLACES: [&str; 14] = [
    "AUTHORIZED", "TEST", "START", "END", "CREATION", "NUMBER", "PROGRAM", "SITES", "METADATA",
    "SITE", "NAME", "LOCATION", "COMMITMENT", "DROP_BY",
];

/// A list of two dispatches that hold the sites `s` and `t`, the second of them
/// with marks where its fields are.
fn marked() -> String {
    let site = |id: &str| {
        json!({"id": id, "name": "Plant", "customer_location_id": "7", "commitment": null,
               "drop_by": 5})
    };
    let mut marked = site("t");
    marked["id"] = json!("SITE");
    marked["name"] = json!("NAME");
    marked["customer_location_id"] = json!("LOCATION");
    marked["commitment"] = json!("COMMITMENT");
    marked["drop_by"] = json!("DROP_BY");
    let whole = json!({
        "id": "a", "authorized": true, "start_time": "2026-11-24T10:00:00Z",
        "end_time": "2026-11-24T12:00:00Z", "sites": [site("s")],
    });
    let text = json!({"dispatches": [whole, {
        "id": "d", "authorized": "AUTHORIZED", "test": "TEST", "start_time": "START",
        "end_time": "END", "creation_time": "CREATION", "modification_number": "NUMBER",
        "program": "PROGRAM", "metadata": "METADATA", "sites": [site("s"), marked],
    }]});
    text.to_string()
}

/// What stands in a place as a rule.
fn usual(place: &str) -> &'static str {
    match place {
        "AUTHORIZED" => "true",
        "TEST" => "false",
        "START" => "\"2026-11-24T10:00:00Z\"",
        "END" => "\"2026-11-24T13:00:00Z\"",
        "CREATION" => "\"2026-11-24T09:00:00Z\"",
        "NUMBER" => "3",
        "PROGRAM" => "{\"id\": 867}",
        "SITES" => "",
        "METADATA" => "{}",
        "SITE" => "\"t\"",
        "NAME" => "\"Mill\"",
        "LOCATION" => "\"8\"",
        "COMMITMENT" => "12",
        _ => "11",
    }
}

/// The list with `value` in one place.
fn body(place: &str, value: Option<&str>) -> String {
    let mut body = marked();
    if let ("SITES", Some(value)) = (place, value) {
        let sites = body.rfind("\"sites\":[").expect("the last field") + "\"sites\":".len();
        let end = body[sites..].find("}]").expect("the sites end") + sites + 2;
        body.replace_range(sites..end, value);
    }
    for other in PLACES {
        let value = value.filter(|_| other == place).unwrap_or(usual(other));
        body = body.replace(&format!("\"{other}\""), value);
    }
    body
}

struct Daemon {
    schedule: Schedule,
    plan: SitePlan,
    asked: u64,
}

impl Daemon {
    fn take(&mut self, list: Arc<List>) {
        let rules = Rules {
            retain: Duration::from_secs(3600),
            pre_curtail: Duration::ZERO,
            curtail_on_test: false,
            chunk: usize::MAX,
        };
        let now = DateTime::<Utc>::from_timestamp(1_795_518_000, 0).expect("a time");
        self.asked += 1;
        let observation = Observation::Api {
            request: Request {
                source: Source::Poll,
                asked: Asked { term: 1, count: self.asked },
                issued: Duration::ZERO,
                answered: Duration::ZERO,
                clock_agrees: true,
            },
            answer: Answer::List(list),
        };
        let schedule = std::mem::take(&mut self.schedule);
        let (schedule, outcome) = reconcile(schedule, &observation, now, &rules);
        let before = std::mem::take(&mut self.plan);
        self.plan = plan(before, &schedule, &outcome, now, &rules).plan;
        self.schedule = schedule;
    }

    fn site(&self, id: &str) -> SiteState {
        let mut sites = self.plan.sites();
        let site = sites.find(|site| site.id.as_str() == id).expect("it is known");
        SiteState::clone(site)
    }
}

fuzz_target!(|input: (u8, &str)| {
    let (place, value) = input;
    let place = PLACES[usize::from(place) % PLACES.len()];
    let Ok(value) = serde_json::from_str::<&RawValue>(value) else { return };
    let (good, problems) = read_list(body(place, None).as_bytes()).expect("a list");
    assert!(problems.is_empty(), "{problems}");
    let mut daemon = Daemon { schedule: Schedule::default(), plan: SitePlan::default(), asked: 0 };
    daemon.take(good);
    let before = [daemon.site("s"), daemon.site("t")];
    assert!(before.iter().all(SiteState::is_curtailed));

    let Ok((list, problems)) = read_list(body(place, Some(value.get())).as_bytes()) else { return };
    if problems.is_empty() {
        return;
    }
    daemon.take(list);
    for before in before {
        let after = daemon.site(before.id.as_str());
        assert!(after.is_curtailed(), "{place} {value}");
        assert_eq!(after.until, before.until, "{place} {value}");
        assert_eq!(after.dispatches, before.dispatches, "{place} {value}");
        if place != "SITES" {
            assert_eq!(after.name, before.name, "{place} {value}");
            assert_eq!(after.customer_location_id, before.customer_location_id, "{place} {value}");
        }
        if !["SITES", "COMMITMENT", "DROP_BY"].contains(&place) {
            assert_eq!(after.commitment_kw, before.commitment_kw, "{place} {value}");
        }
    }
});
