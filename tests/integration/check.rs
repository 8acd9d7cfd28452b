//! `dispatchd check` from outside: a line for each thing that it looks at, what fails
//! and in which words, and the exit status.

use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::commands::{done, failed, run};
use crate::harness::{Broker, Receiver, Subscriber, World, dispatch, in_ms, wait_until};

const SECRET: &str = "hush-41d9";

/// The lines about `name` of a check with these sinks in its file, its exit status, and
/// its standard error.
async fn checked(world: &World, sinks: &str, name: &str) -> (Vec<String>, i32, String) {
    std::fs::write(world.path("d.toml"), sinks).unwrap();
    let file = world.path("d.toml");
    let arguments = ["check", "--config", file.to_str().unwrap()];
    let output = run(world, None, &arguments).await;
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let about = |line: &&str| line.split([' ', ':']).nth(1) == Some(name);
    let lines = lines.lines().filter(about).map(str::to_owned).collect();
    let status = output.status.code().unwrap();
    (lines, status, String::from_utf8(output.stderr).unwrap())
}

/// Has the API list these sites as enrolled.
fn enrol(world: &World, ids: &[&str]) {
    let sites = ids
        .iter()
        .map(|id| json!({"id": id, "name": id, "customer_location_id": format!("at-{id}")}));
    let sites: Vec<Value> = sites.collect();
    let body = json!({"sites": sites, "page": 0, "perPage": 0}).to_string();
    let answer = RawAnswer::json(StatusCode::OK, body);
    world.sandbox.override_answer(Question::Sites, Some(answer));
}

#[apply(test)]
async fn each_thing_has_a_line_and_nothing_is_left_behind() {
    let world = World::new().await;
    world.put(dispatch("dkmq", 1, in_ms(3_600_000), None));
    let lines = done(&run(&world, None, &["check"]).await);
    let names = [
        "ok configuration: ",
        "ok state: ",
        "ok reachability: ",
        "ok key: ",
        "ok clock: ",
        "skipped registration: ",
        "ok sinks: all can be reached: stdout",
        "ok sites: enrolled: 1 site",
    ];
    for (line, name) in lines.lines().zip(names) {
        assert!(line.starts_with(name), "{line}");
    }
    assert_eq!(lines.lines().count(), names.len());
    assert_eq!(std::fs::read_dir(world.folder()).unwrap().count(), 0);

    let wanting = run(&world, None, &["check", "--api-key", SECRET]).await;
    let lines = String::from_utf8(wanting.stdout.clone()).unwrap();
    assert!(lines.contains("\nfailed key: "), "{wanting:?}");
    assert!(failed(&wanting, 1).contains("key"));
    let wanting = run(&world, None, &["check", "--poll-interval", "1ms"]).await;
    let lines = String::from_utf8(wanting.stdout.clone()).unwrap();
    assert!(
        lines.starts_with("failed configuration: --poll-interval: "),
        "{lines}"
    );
    failed(&wanting, 1);
}

#[apply(test)]
async fn a_sink_at_which_nothing_can_be_delivered_fails_and_is_sent_nothing() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let sinks = format!(
        r#"
        [[sink]]
        name = "plant-a"
        to = "http://127.0.0.1:1/in?token={SECRET}"
        [[sink]]
        name = "plant-b"
        to = "{}"
        [[sink]]
        name = "plant-c"
        to = "mqtt://me:{SECRET}@127.0.0.1:1/c"
        [[sink]]
        name = "nobody"
        to = "none"
        sites = ["x"]
        "#,
        receiver.sink()
    );
    let (lines, status, said) = checked(&world, &sinks, "sinks").await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("failed sinks: plant-a: no connection can be made: "),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("failed sinks: plant-c: ") && lines[1].contains("refused"),
        "{lines:?}"
    );
    assert!(
        lines[1].ends_with("; see that its receiver runs, and that address and password are right")
    );
    assert_eq!(lines[2], "ok sinks: the others can be reached: plant-b");
    assert_eq!(status, 1);
    assert!(
        said.ends_with("2 of 8 checks failed: sinks, sites\n"),
        "{said}"
    );
    assert!(!lines.concat().contains(SECRET));
    assert_eq!(receiver.asked(), 0);
    let none = done(&run(&world, None, &["check", "--sink", "none"]).await);
    assert!(none.contains("\nskipped sinks: there is none, "), "{none}");
}

