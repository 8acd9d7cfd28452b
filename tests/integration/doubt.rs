//! What cannot be read, and what was missed, decides nothing about a site: what
//! is curtailed stays so, and what an earlier life curtailed is let go.

use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, site_of, wait_until};

/// An active dispatch of the sites `s` with 12 kW and `t` with 5 kW.
fn active(number: i64) -> Value {
    let mut active = dispatch("d", number, in_ms(-60_000), Some(in_ms(3_600_000)));
    active["end_time"] = "2100-01-01T00:00:00Z".into();
    active["start_time"] = "2020-01-01T00:00:00Z".into();
    active["sites"] = json!([
        {"id": "s", "name": "Plant", "customer_location_id": "7", "commitment": 12},
        {"id": "t", "name": "Mill", "customer_location_id": "8", "commitment": 5},
    ]);
    active
}

/// The answers of an API that shows `dispatch`, with `raw` in the place of every
/// `"?"`: no JSON value of ours would be written so.
fn show(world: &World, dispatch: &Value, raw: &str) {
    let list = json!({"dispatches": [dispatch]});
    let answer =
        |body: &Value| RawAnswer::json(StatusCode::OK, body.to_string().replace("\"?\"", raw));
    world.list_answers(Some(answer(&list)));
    let id = dispatch["id"].as_str().unwrap().to_owned();
    world
        .sandbox
        .override_answer(Question::Id(id), Some(answer(dispatch)));
}

async fn poll(daemon: &Daemon) {
    assert_eq!(daemon.poll().await.status, 200);
}

async fn site(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/sites/{id}")).await.json
}

/// A daemon that has curtailed `s` and `t`.
async fn curtailing(world: &World) -> Daemon {
    let daemon = world.setup().ready().await;
    show(world, &active(1), "");
    poll(&daemon).await;
    daemon.wait_for_event("s", "site.curtail").await;
    daemon.wait_for_event("t", "site.curtail").await;
    daemon
}

async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = daemon.http.get(daemon.status_url("/metrics"));
    let page = page.send().await.unwrap().text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(-1.0, |value| value.trim().parse().unwrap())
}

#[apply(test)]
async fn a_site_whose_amount_cannot_be_read_stays_curtailed_with_an_unknown_amount() {
    let world = World::new().await;
    let daemon = curtailing(&world).await;
    let amounts = [
        ("commitment", "\"5\""),
        ("commitment", "true"),
        ("commitment", "{}"),
        ("commitment", "[5]"),
        ("commitment", "1e400"),
        ("commitment", "\"\\ud800\""),
        ("drop_by", "\"5\""),
        ("drop_by", "1e999"),
    ];
    for (number, (field, raw)) in (2..).zip(amounts) {
        let before = metric(&daemon, "dispatchd_unreadable_amounts_total").await;
        let mut update = active(number);
        update["sites"][0]["commitment"] = Value::Null;
        update["sites"][0][field] = "?".into();
        show(&world, &update, raw);
        poll(&daemon).await;
        let entry = daemon.entry("d").await.unwrap();
        assert_eq!(entry["modification_number"], number, "{field} {raw}");
        let s = site(&daemon, "s").await;
        assert_eq!(s["state"], "curtailed", "{field} {raw}");
        assert_eq!(s["commitment_kw"], Value::Null, "{field} {raw}");
        assert_eq!(site(&daemon, "t").await["commitment_kw"], 5);
        let after = metric(&daemon, "dispatchd_unreadable_amounts_total").await;
        assert!(after > before, "{field} {raw}: {after}");
        let health = daemon.health().await;
        let shown = &health["sync"]["unreadable"]["parts"][0];
        assert_eq!(
            (&shown["dispatch"], &shown["part"]),
            (&json!("d"), &json!("amount"))
        );
        assert!(shown["reason"].as_str().unwrap().contains(field), "{shown}");
    }
    daemon.wait_until_delivered().await;
    let told = [daemon.types_of("s"), daemon.types_of("t")].concat();
    assert!(!told.contains(&"site.release".to_owned()), "{told:?}");

    // The next good answer brings the amount back, and a webhook is answered.
    show(&world, &active(99), "");
    assert_eq!(daemon.webhook("d").await.status, 200);
    assert_eq!(site(&daemon, "s").await["commitment_kw"], 12);
    poll(&daemon).await;
    assert_eq!(
        daemon.health().await["sync"]["unreadable"]["parts"],
        json!([])
    );
}

