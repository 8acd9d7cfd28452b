//! What a sink gets whose route takes some events and not others.

use serde_json::{Value, json};

use super::*;

fn route(sites: &[&str], programs: &[&str], events: &[&str]) -> Route {
    let strings =
        |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    Route::parse(&strings(sites), &strings(programs), &strings(events)).unwrap()
}

/// A world in which nothing has happened and whose sink has this route.
fn with(route: Route) -> World {
    let mut world = World::new(1);
    world.stored.route = Some(route.text().into());
    world.route = route;
    world.restart();
    world
}

/// A site's event, with the dispatches that hold it and their programs.
fn site(position: u64, event_type: &str, site: &str, holders: &[(&str, &str)]) -> Event {
    let dispatches: Vec<&str> = holders.iter().map(|(dispatch, _)| *dispatch).collect();
    let programs = holders.iter();
    let programs: Vec<Value> = programs
        .map(|(_, program)| json!({"id": null, "name": program}))
        .collect();
    let data = json!({
        "id": site, "name": "Mill", "customer_location_id": format!("store-{site}"),
        "state": if holders.is_empty() { "normal" } else { "curtailed" },
        "since": "2024-10-04T00:00:00Z", "until": null, "commitment_kw": 12,
        "dispatches": dispatches, "programs": programs, "next": null,
        "source": "poll", "cause": "d1",
    });
    Event {
        data: serde_json::value::to_raw_value(&data).unwrap().into(),
        ..event(position, event_type, site)
    }
}

fn dispatch(position: u64, program: &str, sites: &[&str]) -> Event {
    let sites = sites.iter();
    let sites: Vec<Value> = sites
        .map(|id| json!({"id": id, "customer_location_id": "", "commitment": 1.0e-7}))
        .collect();
    let data = json!({
        "id": "d1", "program": {"id": 867, "name": program}, "sites": sites, "source": "poll",
    });
    Event {
        data: serde_json::value::to_raw_value(&data).unwrap().into(),
        ..event(position, "dispatch.created", "d1")
    }
}

impl World {
    /// Commits an event and offers it.
    fn announces(&mut self, event: Event) {
        self.commit();
        self.position = event.position;
        self.offer(event);
    }

    /// What the next attempt sends, which the receiver takes.
    fn sent_data(&mut self) -> Value {
        let starts = self.start();
        assert_eq!(starts.len(), 1, "{starts:?}");
        let data = serde_json::from_str(starts[0].events[0].data.get()).unwrap();
        self.ends(starts[0].attempt, &Attempt::Delivered);
        data
    }

    /// The sites that are to be told once more.
    fn told_again(&mut self) -> Vec<String> {
        let sites = self.outbox.take_rerouted();
        sites.iter().map(|site| site.as_str().to_owned()).collect()
    }

    fn is_done_with_all(&mut self) {
        self.sends_nothing();
        self.commit();
        assert_eq!(self.outbox.health().pending, 0);
        assert_eq!(self.stored.done, self.position);
    }
}

/// A world whose sink lost the curtailed site `a` to another route, and has not
/// acknowledged its release. That the route is another now is not written down.
fn with_a_pending_release() -> World {
    let mut world = with(Route::default());
    world.announces(site(1, CURTAIL, "a", &[("d1", "X")]));
    world.sends_one("site.curtail a 1", &Attempt::Delivered);
    world.commit();
    world.route = route(&["b"], &[], &[]);
    world.restart();
    world.announces(site(2, ADJUST, "a", &[("d1", "X")]));
    world.sends_one("site.release a 2", &failed());
    world.commit();
    world
}

