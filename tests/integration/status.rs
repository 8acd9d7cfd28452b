//! The status listener.

use futures_util::future::join_all;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::harness::{Answer, Daemon, Raw, World, ask, dispatch, in_ms, wait_for, wait_until};

/// A daemon with one dispatch of each phase, each with a site of its own.
async fn one_of_each(world: &World) -> Daemon {
    let daemon = world.setup().ready().await;
    let hour = 3_600_000;
    world.put(dispatch("scheduled", 0, in_ms(hour), Some(in_ms(2 * hour))));
    world.put(dispatch("active", 0, in_ms(-hour), None));
    world.put(dispatch("ended", 0, in_ms(-2 * hour), Some(in_ms(-hour))));
    let mut cancelled = dispatch("cancelled", 0, in_ms(hour), None);
    cancelled["authorized"] = false.into();
    world.put(cancelled);
    assert_eq!(daemon.poll().await.status, 200);
    daemon
}

fn ids(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut ids: Vec<&str> = answer.json["dispatches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

#[apply(test)]
async fn the_schedule_is_filtered_by_phase_site_and_time() {
    let world = World::new().await;
    let daemon = one_of_each(&world).await;
    let all = daemon.get("/schedule").await;
    assert_eq!(ids(&all), ["active", "cancelled", "ended", "scheduled"]);
    for entry in all.json["dispatches"].as_array().unwrap() {
        assert_eq!(entry["phase"], entry["id"]);
    }
    for (query, wanted) in [
        ("phase=active", &["active"][..]),
        ("phase=cancelled", &["cancelled"]),
        ("phase=ended&phase=scheduled", &["ended", "scheduled"]),
        ("phase=ended,scheduled", &["ended", "scheduled"]),
        ("site=site-active", &["active"]),
        ("site=nowhere", &[]),
        ("phase=ended&site=site-active", &[]),
    ] {
        let answer = daemon.get(&format!("/schedule?{query}")).await;
        assert_eq!(ids(&answer), wanted, "{query}");
    }
    for (at, wanted) in [
        (in_ms(-5_400_000), &["ended"][..]),
        (in_ms(0), &["active"]),
        (in_ms(5_400_000), &["active", "scheduled"]),
    ] {
        let at = at.format("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string();
        let answer = daemon.get(&format!("/schedule?at={at}")).await;
        assert_eq!(ids(&answer), wanted, "{at}");
    }
    for query in ["phase=running", "at=noon"] {
        let answer = daemon.get(&format!("/schedule?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json["error"].as_str().unwrap().contains(query));
    }
}

#[apply(test)]
async fn an_entry_has_the_fields_that_the_contract_names() {
    let world = World::new().await;
    let daemon = one_of_each(&world).await;
    let schedule = daemon.schedule().await;
    let entry = &schedule["dispatches"][0];
    for field in [
        "id",
        "phase",
        "authorized",
        "test",
        "start_time",
        "end_time",
        "creation_time",
        "modification_number",
        "program",
        "sites",
        "metadata",
        "first_seen",
        "last_changed",
        "last_confirmed",
        "discovered_by",
        "last_changed_by",
    ] {
        assert!(entry.get(field).is_some(), "{field}: {entry}");
    }
    let health = daemon.health().await;
    for pointer in [
        "/version",
        "/started_at",
        "/now",
        "/sync/state",
        "/sync/poll_interval_seconds",
        "/sync/last_poll/at",
        "/sync/last_poll/ok",
        "/sync/last_poll/duration_ms",
        "/sync/last_successful_poll",
        "/sync/next_poll",
        "/sync/webhooks/received",
        "/sync/webhooks/accepted",
        "/sync/webhooks/rejected",
        "/sync/webhooks/failed",
        "/sync/missed_webhooks",
        "/sync/heals",
        "/sync/unannounced_changes",
        "/sync/polled_only_changes",
        "/schedule/revision",
        "/delivery/0/sink",
        "/delivery/0/pending",
        "/delivery/0/delivered",
        "/delivery/0/failed_attempts",
    ] {
        let value = health.pointer(pointer);
        assert!(
            value.is_some_and(|value| !value.is_null()),
            "{pointer}: {health}"
        );
    }
    assert!(health["sync"]["webhooks"].get("last_at").is_some());
    let counts = &health["schedule"];
    for phase in ["scheduled", "active", "ended", "cancelled"] {
        assert_eq!(counts[phase], 1, "{phase}");
    }
}

#[apply(test)]
async fn an_entry_comes_with_its_history_and_an_unknown_one_not_at_all() {
    let world = World::new().await;
    let daemon = one_of_each(&world).await;
    world.put(dispatch("scheduled", 1, in_ms(1_800_000), None));
    assert_eq!(daemon.webhook("scheduled").await.status, 200);
    let entry = daemon.entry("scheduled").await.unwrap();
    let history = entry["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["type"], "dispatch.created");
    assert_eq!(history[1]["type"], "dispatch.updated");
    assert_eq!(history[1]["source"], "webhook");
    assert_eq!(
        history[1]["changed"]["modification_number"],
        json!({"from": 0, "to": 1})
    );
    assert!(history[0]["revision"].as_u64() < history[1]["revision"].as_u64());
    for path in [
        "/schedule/nobody",
        "/schedule/a%20b",
        "/schedule/a/b",
        "/other",
    ] {
        assert_eq!(daemon.get(path).await.status, 404, "{path}");
    }
    for (method, path) in [
        (Method::POST, "/schedule"),
        (Method::DELETE, "/schedule/scheduled"),
        (Method::GET, "/poll"),
        (Method::HEAD, "/poll"),
    ] {
        let request = daemon.http.request(method.clone(), daemon.status_url(path));
        assert_eq!(ask(request).await.status, 405, "{method} {path}");
    }
}

#[apply(test)]
async fn a_watchdog_that_asks_with_head_gets_what_get_would_say_without_the_body() {
    let world = World::new().await;
    let daemon = one_of_each(&world).await;
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/status",
        "/schedule",
        "/schedule/nobody",
        "/sites",
        "/events",
        "/metrics",
        "/openapi.json",
    ] {
        let get = daemon.http.get(daemon.status_url(path));
        let get = get.send().await.unwrap();
        let mut connection = Raw::connect(daemon.status).await;
        let mut head_of = async |method: &str, path: &str| {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
                daemon.status
            );
            connection.say(request).await;
            connection.head().await.to_lowercase()
        };
        let head = head_of("HEAD", path).await;
        let status = format!("http/1.1 {}", get.status().as_u16());
        assert!(head.starts_with(&status), "{path}: {head}");
        let kind = get.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{path}: {head}"
        );
        // The next answer follows at once.
        let next = head_of("GET", "/healthz").await;
        assert!(next.starts_with("http/1.1 200"), "{path}: {next}");
    }
}

#[apply(test)]
async fn the_revision_is_the_etag() {
    let world = World::new().await;
    let daemon = one_of_each(&world).await;
    let with = |tag: &str| {
        let request = daemon.http.get(daemon.status_url("/schedule"));
        ask(request.header("if-none-match", tag))
    };
    let first = daemon.get("/schedule").await;
    let tag = first.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", first.json["revision"]));
    let again = with(&tag).await;
    assert_eq!((again.status, again.json), (304, Value::Null));
    assert_eq!(with("\"other\"").await.status, 200);
    world.known(&daemon, "more").await;
    let changed = with(&tag).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
}

#[apply(test)]
async fn the_revision_stays_while_nothing_changes() {
    let world = World::new().await;
    let daemon = world.setup().polling("100ms").ready().await;
    world.known(&daemon, "d").await;
    let before = daemon.schedule().await;
    world.wait_for_polls(8).await;
    assert_eq!(daemon.webhook("d").await.status, 200);
    let after = daemon.schedule().await;
    assert_eq!(after["revision"], before["revision"]);
    let (before, after) = (&before["dispatches"][0], &after["dispatches"][0]);
    assert_eq!(after["last_changed"], before["last_changed"]);
    assert_eq!(daemon.types_of("d"), ["dispatch.created"]);
}

#[apply(test)]
async fn pages_of_other_sites_and_other_names_are_refused() {
    let world = World::new().await;
    let daemon = world
        .setup()
        .with("--status-host", "ops.example")
        .ready()
        .await;
    let port = daemon.status.port();
    let asked = |path: &str, header: &'static str, value: String| {
        ask(daemon
            .http
            .get(daemon.status_url(path))
            .header(header, value))
    };
    for host in ["evil.example", "evil.example:80", "localhost.evil.example"] {
        assert_eq!(
            asked("/schedule", "host", host.into()).await.status,
            403,
            "{host}"
        );
        assert_eq!(
            asked("/status", "host", host.into()).await.status,
            403,
            "{host}"
        );
        assert_eq!(
            asked("/healthz", "host", host.into()).await.status,
            200,
            "{host}"
        );
        assert_eq!(
            asked("/readyz", "host", host.into()).await.status,
            200,
            "{host}"
        );
    }
    for host in [format!("localhost:{port}"), "ops.example".into()] {
        assert_eq!(
            asked("/schedule", "host", host.clone()).await.status,
            200,
            "{host}"
        );
    }
    let own = format!("http://127.0.0.1:{port}");
    assert_eq!(asked("/schedule", "origin", own).await.status, 200);
    for origin in ["http://evil.example", "null"] {
        assert_eq!(
            asked("/schedule", "origin", origin.into()).await.status,
            403
        );
    }
    let polls = world.polls().len();
    let poll = daemon.http.post(daemon.status_url("/poll"));
    assert_eq!(
        ask(poll.header("origin", "http://evil.example"))
            .await
            .status,
        403
    );
    assert_eq!(world.polls().len(), polls);
}

#[apply(test)]
async fn with_a_token_only_its_bearer_is_told_anything() {
    let world = World::new().await;
    let daemon = world.setup().with("--status-token", "t0ken").start().await;
    let asked = |path: &str, value: &'static str| {
        let request = daemon.http.get(daemon.status_url(path));
        ask(request
            .header("authorization", value)
            .header("host", "anywhere.example"))
    };
    for path in ["/status", "/schedule", "/schedule/x"] {
        let refused = daemon.get(path).await;
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        assert_eq!(asked(path, "Bearer wrong").await.status, 401, "{path}");
    }
    assert_eq!(asked("/schedule", "Bearer t0ken").await.status, 200);
    assert_eq!(daemon.poll().await.status, 401);
    assert_eq!(daemon.get("/healthz").await.status, 200);
    daemon.wait_until_ready().await;
}

#[apply(test)]
async fn the_daemon_is_not_ready_before_a_poll_has_succeeded() {
    let world = World::new().await;
    world.sandbox.down(true);
    let daemon = world.setup().start().await;
    wait_until("the first poll has failed", async || {
        !daemon.health().await["sync"]["last_poll"].is_null()
    })
    .await;
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.json["reason"]
            .as_str()
            .unwrap()
            .contains("no poll has succeeded yet")
    );
    assert_eq!(daemon.health().await["sync"]["state"], "starting");
    assert_eq!(daemon.get("/healthz").await.status, 200);
    world.sandbox.down(false);
    daemon.wait_until_ready().await;
    assert_eq!(daemon.health().await["sync"]["state"], "fresh");
}

