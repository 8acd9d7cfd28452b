//! The webhook listener: every row of the contract's table, and those who mean
//! no good.

use std::time::Duration;

use dispatchd::http::REQUEST_MAX;
use dispatchd::sandbox::{Question, RawAnswer};
use futures_util::future::join_all;
use http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Daemon, Raw, World, ask, dispatch, hint, in_ms, wait_until};

/// It is to come again, and is told when.
fn assert_come_again(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=300).contains(&seconds));
}

#[apply(test)]
async fn the_handshake_is_answered_200() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let body = json!({"event": {"name": ""}, "resource": ""});
    assert_eq!(daemon.post(body.to_string()).await.status, 200);
    let registration =
        json!({"url": daemon.webhook_url(), "events": [{"name": "dispatch.create"}]});
    let url = format!("{}/2022-04-15/webhooks", world.sandbox.url());
    let register = daemon.http.post(url).header("x-voltus-api-key", "secret");
    assert_eq!(ask(register.json(&registration)).await.status, 200);
}

#[apply(test)]
async fn a_dispatch_that_nobody_knows_is_answered_404() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    assert_eq!(daemon.webhook("nobody").await.status, 404);
    assert_eq!(world.look_ups("nobody").len(), 1);
    assert_eq!(daemon.phase("nobody").await, "");
}

#[apply(test)]
async fn a_dispatch_gone_from_the_api_is_settled_only_once_it_is_over_here() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.put(dispatch("over", 0, in_ms(-2000), Some(in_ms(-1000))));
    assert_eq!(daemon.webhook("over").await.status, 200);
    world.known(&daemon, "live").await;
    world.sandbox.remove("over");
    world.sandbox.remove("live");

    assert_eq!(daemon.phase("over").await, "ended");
    assert_eq!(daemon.webhook("over").await.status, 200);
    let polls = world.polls().len();
    assert_come_again(&daemon.webhook("live").await);
    assert_eq!(daemon.phase("live").await, "scheduled");
    wait_until("a poll follows", async || world.polls().len() > polls).await;

    wait_until("two polls have found it missing", async || {
        daemon.poll().await.status == 200 && daemon.phase("live").await == "cancelled"
    })
    .await;
    assert_eq!(daemon.webhook("live").await.status, 200);
}

#[apply(test)]
async fn a_failed_fetch_is_answered_503_and_a_poll_follows_at_once() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.put(dispatch("d", 0, in_ms(60_000), None));
    let broken = RawAnswer::json(StatusCode::INTERNAL_SERVER_ERROR, "{}");
    world.sandbox.override_answer(Question::ById, Some(broken));
    assert_come_again(&daemon.webhook("d").await);
    // The interval is an hour: only the failure can have asked for it.
    wait_until("the poll heals it", async || {
        daemon.phase("d").await == "scheduled"
    })
    .await;
    assert_eq!(world.polls().len(), 2);
    // An operator who sees failed or rejected webhooks counted finds the reason in the log.
    let failed = daemon.wait_for_log("answered webhooks 503").await;
    assert!(
        failed.contains("WARN") && failed.contains("last=d"),
        "{failed}"
    );
    assert!(failed.contains("reason="), "{failed}");
    world.sandbox.override_answer(Question::ById, None);
    assert_eq!(daemon.webhook("never").await.status, 404);
    let unknown = daemon.wait_for_log("answered webhooks 404").await;
    assert!(unknown.contains("last=never"), "{unknown}");
}

#[apply(test)]
async fn the_deadline_ends_the_wait_and_not_the_work() {
    let world = World::new().await;
    let setup = world.setup().with("--webhook-deadline", "300ms");
    let daemon = setup.ready().await;
    world.put(dispatch("d", 0, in_ms(60_000), None));
    world.faults(json!({"api_delay_ms": 3000}));
    let answer = tokio::time::timeout(Duration::from_millis(2000), daemon.webhook("d")).await;
    assert_come_again(&answer.expect("an answer long before the API's"));
    assert_eq!(daemon.phase("d").await, "");
    let entry = daemon.wait_for_phase("d", "scheduled").await;
    assert!(["webhook", "poll"].contains(&entry["discovered_by"].as_str().unwrap()));
}