#[test]
fn what_happens_at_a_site_that_is_not_the_sinks_is_not_sent_and_not_pending() {
    let mut world = with(route(&["a"], &[], &[]));
    world.announces(site(1, CURTAIL, "b", &[("d1", "X")]));
    world.announces(site(2, CURTAIL, "a", &[("d1", "X")]));
    world.sends_one("site.curtail a 2", &Attempt::Delivered);
    world.announces(site(3, RELEASE, "b", &[]));
    world.announces(Event {
        unconditional: true,
        ..site(4, RELEASE, "c", &[])
    });
    world.is_done_with_all();
}

#[test]
fn of_a_dispatch_a_sink_sees_its_own_sites_and_each_as_it_was_written() {
    let mut world = with(route(&["a", "b"], &[], &[]));
    world.announces(dispatch(1, "X", &["x", "b", "y", "a"]));
    let seen = world.sent_data();
    let ids: Vec<&str> = seen["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|site| site["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["b", "a"]);
    assert_eq!(seen["sites"][0]["commitment"], 1.0e-7);
    assert_eq!(
        (&seen["id"], &seen["program"]["id"]),
        (&json!("d1"), &json!(867))
    );
    world.announces(dispatch(2, "X", &["x", "y"]));
    world.announces(dispatch(3, "X", &[]));
    world.is_done_with_all();
}

#[test]
fn a_sink_for_some_types_gets_no_others() {
    let mut world = with(route(&[], &[], &["sync.*", "dispatch.ended"]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "X")]));
    world.announces(dispatch(2, "X", &["a"]));
    world.announces(event(3, "sync.stale", "dispatchd"));
    world.sends_one("sync.stale dispatchd 3", &Attempt::Delivered);
    world.is_done_with_all();
}

#[test]
fn a_site_is_released_where_none_of_the_programs_that_still_hold_it_is_routed() {
    let mut world = with(route(&[], &["CAISO*"], &[]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "PJM")]));
    world.is_done_with_all();
    world.announces(site(2, ADJUST, "a", &[("d1", "PJM"), ("d2", "CAISO RDRR")]));
    world.sends_one("site.curtail a 2", &Attempt::Delivered);
    world.announces(site(3, ADJUST, "a", &[("d1", "PJM")]));
    let starts = world.start();
    assert_eq!(&*starts[0].events[0].event_type, RELEASE);
    let data: Value = serde_json::from_str(starts[0].events[0].data.get()).unwrap();
    assert_eq!(data["state"], "normal");
    assert_eq!(data["dispatches"], json!([]));
    assert_eq!(
        (&data["commitment_kw"], &data["id"]),
        (&Value::Null, &json!("a"))
    );
    world.ends(starts[0].attempt, &Attempt::Delivered);
    world.announces(site(4, RELEASE, "a", &[]));
    world.is_done_with_all();
}

#[test]
fn a_curtail_that_waits_is_dropped_when_the_site_is_held_for_the_sink_no_longer() {
    let mut world = with(route(&[], &["CAISO"], &[]));
    world.outbox.hold_commands(true);
    world.announces(site(1, CURTAIL, "a", &[("d1", "CAISO")]));
    world.announces(site(2, ADJUST, "a", &[("d2", "PJM")]));
    world.outbox.hold_commands(false);
    world.is_done_with_all();
}

#[test]
fn after_a_restart_with_another_route_a_curtailed_site_is_told_by_an_event_of_its_own() {
    let mut world = with(route(&["a", "b"], &[], &[]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "X")]));
    world.sends_one("site.curtail a 1", &Attempt::Delivered);
    world.announces(site(2, CURTAIL, "b", &[("d1", "X")]));
    world.sends_one("site.curtail b 2", &Attempt::Delivered);
    world.announces(site(3, CURTAIL, "c", &[("d1", "X")]));
    world.commit();

    world.route = route(&["b", "c"], &[], &[]);
    for crashes in [true, false] {
        world.restart();
        world.sends_nothing();
        let mut rerouted = world.outbox.take_rerouted();
        rerouted.sort();
        let rerouted: Vec<&str> = rerouted.iter().map(SiteId::as_str).collect();
        // A crash before these are told changes nothing.
        assert_eq!(rerouted, ["a", "c"], "{crashes}");
    }
    world.outbox.rerouted();
    world.announces(site(4, ADJUST, "a", &[("d1", "X")]));
    world.sends_one("site.release a 4", &Attempt::Delivered);
    world.announces(site(5, ADJUST, "c", &[("d1", "X")]));
    world.sends_one("site.curtail c 5", &Attempt::Delivered);
    world.is_done_with_all();

    world.restart();
    assert_eq!(world.outbox.take_rerouted(), []);
    world.is_done_with_all();
}

