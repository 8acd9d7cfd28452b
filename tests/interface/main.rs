//! What `/openapi.json` says is held against what is served.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is tests: what is not as it must be ends one"
)]

#[path = "../integration/harness/mod.rs"]
#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "another test needs the rest of the harness"
)]
mod harness;

mod document;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use document::Document;
use harness::{Daemon, World, dispatch, in_ms, wait_until};

const HOUR: i64 = 3_600_000;

/// A daemon with a dispatch of each phase, one that changed in every field, and
/// some that are short of everything that may be left out.
async fn eventful(world: &World) -> Daemon {
    let daemon = world.setup().sink("none").sink("stdout").ready().await;
    world.put(dispatch("scheduled", 0, in_ms(HOUR), Some(in_ms(2 * HOUR))));
    world.put(dispatch("active", 0, in_ms(-HOUR), None));
    world.put(dispatch("ended", 0, in_ms(-2 * HOUR), Some(in_ms(-HOUR))));
    world.put(dispatch("cancelled", 0, in_ms(HOUR), None));
    world.put(
        json!({"id": "bare", "authorized": true, "test": true, "start_time": in_ms(-HOUR),
        "program": {}, "sites": [{"id": "a/b c?"}]}),
    );
    assert_eq!(daemon.poll().await.status, 200);
    let mut changed = dispatch("scheduled", 1, in_ms(-HOUR), None);
    changed["metadata"] = json!({"why": ["wind", null]});
    changed["program"]["name"] = "Another".into();
    changed["sites"][0]["commitment"] = json!(12.5);
    world.put(changed);
    let mut cancelled = dispatch("cancelled", 1, in_ms(HOUR), None);
    cancelled["authorized"] = false.into();
    world.put(cancelled);
    world.put(dispatch("active", 1, in_ms(-HOUR), Some(in_ms(-1))));
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(daemon.webhook("scheduled").await.status, 200);
    daemon
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let world = World::new().await;
    let daemon = eventful(&world).await;
    let document = Document::of(&daemon).await;
    let check =
        async |path: &str, route: &str| document.check(&daemon, Method::GET, path, route).await;

    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/leader",
        "/status",
        "/schedule",
        "/sites",
        "/openapi.json",
    ] {
        assert_eq!(check(path, path).await.status, 200, "{path}");
    }
    document
        .check(&daemon, Method::POST, "/poll", "/poll")
        .await;
    let outbox = check("/outbox?limit=1&after=0&sink=stdout", "/outbox").await;
    assert_eq!(outbox.json["sinks"][0]["sink"], "stdout");
    for (path, status) in [
        ("/outbox", 200),
        ("/outbox?limit=many", 400),
        ("/outbox?limit=0", 400),
        ("/outbox?limit=1001", 400),
        ("/outbox?after=x", 400),
        ("/outbox?sink=nobody", 404),
    ] {
        assert_eq!(check(path, "/outbox").await.status, status, "{path}");
    }
    let skip = "/outbox/nothing/skip";
    let skipped = document
        .check(&daemon, Method::POST, skip, "/outbox/{id}/skip")
        .await;
    assert_eq!(skipped.status, 404);
    let schedule = check(
        "/schedule?phase=active&phase=ended&at=2026-01-01T00:00:00Z",
        "/schedule",
    )
    .await;
    assert_eq!(schedule.status, 200);
    for path in ["/schedule?phase=running", "/schedule?at=now"] {
        assert_eq!(check(path, "/schedule").await.status, 400, "{path}");
    }
    assert_eq!(check("/sites?state=off", "/sites").await.status, 400);
    assert_eq!(check("/events?type=nothing", "/events").await.status, 400);
    for id in ["scheduled", "active", "ended", "cancelled", "bare"] {
        let answer = check(&format!("/schedule/{id}"), "/schedule/{id}").await;
        assert!(
            !answer.json["history"].as_array().unwrap().is_empty(),
            "{id}"
        );
    }
    for site in ["site-active", "site-scheduled", "a%2Fb%20c%3F"] {
        assert_eq!(
            check(&format!("/sites/{site}"), "/sites/{id}").await.status,
            200,
            "{site}"
        );
    }
    assert_eq!(
        check("/schedule/nothing", "/schedule/{id}").await.status,
        404
    );
    assert_eq!(check("/sites/nothing", "/sites/{id}").await.status, 404);
}

/// An order to keep a site out for so many milliseconds.
fn order(lasts: i64) -> Value {
    json!({"state": "normal", "until": in_ms(lasts), "reason": "new meter"})
}

#[tokio::test]
async fn what_an_operator_orders_is_answered_and_shown_as_the_document_says() {
    let world = World::new().await;
    let daemon = eventful(&world).await;
    let document = Document::of(&daemon).await;
    let route = "/sites/{id}/override";
    for (site, lasts, status) in [
        ("site-scheduled", HOUR, 200),
        ("site-scheduled", -HOUR, 400),
        ("nothing", HOUR, 404),
    ] {
        let url = daemon.status_url(&format!("/sites/{site}/override"));
        let put = daemon.http.put(url).json(&order(lasts));
        let answer = document.answer(put, &Method::PUT, route).await;
        assert_eq!(answer.status, status, "{site} {lasts}");
    }
    for (path, route) in [
        ("/status", "/status"),
        ("/sites", "/sites"),
        ("/sites/site-scheduled", "/sites/{id}"),
        ("/schedule/scheduled", "/schedule/{id}"),
    ] {
        let shown = document.check(&daemon, Method::GET, path, route).await;
        assert!(shown.json.to_string().contains("new meter"), "{path}");
    }
    for (site, status) in [("site-scheduled", 200), ("nothing", 404)] {
        let path = format!("/sites/{site}/override");
        let answer = document.check(&daemon, Method::DELETE, &path, route).await;
        assert_eq!(answer.status, status, "{site}");
    }
    for event in daemon.events_of("site-scheduled") {
        document.holds("Event", &event.event);
    }
}

