//! What webhooks bring at once, and what the poller heals without them.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::commands::{done, run};
use crate::harness::{Daemon, World, ask, dispatch, in_ms, now, site_of, wait_for, wait_until};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[apply(test)]
async fn a_new_dispatch_is_in_the_schedule_when_its_webhook_is_answered() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    for number in 0..20 {
        let id = format!("d{number}");
        world.put(dispatch(&id, 0, in_ms(60_000), None));
        assert_eq!(daemon.webhook(&id).await.status, 200);
        let entry = daemon.entry(&id).await.unwrap();
        assert_eq!(entry["phase"], "scheduled");
        assert_eq!(entry["discovered_by"], "webhook");
    }
    assert_eq!(
        world.polls().len(),
        1,
        "no poll but the first had a part in it"
    );
}

#[apply(test)]
async fn a_dispatch_without_a_webhook_is_there_within_two_poll_intervals() {
    let world = World::new().await;
    let daemon = world.setup().polling("1s").ready().await;
    let put = now();
    world.put(dispatch("quiet", 0, in_ms(60_000), None));
    let entry = daemon.wait_for_phase("quiet", "scheduled").await;
    assert_eq!(entry["discovered_by"], "poll");
    let took = time(&entry["first_seen"]) - put;
    assert!(took <= TimeDelta::seconds(2), "{took}");
}

#[apply(test)]
async fn more_webhooks_than_the_budget_allows_are_answered_by_one_list() {
    let world = World::new().await;
    // Five at once, of which one is kept for a poll.
    let daemon = world.setup().with("--api-rate", "20").ready().await;
    let ids: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
    for id in &ids {
        world.put(dispatch(id, 0, in_ms(60_000), None));
    }
    let answers = join_all(ids.iter().map(|id| daemon.webhook(id))).await;
    for answer in answers {
        assert_eq!(answer.status, 200);
    }
    let requests = world.sandbox.requests().len();
    assert!(requests <= 8, "{requests}");
    assert_eq!(daemon.health().await["sync"]["heals"], 0);
}

#[apply(test)]
async fn heals_are_the_changes_that_no_webhook_brought() {
    let world = World::new().await;
    world.put(dispatch("first", 0, in_ms(60_000), None));
    let daemon = world.setup().ready().await;
    let heals = async || daemon.health().await["sync"]["heals"].as_u64().unwrap();
    assert_eq!(heals().await, 0, "the first poll heals nothing");

    world.known(&daemon, "told").await;
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(heals().await, 0, "a webhook brought it");

    world.put(dispatch("quiet", 0, in_ms(60_000), None));
    world.put(dispatch("first", 1, in_ms(90_000), None));
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(heals().await, 2);
    let sync = daemon.health().await["sync"].clone();
    assert_eq!(sync["missed_webhooks"], 0, "their webhooks may come yet");
    assert_eq!(sync["webhooks"]["accepted"], 1);
}

/// Voltus asks the address before it takes a registration, and refuses one where nobody
/// answers: the daemon then gets no webhook at all.
#[apply(test)]
async fn a_wrong_public_url_is_told_by_verdict_and_metrics_and_without_one_nothing_is() {
    let world = World::new().await;
    let setup = world.setup().sink("stdout");
    let wrong = setup.clone().with("--public-url", "http://127.0.0.1:1");
    let wrong = wrong.with("--state", "wrong.db").ready().await;
    wrong.wait_for_log("could not be checked or made").await;
    let verdict = wait_for("the verdict tells it", async || {
        let verdict = wrong.health().await["verdict"]["schedule"].clone();
        (verdict["level"] == "warning").then_some(verdict)
    })
    .await;
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.starts_with("The webhook is not registered, so only polls bring changes: the API answered 400: the webhook must answer 200")
            && text.ends_with("check the way from --public-url to --listen: proxy, firewall, certificate."),
        "{text}"
    );
    let registered = async |daemon: &Daemon| {
        let metrics = daemon.http.get(daemon.status_url("/metrics")).send().await;
        let metrics = metrics.unwrap().text().await.unwrap();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("dispatchd_webhook_registered"));
        line.map(str::to_owned)
    };
    assert_eq!(
        registered(&wrong).await.as_deref(),
        Some("dispatchd_webhook_registered 0")
    );
    let without = setup.ready().await;
    assert_eq!(registered(&without).await, None);
    assert_eq!(without.health().await["sync"]["registration"], json!(null));
    assert_eq!(without.health().await["verdict"]["schedule"]["level"], "ok");
}

