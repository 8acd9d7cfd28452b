//! Which sink gets what, and what happens when that changes.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, Receiver, World, dispatch, in_ms, wait_until};

const HOUR: i64 = 3_600_000;

/// An active dispatch of a program for these sites, each with its location.
fn calls(id: &str, number: i64, program: &str, sites: &[(&str, &str)]) -> Value {
    let mut dispatch = dispatch(id, number, in_ms(-HOUR), Some(in_ms(HOUR)));
    dispatch["program"]["name"] = json!(program);
    let sites = sites.iter().map(|(site, location)| {
        json!({"id": site, "name": site.to_uppercase(), "customer_location_id": location, "commitment": 5})
    });
    dispatch["sites"] = sites.collect();
    dispatch
}

/// Writes the sinks into the world's configuration file, each with further lines.
fn write(world: &World, sinks: &[(&Receiver, &str)]) {
    let tables = sinks.iter().map(|(receiver, lines)| {
        let to = receiver.sink();
        format!("[[sink]]\nto = \"{to}\"\n{lines}\n")
    });
    let text: String = tables.collect();
    std::fs::write(world.path("d.toml"), text).unwrap();
}

async fn started(world: &World) -> Daemon {
    let file = world.path("d.toml");
    world.setup().with("--config", file.display()).ready().await
}

async fn stopped(mut daemon: Daemon) {
    daemon.stop(Signal::TERM).await;
}

async fn hears(receiver: &Receiver, subject: &str, types: &[&str]) {
    wait_until(&format!("{subject} hears {types:?}"), async || {
        receiver.types_of(subject) == types
    })
    .await;
}

#[apply(test)]
async fn each_sink_gets_its_own_sites_and_never_hears_of_anothers() {
    let world = World::new().await;
    let (a, b, all) = (
        Receiver::new().await,
        Receiver::new().await,
        Receiver::new().await,
    );
    write(
        &world,
        &[
            (&a, "name = \"customer-a\"\nsites = [\"s1\", \"store-17*\"]"),
            (
                &b,
                "name = \"customer-b\"\nsites = [\"s2\"]\nevents = [\"site.*\"]",
            ),
            (&all, ""),
        ],
    );
    let daemon = started(&world).await;
    let sites = [("s1", "x"), ("s2", "store-2"), ("s3", "store-1702")];
    world.put(calls("dkmq", 0, "CAISO", &sites));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    for (receiver, site) in [(&a, "s1"), (&a, "s3"), (&b, "s2"), (&all, "s2")] {
        hears(receiver, site, &["site.curtail"]).await;
    }
    hears(&a, "dkmq", &["dispatch.created", "dispatch.started"]).await;
    hears(&all, "dkmq", &["dispatch.created", "dispatch.started"]).await;
    world.put(calls("dkmq", 1, "CAISO", &[("s1", "x")]));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    hears(&b, "s2", &["site.curtail", "site.release"]).await;
    daemon.wait_until_delivered().await;

    let told = format!(
        "{:?}",
        a.taken().iter().map(|it| &it.event).collect::<Vec<_>>()
    );
    assert!(
        !told.contains("\"s2\"") && told.contains("\"s3\""),
        "{told}"
    );
    let told = b.taken();
    assert!(told.iter().all(|it| it.text("subject") == "s2"), "{told:?}");
    assert_eq!(all.types_of("s3"), ["site.curtail", "site.release"]);
    let site = daemon.get("/sites/s3").await.json;
    assert_eq!(site["sinks"], json!(["customer-a", all.sink()]));
    let names = daemon.health().await["delivery"].clone();
    assert_eq!(
        (&names[0]["sink"], &names[1]["sink"]),
        (&json!("customer-a"), &json!("customer-b"))
    );
}