#[apply(test)]
async fn the_daemon_is_not_ready_when_its_store_takes_no_writes() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.known(&daemon, "before").await;
    let revision = daemon.revision().await;
    std::fs::rename(world.path("state.db"), world.path("elsewhere.db")).unwrap();
    world.put(dispatch("after", 0, in_ms(60_000), None));
    let answer = daemon.webhook("after").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.json["reason"]
            .as_str()
            .unwrap()
            .contains("state file")
    );
    assert_eq!(
        daemon.revision().await,
        revision,
        "nothing is shown that is not on disk"
    );

    std::fs::rename(world.path("elsewhere.db"), world.path("state.db")).unwrap();
    daemon.wait_until_ready().await;
    assert_eq!(daemon.webhook("after").await.status, 200);
}

#[apply(test)]
async fn an_entry_and_its_history_are_of_one_revision_while_commits_go_on() {
    let world = World::new().await;
    let daemon = world.setup().with("--peer-rate", 0).ready().await;
    world.known(&daemon, "d").await;
    let writing = async {
        for number in 2..150 {
            world.put(dispatch("d", number, in_ms(3_600_000), None));
            assert_eq!(daemon.webhook("d").await.status, 200);
        }
    };
    // The numbers that the entry and the last line of its history tell.
    let reading = (0..4).map(async |_| {
        loop {
            let entry = daemon.entry("d").await.unwrap();
            let history = entry["history"].as_array().unwrap();
            let last = &history.last().unwrap()["changed"]["modification_number"]["to"];
            if history.len() > 1 {
                assert_eq!(last, &entry["modification_number"], "{entry}");
            } else {
                assert_eq!(entry["modification_number"], 1);
            }
        }
    });
    tokio::select! {
        () = writing => {}
        _ = join_all(reading) => unreachable!("it never ends"),
    }
}