#[test]
fn a_site_that_a_sink_lost_is_released_there_however_often_it_is_restarted_before() {
    let mut world = with_a_pending_release();
    world.outbox.rerouted();
    world.commit();
    world.restart();
    assert_eq!(world.told_again(), ["a"]);
    world.announces(site(3, ADJUST, "a", &[("d1", "X")]));
    world.wait();
    world.sends_one("site.release a 3", &Attempt::Delivered);
    world.commit();
    world.restart();
    assert_eq!(world.outbox.take_rerouted(), []);
    world.is_done_with_all();
}

#[test]
fn a_site_that_comes_back_while_its_release_is_pending_is_curtailed_by_an_event_of_its_own() {
    let mut world = with_a_pending_release();
    world.route = Route::default();
    world.restart();
    assert_eq!(world.told_again(), ["a"]);
    world.announces(site(3, ADJUST, "a", &[("d1", "X")]));
    world.wait();
    world.sends_one("site.curtail a 3", &Attempt::Delivered);
}

#[test]
fn a_site_that_is_normal_when_the_route_changes_is_told_nothing_new() {
    let mut world = with(route(&["a"], &[], &[]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "X")]));
    world.sends_one("site.curtail a 1", &Attempt::Delivered);
    world.announces(site(2, RELEASE, "a", &[]));
    world.commit();
    world.route = route(&["b"], &[], &[]);
    world.restart();
    assert_eq!(world.outbox.take_rerouted(), []);
    // It is still owed the release that it had not got.
    world.sends_one("site.release a 2", &Attempt::Delivered);
    world.is_done_with_all();
}

#[test]
fn events_of_others_do_not_take_the_room_of_a_long_backlog() {
    let mut world = with(route(&["a"], &[], &[]));
    for position in 1..=5000 {
        let mine = position % 100 == 0;
        let mut event = dispatch(position, "X", &[if mine { "a" } else { "b" }]);
        event.subject = format!("d{position}").into();
        world.announces(event);
    }
    assert_eq!(world.outbox.health().pending, 50);
    world.restart();
    let mut delivered = 0;
    loop {
        let starts = world.start();
        if starts.is_empty() {
            break;
        }
        for start in starts {
            delivered += start.events.len();
            world.ends(start.attempt, &Attempt::Delivered);
        }
    }
    assert_eq!(delivered, 50);
    world.is_done_with_all();
}

#[test]
fn after_a_new_connection_the_sinks_own_sites_are_sent_as_they_stand_for_it() {
    let mut world = with(route(&["a", "b"], &["CAISO"], &[]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "CAISO")]));
    world.sends_one("site.curtail a 1", &Attempt::Delivered);
    world.announces(site(2, CURTAIL, "b", &[("d2", "PJM")]));
    world.announces(site(3, CURTAIL, "c", &[("d1", "CAISO")]));
    world.outbox.connected(world.now);
    while let Some(read) = world.outbox.refresh_read(world.now) {
        let page = match read {
            RefreshRead::Positions => RefreshPage::Positions(vec![1, 2, 3]),
            RefreshRead::Events(positions) => {
                let log = world.log.iter();
                let events = log.filter(|event| positions.contains(&event.position));
                RefreshPage::Events(events.cloned().collect())
            }
        };
        world.outbox.take_refresh(Ok(page), world.now);
    }
    let mut sent: Vec<String> = world.sends().into_iter().map(|(_, sent)| sent).collect();
    sent.sort();
    assert_eq!(sent, ["site.curtail a 1", "site.release b 2"]);
}