#[apply(test)]
async fn a_sink_for_a_program_releases_a_site_when_that_program_lets_it_go() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    write(&world, &[(&receiver, "programs = [\"CAISO*\"]")]);
    let daemon = started(&world).await;
    world.put(calls("dpjm", 0, "PJM", &[("s1", "")]));
    assert_eq!(daemon.webhook("dpjm").await.status, 200);
    world.put(calls("dcai", 0, "CAISO RDRR", &[("s1", "")]));
    assert_eq!(daemon.webhook("dcai").await.status, 200);
    hears(&receiver, "s1", &["site.curtail"]).await;
    let mut over = calls("dcai", 1, "CAISO RDRR", &[("s1", "")]);
    over["authorized"] = json!(false);
    world.put(over);
    assert_eq!(daemon.webhook("dcai").await.status, 200);
    hears(&receiver, "s1", &["site.curtail", "site.release"]).await;
    let last = receiver.taken().last().unwrap().event.clone();
    assert_eq!(last["data"]["state"], "normal");
    assert_eq!(daemon.get("/sites/s1").await.json["state"], "curtailed");
    assert_eq!(receiver.types_of("dpjm"), [""; 0]);
}

#[apply(test)]
async fn other_routes_at_a_restart_release_here_and_curtail_there() {
    let world = World::new().await;
    let (a, b) = (Receiver::new().await, Receiver::new().await);
    write(
        &world,
        &[(&a, "sites = [\"s1\", \"s2\"]"), (&b, "sites = [\"s3\"]")],
    );
    let daemon = started(&world).await;
    world.put(calls("dkmq", 0, "X", &[("s1", ""), ("s2", ""), ("s3", "")]));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    daemon.wait_until_delivered().await;
    stopped(daemon).await;

    write(
        &world,
        &[(&a, "sites = [\"s2\"]"), (&b, "sites = [\"s1\", \"s3\"]")],
    );
    let daemon = started(&world).await;
    hears(&a, "s1", &["site.curtail", "site.release"]).await;
    hears(&b, "s1", &["site.curtail"]).await;
    daemon.wait_until_delivered().await;
    assert_eq!(a.types_of("s2"), ["site.curtail"]);
    assert_eq!(b.types_of("s3"), ["site.curtail"]);
    stopped(daemon).await;

    // And back: what goes out has a newer number than what each of them knows.
    write(
        &world,
        &[(&a, "sites = [\"s1\", \"s2\"]"), (&b, "sites = [\"s3\"]")],
    );
    let daemon = started(&world).await;
    hears(&a, "s1", &["site.curtail", "site.release", "site.curtail"]).await;
    hears(&b, "s1", &["site.curtail", "site.release"]).await;
    stopped(daemon).await;
    let daemon = started(&world).await;
    daemon.wait_until_delivered().await;
    assert_eq!(
        a.types_of("s1").len(),
        3,
        "the same routes bring nothing new"
    );
}

#[apply(test)]
async fn a_sink_that_holds_sites_and_is_named_no_more_ends_the_start() {
    let world = World::new().await;
    let (gone, left) = (Receiver::new().await, Receiver::new().await);
    let daemon = world.setup().sink(gone.sink()).ready().await;
    world.put(calls("dkmq", 0, "X", &[("s1", ""), ("s2", "")]));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    daemon.wait_until_delivered().await;
    stopped(daemon).await;

    let setup = world.setup().sink(left.sink());
    let output = setup.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let line = said.lines().last().unwrap();
    let expected = format!(
        "no sink is named `{0}` any more, and it may hold 2 sites curtailed (s1, s2): nobody \
         would release them; name it again, or give --forget-sink {0} if it is gone for good",
        gone.sink()
    );
    assert!(line.contains(&expected), "{line}");
    // `check` says so too, and where in a file the sinks are named.
    let checked = async |arguments: &[&str]| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
        check.current_dir(world.path(""));
        check.args([
            "check",
            "--api-url",
            &world.sandbox.url(),
            "--state",
            "state.db",
        ]);
        check.args(arguments);
        // The API and the receivers run here, and must answer meanwhile.
        let output = tokio::task::spawn_blocking(move || check.output().unwrap());
        let output = output.await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = checked(&["--sink", &left.sink()]).await;
    assert!(
        said.contains("\nfailed state: state.db: --sink: no sink is named"),
        "{said}"
    );
    write(&world, &[(&left, "")]);
    let said = checked(&["--config", "d.toml"]).await;
    assert!(
        said.contains("d.toml:1, [[sink]]: no sink is named"),
        "{said}"
    );
    assert!(
        checked(&["--sink", &gone.sink()])
            .await
            .contains("\nok state: "),
        "{said}"
    );

    let daemon = setup
        .clone()
        .with("--forget-sink", gone.sink())
        .ready()
        .await;
    hears(&left, "s1", &["site.curtail"]).await;
    stopped(daemon).await;
    // It is forgotten for good.
    let daemon = setup.ready().await;
    assert_eq!(daemon.health().await["verdict"]["told"]["level"], "ok");
}

