//! The sites that are enrolled at the API, beside those of dispatches.

use http::StatusCode;
use serde_json::{Value, json};

use dispatchd::sandbox::{Question, RawAnswer};

use crate::harness::{Daemon, World, dispatch, in_ms, wait_for};

/// Has the API list these sites as enrolled.
fn enrol(world: &World, ids: &[&str]) {
    let sites: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id, "name": format!("name of {id}"), "customer_location_id": ""}))
        .collect();
    let body = json!({"sites": sites, "page": 0, "perPage": 0}).to_string();
    answers(world, StatusCode::OK, body);
}

fn answers(world: &World, status: StatusCode, body: String) {
    let answer = RawAnswer::json(status, body);
    world.sandbox.override_answer(Question::Sites, Some(answer));
}

/// The inventory, once the API has been asked.
async fn inventory(daemon: &Daemon) -> Value {
    wait_for("the API was asked for its sites", async || {
        let inventory = daemon.health().await["inventory"].clone();
        inventory["next_look"].is_string().then_some(inventory)
    })
    .await
}

#[apply(test)]
async fn enrolled_sites_are_shown_as_normal_beside_those_of_dispatches() {
    let world = World::new().await;
    enrol(&world, &["barn", "mill"]);
    let daemon = world.setup().sink("stdout").ready().await;
    world.known(&daemon, "a").await;
    assert_eq!(inventory(&daemon).await["enrolled_sites"], 2);
    let listed = daemon.get("/sites").await;
    let sites = listed.json["sites"].as_array().unwrap();
    let shown: Vec<Value> = sites
        .iter()
        .map(|site| json!([site["id"], site["state"], site["enrolled"], site["sinks"]]))
        .collect();
    assert_eq!(
        json!(shown),
        json!([
            ["barn", "normal", true, ["stdout"]],
            ["mill", "normal", true, ["stdout"]],
            ["site-a", "normal", false, ["stdout"]],
        ])
    );
    let barn = daemon.get("/sites/barn").await;
    assert_eq!(barn.status, 200);
    assert_eq!(barn.json["name"], "name of barn");
}

#[apply(test)]
async fn an_api_that_does_not_tell_its_sites_is_no_fault() {
    for (status, why) in [
        (StatusCode::NOT_FOUND, "the API has no GET /sites (404)"),
        (
            StatusCode::FORBIDDEN,
            "does not show GET /sites to this key",
        ),
        (StatusCode::INTERNAL_SERVER_ERROR, "500"),
    ] {
        let world = World::new().await;
        let body = json!({"message": "no", "type": "x"}).to_string();
        answers(&world, status, body);
        let daemon = world.setup().ready().await;
        world.known(&daemon, "a").await;
        let shown = inventory(&daemon).await;
        assert_eq!(shown["enrolled_sites"], Value::Null);
        let problem = shown["problem"].as_str().unwrap();
        assert!(problem.contains(why), "{problem}");
        assert_eq!(daemon.get("/readyz").await.status, 200);
        assert_eq!(daemon.health().await["sync"]["slowdown"], Value::Null);
        let site = daemon.get("/sites/site-a").await;
        assert_eq!(site.json["enrolled"], Value::Null);
    }
}

#[apply(test)]
async fn a_site_without_a_sink_and_a_pattern_without_a_site_are_told() {
    let world = World::new().await;
    enrol(&world, &["barn", "mill", "pump"]);
    let sinks = r#"
        [[sink]]
        name = "plant"
        to = "stdout"
        sites = ["mill", "store-17*"]
        [[sink]]
        name = "left-out"
        to = "none"
        sites = ["pump"]
    "#;
    std::fs::write(world.path("d.toml"), sinks).unwrap();
    let file = world.path("d.toml");
    let daemon = world.setup().with("--config", file.display()).ready().await;
    let shown = inventory(&daemon).await;
    assert_eq!(shown["unrouted_sites"], 1);
    assert_eq!(shown["unrouted"][0]["site"], "barn");
    assert_eq!(
        shown["unmatched"],
        json!([{"sink": "plant", "pattern": "store-17*"}])
    );
}

#[apply(test)]
async fn a_site_that_is_enrolled_no_more_is_told_until_it_is_back_and_commanded_all_the_same() {
    let world = World::new().await;
    enrol(&world, &["barn", "site-a"]);
    let daemon = world.setup().sink("stdout").ready().await;
    world.put(dispatch("a", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    assert_eq!(inventory(&daemon).await["vanished_sites"], 0);

    enrol(&world, &["barn"]);
    daemon.poll().await;
    let shown = vanished(&daemon, 1).await;
    let first = &shown["vanished"][0];
    assert_eq!(
        (&first["site"], &first["name"]),
        (&json!("site-a"), &json!("name of site-a"))
    );
    assert!(first["since"].is_string());
    assert_eq!(shown["enrolled_sites"], 1);
    let site = daemon.get("/sites/site-a").await.json;
    assert_eq!(
        (&site["enrolled"], &site["state"]),
        (&json!(false), &json!("curtailed"))
    );
    assert_eq!(daemon.types_of("site-a"), ["site.curtail"]);
    let metrics = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("\ndispatchd_enrolled_sites_vanished 1.0\n"),
        "{metrics}"
    );
    let log = daemon.log().join("\n");
    assert!(log.contains("sites are not enrolled any more"), "{log}");

    enrol(&world, &["barn", "site-a"]);
    daemon.poll().await;
    assert_eq!(vanished(&daemon, 0).await["enrolled_sites"], 2);
}

#[apply(test)]
async fn a_failure_leaves_what_was_known_of_the_sites() {
    let world = World::new().await;
    enrol(&world, &["barn", "mill"]);
    let daemon = world.setup().ready().await;
    inventory(&daemon).await;
    // An empty list with a failure's status tells of no site that it is gone.
    let body = json!({"sites": []}).to_string();
    answers(&world, StatusCode::INTERNAL_SERVER_ERROR, body);
    daemon.poll().await;
    let shown = wait_for("the failure is told", async || {
        let shown = daemon.health().await["inventory"].clone();
        shown["problem"].is_string().then_some(shown)
    })
    .await;
    assert_eq!(
        (&shown["enrolled_sites"], &shown["vanished_sites"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(daemon.get("/readyz").await.status, 200);
}

/// The inventory, once so many sites have vanished.
async fn vanished(daemon: &Daemon, sites: u64) -> Value {
    wait_for("the sites were asked for again", async || {
        let inventory = daemon.health().await["inventory"].clone();
        (inventory["vanished_sites"] == sites).then_some(inventory)
    })
    .await
}

/// Five requests can be sent at once: the poll and the inventory leave some.
#[apply(test)]
async fn a_tight_budget_delays_no_poll_and_no_webhook_for_it() {
    let world = World::new().await;
    enrol(&world, &["mill"]);
    let daemon = world.setup().with("--api-rate", "24").ready().await;
    inventory(&daemon).await;
    world.known(&daemon, "a").await;
}