#[apply(test)]
async fn long_answers_that_nobody_reads_hold_up_neither_others_nor_the_writer() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut large = dispatch("large", 0, in_ms(3_600_000), None);
    let site = |number| json!({"id": format!("s{number}"), "name": "x".repeat(10_000), "customer_location_id": "1", "commitment": 1});
    large["sites"] = (0..800).map(site).collect();
    world.put(large);
    assert_eq!(daemon.poll().await.status, 200);
    let asks = "GET /schedule HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut peers = Vec::new();
    for _ in 0..12 {
        let mut peer = Raw::connect_from([127, 0, 0, 1].into(), daemon.status).await;
        peer.say(asks).await;
        peers.push(peer);
    }
    // The answer itself is not read.
    let schedule = async || {
        let asked = daemon.http.get(daemon.status_url("/schedule")).send().await;
        let answer = asked.unwrap();
        let after = answer.headers().get("retry-after").cloned();
        (answer.status().as_u16(), after)
    };
    let refused = wait_for("all turns are taken", async || {
        let (status, after) = schedule().await;
        (status == 503).then_some(after).flatten()
    })
    .await;
    assert_eq!(refused, "5");
    // What is short is answered, and what is to be written is.
    world.known(&daemon, "a").await;
    assert_eq!(daemon.get("/metrics").await.status, 200);
    assert_eq!(daemon.health().await["schedule"]["scheduled"], 2);
    // Those who read nothing are closed, and the turns are free again.
    wait_until("others have their turn", async || schedule().await.0 == 200).await;
}
