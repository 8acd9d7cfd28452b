//! What the log says to whoever reads it at three in the morning: what was started and
//! loaded, what fails and why, when it is tried again and when it is over. Each once.

use chrono::DateTime;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Daemon, Manner, Receiver, World, dispatch, in_ms, wait_until};

/// The lines of the log with `words` in them.
fn lines(daemon: &Daemon, words: &str) -> Vec<String> {
    let mut log = daemon.log();
    log.retain(|line| line.contains(words));
    log
}

/// The only line with `words` in it.
fn only(daemon: &Daemon, words: &str) -> String {
    let found = lines(daemon, words);
    assert_eq!(found.len(), 1, "{words:?} in {:#?}", daemon.log());
    found.concat()
}

#[track_caller]
fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line}");
    }
}

#[apply(test)]
async fn a_start_says_what_runs_what_was_loaded_and_that_the_first_poll_succeeded() {
    let world = World::new().await;
    let mut daemon = world.setup().ready().await;
    says(
        &only(&daemon, "loaded "),
        &["INFO", "loaded 0 dispatches, 0 active", "state=state.db"],
    );
    says(&only(&daemon, "first poll"), &["dispatches=0", "took="]);
    world.put(dispatch("soon", 1, in_ms(3_600_000), None));
    world.put(dispatch("now", 1, in_ms(-60_000), None));
    daemon.poll().await;
    daemon.wait_for_phase("now", "active").await;
    assert!(daemon.stop(Signal::TERM).await.success());

    let receiver = Receiver::new().await;
    let setup = world.setup().polling("200ms").sink(receiver.sink());
    let setup = setup.with("--forget-sink", "stdout");
    let daemon = setup.ready().await;
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    says(&only(&daemon, "dispatchd has started"), &["INFO", version]);
    says(
        &only(&daemon, "polls the API every 200ms"),
        &[
            &format!("api={}", world.sandbox.url()),
            "environment=\"sandbox\"",
        ],
    );
    says(
        &only(&daemon, "loaded "),
        &["loaded 2 dispatches, 1 active", "curtailed_sites=1"],
    );
    let webhooks = format!("webhooks come in at {}", daemon.webhook_url());
    only(&daemon, &webhooks);
    only(
        &daemon,
        &format!("status is told at {}", daemon.status_url("")),
    );
    only(&daemon, &format!("events go to {}", receiver.sink()));
    says(
        &only(&daemon, "first poll"),
        &["INFO", "dispatches=2", "took="],
    );
    world.wait_for_polls(3).await;
    only(&daemon, "first poll");
    for line in daemon.log() {
        let time = line.split(' ').next().unwrap();
        assert!(time.ends_with('Z'), "{line}");
        DateTime::parse_from_rfc3339(time).unwrap();
    }
}

#[apply(test)]
async fn what_happens_to_dispatches_and_sites_is_told_in_plain_words() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let start = in_ms(-60_000);
    world.put(dispatch("d", 1, start, None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    let line = daemon.wait_for_log(" curtail ").await;
    says(&line, &["site=site-d", "kw=12", "until=open"]);
    world.put(dispatch("d", 2, start, Some(in_ms(-1000))));
    assert_eq!(daemon.webhook("d").await.status, 200);
    let line = daemon.wait_for_log(" release ").await;
    assert!(!line.contains("until") && !line.contains("kw="), "{line}");
    only(&daemon, "updated (end_time, modification_number)");
}

#[apply(test)]
async fn without_a_sink_the_start_warns_that_nobody_is_told() {
    let world = World::new().await;
    let daemon = world.setup().sink("none").ready().await;
    says(&only(&daemon, "no sink is configured"), &["WARN"]);
    assert!(lines(&daemon, "events go to").is_empty());
}

#[apply(test)]
async fn an_api_that_fails_is_told_once_and_so_is_its_coming_back() {
    let world = World::new().await;
    let daemon = world.setup().polling("200ms").ready().await;
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 502}));
    let stale = daemon.wait_for_log("the schedule is stale").await;
    says(&stale, &["ERROR", "502", "next_try=in ", "for 600ms"]);
    world.wait_for_polls(3).await;
    says(
        &only(&daemon, "a poll failed"),
        &["WARN", "502", "next_try=in "],
    );
    only(&daemon, "the schedule is stale");
    world.faults(json!({"api_error_rate": 0.0}));
    let recovered = daemon.wait_for_log("can be trusted again").await;
    says(&recovered, &["INFO", "stale_for="]);
    daemon.wait_until_ready().await;

    // It flaps: the log does not.
    for rate in [1.0, 0.0, 1.0, 0.0] {
        world.faults(json!({"api_error_rate": rate}));
        world.wait_for_polls(3).await;
    }
    daemon.wait_until_ready().await;
    for words in [
        "a poll failed",
        "the schedule is stale",
        "can be trusted again",
        "slowed down",
    ] {
        assert!(lines(&daemon, words).len() <= 1, "{:#?}", daemon.log());
    }
}