#[apply(test)]
async fn a_site_of_an_active_dispatch_that_no_sink_is_routed_for_is_an_alarm_and_stays_told() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    write(&world, &[(&receiver, "sites = [\"s1\"]")]);
    let daemon = started(&world).await;
    world.put(calls("dkmq", 0, "X", &[("s1", ""), ("s2", "")]));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    let health = daemon.health().await;
    assert_eq!(health["unrouted_sites"], 1);
    let unrouted = json!([{"site": "s2", "name": "S2", "dispatch": "dkmq", "active": true}]);
    assert_eq!(health["unrouted"], unrouted);
    let told = &health["verdict"]["told"];
    assert_eq!(told["level"], "error");
    assert_eq!(
        told["text"],
        "1 site of live dispatches is routed to no sink: S2; nobody is told what to do there; \
         1 of active ones, to be commanded by hand. Name them in `sites` of a [[sink]] in the \
         configuration file and restart dispatchd."
    );
    let warned = daemon.wait_for_log("commands of sites go to no sink").await;
    assert!(
        warned.contains("WARN") && warned.contains("site=\"s2\""),
        "{warned}"
    );
    assert_eq!(daemon.get("/sites/s2").await.json["sinks"], json!([]));
    let page = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let page = page.unwrap().text().await.unwrap();
    assert!(page.contains("\ndispatchd_unrouted_sites 1\n"));
    assert!(page.contains("\ndispatchd_unrouted_active_sites 1\n"));
    let mut over = calls("dkmq", 1, "X", &[("s2", "")]);
    over["authorized"] = json!(false);
    world.put(over);
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    let health = daemon.health().await;
    assert_eq!(health["unrouted_sites"], 0);
    // Its curtail and its release went to nobody, which is no "every site has been told".
    assert_eq!(health["unrouted_commands"], 2);
    assert_eq!(health["verdict"]["told"]["level"], "warning");
    let text = health["verdict"]["told"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("Since the start 2 commands went to no sink, the last one release S2."),
        "{text}"
    );
}

#[apply(test)]
async fn a_site_that_is_routed_to_none_is_left_out_without_a_word() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    write(&world, &[(&receiver, "sites = [\"s1\"]")]);
    let file = std::fs::read_to_string(world.path("d.toml")).unwrap();
    let none = "[[sink]]\nname = \"left-out\"\nto = \"none\"\nsites = [\"s2\"]\n";
    std::fs::write(world.path("d.toml"), file + none).unwrap();
    let daemon = started(&world).await;
    world.put(calls("dkmq", 0, "X", &[("s1", ""), ("s2", "")]));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    hears(&receiver, "s1", &["site.curtail"]).await;
    let health = daemon.health().await;
    assert_eq!(
        (&health["unrouted_sites"], &health["unrouted_commands"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(health["verdict"]["told"]["level"], "ok");
}