#[apply(test)]
async fn whatever_the_event_is_called_the_dispatch_is_looked_at() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    for (number, name) in ["dispatch.delete", "something.new", "", "\u{1f600}"]
        .iter()
        .enumerate()
    {
        let id = format!("d{number}");
        world.put(dispatch(&id, 0, in_ms(60_000), None));
        // A version of the API that nobody knows yet.
        let resource = format!("/2031-12-31/dispatches/{id}");
        let body = json!({"event": {"name": name}, "resource": resource, "more": [1]});
        assert_eq!(daemon.post(body.to_string()).await.status, 200);
        assert_eq!(daemon.phase(&id).await, "scheduled");
    }
}

#[apply(test)]
async fn another_kind_of_resource_is_ignored_and_counted() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let requests = world.sandbox.requests().len();
    let answer = daemon.post(hint("/2022-04-15/sites/abc")).await;
    assert_eq!(answer.status, 200);
    let webhooks = &daemon.health().await["sync"]["webhooks"];
    assert_eq!(
        (&webhooks["ignored"], &webhooks["received"]),
        (&json!(1), &json!(1))
    );
    wait_until("it is in the log", async || {
        daemon.log().iter().any(|line| line.contains("ignored"))
    })
    .await;
    assert_eq!(world.sandbox.requests().len(), requests);
}

#[apply(test)]
async fn what_is_no_webhook_is_answered_400_and_asks_the_api_nothing() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let requests = world.sandbox.requests().len();
    let long = format!("/2022-04-15/dispatches/{}", "x".repeat(65));
    let resources = [
        "dkmq",
        "/dispatches/dkmq",
        "/2022-04-15/dispatches/",
        "/2022-04-15/dispatches/a/b",
        "/2022-04-15/dispatches/../webhooks",
        "/2022-04-15/dispatches/a%2Fb",
        "/2022-04-15/dispatches/a?x=1",
        "http://127.0.0.1:1/2022-04-15/dispatches/a",
        "//evil.example/2022-04-15/dispatches/a",
        "/2022-4-15/dispatches/a",
        &long,
    ];
    let mut bodies: Vec<String> = resources.map(hint).into();
    bodies.extend(
        [
            "",
            "{",
            "<html></html>",
            "null",
            "[]",
            "{}",
            r#"{"event":"dispatch.create","resource":"/2022-04-15/dispatches/a"}"#,
            r#"{"event":{"name":1},"resource":"/2022-04-15/dispatches/a"}"#,
            r#"{"event":{"name":"x"},"resource":null}"#,
            r#"{"event":{"name":"x"},"resource":["/2022-04-15/dispatches/a"]}"#,
        ]
        .map(str::to_owned),
    );
    // Deep enough to overflow a stack, and short enough to be read.
    bodies.push("[".repeat(20_000));
    bodies.push(format!(
        "{}{}",
        r#"{"a":"#.repeat(10_000),
        "}".repeat(10_000)
    ));
    for body in bodies {
        let answer = daemon.post(body.clone()).await;
        assert_eq!(answer.status, 400, "{body:.80}");
        assert!(answer.json["error"].is_string(), "{body:.80}");
    }
    assert_eq!(world.sandbox.requests().len(), requests);
    assert_eq!(daemon.health().await["sync"]["webhooks"]["failed"], 0);
}

#[apply(test)]
async fn a_body_over_64_kib_is_answered_413() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut fits = hint("/2022-04-15/sites/a");
    fits.extend(std::iter::repeat_n(' ', REQUEST_MAX - fits.len()));
    assert_eq!(daemon.post(fits.clone()).await.status, 200);
    assert_eq!(daemon.post(format!("{fits} ")).await.status, 413);
    // The answer must reach a sender that is still sending.
    for _ in 0..10 {
        assert_eq!(daemon.post("x".repeat(200 * 1024)).await.status, 413);
        let mut chunked = Raw::connect(daemon.listener).await;
        chunked.begin_chunks().await;
        assert_eq!(chunked.chunk_for_ever().await, 413);
    }
    assert_eq!(daemon.health().await["sync"]["webhooks"]["rejected"], 21);
}

