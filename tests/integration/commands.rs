//! The operator's commands from outside: what they print, and how they end.

use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, Process, World, dispatch, in_ms, wait_for, wait_until};

const SECRET: &str = "hush-41d9";
const TOKEN: &str = "token-5e02";

/// Runs a command to its end, beside the runtime that the sandbox lives in.
pub async fn run(world: &World, daemon: Option<&Daemon>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        .env("VOLTUS_API_URL", world.sandbox.url())
        .current_dir(world.folder())
        .timeout(Duration::from_secs(60))
        .args(arguments);
    // Nobody listens at the first port of all.
    let status = daemon.map_or("http://127.0.0.1:1".into(), |daemon| daemon.status_url(""));
    command.env("DISPATCHD_STATUS_URL", status);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It ended well and had nothing to complain about. Gives what it printed.
pub fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// It ended with `status` and one line on standard error. Gives that.
pub fn failed(output: &Output, status: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("dispatchd: ") && said.ends_with('\n'),
        "{said}"
    );
    said
}

#[apply(test)]
async fn status_is_a_table_of_80_columns_without_colours_where_nobody_looks() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.put(dispatch("running", 0, in_ms(-1000), None));
    world.put(dispatch("over", 0, in_ms(-9000), Some(in_ms(-1000))));
    daemon.poll().await;
    let table = done(&run(&world, Some(&daemon), &["status"]).await);
    assert!(table.starts_with("FRESH "), "{table}");
    for line in table.lines() {
        assert!(
            line.chars().count() <= 80 && !line.contains('\x1b'),
            "{line}"
        );
    }
    let row = |id: &str| {
        table
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(id))
    };
    assert!(row("running") && !row("over"), "{table}");
    assert!(
        table.contains("\nCURTAILED ") && table.contains("site-running"),
        "{table}"
    );
}

#[apply(test)]
async fn status_in_json_is_one_object() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.put(dispatch("a", 0, in_ms(-1000), None));
    daemon.poll().await;
    let json = done(&run(&world, Some(&daemon), &["status", "--json"]).await);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["sync"]["state"], "fresh");
    assert_eq!(json["schedule"]["dispatches"][0]["id"], "a");
    assert_eq!(json["sites"]["sites"][0]["state"], "curtailed");
}

#[apply(test)]
async fn status_wants_somebody_who_answers_and_the_token() {
    let world = World::new().await;
    let said = failed(&run(&world, None, &["status"]).await, 1);
    assert!(said.contains("--status-url"), "{said}");
    failed(&run(&world, None, &["status", "--watch"]).await, 1);
    let said = failed(
        &run(&world, None, &["status", "--status-url", "x"]).await,
        2,
    );
    assert!(said.contains("--status-url"), "{said}");

    let setup = world.setup().with("--status-token", TOKEN);
    let daemon = setup.start().await;
    let said = failed(&run(&world, Some(&daemon), &["status"]).await, 1);
    assert!(said.contains("--status-token"), "{said}");
    let arguments = ["status", "--status-token", TOKEN];
    done(&run(&world, Some(&daemon), &arguments).await);
    std::fs::write(world.path("token"), format!("{TOKEN}\n")).unwrap();
    let arguments = ["status", "--json", "--status-token-file", "token"];
    done(&run(&world, Some(&daemon), &arguments).await);
}

#[apply(test)]
async fn a_watch_goes_on_until_it_is_told_to_end() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dispatchd"));
        command
            .env_clear()
            .args(["status", "--watch", "--json", "--status-url"])
            .arg(daemon.status_url(""));
        let mut watch = Process::spawn(&mut command);
        wait_until("two looks", async || watch.events().len() >= 2).await;
        assert_eq!(watch.stop(signal).await.code(), Some(0));
        assert!(watch.log().is_empty(), "{:?}", watch.log());
    }
}