/// The daemon does not know of a webhook that was registered by hand.
#[apply(test)]
async fn a_webhook_registered_by_hand_that_never_comes_is_told_where_operators_look() {
    let world = World::new().await;
    let daemon = world.setup().sink("stdout").polling("1s").ready().await;
    let wrong = format!("{}/old-secret", daemon.webhook_url());
    let wrong = daemon.http.post(wrong);
    assert_eq!(ask(wrong.body("{}")).await.status, 404);
    world.put(dispatch("a", 0, in_ms(3_600_000), None));
    daemon.wait_for_phase("a", "scheduled").await;
    tokio::time::sleep(std::time::Duration::from_secs(45)).await;
    wait_until("the change counts", async || {
        daemon.health().await["sync"]["polled_only_changes"] == 1
    })
    .await;
    let health = daemon.health().await;
    assert_eq!(health["sync"]["unannounced_changes"], 0);
    // Many daemons only poll, on purpose.
    assert_eq!(health["verdict"]["schedule"]["level"], "ok");
    let line = daemon
        .wait_for_log("registered by hand does not get in")
        .await;
    assert!(
        line.contains(" INFO ") && line.contains("`dispatchd webhook list`"),
        "{line}"
    );
    let table = done(&run(&world, Some(&daemon), &["status"]).await);
    let words: Vec<&str> = table.split_whitespace().collect();
    let words = words.join(" ");
    for told in [
        "webhooks none received since the start. dispatchd registers none without --public-url;",
        "see `dispatchd webhook list`, and check the way",
        "1 came to a wrong path or with a wrong secret",
        "heals 1 change found by polls, no webhook has come for",
    ] {
        assert!(words.contains(told), "{told}: {words}");
    }
    assert_eq!(daemon.webhook("a").await.status, 200);
    assert_eq!(daemon.health().await["sync"]["polled_only_changes"], 0);
}

/// Otherwise an operator would read "0 webhooks missed" for weeks.
#[apply(test)]
async fn a_registered_webhook_that_never_comes_is_told_until_one_comes() {
    let world = World::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let setup = world.setup().polling("1s").with("--listen", listen);
    let setup = setup.with("--public-url", format!("http://{listen}"));
    let daemon = setup.ready().await;
    daemon.wait_for_log("the webhook was registered").await;
    let unannounced = async || daemon.health().await["sync"]["unannounced_changes"].clone();
    // A change that is found within a poll interval may be older than the registration.
    world.wait_for_polls(world.polls().len() + 2).await;
    for id in ["a", "b"] {
        world.put(dispatch(id, 0, in_ms(3_600_000), None));
    }
    daemon.wait_for_phase("b", "scheduled").await;
    assert_eq!(
        unannounced().await,
        0,
        "their webhooks may come within a minute"
    );
    tokio::time::sleep(std::time::Duration::from_secs(45)).await;
    wait_until("the changes count as unannounced", async || {
        unannounced().await == 2
    })
    .await;
    let health = daemon.health().await;
    assert_eq!(health["sync"]["missed_webhooks"], 0);
    let verdict = &health["verdict"]["schedule"];
    assert_eq!(verdict["level"], "warning");
    let text = verdict["text"].as_str().unwrap();
    assert!(text.contains("2 changes: webhooks do not get in"), "{text}");

    assert_eq!(daemon.webhook("a").await.status, 200);
    assert_eq!(unannounced().await, 0);
    assert_eq!(daemon.health().await["verdict"]["schedule"]["level"], "ok");
    daemon
        .wait_for_log("the first webhook since the start has come")
        .await;
    let warned = daemon
        .log()
        .into_iter()
        .filter(|line| line.contains("webhooks do not get in"));
    assert_eq!(warned.count(), 1);
}