#[tokio::test]
async fn a_history_with_an_event_that_was_given_up_is_as_the_document_says() {
    let world = World::new().await;
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = format!("http://{}/in", refused.local_addr().unwrap());
    drop(refused);
    let daemon = world.setup().sink(sink).ready().await;
    let document = Document::of(&daemon).await;
    world.put(dispatch("d", 0, in_ms(-1000), None));
    assert_eq!(daemon.poll().await.status, 200);
    let outbox = document.check(&daemon, Method::GET, "/outbox", "/outbox");
    let events = outbox.await.json["sinks"][0]["events"].clone();
    let events = events.as_array().unwrap();
    assert!(!events.is_empty());
    for event in events {
        let skip = format!("/outbox/{}/skip", event["id"].as_str().unwrap());
        let answer = document.check(&daemon, Method::POST, &skip, "/outbox/{id}/skip");
        assert_eq!(answer.await.status, 200);
    }
    let entry = document
        .check(&daemon, Method::GET, "/schedule/d", "/schedule/{id}")
        .await;
    let lines = entry.json["history"].as_array().unwrap().clone();
    let skips = lines.iter().filter(|line| line["skipped"].is_object());
    assert_eq!(skips.count(), events.len(), "{lines:?}");
}

#[tokio::test]
async fn what_goes_wrong_is_as_the_document_says() {
    let world = World::new().await;
    world.sandbox.down(true);
    let setup = world.setup().polling("200ms");
    let daemon = setup.clone().with("--state", "other.db").start().await;
    let document = Document::of(&daemon).await;
    for path in ["/readyz", "/status"] {
        document.check(&daemon, Method::GET, path, path).await;
    }
    let poll = document
        .check(&daemon, Method::POST, "/poll", "/poll")
        .await;
    assert_eq!(poll.status, 503);
    wait_until("it is stale", async || {
        daemon.health().await["sync"]["state"] == "stale"
    })
    .await;
    document
        .check(&daemon, Method::GET, "/status", "/status")
        .await;
    let ready = document
        .check(&daemon, Method::GET, "/readyz", "/readyz")
        .await;
    assert_eq!(ready.status, 503);

    let closed = setup.with("--status-token", "t0ken").start().await;
    for (path, status) in [
        ("/", 200),
        ("/healthz", 200),
        ("/status", 401),
        ("/events", 401),
    ] {
        let answer = document.check(&closed, Method::GET, path, path).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn every_event_is_as_the_document_says() {
    let world = World::new().await;
    let daemon = eventful(&world).await;
    let document = Document::of(&daemon).await;
    let mut stream = daemon
        .http
        .get(daemon.status_url("/events?last_event_id=0"))
        .send()
        .await
        .unwrap();
    document.check_head("/events", &stream);
    let wanted = [
        "dispatch.created",
        "dispatch.updated",
        "dispatch.cancelled",
        "site.curtail",
        "site.release",
    ];
    let mut text = String::new();
    let mut kinds = BTreeSet::new();
    let reading = async {
        while !wanted.iter().all(|kind| kinds.contains(*kind)) {
            text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                for data in event.lines().filter_map(|line| line.strip_prefix("data: ")) {
                    let event: Value = serde_json::from_str(data).unwrap();
                    document.holds("Event", &event);
                    kinds.insert(event["type"].as_str().unwrap().to_owned());
                }
                text = rest.to_owned();
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(all.is_ok(), "{kinds:?}");
}

/// What is documented is served, in these ways and in no other.
#[tokio::test]
async fn every_path_is_served_as_documented_and_not_otherwise() {
    let world = World::new().await;
    let daemon = eventful(&world).await;
    let document = Document::of(&daemon).await;
    let mut routes = document.routes();
    routes.sort_unstable();
    assert_eq!(
        routes,
        [
            "DELETE /sites/{id}/override",
            "GET /",
            "GET /events",
            "GET /healthz",
            "GET /leader",
            "GET /metrics",
            "GET /openapi.json",
            "GET /outbox",
            "GET /readyz",
            "GET /report/{id}",
            "GET /schedule",
            "GET /schedule/{id}",
            "GET /sites",
            "GET /sites/{id}",
            "GET /status",
            "POST /outbox/{id}/skip",
            "POST /poll",
            "PUT /sites/{id}/override",
        ]
    );
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in &routes {
        let (method, path) = route.split_once(' ').unwrap();
        let methods = methods.entry(path).or_default();
        methods.insert(method);
        if method == "GET" {
            methods.insert("HEAD");
        }
    }
    for (path, methods) in methods {
        let known = if path.starts_with("/sites") {
            "site-active"
        } else {
            "active"
        };
        let url = daemon.status_url(&path.replace("{id}", known));
        for method in [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            let asked = daemon.http.request(method.clone(), &url);
            let asked = asked.json(&order(HOUR)).send().await.unwrap();
            let status = asked.status().as_u16();
            if methods.contains(method.as_str()) {
                // Nothing is pending that could be skipped.
                let known = if path.ends_with("/skip") { 404 } else { 200 };
                assert_eq!(status, known, "{method} {path}");
            } else {
                assert_eq!(status, 405, "{method} {path}");
                let allow = asked.headers()["allow"].to_str().unwrap();
                let allowed: BTreeSet<&str> = allow.split(", ").collect();
                assert_eq!(allowed, methods, "{method} {path}");
            }
        }
    }
    assert_eq!(daemon.get("/elsewhere").await.status, 404);
}
