//! The operator's hand: a site is kept out of its dispatches, or curtailed by hand.

use serde_json::{Value, json};

use crate::commands::{done, failed, run};
use crate::harness::{
    Answer, Daemon, Receiver, World, ask, dispatch, in_ms, site_of, wait_for, wait_until,
};

const HOUR: i64 = 3_600_000;

async fn put(daemon: &Daemon, site: &str, body: &Value) -> Answer {
    let url = daemon.status_url(&format!("/sites/{site}/override"));
    ask(daemon.http.put(url).json(body)).await
}

async fn delete(daemon: &Daemon, site: &str) -> Answer {
    let url = daemon.status_url(&format!("/sites/{site}/override"));
    ask(daemon.http.delete(url)).await
}

/// Keeps a site out, or curtails it, for so many milliseconds.
fn order(state: &str, lasts: i64) -> Value {
    json!({"state": state, "until": in_ms(lasts), "reason": "new meter"})
}

/// What an event tells of its cause.
fn why(event: &Value) -> [&Value; 3] {
    let data = &event["data"];
    [&data["source"], &data["cause"], &data["reason"]]
}

#[apply(test)]
async fn a_site_in_maintenance_is_kept_out_through_a_kill_and_follows_its_dispatch_afterwards() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let setup = world.setup().sink(receiver.sink());
    let mut daemon = setup.ready().await;
    for id in ["d", "e"] {
        world.put(dispatch(id, 0, in_ms(-HOUR), Some(in_ms(HOUR))));
        assert_eq!(daemon.webhook(id).await.status, 200);
    }
    let (site, other) = (site_of("d"), site_of("e"));
    let told = async |types: &[&str]| {
        wait_until(&format!("{types:?}"), async || {
            receiver.types_of(&site) == types
        })
        .await;
    };
    told(&["site.curtail"]).await;

    let answer = put(&daemon, &site, &order("normal", HOUR)).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.json["state"], "normal");
    assert_eq!(answer.json["override"]["reason"], "new meter");
    told(&["site.curtail", "site.release"]).await;
    let taken = receiver.taken();
    let release = taken
        .iter()
        .rfind(|heard| heard.text("type") == "site.release");
    let release = &release.unwrap().event;
    assert_eq!(why(release), ["operator", "operator", "new meter"]);
    assert_eq!(release["data"]["dispatches"], json!([]));

    daemon.kill();
    let daemon = setup.ready().await;
    // An update of the dispatch, and one more of the site, tell it nothing.
    world.put(dispatch("d", 1, in_ms(-HOUR), Some(in_ms(2 * HOUR))));
    assert_eq!(daemon.webhook("d").await.status, 200);
    let mut more = dispatch("more", 0, in_ms(-HOUR), Some(in_ms(HOUR)));
    more["sites"][0]["id"] = json!(site);
    world.put(more);
    assert_eq!(daemon.webhook("more").await.status, 200);
    let shown = daemon.get(&format!("/sites/{site}")).await.json;
    assert_eq!(
        (&shown["state"], &shown["dispatches"]),
        (&json!("normal"), &json!([]))
    );
    assert_eq!(daemon.health().await["overridden"][0]["site"], json!(site));

    let back = delete(&daemon, &site).await;
    assert_eq!(
        (back.status, &back.json["state"]),
        (200, &json!("curtailed"))
    );
    assert_eq!(back.json["dispatches"], json!(["d", "more"]));
    assert!(back.json.get("override").is_none(), "{}", back.json);
    told(&["site.curtail", "site.release", "site.curtail"]).await;
    assert_eq!(
        receiver.types_of(&other),
        ["site.curtail"],
        "nobody else is told"
    );

    // The histories tell what the operator decided: also that of the dispatch that came
    // while the site was kept out.
    for (id, orders) in [
        ("d", json!(["normal", null])),
        ("more", json!(["normal", null])),
    ] {
        let entry = daemon.entry(id).await.unwrap();
        let lines = entry["history"].as_array().unwrap().iter();
        let lines = lines.filter(|line| line["type"] == "site.override");
        let told: Vec<Value> = lines
            .map(|line| {
                assert_eq!(
                    (&line["source"], &line["override"]["site"]),
                    (&json!("operator"), &json!(site))
                );
                line["override"]["order"]["state"].clone()
            })
            .collect();
        assert_eq!(json!(told), orders, "{entry}");
    }
    let report = daemon.get("/report/d").await.json;
    let decided = report["overrides"].as_array().unwrap().iter();
    let decided: Vec<[&Value; 2]> = decided.map(|it| [&it["order"], &it["reason"]]).collect();
    assert_eq!(decided[0], ["normal", "new meter"]);
    assert_eq!(decided[1], [&json!("auto"), &Value::Null]);
    let table = done(&run(&world, Some(&daemon), &["report", "d"]).await);
    assert!(
        table.contains("is kept out until") && table.contains(": new meter"),
        "{table}"
    );
}

