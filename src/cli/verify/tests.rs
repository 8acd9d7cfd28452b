//! The proof, with a daemon that gets the dispatch and one that does not.

use warp::Filter;

use super::*;
use crate::cli::testing::{Running, admin, client, free_address, sandbox};
use crate::sandbox::Sandbox;

fn proof(sandbox: &Sandbox, daemon: DaemonClient, timeout: Duration) -> Proof {
    let clock = SystemClock::new();
    let now = clock
        .now()
        .wall
        .duration_trunc(TimeDelta::seconds(1))
        .unwrap();
    Proof {
        admin: admin(sandbox),
        daemon,
        clock,
        start: now + TimeDelta::minutes(5),
        end: now + TimeDelta::minutes(10),
        program_id: None,
        timeout: Some(timeout),
    }
}

async fn told(proof: &Proof) -> (Result<proof::Brought, String>, String) {
    let mut lines = Vec::new();
    let result = proof
        .run(&mut |text| {
            lines.push(text.to_owned());
            Ok(())
        })
        .await;
    let result = result.map_err(|failure| match failure {
        Failure::Runtime(text) | Failure::Usage(text) | Failure::OnlyPoll(text) => text,
    });
    (result, lines.join("\n"))
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_webhook_brings_it() {
    let sandbox = sandbox().await;
    let args = ["--poll-interval", "1h"];
    let daemon = Running::start(&sandbox, &args).await;
    sandbox.add_webhook(format!("http://{}/dispatch-listener", daemon.listen));
    let (brought, told) = told(&proof(&sandbox, daemon.client(), LONG)).await;
    let brought = brought.unwrap();
    assert_eq!(brought.by, "webhook");
    assert!(sandbox.get(brought.id.as_str()).is_some());
    assert!(
        told.contains("webhook brought it to the daemon after "),
        "{told}"
    );
}

#[tokio::test]
async fn a_poll_brings_it_where_no_webhook_is_registered() {
    let sandbox = sandbox().await;
    let args = ["--poll-interval", "300ms"];
    let daemon = Running::start(&sandbox, &args).await;
    let (brought, told) = told(&proof(&sandbox, daemon.client(), LONG)).await;
    assert_eq!(brought.unwrap().by, "poll");
    assert!(told.contains("no webhook is registered: "), "{told}");
}

/// Why only a poll brought it, with `time` for the webhook to come.
async fn only_a_poll(sandbox: &Sandbox, daemon: &Running, time: Duration) -> String {
    let (brought, _) = told(&proof(sandbox, daemon.client(), time)).await;
    let said = brought.unwrap_err();
    assert!(said.starts_with("only a poll brought "), "{said}");
    said
}

/// Enough for some polls of 300 ms.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_poll_alone_is_not_enough_where_a_webhook_is_registered() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &["--poll-interval", "300ms"]).await;
    // Nobody listens there.
    let nowhere = free_address().await;
    sandbox.add_webhook(format!("http://{nowhere}/dispatch-listener/hush"));
    let said = only_a_poll(&sandbox, &daemon, SHORT).await;
    assert!(said.contains(&nowhere.to_string()), "{said}");
    assert!(said.contains("; no webhook came: check that "), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let here = format!("http://{}/dispatch-listener/old", daemon.listen);
    sandbox.add_webhook(here);
    let said = only_a_poll(&sandbox, &daemon, SHORT).await;
    assert!(
        said.contains("although 2 webhooks are registered"),
        "{said}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_slower_than_the_poll_is_waited_for() {
    let sandbox = sandbox().await;
    let faults = serde_json::json!({"webhook_delay_ms": [2000, 2000]});
    sandbox.change_faults(&faults).unwrap();
    let daemon = Running::start(&sandbox, &["--poll-interval", "300ms"]).await;
    sandbox.add_webhook(format!("http://{}/dispatch-listener", daemon.listen));
    let (brought, told) = told(&proof(&sandbox, daemon.client(), LONG)).await;
    assert_eq!(brought.unwrap().by, "poll");
    assert!(
        told.ends_with("a webhook was accepted, too, after the poll"),
        "{told}"
    );
}

#[tokio::test]
async fn nothing_is_made_where_the_registrations_cannot_be_listed() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &["--poll-interval", "1h"]).await;
    let faults = serde_json::json!({"api_error_rate": 1, "api_error_status": 500});
    sandbox.change_faults(&faults).unwrap();
    let failure = told(&proof(&sandbox, daemon.client(), LONG))
        .await
        .0
        .unwrap_err();
    assert!(
        failure.starts_with("the registered webhooks cannot be listed: "),
        "{failure}"
    );
    assert!(failure.ends_with("no test dispatch was made"), "{failure}");
}

