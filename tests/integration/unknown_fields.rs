//! Fields of the API that the daemon does not know: kept as they came, announced when
//! they change, bounded.

use dispatchd::sandbox::RawAnswer;
use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, Receiver, World, dispatch, in_ms, site_of, wait_until};

/// The list of one running dispatch `d` with `more` at its end and `of_site` at the end
/// of its site. As text, for the numbers in it are more than an `f64` holds.
fn list(more: &str, of_site: &str) -> RawAnswer {
    let mut one = dispatch("d", 1, in_ms(0), None);
    // Only what a test changes is to change.
    one["start_time"] = "2026-01-01T00:00:00Z".into();
    one["end_time"] = "2099-01-01T00:00:00Z".into();
    one["sites"][0]["MARK"] = 1.into();
    let text = one
        .to_string()
        .replace("\"MARK\":1", &format!("\"z\":0{of_site}"));
    let text = format!("{}{more}}}", text.strip_suffix('}').unwrap());
    let body = format!(r#"{{"dispatches": [{text}]}}"#);
    RawAnswer::json(StatusCode::OK, body)
}

async fn shows(world: &World, daemon: &Daemon, more: &str, of_site: &str) {
    world.list_answers(Some(list(more, of_site)));
    assert_eq!(daemon.poll().await.status, 200);
}

/// The text of an answer.
async fn text(daemon: &Daemon, path: &str) -> String {
    let asked = daemon.http.get(daemon.status_url(path)).send().await;
    asked.unwrap().text().await.unwrap()
}

/// What the receiver was sent that has all of these texts in it.
fn sent(receiver: &Receiver, parts: &[&str]) -> usize {
    let bodies = receiver.signed().into_iter();
    let texts = bodies.map(|signed| String::from_utf8(signed.body.to_vec()).unwrap());
    texts
        .filter(|text| parts.iter().all(|part| text.contains(part)))
        .count()
}

async fn wait_for_sent(receiver: &Receiver, parts: &[&str]) {
    wait_until(&format!("{parts:?} is sent"), async || {
        sent(receiver, parts) > 0
    })
    .await;
}

#[apply(test)]
async fn a_new_field_reaches_receivers_unchanged_and_each_change_of_it_is_told() {
    const PLAN: &str = r#""plan":{"b":12345678901234567890.10,"a":1e400}"#;
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let setup = world
        .setup()
        .sink(receiver.sink())
        .with("--sink-secret", "secret");
    let mut daemon = setup.start().await;
    shows(&world, &daemon, "", "").await;
    wait_for_sent(&receiver, &["site.curtail"]).await;

    // Missing at first, then there.
    shows(&world, &daemon, &format!(",\n {PLAN}"), r#","point":0.10"#).await;
    wait_for_sent(
        &receiver,
        &[
            r#""type":"dispatch.updated""#,
            &format!(r#""extra":{{{PLAN}}}"#),
            r#""changed":["sites","extra.plan"]"#,
        ],
    )
    .await;
    wait_for_sent(
        &receiver,
        &["site.adjust", r#""extra":{"d":{"point":0.10,"z":0}}"#],
    )
    .await;
    for path in ["/schedule", "/schedule/d"] {
        let shown = text(&daemon, path).await;
        assert!(shown.contains(&format!(r#""extra":{{{PLAN}}}"#)), "{shown}");
    }
    let history = text(&daemon, "/schedule/d").await;
    let to = PLAN.strip_prefix("\"plan\":").unwrap();
    let line = format!(r#""extra.plan":{{"from":null,"to":{to}}}"#);
    assert!(history.contains(&line), "{history}");
    let sites = text(&daemon, "/sites").await;
    assert!(
        sites.contains(r#""extra":{"d":{"point":0.10,"z":0}}"#),
        "{sites}"
    );

    // The same in another order and spelling.
    let revision = daemon.get("/sites").await.json["revision"].clone();
    shows(
        &world,
        &daemon,
        r#","plan": {"a": 10e399, "b": 12345678901234567890.1}"#,
        r#","point":1e-1"#,
    )
    .await;
    assert_eq!(daemon.get("/sites").await.json["revision"], revision);

    // A restart keeps them, and announces nothing.
    daemon.stop(Signal::TERM).await;
    drop(daemon);
    let daemon = setup.start().await;
    shows(&world, &daemon, &format!(",{PLAN}"), r#","point":0.10"#).await;
    assert_eq!(daemon.get("/sites").await.json["revision"], revision);
    assert!(text(&daemon, "/schedule").await.contains(PLAN));
    assert_eq!(sent(&receiver, &["extra.plan"]), 1);
    assert_eq!(sent(&receiver, &["site.adjust"]), 1);

    // A change of the dispatch's own field moves no site; gone is a change too.
    shows(&world, &daemon, "", r#","point":0.10"#).await;
    wait_for_sent(&receiver, &[r#""changed":["extra.plan"]"#]).await;
    wait_until("all is delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    assert_eq!(sent(&receiver, &["site.adjust"]), 1);
    shows(&world, &daemon, "", r#","point":0.2"#).await;
    wait_for_sent(&receiver, &["site.adjust", r#""point":0.2"#]).await;
}

#[apply(test)]
async fn more_than_64_kib_of_unknown_fields_are_dropped_counted_and_logged() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let half = format!(r#","b":"{}""#, "x".repeat(32 * 1024));
    shows(&world, &daemon, &half, "").await;
    assert!(daemon.entry("d").await.unwrap()["extra"]["b"].is_string());
    for _ in 0..3 {
        shows(&world, &daemon, &half, &half).await;
    }
    let entry = daemon.entry("d").await.unwrap();
    assert_eq!(entry.get("extra"), None);
    assert_eq!(entry["sites"][0].get("extra"), None);
    assert_eq!(entry["sites"][0]["commitment"], 12);
    assert_eq!(daemon.health().await["sync"]["extra_dropped"], 3);
    let metrics = text(&daemon, "/metrics").await;
    assert!(
        metrics.contains("dispatchd_extra_dropped_total 3"),
        "{metrics}"
    );
    let log = daemon.log();
    let told = log
        .iter()
        .filter(|line| line.contains("unknown fields have"));
    assert_eq!(told.count(), 1, "{log:?}");
}

#[apply(test)]
async fn a_sink_that_names_sites_gets_their_unknown_fields_and_none_of_the_dispatch() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let file = world.path("dispatchd.toml");
    let (to, site) = (receiver.sink(), site_of("d"));
    std::fs::write(
        &file,
        format!("[[sink]]\nname = \"plant\"\nto = \"{to}\"\nsites = [\"{site}\"]\n"),
    )
    .unwrap();
    let setup = world.setup().with("--config", file.display());
    let daemon = setup.start().await;
    let plan = r#","plan":{"site-of-another":1}"#;
    shows(&world, &daemon, plan, r#","point":1"#).await;
    shows(&world, &daemon, r#","plan":2"#, r#","point":2"#).await;
    shows(&world, &daemon, r#","plan":3"#, r#","point":2"#).await;
    wait_until("all is delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    let events: Vec<Value> = receiver
        .taken()
        .into_iter()
        .map(|heard| heard.event)
        .collect();
    let types: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(receiver.types_of(&site).last().unwrap(), "site.adjust");
    assert_eq!(
        types
            .iter()
            .filter(|kind| **kind == "dispatch.updated")
            .count(),
        1
    );
    for event in &events {
        assert!(!event.to_string().contains("plan"), "{event}");
        if event["type"] == "dispatch.updated" {
            assert_eq!(event["data"]["changed"], json!(["sites"]));
            assert_eq!(event["data"]["sites"][0]["extra"]["point"], 2);
        }
    }
}