#[apply(test)]
async fn a_body_that_is_only_announced_is_refused_before_it_comes() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    for more in [
        "Content-Length: 65537",
        "Content-Length: 99999999999",
        "Content-Length: 1000000\r\nExpect: 100-continue",
    ] {
        let mut peer = Raw::connect(daemon.listener).await;
        peer.say(format!(
            "POST /dispatch-listener HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n"
        ))
        .await;
        let head = tokio::time::timeout(Duration::from_secs(5), peer.head()).await;
        let head = head.expect("an answer in time");
        assert!(head.starts_with("HTTP/1.1 413 "), "{more}: {head}");
    }
}

#[apply(test)]
async fn there_is_one_path_and_one_method() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let request = |method: Method, path: &str| {
        let url = format!("http://{}{path}", daemon.listener);
        ask(daemon
            .http
            .request(method, url)
            .body(hint("/2022-04-15/sites/a")))
    };
    for path in [
        "/",
        "/dispatch-listener/",
        "/dispatch-listener/x",
        "/status",
        "/schedule",
        "/%64ispatch-listener",
    ] {
        assert_eq!(request(Method::POST, path).await.status, 404, "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert_eq!(
            request(method.clone(), "/dispatch-listener").await.status,
            405,
            "{method}"
        );
    }
    assert_eq!(
        request(Method::POST, "/dispatch-listener").await.status,
        200
    );
}

#[apply(test)]
async fn with_a_secret_only_its_path_answers() {
    let world = World::new().await;
    let setup = world.setup().with("--webhook-secret", "s3cret-path");
    let daemon = setup.start().await;
    let post = |path: &str| {
        let url = format!("http://{}{path}", daemon.listener);
        ask(daemon.http.post(url).body(hint("/2022-04-15/sites/a")))
    };
    assert_eq!(post("/dispatch-listener/s3cret-path").await.status, 200);
    for path in [
        "/dispatch-listener",
        "/dispatch-listener/",
        "/dispatch-listener/s3cret-pat",
        "/dispatch-listener/s3cret-path/",
    ] {
        assert_eq!(post(path).await.status, 404, "{path}");
    }
    let log = daemon.log().join("\n");
    assert!(!log.contains("s3cret-path"), "{log}");
}

/// Lines of the log about what was turned away.
fn lines_with(daemon: &Daemon, words: &str) -> Vec<String> {
    let mut lines = daemon.log();
    lines.retain(|line| line.contains(words));
    lines
}

async fn counted(daemon: &Daemon, outcome: &str) -> f64 {
    let metrics = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let text = metrics.unwrap().text().await.unwrap();
    let series = format!("dispatchd_webhooks_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.expect(outcome).parse().unwrap()
}

#[apply(test)]
async fn webhooks_with_an_old_secret_are_counted_and_logged_once_a_minute() {
    let world = World::new().await;
    let setup = world.setup().with("--webhook-secret", "new-s3cret");
    let daemon = setup.variable("RUST_LOG", "trace").ready().await;
    let before = daemon.health().await["sync"]["webhooks"].clone();
    for _ in 0..20 {
        let url = format!("{}/old-s3cret", daemon.webhook_url());
        let webhook = daemon.http.post(url).body(hint("/2022-04-15/dispatches/a"));
        assert_eq!(ask(webhook).await.status, 404);
    }
    daemon.wait_for_log("wrong secret").await;
    let told = lines_with(&daemon, "wrong secret");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("127.0.0.1"), "who sends them: {told:?}");
    assert_eq!(counted(&daemon, "wrong_path").await, 20.0);
    let mut expected = before;
    expected["wrong_path"] = json!(20);
    // Strangers must not make it look as if webhooks came.
    assert_eq!(daemon.health().await["sync"]["webhooks"], expected);
    let log = daemon.log().join("\n");
    assert!(!log.contains("s3cret"), "neither secret is told: {log}");
}

