//! The checks against a sandbox.

use super::*;
use crate::cli::testing::{PATIENCE, Running, config, free_address, sandbox, with_defaults};
use crate::sandbox::Sandbox;

async fn checked(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let url = sandbox.url();
    let all = with_defaults(args, &[["--api-url", &url], ["--state", ":memory:"]]);
    told(config(&all)).await
}

async fn told(config: Result<Config, crate::config::ConfigError>) -> Vec<String> {
    let checks = checks::all(config).await;
    checks.iter().map(ToString::to_string).collect()
}

/// The line about `name`.
fn about<'a>(lines: &'a [String], name: &str) -> &'a str {
    let of = |line: &&String| line.split([' ', ':']).nth(1) == Some(name);
    lines.iter().find(of).unwrap()
}

#[tokio::test]
async fn all_is_well_with_a_sandbox() {
    let sandbox = sandbox().await;
    let lines = checked(&sandbox, &[]).await;
    let names = [
        "configuration",
        "state",
        "reachability",
        "key",
        "clock",
        "registration",
        "sinks",
        "sites",
    ];
    assert_eq!(lines.len(), names.len());
    for (line, name) in lines.iter().zip(names) {
        let wanted = match name {
            "state" | "registration" => "skipped",
            _ => "ok",
        };
        assert!(line.starts_with(&format!("{wanted} {name}: ")), "{line}");
    }
    sandbox.add_webhook("https://a.example/dispatch-listener/hush");
    let lines = checked(&sandbox, &[]).await;
    let line = about(&lines, "registration");
    assert!(
        line.starts_with("ok registration: https://a.example/dispatch-listener/<hidden> ("),
        "{line}"
    );
}

#[tokio::test]
async fn a_refused_key_is_told_apart_from_an_api_that_cannot_be_reached() {
    let sandbox = sandbox().await;
    let lines = checked(&sandbox, &["--api-key", "hush"]).await;
    assert!(about(&lines, "reachability").starts_with("ok "));
    assert!(
        about(&lines, "key").starts_with("failed key: the API refuses the key of --api-key (40")
    );
    assert!(about(&lines, "clock").starts_with("ok "));
    assert!(about(&lines, "registration").starts_with("skipped "));
    assert!(!lines.concat().contains("hush"));

    let nobody = format!("http://{}", free_address().await);
    let lines = told(config(&["--api-url", &nobody, "--state", ":memory:"])).await;
    assert!(about(&lines, "reachability").starts_with("failed "));
    for name in ["key", "clock", "registration", "sites"] {
        assert!(about(&lines, name).starts_with("skipped "), "{lines:?}");
    }
}

#[tokio::test]
async fn what_cannot_work_is_told_and_nothing_is_asked() {
    let sandbox = sandbox().await;
    let lines = checked(&sandbox, &["--poll-interval", "1ms"]).await;
    assert_eq!(
        lines[0],
        "failed configuration: --poll-interval: must be 100ms at least"
    );
    assert!(lines[1..].iter().all(|line| line.starts_with("skipped ")));
    assert!(sandbox.requests().is_empty());
}

#[tokio::test]
async fn the_daemon_sees_to_a_registration_that_was_found_wanting() {
    let sandbox = sandbox().await;
    let listen = free_address().await.to_string();
    let public = format!("http://{listen}/");
    let args = [
        "--listen",
        &listen,
        "--public-url",
        &public,
        "--webhook-secret",
        "hush",
    ];
    let lines = checked(&sandbox, &args).await;
    let line = about(&lines, "registration");
    assert!(
        line.starts_with("failed registration: http://127.0.0.1:"),
        "{line}"
    );
    assert!(
        line.contains("/dispatch-listener/<hidden> is not registered; "),
        "{line}"
    );

    sandbox.add_webhook(format!("{public}dispatch-listener/old-hush"));
    let lines = checked(&sandbox, &args).await;
    let line = about(&lines, "registration");
    assert!(
        line.contains("is registered with another secret ("),
        "{line}"
    );

    let _daemon = Running::start(&sandbox, &args).await;
    let wanted = format!("{public}dispatch-listener/hush");
    let registered = |sandbox: &Sandbox| {
        let webhooks = sandbox.webhooks();
        webhooks.len() == 1 && webhooks[0].url == wanted
    };
    let waiting = sandbox.wait_until(registered);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await, Ok(true));
    let lines = checked(&sandbox, &args).await;
    let line = about(&lines, "registration");
    assert!(line.starts_with("ok registration: ") && line.ends_with("<hidden> for all events"));
    assert!(!lines.concat().contains("/hush"));
}

#[tokio::test]
async fn a_state_file_is_looked_at_and_left_as_it_is() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let path = path.to_str().unwrap();
    let lines = checked(&sandbox, &["--state", path]).await;
    assert!(about(&lines, "state").ends_with("is not there yet and can be made"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let _daemon = Running::start(&sandbox, &["--state", path]).await;
    let lines = checked(&sandbox, &["--state", path]).await;
    assert!(
        about(&lines, "state").starts_with("skipped state: "),
        "{lines:?}"
    );
    let missing = folder.path().join("no/state.db");
    let lines = checked(&sandbox, &["--state", missing.to_str().unwrap()]).await;
    assert!(
        about(&lines, "state").starts_with("failed state: --state "),
        "{lines:?}"
    );
}
