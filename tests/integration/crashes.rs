//! Killed in the middle of things.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, hint, in_ms, now, site_of, wait_until};

const SEED: u64 = 20_240_518;

/// How often the daemon is killed under load. In every second life it is killed
/// while it starts, too.
const KILLS: usize = 10;

/// Sends webhooks about changes without end, each about a dispatch of its
/// own, and notes what was answered 200.
async fn load(
    world: &World,
    daemon: &Daemon,
    life: usize,
    promised: &RefCell<BTreeMap<String, i64>>,
) {
    let callers = (0..8).map(|caller| async move {
        for turn in 0.. {
            // Some are new, some change.
            let id = format!("d-{caller}-{}", (turn + life * 3) % 12);
            let last = world.sandbox.get(&id).unwrap_or(json!({}));
            let number = last["modification_number"].as_i64().unwrap_or(-1) + 1;
            world.put(dispatch(&id, number, in_ms(3_600_000), None));
            let body = hint(&format!("/2022-04-15/dispatches/{id}"));
            let sent = daemon
                .http
                .post(daemon.webhook_url())
                .body(body)
                .send()
                .await;
            if sent.is_ok_and(|answer| answer.status() == 200) {
                promised.borrow_mut().insert(id, number);
            }
        }
    });
    join_all(callers).await;
}

#[apply(test)]
async fn what_was_answered_200_outlives_every_kill() {
    let mut random = SmallRng::seed_from_u64(SEED);
    let world = World::new().await;
    let setup = world.setup().polling("300ms");
    let promised = RefCell::new(BTreeMap::new());
    let mut revision = 0;
    for life in 0..KILLS {
        if life % 2 == 0 {
            let mut starting = setup.spawn();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
            starting.kill();
        }
        let mut daemon = setup.start().await;
        let restored = daemon.revision().await;
        assert!(
            restored >= revision,
            "the revision went back: {restored} < {revision}"
        );
        let moment = Duration::from_millis(random.random_range(30..500));
        tokio::select! {
            () = load(&world, &daemon, life, &promised) => unreachable!("it never ends"),
            () = tokio::time::sleep(moment) => {}
        }
        revision = daemon.revision().await;
        // Some are under way at this very moment.
        tokio::select! {
            () = load(&world, &daemon, life, &promised) => unreachable!("it never ends"),
            () = tokio::time::sleep(Duration::from_millis(random.random_range(1..20))) => {}
        }
        daemon.kill();
    }
    // Nobody can be asked now: what is there comes from the file.
    world.sandbox.down(true);
    let daemon = setup.start().await;
    let schedule = daemon.schedule().await;
    let numbers: BTreeMap<&str, i64> = schedule["dispatches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["id"].as_str().unwrap(),
                entry["modification_number"].as_i64().unwrap(),
            )
        })
        .collect();
    let promised = promised.into_inner();
    assert!(
        promised.len() >= 20,
        "only {} were answered",
        promised.len()
    );
    for (id, number) in promised {
        let kept = numbers.get(id.as_str());
        assert!(
            kept.is_some_and(|kept| *kept >= number),
            "{id}: {number} was promised, {kept:?} is there"
        );
    }
}

/// What the daemon tells of its dispatches, and of `id` in full. When the API
/// last confirmed them is not worth a write, so it may be older after a start.
async fn told(daemon: &Daemon, id: &str) -> (Value, Value) {
    let mut schedule = daemon.schedule().await;
    let mut entry = daemon.entry(id).await.unwrap();
    let entries = schedule["dispatches"].as_array_mut().unwrap();
    for entry in entries.iter_mut().chain([&mut entry]) {
        entry.as_object_mut().unwrap().remove("last_confirmed");
    }
    schedule.as_object_mut().unwrap().remove("as_of");
    (schedule, entry)
}

#[apply(test)]
async fn a_restart_restores_revision_and_history() {
    let world = World::new().await;
    let setup = world.setup();
    for end in [Signal::TERM, Signal::KILL] {
        world.sandbox.down(false);
        let mut daemon = setup.ready().await;
        let id = format!("d{}", end.as_raw());
        world.known(&daemon, &id).await;
        world.put(dispatch(&id, 2, in_ms(1_800_000), None));
        assert_eq!(daemon.webhook(&id).await.status, 200);
        let before = told(&daemon, &id).await;
        assert_eq!(before.1["history"].as_array().unwrap().len(), 2);
        daemon.stop(end).await;

        world.sandbox.down(true);
        let daemon = setup.start().await;
        assert_eq!(told(&daemon, &id).await, before);
        assert_eq!(
            daemon.get("/readyz").await.status,
            503,
            "it has asked nobody yet"
        );
    }
}

#[apply(test)]
async fn a_restart_catches_up_with_starts_and_ends_that_passed() {
    let world = World::new().await;
    let setup = world.setup();
    let mut daemon = setup.ready().await;
    let (start, end) = (in_ms(4000), in_ms(5000));
    world.put(dispatch("running", 0, in_ms(-1000), Some(end)));
    world.put(dispatch("missed", 0, start, Some(end)));
    world.put(dispatch("begins", 0, start, None));
    for id in ["running", "missed", "begins"] {
        assert_eq!(daemon.webhook(id).await.status, 200);
    }
    daemon
        .wait_for_event(&site_of("running"), "site.curtail")
        .await;
    daemon.kill();
    world.sandbox.down(true);
    wait_until("both moments have passed", async || now() > end).await;

    let daemon = setup.start().await;
    daemon.wait_for_event("missed", "dispatch.ended").await;
    daemon.wait_for_event("running", "dispatch.ended").await;
    daemon
        .wait_for_event(&site_of("running"), "site.release")
        .await;
    daemon
        .wait_for_event(&site_of("begins"), "site.curtail")
        .await;
    assert_eq!(daemon.phase("begins").await, "active");
    let missed = daemon.entry("missed").await.unwrap();
    let history = missed["history"].as_array().unwrap();
    let types: Vec<&str> = history
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        ["dispatch.created", "dispatch.started", "dispatch.ended"]
    );
    assert_eq!(history[2]["source"], "timer");
    daemon.wait_until_delivered().await;
    // Its whole time has passed: there is nothing to do for its site.
    assert!(daemon.events_of(&site_of("missed")).is_empty());
    assert_eq!(
        daemon.types_of(&site_of("running")).last().unwrap(),
        "site.release"
    );
}

#[apply(test)]
async fn an_event_keeps_its_id_when_it_is_delivered_again() {
    let world = World::new().await;
    let setup = world.setup();
    let mut ids: BTreeMap<(String, String), String> = BTreeMap::new();
    world.put(dispatch("d", 0, in_ms(-1000), None));
    for _ in 0..3 {
        let mut daemon = setup.ready().await;
        daemon.wait_until_delivered().await;
        daemon.kill();
        for heard in daemon.events() {
            let key = (
                heard.text("subject").to_owned(),
                heard.text("type").to_owned(),
            );
            let id = heard.text("id").to_owned();
            assert_eq!(ids.entry(key).or_insert_with(|| id.clone()), &id);
        }
    }
    assert_eq!(ids.len(), 3, "created, started, curtail: {ids:?}");
}