#[apply(test)]
async fn a_site_is_curtailed_by_hand_for_a_time_at_every_sink_of_its_own() {
    let world = World::new().await;
    let (all, one, elsewhere) = (
        Receiver::new().await,
        Receiver::new().await,
        Receiver::new().await,
    );
    let sites = json!({"sites": [
        {"id": "mill", "name": "Paper Mill", "customer_location_id": "store-17"},
        {"id": "barn", "name": "Barn", "customer_location_id": "store-18"},
    ], "page": 0, "perPage": 0});
    let answer = dispatchd::sandbox::RawAnswer::json(http::StatusCode::OK, sites.to_string());
    world
        .sandbox
        .override_answer(dispatchd::sandbox::Question::Sites, Some(answer));
    let text = format!(
        "[[sink]]\nto = \"{}\"\n[[sink]]\nto = \"{}\"\nsites = [\"store-17\"]\nprograms = [\"CAISO*\"]\n\
         [[sink]]\nto = \"{}\"\nsites = [\"barn\"]\n",
        all.sink(),
        one.sink(),
        elsewhere.sink()
    );
    std::fs::write(world.path("d.toml"), text).unwrap();
    let setup = world
        .setup()
        .with("--config", world.path("d.toml").display());
    let daemon = setup.ready().await;
    wait_until("the enrolled sites are known", async || {
        daemon.get("/sites/mill").await.status == 200
    })
    .await;

    let line = [
        "site",
        "mill",
        "curtail",
        "--until",
        "4s",
        "--reason",
        "grid code",
    ];
    let said = done(&run(&world, Some(&daemon), &line).await);
    assert!(
        said.starts_with("mill (Paper Mill) is curtailed by hand until "),
        "{said}"
    );
    let status = done(&run(&world, Some(&daemon), &["status"]).await);
    assert!(
        status.contains("BY HAND") && status.contains("grid code"),
        "{status}"
    );
    for receiver in [&all, &one] {
        wait_until("it is curtailed and released again", async || {
            receiver.types_of("mill") == ["site.curtail", "site.release"]
        })
        .await;
        let taken = receiver.taken();
        let of_mill: Vec<&Value> = taken
            .iter()
            .filter(|heard| heard.text("subject") == "mill")
            .map(|heard| &heard.event)
            .collect();
        assert_eq!(why(of_mill[0]), ["operator", "operator", "grid code"]);
        assert_eq!(why(of_mill[1]), ["timer", "operator", "grid code"]);
        assert_eq!(
            of_mill[0]["data"]["until"],
            of_mill[0]["data"]["override"]["until"]
        );
    }
    assert!(elsewhere.types_of("mill").is_empty());
    daemon
        .wait_for_log("an operator decides about a site")
        .await;
    daemon.wait_for_log("follows its dispatches again").await;
    assert_eq!(daemon.health().await["overridden_sites"], 0);
    let said = done(&run(&world, Some(&daemon), &["site", "mill", "auto"]).await);
    assert!(said.contains("nothing curtails it now"), "{said}");
}