#[apply(test)]
async fn a_dispatch_with_a_site_that_cannot_be_read_keeps_all_sites_that_it_held() {
    let world = World::new().await;
    let daemon = curtailing(&world).await;
    let readable = active(0)["sites"][1].clone();
    let lists = [
        json!([{"id": "?", "name": "Plant", "commitment": 12}, readable]),
        json!(["?", readable]),
        json!([{"name": "?"}, readable]),
        json!("?"),
    ];
    let raws = ["null", "{}", "7.5", "\"\"", "[]"];
    let mut number = 1;
    for (sites, raw) in lists.iter().flat_map(|sites| raws.map(|raw| (sites, raw))) {
        let text = sites.to_string().replace("\"?\"", raw);
        if text == "[]" || text.contains(r#""id":7.5"#) {
            // No site at all, and one with a number for an id, can be read.
            continue;
        }
        number += 1;
        let mut update = active(number);
        update["sites"] = sites.clone();
        show(&world, &update, raw);
        poll(&daemon).await;
        let entry = daemon.entry("d").await.unwrap();
        assert_eq!(entry["modification_number"], number, "{text}");
        for id in ["s", "t"] {
            assert_eq!(site(&daemon, id).await["state"], "curtailed", "{text}");
        }
        assert_eq!(site(&daemon, "s").await["commitment_kw"], 12, "{text}");
        // Not all of it was taken over, so that Voltus may tell people.
        assert_eq!(daemon.webhook("d").await.status, 503, "{text}");
    }
    assert!(metric(&daemon, "dispatchd_unreadable_sites_total").await > 0.0);

    // `sites` may be missing, too. A new site that can be read is taken in.
    let mut update = active(number + 1);
    update.as_object_mut().unwrap().remove("sites");
    show(&world, &update, "");
    poll(&daemon).await;
    let mut update = active(number + 2);
    update["sites"] = json!([{"id": null}, {"id": "new", "commitment": 1}]);
    show(&world, &update, "");
    poll(&daemon).await;
    daemon.wait_for_event("new", "site.curtail").await;
    daemon.wait_until_delivered().await;
    for id in ["s", "t"] {
        assert_eq!(daemon.types_of(id), ["site.curtail"], "{id}");
    }

    // What a whole answer leaves out is released.
    let mut update = active(number + 3);
    update["sites"].as_array_mut().unwrap().remove(0);
    show(&world, &update, "");
    poll(&daemon).await;
    daemon.wait_for_event("s", "site.release").await;
    daemon.wait_for_event("new", "site.release").await;
    assert_eq!(site(&daemon, "t").await["state"], "curtailed");
}

#[apply(test)]
async fn what_cannot_be_read_is_logged_once_until_it_changes() {
    let world = World::new().await;
    let daemon = curtailing(&world).await;
    let lines = |daemon: &Daemon, word: &str| {
        let log = daemon.log();
        log.iter().filter(|line| line.contains(word)).count()
    };
    let mut update = active(2);
    update["sites"][0]["commitment"] = "five".into();
    show(&world, &update, "");
    for _ in 0..3 {
        poll(&daemon).await;
        assert_eq!(daemon.webhook("d").await.status, 200);
    }
    assert_eq!(lines(&daemon, "could not be read"), 1, "{:?}", daemon.log());
    update["metadata"] = json!({"note": "another text, the same fault"});
    update["modification_number"] = 3.into();
    show(&world, &update, "");
    poll(&daemon).await;
    assert_eq!(lines(&daemon, "could not be read"), 1, "{:?}", daemon.log());
    update["sites"][1]["commitment"] = "six".into();
    show(&world, &update, "");
    poll(&daemon).await;
    assert_eq!(lines(&daemon, "could not be read"), 2, "{:?}", daemon.log());
    show(&world, &active(4), "");
    poll(&daemon).await;
    assert_eq!(lines(&daemon, "can be read again"), 1, "{:?}", daemon.log());
}

