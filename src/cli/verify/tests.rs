//! The proof, with a daemon that gets the dispatch and one that does not.

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
        Failure::Runtime(text) | Failure::Usage(text) => text,
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
async fn a_poll_brings_it_when_no_webhook_comes() {
    let sandbox = sandbox().await;
    let args = ["--poll-interval", "300ms"];
    let daemon = Running::start(&sandbox, &args).await;
    let (brought, told) = told(&proof(&sandbox, daemon.client(), LONG)).await;
    assert_eq!(brought.unwrap().by, "poll");
    assert!(
        told.contains("no webhook came: see dispatchd webhook list"),
        "{told}"
    );
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