#[apply(test)]
async fn a_look_at_a_broker_disturbs_no_daemon_that_publishes_there() {
    let world = World::new().await;
    let broker = Broker::start().await;
    let subscriber = Subscriber::start(broker.port).await;
    let daemon = world.setup().sink(broker.sink()).ready().await;
    subscriber.wait(|message| message.payload == "online").await;
    let lines = done(&run(&world, None, &["check", "--sink", &broker.sink()]).await);
    assert!(
        lines.contains("\nok sinks: all can be reached: mqtt://"),
        "{lines}"
    );
    world.put(dispatch("a", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    wait_until("the daemon's command arrives", async || {
        let seen = subscriber.seen();
        seen.iter()
            .any(|message| message.topic == "plant/site/site-a")
    })
    .await;
    let seen = subscriber.seen();
    let of_status = seen
        .iter()
        .filter(|message| message.topic == "plant/status");
    assert_eq!(of_status.count(), 1, "{seen:?}");
    assert!(!daemon.log().join("\n").contains("took over"));
}

#[apply(test)]
async fn a_password_that_the_broker_refuses_fails() {
    let world = World::new().await;
    let broker = Broker::with("password").await;
    let sink = |password| format!("mqtt://me:{password}@127.0.0.1:{}/plant", broker.port);
    done(&run(&world, None, &["check", "--sink", &sink("open%2Fsesame")]).await);
    let refused = run(&world, None, &["check", "--sink", &sink(SECRET)]).await;
    let lines = String::from_utf8(refused.stdout.clone()).unwrap();
    assert!(
        lines.contains("the broker refused the connection: "),
        "{lines}"
    );
    assert!(failed(&refused, 1).ends_with("1 of 8 checks failed: sinks\n"));
    assert!(!lines.contains(SECRET), "{lines}");
}

#[apply(test)]
async fn enrolled_sites_and_routes_that_do_not_fit_fail() {
    let world = World::new().await;
    enrol(&world, &["barn", "mill"]);
    let sink =
        |sites: &str| format!("[[sink]]\nname = \"plant\"\nto = \"stdout\"\nsites = {sites}\n");
    let last = "1 of 8 checks failed: sites\n";

    let (lines, status, said) = checked(&world, &sink(r#"["mill"]"#), "sites").await;
    assert_eq!(
        lines,
        [
            "failed sites: enrolled: 2 sites; routed to no sink: barn; add them to `sites` of a [[sink]], one with `to = \"none\"` if they are left out on purpose"
        ]
    );
    assert!(status == 1 && said.ends_with(last), "{status} {said}");

    // Of a site that is enrolled no more nothing is left but the route.
    let gone = sink(r#"["barn", "mill", "at-pump", "store-17*"]"#);
    let (lines, status, said) = checked(&world, &gone, "sites").await;
    assert_eq!(
        lines,
        [
            "failed sites: enrolled: 2 sites; \"at-pump\" of plant matches no enrolled site; \"store-17*\" of plant matches no enrolled site; correct them, or take them out if the sites are not enrolled any more"
        ]
    );
    assert!(status == 1 && said.ends_with(last), "{status} {said}");

    let (lines, status, _) = checked(&world, &sink(r#"["at-*"]"#), "sites").await;
    assert_eq!(lines, ["ok sites: enrolled: 2 sites"]);
    assert_eq!(status, 0);
}

#[apply(test)]
async fn an_api_that_does_not_tell_its_sites_fails_nothing() {
    for (status, why) in [
        (StatusCode::NOT_FOUND, "the API has no GET /sites (404)"),
        (
            StatusCode::FORBIDDEN,
            "the API does not show GET /sites to this key (403)",
        ),
        (StatusCode::BAD_GATEWAY, "502"),
    ] {
        let world = World::new().await;
        let body = json!({"message": "no", "type": "x"}).to_string();
        let answer = RawAnswer::json(status, body);
        world.sandbox.override_answer(Question::Sites, Some(answer));
        let lines = done(&run(&world, None, &["check"]).await);
        let line = lines.lines().last().unwrap();
        assert!(
            line.starts_with("skipped sites: the enrolled sites are not known: ")
                && line.contains(why),
            "{line}"
        );
    }
}

#[apply(test)]
async fn a_state_that_a_killed_daemon_left_is_looked_at_and_left_as_it_is() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let sink = receiver.sink();
    let mut daemon = world.setup().sink(&sink).ready().await;
    world.put(dispatch("dkmq", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("dkmq").await.status, 200);
    daemon.wait_until_delivered().await;
    daemon.kill();
    drop(daemon);
    let listing = || {
        let files = std::fs::read_dir(world.folder()).unwrap().map(|file| {
            let path = file.unwrap().path();
            (path.clone(), std::fs::read(path).unwrap())
        });
        files.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert!(!listing()[&world.path("state.db-wal")].is_empty());
    let line = async |sink: &str| {
        let before = listing();
        let arguments = ["check", "--state", "state.db", "--sink", sink];
        let output = run(&world, None, &arguments).await;
        let lines = String::from_utf8(output.stdout).unwrap();
        let line = lines.lines().nth(1).unwrap().to_owned();
        assert_eq!(listing(), before, "touched");
        line
    };

    let same = line(&sink).await;
    assert!(
        same.starts_with(
            "ok state: state.db can be gone on with; the last dispatchd that used it was killed"
        ),
        "{same}"
    );
    assert!(
        same.ends_with(
            "the next start takes over what its log state.db-wal holds: do not delete that file"
        ),
        "{same}"
    );
    // What the sinks were told is in that log alone.
    let other = line("stdout").await;
    assert!(
        other.starts_with("failed state: state.db: --sink: no sink is named"),
        "{other}"
    );

    // An operator who looks into it with `sqlite3` meanwhile disturbs nothing.
    let operator = rusqlite::Connection::open(world.path("state.db")).unwrap();
    let read = "SELECT count(*) FROM dispatches";
    operator.query_row(read, [], |_| Ok(())).unwrap();
    let held = line(&sink).await;
    drop(operator);
    assert!(
        held.starts_with("ok state: state.db can be gone on with"),
        "{held}"
    );
}
