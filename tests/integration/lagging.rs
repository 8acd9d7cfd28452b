//! An API whose answers lag behind: replicas, caches, and lists that are wrong
//! for a while.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, now, site_of, wait_until};

fn list(dispatches: &[Value]) -> RawAnswer {
    let body = json!({"dispatches": dispatches, "page": 0, "perPage": 0});
    RawAnswer::json(StatusCode::OK, body.to_string())
}

fn one(dispatch: &Value) -> RawAnswer {
    RawAnswer::json(StatusCode::OK, dispatch.to_string())
}

fn not_found() -> RawAnswer {
    let body = json!({"message": "no such dispatch", "type": "Not Found"});
    RawAnswer::json(StatusCode::NOT_FOUND, body.to_string())
}

/// How long ago that was.
fn since(time: DateTime<Utc>) -> Duration {
    (now() - time).to_std().unwrap_or_default()
}

/// The API's answers about `d` come from a replica that shows `lagging`, or none.
fn replica(world: &World, lagging: Option<&Value>) {
    let dispatches: Vec<Value> = lagging.cloned().into_iter().collect();
    world.list_answers(Some(list(&dispatches)));
    let by_id = lagging.map_or_else(not_found, one);
    world
        .sandbox
        .override_answer(Question::Id("d".into()), Some(by_id));
}

/// The API's answers are its own again.
fn caught_up(world: &World) {
    world.list_answers(None);
    world
        .sandbox
        .override_answer(Question::Id("d".into()), None);
}

fn numbered(number: i64) -> Value {
    dispatch("d", number, in_ms(-60_000), None)
}

async fn is_curtailed(daemon: &Daemon, id: &str) -> bool {
    let site = daemon.get(&format!("/sites/{}", site_of(id))).await;
    site.json["state"] == "curtailed"
}

/// The second table of failures: number 3 known, one list and its look-up say 2,
/// then 3 again.
#[apply(test)]
async fn a_replica_that_shows_a_lower_number_for_seconds_releases_nothing() {
    let world = World::new().await;
    let daemon = world.setup().polling("200ms").ready().await;
    world.put(numbered(3));
    assert_eq!(daemon.webhook("d").await.status, 200);
    assert!(is_curtailed(&daemon, "d").await);
    let before = daemon.schedule().await["revision"].clone();

    let mut lower = numbered(2);
    lower["authorized"] = json!(false);
    replica(&world, Some(&lower));
    wait_until("the lower number is in doubt", async || {
        daemon.health().await["sync"]["in_doubt"]["lower"] == 1
    })
    .await;
    world.wait_for_polls(10).await;
    assert_eq!(daemon.webhook("d").await.status, 503, "it is not believed");
    caught_up(&world);
    wait_until("the doubt has ended", async || {
        daemon.health().await["sync"]["in_doubt"]["lower"] == 0
    })
    .await;
    assert_eq!(daemon.schedule().await["revision"], before);
    assert!(is_curtailed(&daemon, "d").await);
    assert_eq!(daemon.health().await["sync"]["rewinds"], 0);
}

/// The second table of failures: a slow list from before a rewind arrives after the
/// rewind was taken over.
#[apply(test)]
async fn a_slow_list_from_before_a_rewind_undoes_nothing_when_it_arrives_after_it() {
    let world = World::new().await;
    let daemon = world.setup().polling("1h").ready().await;
    let before = dispatch("d", 5, in_ms(3_600_000), None);
    world.put(before.clone());
    assert_eq!(daemon.webhook("d").await.status, 200);
    // The API is restored from a backup, in which the dispatch has begun.
    world.put(numbered(2));
    assert_eq!(daemon.webhook("d").await.status, 503, "it is a question");
    let first = now();
    wait_until("the second look-up is near", async || {
        since(first) > Duration::from_secs(7)
    })
    .await;
    // A list is issued that has the old state, and takes long to arrive.
    world.put(before);
    world.faults(json!({"api_delay_ms": 8000}));
    let polls = world.polls().len();
    let (polled, ()) = tokio::join!(daemon.poll(), async {
        wait_until("the list is on its way", async || {
            let under_way = world.polls();
            under_way.len() > polls && under_way[polls].status.is_some()
        })
        .await;
        world.put(numbered(2));
        world.faults(json!({"api_delay_ms": 0}));
        daemon.wait_for_event(&site_of("d"), "site.curtail").await;
        assert!(since(first) < Duration::from_secs(14), "before the list");
    });
    assert_eq!(polled.status, 200);
    let health = daemon.health().await;
    assert_eq!(health["sync"]["rewinds"], 1);
    assert_eq!(health["sync"]["outdated_answers"], 1);
    assert_eq!(daemon.entry("d").await.unwrap()["modification_number"], 2);
    daemon.wait_until_delivered().await;
    assert_eq!(daemon.types_of(&site_of("d")), ["site.curtail"]);
}