#[tokio::test]
async fn a_registration_without_new_dispatches_is_named_as_the_reason() {
    let webhook = crate::voltus::Webhook {
        id: "w1".parse().unwrap(),
        url: crate::voltus::WebhookUrl::new("http://a.example/dispatch-listener"),
        events: vec!["dispatch.update".to_owned()],
    };
    let said = proof::remedy(&proof::Came::default(), &[webhook]);
    assert!(said.contains("registered for dispatch.create"), "{said}");
}

#[tokio::test]
async fn an_absurd_poll_interval_of_the_daemon_is_no_reason_to_panic() {
    let sandbox = sandbox().await;
    let long_ago = "2026-01-01T00:00:00Z";
    // All that any path may be asked for.
    let told = serde_json::json!({
        "now": long_ago,
        "sync": {"state": "fresh", "poll_interval_seconds": 1.8e19},
        "id": "x", "phase": "scheduled", "start_time": long_ago, "first_seen": long_ago,
        "discovered_by": "webhook",
    });
    let daemon = stub(told).await;
    let proof = Proof {
        timeout: None,
        ..proof(&sandbox, client(daemon), LONG)
    };
    let (brought, _) = super::tests::told(&proof).await;
    assert_eq!(brought.unwrap().by, "webhook");
}

/// A peer that answers every request with `body`.
async fn stub(body: serde_json::Value) -> std::net::SocketAddr {
    use warp::Filter;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = warp::any().map(move || crate::http::json_reply(http::StatusCode::OK, &body));
    tokio_util::task::TaskTracker::new().spawn(crate::http::serve(
        listener,
        warp::service(routes),
        crate::http::Bounds::default(),
        tokio_util::sync::CancellationToken::new(),
    ));
    address
}

#[tokio::test]
async fn the_program_to_test_is_passed_on() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &["--poll-interval", "300ms"]).await;
    let proof = Proof {
        program_id: Some(867),
        ..proof(&sandbox, daemon.client(), LONG)
    };
    let id = told(&proof).await.0.unwrap().id;
    let made = sandbox.get(id.as_str()).unwrap();
    assert_eq!(made["program"]["id"], 867);
}

#[tokio::test]
async fn one_of_the_same_times_that_was_there_before_is_not_taken_for_it() {
    let sandbox = sandbox().await;
    let args = ["--poll-interval", "300ms"];
    let daemon = Running::start(&sandbox, &args).await;
    let proof = proof(&sandbox, daemon.client(), LONG);
    let first = told(&proof).await.0.unwrap().id;
    let second = told(&proof).await.0.unwrap().id;
    assert_ne!(first, second);
}

#[tokio::test]
async fn nothing_is_proved_by_a_daemon_that_asks_another_api() {
    let (ours, theirs) = (sandbox().await, sandbox().await);
    let daemon = Running::start(&theirs, &[]).await;
    let proof = proof(&ours, daemon.client(), Duration::from_millis(600));
    let failure = told(&proof).await.0.unwrap_err();
    assert!(
        failure.contains("neither webhook nor poll brought "),
        "{failure}"
    );
    assert!(failure.ends_with("compare --api-url"), "{failure}");
}

#[tokio::test]
async fn nothing_is_made_where_nobody_watches() {
    let sandbox = sandbox().await;
    let proof = proof(&sandbox, client(free_address().await), LONG);
    let failure = told(&proof).await.0.unwrap_err();
    assert!(failure.ends_with("no test dispatch was made"), "{failure}");
    assert!(sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_standby_is_told_apart_and_nothing_is_made() {
    let sandbox = sandbox().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // As a standby answers: what only a leader knows is null.
    let status = serde_json::json!({
        "role": "standby", "untold_sites": null, "schedule": {"revision": null},
        "leadership": {"term": 7, "leader": "plant-a", "since": null},
    });
    let service = warp::service(
        warp::any().map(move || crate::http::json_reply(http::StatusCode::OK, &status)),
    );
    tokio_util::task::TaskTracker::new().spawn(crate::http::serve(
        listener,
        service,
        crate::http::Bounds::default(),
        tokio_util::sync::CancellationToken::new(),
    ));
    let (brought, _) = told(&proof(&sandbox, client(address), LONG)).await;
    let said = brought.unwrap_err();
    assert!(
        said.contains("does not lead (plant-a does)") && said.contains("--status-url"),
        "{said}"
    );
    assert!(said.ends_with("no test dispatch was made"), "{said}");
}
