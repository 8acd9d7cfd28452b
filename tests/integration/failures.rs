//! What happened to others (see the table in the design), each as a test that
//! is named for it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatchd::sandbox::{Ending, Event, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, site_of, wait_until};

fn number_of(entry: &Value) -> i64 {
    entry["modification_number"].as_i64().unwrap()
}

async fn number(daemon: &Daemon, id: &str) -> i64 {
    number_of(&daemon.entry(id).await.unwrap())
}

/// A program that adds the event it is given to `seen`, and then does `rest`.
fn program(world: &World, rest: &str) -> PathBuf {
    let path = world.path("program");
    let seen = world.path("seen");
    let text = format!(
        "#!/bin/sh\nread -r event\necho \"$event\" >> {}\n{rest}\n",
        seen.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The events that the program was given, as `type` and `subject`.
fn given(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.path("seen")).unwrap_or_default();
    // The last line may be half written.
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn given_of(world: &World, kind: &str, subject: &str) -> Vec<Value> {
    let mut events = given(world);
    events.retain(|event| event["type"] == kind && event["subject"] == subject);
    events
}

/// argo-cd#3473, #18480, #18212: an outage read as empty deletes everything.
#[apply(test)]
async fn an_empty_or_garbled_list_deletes_nothing() {
    let world = World::new().await;
    let daemon = world.setup().polling("100ms").ready().await;
    for id in ["a", "b", "c"] {
        world.known(&daemon, id).await;
    }
    let before = daemon.schedule().await;
    world.faults(json!({"empty_list": true}));
    world.wait_for_polls(4).await;
    world.faults(json!({"empty_list": false, "truncate_bodies": 1.0}));
    world.wait_for_polls(2).await;
    let after = daemon.schedule().await;
    assert_eq!(after["revision"], before["revision"]);
    for dispatch in after["dispatches"].as_array().unwrap() {
        assert_eq!(dispatch["phase"], "scheduled");
    }
    assert_eq!(after["dispatches"].as_array().unwrap().len(), 3);
}

/// openleadr-python#42: a dispatch that left the list is cancelled.
#[apply(test)]
async fn a_dispatch_that_left_the_list_is_looked_up_first() {
    let world = World::new().await;
    let daemon = world.setup().polling("100ms").ready().await;
    world.known(&daemon, "d").await;
    let look_ups = world.look_ups("d").len();
    world.sandbox.hide_from_list("d", true);
    wait_until("it is looked up, poll after poll", async || {
        world.look_ups("d").len() >= look_ups + 4
    })
    .await;
    assert_eq!(daemon.phase("d").await, "scheduled");
    world.sandbox.remove("d");
    let entry = daemon.wait_for_phase("d", "cancelled").await;
    assert_eq!(entry["cancel_reason"], "withdrawn");
}

/// stripe/sync-engine#268: two updates within one second, the newer discarded.
#[apply(test)]
async fn of_two_updates_within_one_second_the_newer_stays() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.sandbox.add_webhook(daemon.webhook_url());
    world.known(&daemon, "d").await;
    // Answers are on their way for a while and tell what was true before.
    world.faults(json!({"api_delay_ms": 400}));
    let newest = in_ms(7_200_000);
    for (number, start) in [(2, in_ms(1_800_000)), (3, newest)] {
        let looked = world.look_ups("d").len();
        let update = dispatch("d", number, start, None);
        world.sandbox.put(update, true).unwrap();
        if number == 2 {
            wait_until("the first is being looked at", async || {
                world.look_ups("d").len() > looked
            })
            .await;
        }
    }
    wait_until("both are answered", async || {
        world.sandbox.log().deliveries.len() == 2
    })
    .await;
    let entry = daemon.entry("d").await.unwrap();
    assert_eq!(number_of(&entry), 3);
    let start: DateTime<Utc> = entry["start_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(start, newest);
}

/// The same without numbers: an older answer comes in after a newer one.
#[apply(test)]
async fn an_older_answer_that_comes_late_changes_nothing() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let unnumbered = |start| {
        let mut unnumbered = dispatch("d", 0, start, None);
        unnumbered
            .as_object_mut()
            .unwrap()
            .remove("modification_number");
        unnumbered
    };
    world.put(unnumbered(in_ms(3_600_000)));
    assert_eq!(daemon.webhook("d").await.status, 200);
    world.faults(json!({"api_delay_ms": 1500}));
    let polls = world.polls().len();
    let newest = in_ms(7_200_000);
    let (polled, ()) = tokio::join!(daemon.poll(), async {
        wait_until("the poll is under way", async || {
            let under_way = world.polls();
            // Its answer is settled, and not yet here.
            under_way.len() > polls && under_way[polls].status.is_some()
        })
        .await;
        world.faults(json!({"api_delay_ms": 0}));
        world.put(unnumbered(newest));
        assert_eq!(daemon.webhook("d").await.status, 200);
    });
    assert_eq!(polled.status, 200);
    let entry = daemon.entry("d").await.unwrap();
    let start: DateTime<Utc> = entry["start_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(start, newest);
    assert_eq!(daemon.health().await["sync"]["outdated_answers"], 1);
}

/// cloud-on-k8s#4956: a restart reads older state than it had acted on.
#[apply(test)]
async fn a_restart_does_not_go_back_to_an_older_list() {
    let world = World::new().await;
    let setup = world.setup().polling("200ms");
    let mut daemon = setup.ready().await;
    // A replica that is behind answers for the list from now on.
    let old = dispatch("d", 1, in_ms(3_600_000), None);
    let list = json!({"dispatches": [old], "page": 0, "perPage": 0}).to_string();
    world.list_answers(Some(RawAnswer::json(StatusCode::OK, list)));
    world.put(dispatch("d", 2, in_ms(-1000), None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    daemon.kill();

    let daemon = setup.ready().await;
    world.wait_for_polls(4).await;
    let entry = daemon.entry("d").await.unwrap();
    assert_eq!((number_of(&entry), &entry["phase"]), (2, &json!("active")));
    assert!(
        !daemon
            .types_of(&site_of("d"))
            .contains(&"site.release".to_owned())
    );
}

/// kubernetes#107457: numbers rewind after a restore.
#[apply(test)]
async fn numbers_that_rewind_are_taken_over_and_told() {
    let world = World::new().await;
    let daemon = world.setup().polling("100ms").ready().await;
    world.put(dispatch("d", 7, in_ms(3_600_000), None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    let restored = in_ms(5_400_000);
    world.put(dispatch("d", 3, restored, None));
    wait_until("the restored state is taken over", async || {
        number(&daemon, "d").await == 3
    })
    .await;
    assert_eq!(daemon.health().await["sync"]["rewinds"], 1);
    assert!(daemon.log().iter().any(|line| line.contains("went back")));
    // It goes on from there.
    world.put(dispatch("d", 4, restored, None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    assert_eq!(number(&daemon, "d").await, 4);
}

/// kube-rs#717, external-dns#1458: a connection hangs silently for hours.
#[apply(test)]
async fn a_hanging_api_times_out_and_things_go_on() {
    let world = World::new().await;
    let setup = world.setup().polling("500ms");
    let daemon = setup.with("--webhook-deadline", "500ms").ready().await;
    let half = RawAnswer::json(StatusCode::OK, r#"{"dispatches": ["#);
    world.list_answers(Some(half.ending(Ending::Hangs)));
    world.wait_for_polls(1).await;
    // Others are served meanwhile.
    world.known(&daemon, "told").await;
    wait_until("the poll gives up", async || {
        let health = daemon.health().await;
        let error = health["sync"]["last_poll"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        error.contains("did not answer in time")
    })
    .await;
    assert_eq!(daemon.get("/readyz").await.status, 503);
    world.list_answers(None);
    world.put(dispatch("polled", 0, in_ms(60_000), None));
    daemon.wait_for_phase("polled", "scheduled").await;
    daemon.wait_until_ready().await;
}

/// external-dns#1200: state is recorded before the action failed, so it is
/// never tried again.
#[apply(test)]
async fn a_command_that_failed_is_tried_again_also_after_a_restart() {
    let world = World::new().await;
    let works = world.path("works");
    let program = program(&world, &format!("test -e {}", works.display()));
    let setup = world.setup().sink(format!("exec:{}", program.display()));
    let mut daemon = setup.ready().await;
    world.put(dispatch("d", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    let curtails = || given_of(&world, "site.curtail", &site_of("d"));
    wait_until("the command fails", async || !curtails().is_empty()).await;
    wait_until("it is known to have failed", async || {
        daemon.health().await["delivery"][0]["failed_attempts"].as_u64() >= Some(1)
    })
    .await;
    daemon.kill();

    let daemon = setup.start().await;
    let attempts = curtails().len();
    wait_until("it is tried again", async || curtails().len() > attempts).await;
    std::fs::write(works, "").unwrap();
    daemon.wait_until_delivered().await;
    let curtails = curtails();
    assert!(
        curtails
            .iter()
            .all(|event| event["id"] == curtails[0]["id"])
    );
}

/// openleadr-python: one event's failing handler takes the whole batch with it.
#[apply(test)]
async fn a_handler_that_fails_for_one_dispatch_holds_up_no_other() {
    let world = World::new().await;
    let program = program(&world, r#"test "$DISPATCHD_EVENT_SUBJECT" != bad"#);
    let daemon = world
        .setup()
        .sink(format!("exec:{}", program.display()))
        .ready()
        .await;
    for id in ["bad", "good", "fine"] {
        world.put(dispatch(id, 0, in_ms(60_000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    wait_until("the others are delivered", async || {
        daemon.health().await["delivery"][0]["delivered"] == 2
    })
    .await;
    for id in ["good", "fine"] {
        assert_eq!(given_of(&world, "dispatch.created", id).len(), 1);
    }
    wait_until("the bad one is tried again", async || {
        given_of(&world, "dispatch.created", "bad").len() >= 2
    })
    .await;
    assert_eq!(daemon.health().await["delivery"][0]["pending"], 1);
}

/// evcc#25545: the fail-safe is never left after the source is back.
#[apply(test)]
async fn blindness_ends_by_itself() {
    let world = World::new().await;
    let daemon = world.setup().polling("200ms").ready().await;
    for _ in 0..2 {
        daemon.wait_until_ready().await;
        world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
        wait_until("the daemon is blind", async || {
            daemon.health().await["sync"]["state"] == "stale"
        })
        .await;
        world.faults(json!({"api_error_rate": 0.0}));
    }
    daemon.wait_until_ready().await;
    world.known(&daemon, "d").await;
}

/// argo-cd#29767: every client polls at the same second.
#[apply(test)]
async fn polls_are_spread_by_a_tenth_of_the_interval() {
    let world = World::new().await;
    let daemon = world.setup().polling("10m").ready().await;
    let mut waits = Vec::new();
    for _ in 0..30 {
        assert_eq!(daemon.poll().await.status, 200);
        let health = daemon.health().await;
        let next: DateTime<Utc> = health["sync"]["next_poll"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let last = &health["sync"]["last_poll"];
        let ended: DateTime<Utc> = last["at"].as_str().unwrap().parse().unwrap();
        let took = Duration::from_millis(last["duration_ms"].as_u64().unwrap());
        waits.push((next - (ended - took)).as_seconds_f64());
    }
    waits.sort_by(f64::total_cmp);
    let (least, most) = (waits[0], waits[29]);
    // Two seconds for what the daemon does between the two times that it tells.
    assert!(least >= 538.0 && most <= 662.0, "{waits:?}");
    assert!(most - least > 30.0, "{waits:?}");
}

/// Argo CD, CVE-2024-40634: a large payload without credentials exhausts memory.
#[apply(test)]
async fn a_large_payload_is_refused_and_takes_no_memory() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let before = daemon.memory("VmRSS");
    let body = bytes::Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    let posts = (0..8).map(|_| {
        daemon
            .http
            .post(daemon.webhook_url())
            .body(body.clone())
            .send()
    });
    for answer in futures_util::future::join_all(posts).await {
        assert!(answer.is_ok_and(|answer| answer.status() == 413));
    }
    let grown = daemon.memory("VmHWM").saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
    world.known(&daemon, "d").await;
}

#[apply(test)]
async fn duplicated_and_overtaking_webhooks_end_on_the_newest_state() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.sandbox.add_webhook(daemon.webhook_url());
    world.faults(json!({"duplicate_webhooks": 1.0, "webhook_delay_ms": [0, 300]}));
    for number in 0..10 {
        let update = dispatch("d", number, in_ms(3_600_000 + number * 1000), None);
        world.sandbox.put(update, true).unwrap();
    }
    world.sandbox.webhook_now("d", Event::Update);
    wait_until("all are answered", async || {
        world.sandbox.log().deliveries.len() == 21
    })
    .await;
    let log = world.sandbox.log();
    assert!(
        log.deliveries
            .iter()
            .all(|delivery| delivery.outcome.succeeded())
    );
    assert_eq!(number(&daemon, "d").await, 9);
}