#[apply(test)]
async fn an_api_that_cannot_be_reached_is_named_with_the_reason() {
    let world = World::new().await;
    let daemon = world.setup().polling("200ms").ready().await;
    let url = world.sandbox.url();
    world.sandbox.stop();
    world.sandbox.stopped().await;
    let failed = daemon.wait_for_log("cannot be reached at").await;
    says(
        &failed,
        &[&format!("{url}: Connection refused"), "--api-url"],
    );
}

#[apply(test)]
async fn a_sink_that_fails_is_told_once_with_the_next_try_and_so_is_its_recovery() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    receiver.behave(Manner::Fails);
    for id in ["a", "b", "c"] {
        world.known(&daemon, id).await;
    }
    let failed = daemon.wait_for_log("could not be delivered").await;
    let sink = format!("sink=\"{}\"", receiver.sink());
    says(&failed, &["WARN", &sink, "503", "next_try=in "]);
    let asked = receiver.asked();
    wait_until("more attempts", async || receiver.asked() > asked + 5).await;
    receiver.behave(Manner::Takes);
    let recovered = daemon
        .wait_for_log("no event fails at the sink any more")
        .await;
    says(&recovered, &["INFO", &sink, "failed_for="]);

    // It fails and recovers again, within the same minute.
    receiver.behave(Manner::Fails);
    let asked = receiver.asked();
    world.known(&daemon, "d").await;
    wait_until("a failed attempt", async || receiver.asked() > asked).await;
    receiver.behave(Manner::Takes);
    daemon.wait_until_delivered().await;
    only(&daemon, "could not be delivered");
    only(&daemon, "no event fails at the sink any more");
}

#[apply(test)]
async fn a_registration_that_cannot_be_made_and_then_is_made_is_told() {
    let world = World::new().await;
    world.sandbox.down(true);
    // The port must be known to the API before the daemon has it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let public = format!("http://{listen}");
    let setup = world.setup().with("--listen", listen);
    let setup = setup.with("--public-url", &public).polling("1s");
    let mut daemon = setup.start().await;
    let url = format!("url={public}/dispatch-listener");
    let failed = daemon.wait_for_log("could not be checked or made").await;
    says(&failed, &["WARN", &url, "next_try=in ", "error=the API"]);
    let registration = async || daemon.health().await["sync"]["registration"].clone();
    let unregistered = registration().await;
    assert_eq!(unregistered["registered"], false);
    assert!(unregistered["error"].is_string(), "{unregistered}");
    world.sandbox.down(false);
    let made = daemon.wait_for_log("the webhook was registered").await;
    says(&made, &["INFO", &url, "webhook="]);
    let over = daemon.wait_for_log("is as it must be again").await;
    says(&over, &["INFO", &url, "failed_for="]);
    wait_until("the status tells it", async || {
        registration().await == json!({"registered": true, "error": null})
    })
    .await;
    only(&daemon, "could not be checked or made");
    assert!(daemon.stop(Signal::TERM).await.success());

    let daemon = setup.ready().await;
    let known = daemon
        .wait_for_log("the webhook is registered already")
        .await;
    says(&known, &["INFO", &url]);
}

#[apply(test)]
async fn debug_is_about_dispatchd_and_a_library_is_heard_when_it_is_named() {
    let world = World::new().await;
    let heard = async |filter: &str| {
        let setup = world.setup().with("--log-format", "json");
        let mut daemon = setup.variable("RUST_LOG", filter).spawn();
        daemon.wait_for_log("the first poll succeeded").await;
        assert!(daemon.stop(Signal::TERM).await.success());
        daemon.log()
    };
    let debug = heard("debug").await;
    let from_http = |line: &String| line.contains("connecting") || line.contains("pooling");
    assert!(!debug.iter().any(from_http), "{debug:#?}");
    let named = heard("info,hyper_util=trace").await;
    assert!(named.iter().any(from_http), "{named:#?}");
    for line in debug {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}