#[apply(test)]
async fn webhooks_are_registered_once_listed_and_deleted_without_a_word_of_the_secret() {
    let world = World::new().await;
    let daemon = world.setup().with("--webhook-secret", SECRET).start().await;
    let url = format!("{}/{SECRET}", daemon.webhook_url());
    let mut all = String::new();
    let mut told = async |arguments: &[&str]| {
        let printed = done(&run(&world, None, arguments).await);
        all.push_str(&printed);
        printed
    };
    let first = told(&["webhook", "register", &url]).await;
    let again = told(&["webhook", "register", &url]).await;
    assert!(again.contains("already"), "{again}");
    assert_eq!(world.sandbox.webhooks().len(), 1);
    assert_eq!(world.sandbox.webhooks()[0].url, url);
    let listed = told(&["webhook", "list"]).await;
    let id = listed.split_whitespace().next().unwrap();
    assert!(
        first.starts_with(id) && listed.lines().count() == 1,
        "{listed}"
    );
    told(&["webhook", "delete", id]).await;
    assert!(world.sandbox.webhooks().is_empty());
    assert!(!all.contains(SECRET), "{all}");

    failed(&run(&world, None, &["webhook", "delete", id]).await, 1);
    failed(&run(&world, None, &["webhook", "delete", ".."]).await, 2);
    let wrong = format!("htps:{SECRET}");
    let said = failed(
        &run(&world, None, &["webhook", "register", &wrong]).await,
        2,
    );
    assert!(!said.contains(SECRET), "{said}");
    let wrong = ["webhook", "list", "--api-key", SECRET];
    let said = failed(&run(&world, None, &wrong).await, 1);
    assert!(
        said.contains("--api-key") && !said.contains(SECRET),
        "{said}"
    );
    let production = ["webhook", "--api-url", "https://api.voltus.co", "list"];
    let said = failed(&run(&world, None, &production).await, 2);
    assert!(said.contains("--api-key"), "{said}");
}

#[apply(test)]
async fn a_scenario_tells_the_ids_that_it_makes() {
    let world = World::new().await;
    let arguments = ["scenario", "two", "--start-in", "1h", "--length", "10s"];
    let ids = done(&run(&world, None, &arguments).await);
    assert_eq!(ids.lines().count(), 2, "{ids}");
    let arguments = [
        "scenario",
        "basic",
        "--start-in",
        "1h",
        "--site",
        "s1:Mill:L7:12",
    ];
    let id = done(&run(&world, None, &arguments).await);
    let made = world.sandbox.get(id.trim()).unwrap();
    assert_eq!(made["sites"][0]["customer_location_id"], "L7");

    let mut printing = arguments.to_vec();
    printing.extend(["--print", "--api-url", "https://api.voltus.co"]);
    let printed = done(&run(&world, None, &printing).await);
    let order: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(order["scenario_type"], "custom");
    assert!(world.sandbox.get(id.trim()).is_some(), "nothing was sent");
    std::fs::write(world.path("own.json"), printed).unwrap();
    let own = done(&run(&world, None, &["scenario", "--file", "own.json"]).await);
    assert!(world.sandbox.get(own.trim()).is_some());
    assert!(world.sandbox.get(id.trim()).is_none(), "it is overwritten");
}

#[apply(test)]
async fn a_scenario_is_for_sandboxes_only() {
    let world = World::new().await;
    for url in [
        "https://api.voltus.co",
        "http://sandbox.voltus.co.example",
        "http://10.0.0.1",
    ] {
        let arguments = ["scenario", "basic", "--api-key", "k", "--api-url", url];
        let said = failed(&run(&world, None, &arguments).await, 2);
        assert!(said.contains("--api-url"), "{said}");
    }
    for (arguments, named) in [
        (&["scenario", "sixth"][..], "sixth"),
        (&["scenario", "basic", "--site", "x"], "--site"),
        (&["scenario", "basic", "--length", "0s"], "--length"),
        (&["scenario", "--file", "none.json"], "--file"),
    ] {
        let said = failed(&run(&world, None, arguments).await, 2);
        assert!(said.contains(named), "{said}");
    }
}

#[apply(test)]
async fn verify_says_what_brought_the_test_dispatch() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.sandbox.add_webhook(daemon.webhook_url());
    let told = done(&run(&world, Some(&daemon), &["verify"]).await);
    assert!(
        told.contains("webhook brought it to the daemon after "),
        "{told}"
    );

    let missing = ["verify", "--timeout", "1s", "--length", "6m"];
    world.faults(serde_json::json!({"drop_webhooks": 1}));
    let said = failed(&run(&world, Some(&daemon), &missing).await, 1);
    assert!(said.contains("neither webhook nor poll"), "{said}");

    for webhook in world.sandbox.webhooks() {
        done(&run(&world, None, &["webhook", "delete", &webhook.id]).await);
    }
    let polling = world.setup().with("--state", ":memory:").polling("300ms");
    let daemon = polling.ready().await;
    let arguments = ["verify", "--length", "7m", "--program-id", "867"];
    let told = done(&run(&world, Some(&daemon), &arguments).await);
    assert!(
        told.contains("poll brought it to the daemon after ")
            && told.contains("no webhook is registered"),
        "{told}"
    );
    let said = failed(&run(&world, None, &["verify"]).await, 1);
    assert!(said.contains("no test dispatch was made"), "{said}");
    failed(
        &run(&world, None, &["verify", "--start-in", "73h"]).await,
        2,
    );
}

