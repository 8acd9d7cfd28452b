//! What sites are told, beyond the acceptance tests.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, now, site_of, wait_until};

/// The dispatch `id` for a site that others share, at so many kW.
fn sharing(id: &str, number: i64, end: i64, commitment: u64) -> Value {
    let mut shared = dispatch(id, number, in_ms(-1000), Some(in_ms(end)));
    shared["sites"][0]["id"] = "shared".into();
    shared["sites"][0]["commitment"] = commitment.into();
    shared
}

async fn tell(world: &World, daemon: &Daemon, dispatch: Value) {
    let id = dispatch["id"].as_str().unwrap().to_owned();
    world.put(dispatch);
    assert_eq!(daemon.webhook(&id).await.status, 200);
}

#[apply(test)]
async fn a_test_dispatch_curtails_only_if_it_is_told_to() {
    for (on_test, curtailed) in [("false", 0), ("true", 1)] {
        let world = World::new().await;
        let setup = world.setup().variable("DISPATCHD_CURTAIL_ON_TEST", on_test);
        let daemon = setup.ready().await;
        let mut test = dispatch("t", 0, in_ms(-1000), None);
        test["test"] = true.into();
        tell(&world, &daemon, test).await;
        daemon.wait_until_delivered().await;
        assert_eq!(
            daemon.types_of("t"),
            ["dispatch.created", "dispatch.started"]
        );
        assert_eq!(
            daemon.events_of(&site_of("t")).len(),
            curtailed,
            "{on_test}"
        );
    }
}

#[apply(test)]
async fn a_site_is_curtailed_ahead_of_the_start_by_the_lead() {
    let world = World::new().await;
    let daemon = world.setup().with("--pre-curtail", "3s").ready().await;
    let start = in_ms(4500);
    tell(&world, &daemon, dispatch("d", 0, start, Some(in_ms(6500)))).await;
    let curtail = daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    let ahead = start - curtail.time();
    assert!(ahead <= TimeDelta::seconds(3), "{ahead}");
    assert!(now() < start, "it is told before the start");
    let started = daemon.wait_for_event("d", "dispatch.started").await;
    assert!(started.time() >= start);
}

#[apply(test)]
async fn a_site_of_two_dispatches_is_held_by_the_larger_until_the_last_lets_go() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    tell(&world, &daemon, sharing("small", 0, 3_600_000, 10)).await;
    tell(&world, &daemon, sharing("large", 0, 7_200_000, 25)).await;
    daemon.wait_until_delivered().await;
    let told = daemon.events_of("shared");
    let kw: Vec<&Value> = told
        .iter()
        .map(|heard| &heard.event["data"]["commitment_kw"])
        .collect();
    assert_eq!(kw, [&json!(10), &json!(25)]);
    assert_eq!(daemon.types_of("shared"), ["site.curtail", "site.adjust"]);
    let last = &told[1].event["data"];
    assert_eq!(last["dispatches"], json!(["large", "small"]));
    assert_eq!(
        last["until"],
        daemon.entry("large").await.unwrap()["end_time"]
    );

    tell(&world, &daemon, sharing("large", 1, -1, 25)).await;
    daemon.wait_until_delivered().await;
    assert_eq!(daemon.phase("large").await, "ended");
    assert_eq!(daemon.types_of("shared").last().unwrap(), "site.adjust");

    let mut called_off = sharing("small", 1, 3_600_000, 10);
    called_off["authorized"] = false.into();
    tell(&world, &daemon, called_off).await;
    let release = daemon.wait_for_event("shared", "site.release").await;
    assert_eq!(release.event["data"]["cause"], "small");
    assert_eq!(release.event["data"]["source"], "webhook");
}

#[apply(test)]
async fn a_dispatch_whose_end_moves_later_begins_again() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    tell(&world, &daemon, sharing("d", 0, -1, 10)).await;
    assert_eq!(daemon.phase("d").await, "ended");
    tell(&world, &daemon, sharing("d", 1, 3_600_000, 10)).await;
    assert_eq!(daemon.phase("d").await, "active");
    daemon.wait_for_event("shared", "site.curtail").await;
    daemon.wait_until_delivered().await;
    let types = daemon.types_of("d");
    assert_eq!(
        types,
        ["dispatch.ended", "dispatch.updated", "dispatch.started"]
    );
    let updated = &daemon.events_of("d")[1].event;
    let changed = updated["data"]["changed"].as_array().unwrap();
    assert!(changed.contains(&"phase".into()), "{changed:?}");
}

#[apply(test)]
async fn events_are_cloudevents_with_a_sequence_that_grows() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    for number in 0..5 {
        tell(
            &world,
            &daemon,
            sharing("d", number, 3_600_000 + number, 10),
        )
        .await;
    }
    wait_until("all are delivered", async || {
        daemon.events_of("d").len() == 6
    })
    .await;
    let mut last = 0;
    for heard in daemon.events_of("d") {
        let event = &heard.event;
        assert_eq!(
            (&event["specversion"], &event["source"]),
            (&json!("1.0"), &json!("dispatchd"))
        );
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["data"]["id"], "d");
        assert_eq!(event["data"]["source"], "webhook");
        let sequence = event["sequence"].as_u64().unwrap();
        assert!(sequence > last);
        last = sequence;
    }
}