#[apply(test)]
async fn a_webhook_to_any_other_path_is_counted_and_a_look_around_is_not() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let request = |method: Method, path: &str| {
        let url = format!("http://{}{path}", daemon.listener);
        ask(daemon.http.request(method, url))
    };
    for path in [
        "/",
        "/webhook",
        "/dispatch-listener/x",
        "/dispatch-listener/",
    ] {
        assert_eq!(request(Method::POST, path).await.status, 404, "{path}");
        assert_eq!(request(Method::GET, path).await.status, 404, "{path}");
    }
    assert_eq!(counted(&daemon, "wrong_path").await, 4.0);
    let told = lines_with(&daemon, "wrong path");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[apply(test)]
async fn bodies_that_are_rejected_are_logged_once_a_minute() {
    let world = World::new().await;
    let daemon = world.setup().with("--peer-rate", 1).ready().await;
    for body in [
        "{",
        "{}",
        &hint("/2022-04-15/dispatches/a/b"),
        &"x".repeat(70_000),
    ] {
        assert!([400, 413].contains(&daemon.post(body.to_owned()).await.status));
    }
    daemon.wait_for_log("rejected webhooks").await;
    let told = lines_with(&daemon, "rejected webhooks");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("the body is not JSON"), "{told:?}");
    // Another reason has a line of its own.
    let posts = join_all((0..1100).map(|_| daemon.post("{")));
    assert!(posts.await.iter().any(|answer| answer.status == 429));
    daemon.wait_for_log("--peer-rate").await;
    assert_eq!(lines_with(&daemon, "--peer-rate").len(), 1);
    assert_eq!(lines_with(&daemon, "rejected webhooks").len(), 1);
}

#[apply(test)]
async fn a_thousand_connections_of_one_peer_are_taken_at_once() {
    // Each of them costs this process a file, and other tests run beside.
    dispatchd::system::allow_open_files(16_384).unwrap();
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut peers = join_all((0..1024).map(|_| Raw::connect(daemon.listener))).await;
    let body = json!({"event": {"name": ""}, "resource": ""}).to_string();
    let request = format!(
        "POST /dispatch-listener HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    join_all(peers.iter_mut().map(|peer| peer.say(&request))).await;
    let answers = join_all(peers.iter_mut().map(Raw::head)).await;
    // A burst of 1,000 is let through; who is over it is told when to come.
    let taken = answers
        .iter()
        .filter(|head| head.starts_with("HTTP/1.1 200 "));
    let told = answers.iter().filter(|head| {
        head.starts_with("HTTP/1.1 429 ") && head.to_lowercase().contains("\r\nretry-after: ")
    });
    let (taken, told) = (taken.count(), told.count());
    assert!(taken >= 1000, "{taken}");
    assert_eq!(taken + told, 1024);
}

#[apply(test)]
async fn connections_that_say_nothing_do_not_delay_a_webhook() {
    dispatchd::system::allow_open_files(16_384).unwrap();
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut peers = join_all((0..300).map(|_| Raw::connect(daemon.listener))).await;
    for (number, peer) in peers.iter_mut().enumerate() {
        match number % 3 {
            0 => {}
            1 => peer.say("POST /dispatch-listener HTTP/1.1\r\nHost:").await,
            _ => {
                peer.begin_chunks().await;
                peer.say("5\r\nhello\r\n").await;
            }
        }
    }
    world.put(dispatch("d", 0, in_ms(60_000), None));
    let answer = tokio::time::timeout(Duration::from_secs(3), daemon.webhook("d")).await;
    assert_eq!(answer.expect("an answer in time").status, 200);
}

#[apply(test)]
async fn answers_say_nothing_of_the_configuration() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.sandbox.down(true);
    let answer = daemon.webhook("d").await;
    assert_come_again(&answer);
    let text = answer.json.to_string();
    assert!(
        !text.contains("127.0.0.1") && !text.contains("API"),
        "{text}"
    );
    assert!(matches!(&answer.json, Value::Object(fields) if fields.len() == 1));
}