/// A dispatch's event with unknown fields, which tell that these fields changed.
fn with_extra(position: u64, changed: &[&str]) -> Event {
    let data = dispatch(position, "X", &["a"]).data.get().replacen(
        '{',
        &format!(
            r#"{{"extra":{{"plan":{{"x":1e400}}}},"changed":{},"#,
            json!(changed)
        ),
        1,
    );
    Event {
        event_type: "dispatch.updated".into(),
        data: Arc::new(serde_json::value::RawValue::from_string(data).unwrap()),
        ..dispatch(position, "X", &["a"])
    }
}

#[test]
fn a_dispatchs_own_unknown_fields_go_to_no_sink_that_names_sites() {
    let mut world = with(route(&["a"], &[], &[]));
    world.announces(with_extra(1, &["sites", "extra.plan"]));
    let seen = world.sent_data();
    assert_eq!(
        (&seen["extra"], &seen["changed"]),
        (&Value::Null, &json!(["sites"]))
    );
    world.announces(with_extra(2, &["extra.plan"]));
    world.is_done_with_all();

    let mut world = with(route(&[], &["X"], &[]));
    world.announces(with_extra(1, &["extra.plan"]));
    let starts = world.start();
    assert!(
        starts[0].events[0]
            .data
            .get()
            .contains(r#""plan":{"x":1e400}"#)
    );
}

/// A dispatch's event with metadata that names a site, which tells that these fields
/// changed.
fn with_metadata(position: u64, metadata: &str, changed: &[&str]) -> Event {
    let fields = format!(r#"{{"metadata":{metadata},"changed":{},"#, json!(changed));
    let event = dispatch(position, "X", &["a"]);
    let data = event.data.get().replacen('{', &fields, 1);
    Event {
        event_type: "dispatch.updated".into(),
        data: Arc::new(serde_json::value::RawValue::from_string(data).unwrap()),
        ..event
    }
}

#[test]
fn metadata_which_may_name_any_site_is_empty_for_a_sink_that_names_sites() {
    let mut world = with(route(&["a"], &[], &[]));
    let notes = r#"{"b": {"note": "of another site"}}"#;
    world.announces(with_metadata(1, notes, &["end_time", "metadata"]));
    let seen = world.sent_data();
    assert_eq!(
        (&seen["metadata"], &seen["changed"]),
        (&json!({}), &json!(["end_time"]))
    );
    world.announces(with_metadata(2, "{}", &["metadata"]));
    world.is_done_with_all();

    let mut world = with(route(&[], &["X"], &[]));
    world.announces(with_metadata(1, notes, &["metadata"]));
    let seen = world.sent_data();
    assert_eq!(seen["metadata"]["b"]["note"], "of another site");
    assert_eq!(seen["changed"], json!(["metadata"]));
}

#[test]
fn a_site_that_is_released_by_its_route_shows_no_unknown_fields() {
    let mut world = with(route(&[], &["X"], &[]));
    let with_extra = |position, event_type, program| {
        let event = site(position, event_type, "a", &[("d1", program)]);
        let data = event
            .data
            .get()
            .replacen('{', r#"{"extra":{"d1":{"p":1}},"#, 1);
        Event {
            data: Arc::new(serde_json::value::RawValue::from_string(data).unwrap()),
            ..event
        }
    };
    world.announces(with_extra(1, CURTAIL, "X"));
    assert_eq!(world.sent_data()["extra"], json!({"d1": {"p": 1}}));
    world.announces(with_extra(2, "site.adjust", "Y"));
    let released = world.sent_data();
    assert_eq!(
        (&released["state"], released.get("extra")),
        (&json!("normal"), None)
    );
}

/// A site's event under another customer location id.
fn moved_to(event: &Event, location: &str) -> Event {
    let mut data: Value = serde_json::from_str(event.data.get()).unwrap();
    data["customer_location_id"] = json!(location);
    Event {
        data: serde_json::value::to_raw_value(&data).unwrap().into(),
        ..event.clone()
    }
}

#[test]
fn a_site_that_takes_another_name_is_released_where_only_the_old_one_is_known() {
    let mut world = with(route(&["store-a"], &[], &[]));
    world.announces(site(1, CURTAIL, "a", &[("d1", "CAISO")]));
    world.sends_one("site.curtail a 1", &Attempt::Delivered);
    let others = site(2, CURTAIL, "b", &[("d1", "CAISO")]);
    let moved = moved_to(&site(3, ADJUST, "a", &[("d1", "CAISO")]), "elsewhere");
    world.commit();
    world.position = 3;
    world.offer_all(vec![others, moved]);
    world.sends_one("site.release a 3", &Attempt::Delivered);
    world.announces(moved_to(
        &site(4, CURTAIL, "a", &[("d2", "CAISO")]),
        "elsewhere",
    ));
    world.sends_nothing();
    assert_eq!(world.outbox.done(), 4);
}

#[test]
fn a_commit_with_events_of_many_sites_brings_what_each_of_them_alone_brings() {
    for sites in [
        &["a", "store-c", "x"][..],
        &["store-*"],
        &["b*"],
        &["x"],
        &[],
    ] {
        let events = |first: u64| -> Vec<Event> {
            let held = [("d1", "CAISO")];
            vec![
                dispatch(first, "CAISO", &["a", "b", "z"]),
                site(first + 1, CURTAIL, "a", &held),
                site(first + 2, CURTAIL, "b", &held),
                site(first + 3, CURTAIL, "c", &held),
                site(first + 4, RELEASE, "a", &[]),
                site(first + 5, CURTAIL, "z", &held),
            ]
        };
        let (mut one, mut all) = (with(route(sites, &[], &[])), with(route(sites, &[], &[])));
        for first in [1, 7] {
            for event in events(first) {
                one.commit();
                one.position = event.position;
                one.offer(event);
            }
            all.commit();
            all.position = first + 5;
            all.offer_all(events(first));
            let sent = [one.sends(), all.sends()];
            assert_eq!(sent[0], sent[1], "{sites:?}");
            for (attempt, _) in &sent[0] {
                one.ends(*attempt, &Attempt::Delivered);
                all.ends(*attempt, &Attempt::Delivered);
            }
            assert_eq!(one.outbox.done(), all.outbox.done(), "{sites:?}");
            assert_eq!(all.outbox.health().pending, 0, "{sites:?}");
        }
        assert_eq!(all.outbox.done(), 12, "{sites:?}");
    }
}

/// Commits were lost: whatever holds the site for others may not hold it here any more.
#[test]
fn a_site_that_is_told_whatever_is_known_is_released_at_a_sink_for_other_programs_once() {
    let mut world = with(route(&["a"], &["X"], &[]));
    world.announces(Event {
        unconditional: true,
        ..site(1, CURTAIL, "a", &[("d2", "Y")])
    });
    world.announces(Event {
        unconditional: true,
        ..site(2, CURTAIL, "b", &[("d2", "Y")])
    });
    // Killed before the attempt.
    world.commit();
    world.restart();
    world.sends_one("site.release a 1", &failed());
    world.wait();
    world.sends_one("site.release a 1", &Attempt::Delivered);
    for _ in 0..2 {
        world.is_done_with_all();
        world.restart();
    }
    world.announces(site(3, ADJUST, "a", &[("d1", "X"), ("d2", "Y")]));
    world.sends_one("site.curtail a 3", &Attempt::Delivered);
    world.is_done_with_all();
}
