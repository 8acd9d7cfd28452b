//! What an operator is told of sites that were not told what they must do, of sinks
//! that are not there, and of commands that cannot be sent.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Daemon, Manner, Receiver, World, dispatch, in_ms, site_of, wait_until};

const HOUR: i64 = 3_600_000;

fn active(id: &str) -> Value {
    dispatch(id, 0, in_ms(-HOUR), Some(in_ms(HOUR)))
}

async fn metric(daemon: &Daemon, line: &str) -> bool {
    let page = daemon.http.get(daemon.status_url("/metrics")).send().await;
    page.unwrap().text().await.unwrap().contains(line)
}

/// What `dispatchd status` prints for these daemons.
fn shown(urls: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command.arg("status");
    for url in urls {
        command.args(["--status-url", url]);
    }
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn url(daemon: &Daemon) -> String {
    daemon.status_url("").trim_end_matches('/').to_owned()
}

#[apply(test)]
async fn a_site_that_was_not_told_is_named_with_its_sink_and_the_reason() {
    let world = World::new().await;
    let (good, bad) = (Receiver::new().await, Receiver::new().await);
    bad.behave(Manner::Fails);
    let setup = world.setup().sink(good.sink()).sink(bad.sink());
    let daemon = setup.ready().await;
    world.put(active("dkmq"));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    wait_until("the site counts as not told", async || {
        daemon.health().await["untold_sites"] == 1
    })
    .await;
    let health = daemon.health().await;
    assert_eq!(health["sync"]["state"], "fresh");
    assert_eq!(health["verdict"]["schedule"]["level"], "ok");
    assert_eq!(health["verdict"]["told"]["level"], "error");
    let text = health["verdict"]["told"]["text"].as_str().unwrap();
    assert!(text.starts_with("1 site not told: "), "{text}");
    assert_eq!(health["untold"][0]["site"], site_of("dkmq"));
    assert_eq!(health["untold"][0]["sink"], bad.sink());
    assert_eq!(health["untold"][0]["command"], "curtail");
    let site = daemon.get(&format!("/sites/{}", site_of("dkmq"))).await;
    assert_eq!(site.json["untold"], json!([bad.sink()]));
    let line = format!("dispatchd_untold_sites{{sink=\"{}\"}} 1\n", bad.sink());
    assert!(metric(&daemon, &line).await, "{line}");
    let printed = shown(&[url(&daemon)]);
    assert!(
        printed.starts_with("UNTOLD    1 site not told: "),
        "{printed}"
    );
    assert!(printed.contains("\nNOT TOLD  "), "{printed}");

    bad.behave(Manner::Takes);
    wait_until("every site has been told", async || {
        daemon.health().await["verdict"]["told"]["level"] == "ok"
    })
    .await;
    let site = daemon.get(&format!("/sites/{}", site_of("dkmq"))).await;
    assert_eq!(site.json["untold"], json!([]));
    let printed = shown(&[url(&daemon)]);
    assert!(
        printed.contains("TOLD      Every site has been told."),
        "{printed}"
    );
}

#[apply(test)]
async fn a_receiver_that_is_not_there_is_known_before_a_dispatch() {
    let world = World::new().await;
    let address = Receiver::gone();
    let sink = format!("http://{address}/in");
    let daemon = world.setup().sink(&sink).ready().await;
    wait_until("the sink is known to fail", async || {
        daemon.health().await["delivery"][0]["state"] == "failing"
    })
    .await;
    let health = daemon.health().await;
    let error = health["delivery"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("refused"), "{error}");
    assert_eq!(health["verdict"]["told"]["level"], "warning");
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 200, "the schedule is right");
    let warning = ready.json["warnings"][0].as_str().unwrap();
    assert!(warning.contains(error), "{warning}");

    let _back = Receiver::at(address).await;
    wait_until("the sink is known to be there", async || {
        daemon.health().await["delivery"][0]["state"] == "ok"
    })
    .await;
}

#[apply(test)]
async fn commands_that_are_due_while_nothing_can_be_stored_are_listed() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    world.put(dispatch("soon", 0, in_ms(4000), Some(in_ms(HOUR))));
    assert_eq!(daemon.webhook("soon").await.status, 200);
    // The file is gone: nothing can be stored, and no start may be acted on.
    let (state, away) = (world.path("state.db"), world.path("away.db"));
    std::fs::rename(&state, &away).unwrap();
    wait_until("the command is listed", async || {
        daemon.health().await["due_commands"][0]["site"] == site_of("soon")
    })
    .await;
    let health = daemon.health().await;
    assert_eq!(health["due_commands"][0]["command"], "curtail");
    assert_eq!(health["verdict"]["told"]["level"], "error");
    assert_eq!(health["verdict"]["schedule"]["level"], "error");
    assert!(metric(&daemon, "dispatchd_due_commands 1\n").await);
    let printed = shown(&[url(&daemon)]);
    assert!(printed.contains("\nDUE  "), "{printed}");
    assert_eq!(receiver.types_of(&site_of("soon")), Vec::<String>::new());

    std::fs::rename(&away, &state).unwrap();
    wait_until("the site is told", async || {
        receiver.types_of(&site_of("soon")) == ["site.curtail"]
    })
    .await;
    wait_until("nothing is due any more", async || {
        daemon.health().await["due_commands"] == json!([])
    })
    .await;
}

#[apply(test)]
async fn everybody_sees_which_daemon_this_is_and_whom_it_follows() {
    let world = World::new().await;
    let setup = world.setup().with("--node", "plant-7").sink("none");
    let daemon = setup.ready().await;
    let health = daemon.health().await;
    assert_eq!(health["node"], "plant-7");
    assert_eq!(health["role"], "leader");
    assert_eq!(health["leadership"], Value::Null);
    assert_eq!(health["api"]["environment"], "sandbox");
    let host = health["api"]["host"].as_str().unwrap();
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    // Of several daemons the one that answers is shown, and the other is named.
    let nobody = "http://127.0.0.1:9".to_owned();
    let printed = shown(&[nobody.clone(), url(&daemon)]);
    assert!(
        printed.starts_with(&format!("{} leads\n", url(&daemon))),
        "{printed}"
    );
    assert!(printed.contains(&format!("{nobody}: ")), "{printed}");
    for words in [
        " on plant-7 (leader)",
        "(sandbox)",
        "times are UTC",
        "nobody is told",
    ] {
        assert!(printed.contains(words), "{words}:\n{printed}");
    }
}