/// The second table of failures: withdrawn wrongly after a second by a replica that
/// lags for three.
#[apply(test)]
async fn a_replica_that_does_not_know_a_dispatch_for_seconds_withdraws_nothing() {
    let world = World::new().await;
    let daemon = world.setup().polling("1s").ready().await;
    world.put(numbered(0));
    assert_eq!(daemon.webhook("d").await.status, 200);
    replica(&world, None);
    world.wait_for_polls(4).await;
    assert_eq!(daemon.webhook("d").await.status, 503);
    caught_up(&world);
    wait_until("the doubt has ended", async || {
        daemon.health().await["sync"]["in_doubt"]["absent"] == 0
    })
    .await;
    assert_eq!(daemon.phase("d").await, "active");
    // From then on the API really does not know it.
    world.sandbox.remove("d");
    let gone = now();
    daemon.wait_for_phase("d", "cancelled").await;
    let took = since(gone);
    assert!(took >= Duration::from_secs(10), "{took:?}");
}

/// The second table of failures: an update's webhook is faster than the replica,
/// and the next poll is far.
#[apply(test)]
async fn an_update_that_the_replica_shows_three_seconds_late_is_taken_in_within_ten() {
    let world = World::new().await;
    let daemon = world.setup().polling("10m").ready().await;
    world.put(numbered(0));
    assert_eq!(daemon.webhook("d").await.status, 200);
    replica(&world, Some(&numbered_as(&daemon).await));
    let mut update = numbered(1);
    update["end_time"] = json!(dispatchd::model::rfc3339(in_ms(-1000)));
    world.put(update);
    let told = now();
    assert_eq!(daemon.webhook("d").await.status, 200, "nothing is new yet");
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(since(told))).await;
    caught_up(&world);
    let entry = daemon.wait_for_phase("d", "ended").await;
    assert!(since(told) < Duration::from_secs(10), "{:?}", since(told));
    assert_eq!(entry["last_changed_by"], "webhook");
    assert_eq!(daemon.health().await["sync"]["heals"], 0);
}

/// The dispatch as the daemon has it: the answer of a replica that lags.
async fn numbered_as(daemon: &Daemon) -> Value {
    let entry = daemon.entry("d").await.unwrap();
    let mut shown = numbered(0);
    for field in ["start_time", "end_time"] {
        shown[field] = entry[field].clone();
    }
    shown
}

/// instantdb#2724: the first read after a create is 404.
#[apply(test)]
async fn a_dispatch_that_is_404_right_after_its_creation_is_known_within_ten_seconds() {
    let world = World::new().await;
    let daemon = world.setup().polling("10m").ready().await;
    let told = now();
    assert_eq!(daemon.webhook("d").await.status, 404);
    world.put(numbered(0));
    daemon.wait_for_phase("d", "active").await;
    assert!(since(told) < Duration::from_secs(10), "{:?}", since(told));
    assert_eq!(world.look_ups("d").len(), 2);
}

/// The second table of failures: 1,000 live, one empty list, a good one, then one
/// really withdrawn.
#[apply(test)]
async fn one_empty_list_of_a_thousand_dispatches_costs_no_look_up() {
    let world = World::new().await;
    let daemon = world.setup().polling("1s").ready().await;
    for number in 0..1000 {
        world.put(dispatch(&format!("d{number}"), 0, in_ms(3_600_000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    world.faults(json!({"empty_list": true}));
    wait_until("it is shown", async || {
        daemon.health().await["sync"]["mass_absence"]["absent"] == 1000
    })
    .await;
    let metrics = daemon.http.get(daemon.status_url("/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("dispatchd_mass_absence 1000\n"),
        "{metrics}"
    );
    world.faults(json!({"empty_list": false}));
    wait_until("it is over", async || {
        daemon.health().await["sync"]["mass_absence"].is_null()
    })
    .await;
    let by_id = |path: &str| path.contains("/dispatches/d");
    let requests = world.sandbox.requests();
    assert!(!requests.iter().any(|request| by_id(&request.path)));
    world.sandbox.remove("d7");
    let gone = now();
    daemon.wait_for_phase("d7", "cancelled").await;
    assert!(since(gone) < Duration::from_secs(20), "{:?}", since(gone));
    assert!(world.look_ups("d8").is_empty());
}

/// The second table of failures: withdrawn while the daemon was down.
#[apply(test)]
async fn a_dispatch_withdrawn_while_the_daemon_was_down_is_cancelled_soon_after_the_start() {
    let world = World::new().await;
    let setup = world.setup().polling("30s");
    let mut daemon = setup.ready().await;
    world.put(numbered(0));
    assert_eq!(daemon.webhook("d").await.status, 200);
    daemon.kill();
    world.sandbox.remove("d");
    let daemon = setup.ready().await;
    let started = now();
    daemon.wait_for_phase("d", "cancelled").await;
    assert!(
        since(started) < Duration::from_secs(15),
        "{:?}",
        since(started)
    );
    assert!(!is_curtailed(&daemon, "d").await);
}