#[apply(test)]
async fn an_end_that_comes_while_the_api_is_down_is_kept_on_time() {
    let world = World::new().await;
    let daemon = world.setup().polling("500ms").ready().await;
    let ids: Vec<String> = (0..5).map(|number| format!("d{number}")).collect();
    let first_end = in_ms(2500);
    for (id, place) in ids.iter().zip(0..) {
        let end = first_end + TimeDelta::milliseconds(300) * place;
        world.put(dispatch(id, 0, in_ms(-1000), Some(end)));
        assert_eq!(daemon.webhook(id).await.status, 200);
    }
    world.sandbox.down(true);
    for id in &ids {
        let ended = daemon.wait_for_event(id, "dispatch.ended").await;
        assert_eq!(ended.event["data"]["source"], "timer");
        let end = time(&ended.event["data"]["end_time"]);
        assert!(ended.time() >= end, "it was ended too early: {ended:?}");
        let late = ended.at - end;
        assert!(late <= TimeDelta::seconds(2), "{late}");
        let released = daemon.wait_for_event(&site_of(id), "site.release").await;
        assert!(released.time() >= end);
    }
}

#[apply(test)]
async fn the_daemon_says_when_it_is_blind_and_when_it_sees_again() {
    let world = World::new().await;
    let daemon = world.setup().polling("400ms").ready().await;
    world.put(dispatch("d", 0, in_ms(1500), Some(in_ms(2500))));
    assert_eq!(daemon.webhook("d").await.status, 200);
    assert_eq!(daemon.health().await["sync"]["state"], "fresh");

    world.sandbox.down(true);
    let stale = daemon.wait_for_event("dispatchd", "sync.stale").await;
    let last = time(&stale.event["data"]["last_successful_poll"]);
    assert!(
        stale.time() - last >= TimeDelta::milliseconds(1200),
        "{stale:?}"
    );
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let reason = ready.json["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("no poll has succeeded for 1s 200ms"),
        "{reason}"
    );
    let sync = daemon.health().await["sync"].clone();
    assert_eq!(sync["state"], "stale");
    assert_eq!(sync["last_poll"]["ok"], false);
    // What is known is still done.
    daemon.wait_for_phase("d", "ended").await;

    world.sandbox.down(false);
    daemon.wait_until_ready().await;
    daemon.wait_for_event("dispatchd", "sync.recovered").await;
    let told = daemon.types_of("dispatchd");
    assert_eq!(told[..2], ["sync.stale", "sync.recovered"]);
    let sync = daemon.health().await["sync"].clone();
    assert_eq!(sync["state"], "fresh");
    assert_eq!(sync["last_poll"]["error"], Value::Null);
}

#[apply(test)]
async fn whoever_asks_for_a_poll_is_answered_after_it() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.put(dispatch("d", 0, in_ms(60_000), None));
    let polled = daemon.poll().await;
    assert_eq!(
        (polled.status, &polled.json["ok"]),
        (200, &Value::Bool(true))
    );
    let schedule = daemon.schedule().await;
    assert_eq!(schedule["dispatches"][0]["id"], "d");
    assert_eq!(schedule["revision"], polled.json["revision"]);

    world.sandbox.down(true);
    let refused = daemon.poll().await;
    assert_eq!(refused.status, 503);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(refused.json["ok"], false);
    world.sandbox.down(false);
    wait_until("a poll succeeds again", async || {
        daemon.poll().await.status == 200
    })
    .await;
}