#[apply(test)]
async fn verify_ends_with_3_if_only_a_poll_brought_it_although_a_webhook_is_registered() {
    let world = World::new().await;
    let daemon = world.setup().polling("300ms").ready().await;
    let verify = ["verify", "--timeout", "3s"];
    // A secret that the daemon does not have; none that it knows; lost on the way.
    let wrong = format!("{}/{SECRET}", daemon.webhook_url());
    for (url, drop) in [
        (wrong, 0),
        ("http://127.0.0.1:9/dispatch-listener".into(), 0),
        (daemon.webhook_url(), 1),
    ] {
        let webhook = world.sandbox.add_webhook(&url);
        world.faults(serde_json::json!({"drop_webhooks": drop}));
        let output = run(&world, Some(&daemon), &verify).await;
        assert!(text(&output.stdout).contains("poll brought it to the daemon after "));
        let said = failed(&output, 3);
        assert!(
            said.contains("only a poll brought ") && said.contains("check that"),
            "{said}"
        );
        assert!(!said.contains(SECRET), "{said}");
        done(&run(&world, None, &["webhook", "delete", &webhook.id]).await);
    }
}

#[apply(test)]
async fn help_tells_what_each_exit_status_means() {
    let world = World::new().await;
    let help = done(&run(&world, None, &["verify", "--help"]).await);
    for status in ["\n  0  ", "\n  1  ", "\n  2  ", "\n  3  only a poll"] {
        assert!(help.contains(status), "{help}");
    }
    let help = done(&run(&world, None, &["--help"]).await);
    assert!(help.contains("Exit status: 0 on a clean end"), "{help}");
}

#[apply(test)]
async fn a_public_url_is_kept_registered_and_never_shown_whole() {
    let world = World::new().await;
    // The port must be known beforehand, as it is where a proxy stands in front.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let public = format!("http://{listen}");
    world
        .sandbox
        .add_webhook(format!("{public}/dispatch-listener/old-{SECRET}"));
    let setup = world
        .setup()
        .variable("RUST_LOG", "trace")
        .with("--listen", listen)
        .with("--public-url", &public)
        .with("--webhook-secret", SECRET);
    let daemon = setup.start().await;
    let wanted = format!("{public}/dispatch-listener/{SECRET}");
    let registered = wait_for("a registration in place of the old one", async || {
        let webhooks = world.sandbox.webhooks();
        (webhooks.len() == 1 && webhooks[0].url == wanted).then_some(webhooks)
    })
    .await;
    let public = ["check", "--webhook-secret", SECRET, "--public-url", &public];
    let lines = done(&run(&world, None, &public).await);
    assert!(lines.contains("\nok registration: "), "{lines}");
    assert!(!lines.contains(SECRET), "{lines}");
    wait_until("the deletion of the older one is told of", async || {
        daemon.log().join("\n").contains("older registration")
    })
    .await;
    assert!(!daemon.log().join("\n").contains(SECRET));
    // A restart finds it as it is.
    drop(daemon);
    let daemon = setup.ready().await;
    wait_until("it was looked at", async || {
        daemon
            .log()
            .join("\n")
            .contains("the webhook is registered")
    })
    .await;
    assert_eq!(world.sandbox.webhooks(), registered);
}

#[apply(test)]
async fn completions_and_help_show_no_secret() {
    let world = World::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = done(&run(&world, None, &["completions", shell]).await);
        assert!(script.contains("public-url"), "{shell}");
    }
    failed(&run(&world, None, &["completions", "csh"]).await, 2);
    for name in ["run", "check", "status", "verify", "webhook", "scenario"] {
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_dispatchd"))
            .args([name, "--help"])
            .envs([
                ("VOLTUS_API_KEY", SECRET),
                ("DISPATCHD_WEBHOOK_SECRET", SECRET),
                ("DISPATCHD_SINK_SECRET", SECRET),
                ("DISPATCHD_STATUS_TOKEN", SECRET),
                ("DISPATCHD_PUBLIC_URL", SECRET),
            ])
            .output()
            .unwrap();
        assert!(!done(&help).contains(SECRET), "{name}");
    }
}