#[apply(test)]
async fn sites_of_a_dispatch_that_ended_while_the_state_file_was_lost_are_released_once() {
    let world = World::new().await;
    world.put(dispatch("over", 1, in_ms(-60_000), None));
    let mut other = dispatch("holds", 1, in_ms(-60_000), None);
    other["sites"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": "shared", "commitment": 1}));
    world.put(other);
    let mut daemon = world.setup().ready().await;
    daemon
        .wait_for_event(&site_of("over"), "site.curtail")
        .await;
    daemon.wait_until_delivered().await;
    daemon.kill();

    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(world.path(file));
    }
    let mut ended = dispatch("over", 2, in_ms(-60_000), Some(in_ms(-1_000)));
    ended["sites"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": "shared", "commitment": 1}));
    world.put(ended);
    // Called off after its start; called off before it; a test.
    let mut cancelled = dispatch("cancelled", 2, in_ms(-60_000), None);
    cancelled["authorized"] = false.into();
    world.put(cancelled);
    let mut never = dispatch("never", 2, in_ms(3_600_000), None);
    never["authorized"] = false.into();
    world.put(never);
    let mut test = dispatch("test", 2, in_ms(-60_000), Some(in_ms(-1_000)));
    test["test"] = true.into();
    world.put(test);
    let mut daemon = world.setup().ready().await;
    daemon
        .wait_for_event(&site_of("over"), "site.release")
        .await;
    daemon
        .wait_for_event(&site_of("cancelled"), "site.release")
        .await;
    poll(&daemon).await;
    daemon.wait_until_delivered().await;
    assert_eq!(daemon.types_of(&site_of("over")), ["site.release"]);
    assert_eq!(daemon.types_of(&site_of("cancelled")), ["site.release"]);
    assert_eq!(daemon.types_of("shared"), ["site.curtail"]);
    for id in ["never", "test"] {
        assert!(daemon.events_of(&site_of(id)).is_empty(), "{id}");
    }

    // A kill could leave the acknowledgement unwritten, and bring the event again.
    assert!(daemon.stop(Signal::TERM).await.success());
    let daemon = world.setup().ready().await;
    poll(&daemon).await;
    daemon.wait_until_delivered().await;
    assert!(daemon.events_of(&site_of("over")).is_empty());
}

#[apply(test)]
async fn a_site_is_named_by_the_dispatch_that_holds_it() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let named = |id: &str, number, start, name: &str| {
        let mut named = dispatch(id, number, start, Some(in_ms(7_200_000)));
        named["sites"] = json!([
            {"id": "s", "name": name, "customer_location_id": name, "commitment": 1}
        ]);
        named
    };
    let called = async || {
        let site = site(&daemon, "s").await;
        assert_eq!(site["name"], site["customer_location_id"]);
        site["name"].as_str().unwrap().to_owned()
    };
    let tell = async |dispatch: Value| {
        let id = dispatch["id"].as_str().unwrap().to_owned();
        world.put(dispatch);
        assert_eq!(daemon.webhook(&id).await.status, 200);
    };
    tell(named("later", 0, in_ms(3_600_000), "next")).await;
    tell(named("holds", 0, in_ms(-1_000), "holder")).await;
    let mut cancelled = named("off", 0, in_ms(-1_000), "cancelled");
    cancelled["authorized"] = false.into();
    tell(cancelled.clone()).await;
    assert_eq!(called().await, "holder");
    wait_until("the site is told", async || {
        !daemon.events_of("s").is_empty()
    })
    .await;
    let told = daemon.events_of("s").remove(0);
    assert_eq!(told.event["data"]["customer_location_id"], "holder");

    let mut over = named("holds", 1, in_ms(-1_000), "holder");
    over["authorized"] = false.into();
    tell(over).await;
    assert_eq!(called().await, "next");
    let mut over = named("later", 1, in_ms(3_600_000), "next");
    over["authorized"] = false.into();
    tell(over).await;
    assert_eq!(called().await, "next", "the last of them");
}