#[apply(test)]
async fn an_order_that_is_no_order_is_refused_with_the_remedy_and_changes_nothing() {
    let world = World::new().await;
    let setup = world.setup().with("--status-token", "t0ken").sink("stdout");
    let daemon = setup.start().await;
    let url = |site: &str| daemon.status_url(&format!("/sites/{site}/override"));
    let request = |site: &str, body: Value| daemon.http.put(url(site)).json(&body);
    let authorized =
        async |site: &str, body: Value| ask(request(site, body).bearer_auth("t0ken")).await;
    let webhook = async || {
        world.put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
        daemon.webhook("d").await.status
    };
    wait_until("the dispatch is known", async || webhook().await == 200).await;
    let site = site_of("d");

    let refused = ask(request(&site, order("normal", HOUR))).await;
    assert_eq!(refused.status, 401, "the token is needed");
    for (body, word) in [
        (order("normal", -1), "has passed"),
        (order("normal", 49 * HOUR), "48 hours"),
        (
            json!({"state": "normal", "until": "noon", "reason": "x"}),
            "RFC 3339",
        ),
        (
            json!({"state": "normal", "until": in_ms(HOUR), "reason": " "}),
            "`reason`",
        ),
        (json!({"state": "normal", "until": in_ms(HOUR)}), "`reason`"),
        (
            json!({"state": "off", "until": in_ms(HOUR), "reason": "x"}),
            "curtailed",
        ),
        (
            json!({"state": "normal", "untl": in_ms(HOUR), "reason": "x"}),
            "until",
        ),
        (json!(7), "state"),
    ] {
        let refused = authorized(&site, body.clone()).await;
        assert_eq!(refused.status, 400, "{body}");
        let reason = refused.json["error"].as_str().unwrap();
        assert!(reason.contains(word), "{body}: {reason}");
    }
    let long = json!({"state": "normal", "until": in_ms(HOUR), "reason": "x".repeat(70_000)});
    assert_eq!(authorized(&site, long).await.status, 413);
    let post = daemon.http.post(url(&site)).bearer_auth("t0ken");
    let refused = ask(post).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, "PUT, DELETE")
    );
    let token = ["--status-token", "t0ken"];
    let command = async |line: &[&str]| {
        let line: Vec<&str> = line.iter().chain(&token).copied().collect();
        run(&world, Some(&daemon), &line).await
    };
    let line = ["site", &site, "release", "--until", "49h", "--reason", "x"];
    let said = failed(&command(&line).await, 2);
    assert!(
        said.contains("--until") && said.contains("48 hours"),
        "{said}"
    );
    let line = ["site", &site, "release"];
    let said = failed(&command(&line).await, 2);
    assert!(
        said.contains("--until") && said.contains("--reason"),
        "{said}"
    );
    let state = wait_for("the site", async || {
        let shown = daemon
            .http
            .get(daemon.status_url(&format!("/sites/{site}")));
        let shown = ask(shown.bearer_auth("t0ken")).await;
        (shown.status == 200).then_some(shown.json)
    })
    .await;
    assert_eq!(state["state"], "curtailed");
    assert!(state.get("override").is_none(), "{state}");
}

#[apply(test)]
async fn a_site_that_nobody_knows_is_not_overridden() {
    let world = World::new().await;
    let daemon = world.setup().sink("stdout").ready().await;
    wait_until("the enrolled sites are known", async || {
        daemon.health().await["inventory"]["enrolled_sites"].is_number()
    })
    .await;
    let refused = put(&daemon, "nil", &order("curtailed", HOUR)).await;
    assert_eq!(refused.status, 404);
    assert!(
        refused.json["error"]
            .as_str()
            .unwrap()
            .contains("GET /sites")
    );
    let line = ["site", "nil", "curtail", "--until", "1h", "--reason", "x"];
    let said = failed(&run(&world, Some(&daemon), &line).await, 2);
    assert!(said.contains("`nil`"), "{said}");
    assert_eq!(daemon.health().await["overridden_sites"], 0);
}
