//! Receivers that fail, hang, are slow and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::{Manner, Receiver, World, dispatch, in_ms, site_of, wait_until};

const SEED: u64 = 77;

/// How often the daemon is killed.
const KILLS: usize = 8;

fn with(mut dispatch: Value, field: &str, value: Value) -> Value {
    dispatch[field] = value;
    dispatch
}

#[apply(test)]
async fn a_receiver_that_fails_is_slow_and_comes_back_gets_everything_in_order() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).start().await;
    for (number, manner) in [
        Manner::Fails,
        Manner::Slow(Duration::from_millis(300)),
        Manner::TakesAndFails,
        Manner::Takes,
    ]
    .into_iter()
    .enumerate()
    {
        receiver.behave(manner);
        let number = i64::try_from(number).unwrap();
        let update = dispatch("a", number, in_ms(3_600_000), None);
        world.put(with(update, "metadata", json!({"update": number})));
        assert_eq!(daemon.webhook("a").await.status, 200);
        wait_until("an attempt was made", async || {
            let delivery = &daemon.health().await["delivery"][0];
            number == 1 || delivery["failed_attempts"] != 0 || delivery["delivered"] != 0
        })
        .await;
    }
    wait_until("all is delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    let created_then_updated: Vec<&str> = std::iter::once("dispatch.created")
        .chain(["dispatch.updated"; 3])
        .collect();
    assert_eq!(receiver.types_of("a"), created_then_updated);
    let updates: BTreeSet<String> = receiver
        .taken()
        .iter()
        .map(|heard| heard.event["data"]["metadata"]["update"].to_string())
        .collect();
    assert_eq!(updates.len(), 4);
}

#[apply(test)]
async fn a_subject_that_hangs_holds_up_no_other_and_is_tried_again() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).start().await;
    receiver.behave(Manner::Hangs);
    world.known(&daemon, "a").await;
    wait_until("the receiver hangs", async || receiver.asked() == 1).await;
    receiver.behave(Manner::Takes);
    world.known(&daemon, "b").await;
    wait_until("the other one is told", async || {
        receiver.types_of("b") == ["dispatch.created"]
    })
    .await;
    assert!(receiver.types_of("a").is_empty());
    wait_until("the first one is tried again", async || {
        receiver.types_of("a") == ["dispatch.created"]
    })
    .await;
}

#[apply(test)]
async fn a_receiver_that_was_down_for_a_whole_dispatch_gets_no_curtail_for_it() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).start().await;
    receiver.behave(Manner::Fails);
    world.put(dispatch("a", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    world.put(dispatch("a", 1, in_ms(-1000), Some(in_ms(0))));
    assert_eq!(daemon.webhook("a").await.status, 200);
    assert_eq!(daemon.phase("a").await, "ended");
    receiver.behave(Manner::Takes);
    wait_until("all is delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    let told = receiver.types_of(&site_of("a"));
    assert!(told.iter().all(|kind| kind == "site.release"), "{told:?}");
    assert_eq!(
        receiver.types_of("a"),
        [
            "dispatch.created",
            "dispatch.started",
            "dispatch.updated",
            "dispatch.ended"
        ]
    );
}

#[apply(test)]
async fn a_site_whose_curtail_was_taken_but_not_confirmed_is_released() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).start().await;
    receiver.behave(Manner::TakesAndFails);
    world.put(dispatch("a", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    let site = site_of("a");
    wait_until("the site curtails", async || {
        receiver.types_of(&site) == ["site.curtail"]
    })
    .await;
    let cancelled = with(
        dispatch("a", 1, in_ms(-1000), None),
        "authorized",
        false.into(),
    );
    world.put(cancelled);
    assert_eq!(daemon.webhook("a").await.status, 200);
    receiver.behave(Manner::Takes);
    wait_until("the site is released", async || {
        receiver.types_of(&site) == ["site.curtail", "site.release"]
    })
    .await;
}

#[apply(test)]
async fn a_thousand_sites_that_start_at_once_are_commanded_on_time() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).start().await;
    let start = in_ms(3000);
    let sites: Vec<Value> = (0..1000)
        .map(|site| json!({"id": format!("s{site}"), "name": "", "commitment": 1}))
        .collect();
    world.put(with(dispatch("a", 0, start, None), "sites", sites.into()));
    assert_eq!(daemon.webhook("a").await.status, 200);
    let curtails = || {
        let mut taken = receiver.taken();
        taken.retain(|heard| heard.text("type") == "site.curtail");
        taken
    };
    wait_until("all are curtailed", async || curtails().len() == 1000).await;
    for curtail in curtails() {
        assert!(curtail.at - start < TimeDelta::seconds(2), "{}", curtail.at);
    }
}

#[apply(test)]
async fn kills_while_a_receiver_flaps_lose_no_event_and_no_command() {
    let mut random = SmallRng::seed_from_u64(SEED);
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let setup = world.setup().polling("200ms").sink(receiver.sink());
    let ids: Vec<String> = (0..6).map(|number| format!("d{number}")).collect();
    for _ in 0..KILLS {
        let mut daemon = setup.start().await;
        for _ in 0..random.random_range(2..8) {
            let id = &ids[random.random_range(0..ids.len())];
            change(&world, id, &mut random);
            receiver.behave(match random.random_range(0..4) {
                0 => Manner::Fails,
                1 => Manner::TakesAndFails,
                2 => Manner::Slow(Duration::from_millis(30)),
                _ => Manner::Takes,
            });
            world.sandbox.requests();
            // It may be killed in the middle of this.
            let asked = daemon.http.post(daemon.webhook_url());
            let body = crate::harness::hint(&format!("/2022-04-15/dispatches/{id}"));
            let patience = Duration::from_millis(random.random_range(1..80));
            let _ = asked.body(body).timeout(patience).send().await;
        }
        daemon.kill();
    }
    receiver.behave(Manner::Takes);
    let daemon = setup.start().await;
    daemon.wait_until_ready().await;
    wait_until("all is delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    for id in &ids {
        let Some(entry) = daemon.entry(id).await else {
            continue;
        };
        let history = entry["history"].as_array().unwrap();
        let happened: Vec<&str> = history
            .iter()
            .map(|item| item["type"].as_str().unwrap())
            .collect();
        assert_eq!(receiver.types_of(id), happened, "{id}");
    }
    for site in daemon.get("/sites").await.json["sites"].as_array().unwrap() {
        let id = site["id"].as_str().unwrap();
        let last = receiver.types_of(id).pop();
        let last = last.as_deref();
        match site["state"].as_str() {
            Some("curtailed") => assert!(
                matches!(last, Some("site.curtail" | "site.adjust")),
                "{id}: {last:?}"
            ),
            _ => assert!(
                matches!(last, None | Some("site.release")),
                "{id}: {last:?}"
            ),
        }
    }
}

/// Lets something happen to a dispatch upstream.
fn change(world: &World, id: &str, random: &mut SmallRng) {
    let before = world.sandbox.get(id).unwrap_or_default();
    let number = before["modification_number"].as_i64().unwrap_or(-1) + 1;
    let start = in_ms(random.random_range(-2000..300));
    let end = random
        .random_bool(0.5)
        .then(|| in_ms(random.random_range(-500..2000)));
    let mut next = dispatch(id, number, start, end);
    next["authorized"] = random.random_bool(0.8).into();
    // Dispatches share sites.
    let shared = format!("shared{}", random.random_range(0..3));
    next["sites"] = json!([{"id": site_of(id), "name": "own"}, {"id": shared, "name": "shared"}]);
    world.put(next);
}
