use super::*;

#[tokio::test]
async fn at_first_one_dispatch_is_shown_whose_times_move_if_asked_for() {
    for moving_fixture in [false, true] {
        fixture_is_shown(moving_fixture).await;
    }
}

async fn fixture_is_shown(moving_fixture: bool) {
    let rig = Rig::with(Options {
        moving_fixture,
        ..Options::default()
    })
    .await;
    let (status, first) = rig.get("dispatches").await;
    assert_eq!(status, 200);
    assert_eq!(first["page"], 0);
    assert_eq!(first["perPage"], 0);
    let dispatch = &first["dispatches"][0];
    assert_eq!(dispatch["id"], "asdf");
    assert_eq!(dispatch["modification_number"], 0);
    let sites = dispatch["sites"].as_array().unwrap();
    let of = |field: &str| sites.iter().map(|s| s[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("id"), ["asdf", "lkjh"]);
    assert_eq!(of("customer_location_id"), ["1", "2"]);
    assert_eq!(of("commitment"), [12, 40]);
    let (_, second) = rig.get("dispatches/asdf").await;
    assert_eq!(
        second["start_time"] != dispatch["start_time"],
        moving_fixture
    );
    assert_eq!(second["modification_number"], 0);
}

/// What the reference says that every dispatch has.
const REQUIRED: [&str; 8] = [
    "id",
    "authorized",
    "test",
    "start_time",
    "creation_time",
    "modification_number",
    "program",
    "sites",
];

/// Asserts that the value has all of these, and that none is null.
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!value[field].is_null(), "{field} of {value}");
    }
}

#[tokio::test]
async fn every_dispatch_has_what_the_reference_requires_whatever_made_it() {
    let start = within(60);
    let states = [within(-1), within(0)]
        .map(|at| json!({"published_time": at, "dispatch": {"start_time": start}}));
    let sites = json!([{"name": "Mill"}]);
    for (path, body) in [
        (None, Value::Null),
        (
            Some("scenarios"),
            json!({"scenario_type": "basic", "start_time": start, "sites": sites, "program": {"name": "Mine"}}),
        ),
        (
            Some("scenarios"),
            json!({"scenario_type": "basic", "start_time": start, "cancel_time": within(0)}),
        ),
        (
            Some("scenarios"),
            json!({"scenario_type": "custom", "dispatches": {"a": {"states": states}}}),
        ),
        (
            Some("dispatches"),
            json!({"start_time": start, "end_time": within(90)}),
        ),
    ] {
        let rig = Rig::with(Options::default()).await;
        if let Some(path) = path {
            assert_eq!(rig.post(path, &body).await.0, 200, "{body}");
        }
        let (_, list) = rig.get("dispatches").await;
        assert_eq!((&list["page"], &list["perPage"]), (&json!(0), &json!(0)));
        let listed = list["dispatches"].as_array().unwrap();
        assert_eq!(listed.len(), 1, "{body}");
        let (_, by_id) = rig
            .get(&format!("dispatches/{}", text(&listed[0]["id"])))
            .await;
        assert_eq!(by_id, listed[0], "bare");
        has(&by_id, &REQUIRED);
        has(
            &by_id["program"],
            &["id", "name", "timezone", "market", "program_type"],
        );
        for site in by_id["sites"].as_array().unwrap() {
            has(site, &["id", "name", "customer_location_id"]);
        }
    }
}

#[tokio::test]
async fn what_is_put_by_hand_is_shown_as_it_is_unless_it_is_to_be_filled_in() {
    let rig = Rig::new().await;
    let dispatch = json!({"id": "golf", "authorized": false});
    rig.control(Method::POST, "dispatches", &dispatch).await;
    assert_eq!(rig.get("dispatches/golf").await.1, dispatch);
    let filled = rig.control(Method::POST, "dispatches?fill=true", &dispatch);
    let (status, answered) = filled.await;
    assert_eq!(status, 200);
    has(&answered, &REQUIRED);
    assert_eq!(answered["authorized"], false);
    assert_eq!(rig.get("dispatches/golf").await.1, answered);
    let nameless = json!({"id": 5});
    let refused = rig.control(Method::POST, "dispatches?fill=true", &nameless);
    assert_eq!(refused.await.0, 400);
}

#[tokio::test]
async fn the_sites_have_meters_with_an_asset_type() {
    let rig = Rig::with(Options::default()).await;
    let (status, answer) = rig.get("sites").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["page"], &answer["perPage"]),
        (&json!(0), &json!(0))
    );
    let sites = answer["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 2);
    for site in sites {
        has(site, &["id", "name", "customer_location_id"]);
        for meter in site["meters"].as_array().unwrap() {
            has(meter, &["id", "name", "asset_type"]);
        }
    }
    let scenario = json!({"scenario_type": "basic", "start_time": within(60),
        "sites": [{"id": "mill", "name": "Mill", "customer_location_id": "7"}]});
    rig.post("scenarios", &scenario).await;
    let (_, answer) = rig.get("sites").await;
    let ids: Vec<_> = answer["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| text(&s["id"]))
        .collect();
    assert_eq!(ids, ["asdf", "lkjh", "mill"]);
}

#[tokio::test]
async fn a_site_has_meters_without_readings() {
    let rig = Rig::with(Options::default()).await;
    let path = "telemetry/kw?start_time=2027-01-15T08:00:00Z&site_id=asdf&site_id=none";
    let (status, answer) = rig.get(path).await;
    assert_eq!(status, 200);
    let wanted = json!([{"site_id": "asdf", "meters": [{"meter_id": "asdf-1", "telemetry": []}]}]);
    assert_eq!(answer["data"]["sites"], wanted);
    assert_eq!(rig.get("telemetry/kw").await.0, 400);
}

#[tokio::test]
async fn every_answer_tells_the_rate_and_every_error_a_message_and_a_type() {
    let rig = Rig::new().await;
    let past = json!({"start_time": within(-60), "end_time": within(60)});
    for (request, status) in [
        (rig.request(Method::GET, "dispatches"), 200),
        (rig.request(Method::GET, "sites"), 200),
        (rig.request(Method::GET, "webhooks"), 200),
        (rig.request(Method::GET, "dispatches/none"), 404),
        (rig.request(Method::GET, "dispatches/%20"), 404),
        (rig.bare(Method::GET, "/2022-04-15/sites"), 401),
        (rig.request(Method::POST, "dispatches").json(&past), 400),
        (rig.request(Method::POST, "dispatches").body("{"), 400),
        (rig.request(Method::PUT, "sites"), 405),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        for header in ["limit", "remaining", "reset"] {
            let header = &response.headers()[format!("x-ratelimit-{header}")];
            assert!(header.to_str().unwrap().parse::<u32>().is_ok());
        }
        if status != 200 {
            let body: Value = response.json().await.unwrap();
            has(&body, &["message", "type"]);
            assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        }
    }
}

#[tokio::test]
async fn a_dispatch_by_its_id_comes_wrapped_or_bare() {
    let rig = Rig::new().await;
    rig.sandbox
        .put(json!({"id": "dkmq", "odd": [1]}), false)
        .unwrap();
    let (_, bare) = rig.get("dispatches/dkmq").await;
    assert_eq!(bare, json!({"id": "dkmq", "odd": [1]}));
    rig.sandbox
        .change_faults(&json!({"wrap_by_id": true}))
        .unwrap();
    let (_, wrapped) = rig.get("dispatches/dkmq").await;
    assert_eq!(wrapped["dispatches"], json!([{"id": "dkmq", "odd": [1]}]));
}

#[tokio::test]
async fn every_dated_version_is_answered() {
    let rig = Rig::new().await;
    let ask = |path| answer(rig.bare(Method::GET, path).header(KEY_HEADER, "secret"));
    assert_eq!(ask("/2031-12-01/dispatches").await.0, 200);
    assert_eq!(ask("/latest/dispatches").await.0, 404);
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_unauthorized() {
    let rig = Rig::new().await;
    let path = "/2022-04-15/dispatches";
    for request in [
        rig.bare(Method::GET, path),
        rig.bare(Method::GET, path).header(KEY_HEADER, "secre"),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!(status, 401);
        assert_eq!(body["type"], "Unauthorized");
        assert!(body["message"].is_string());
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_a_wrong_method_not_allowed() {
    let rig = Rig::new().await;
    for (method, path, status, phrase) in [
        (Method::GET, "sites/none", 404, "Not Found"),
        (Method::GET, "dispatches/none", 404, "Not Found"),
        (Method::GET, "dispatches/a/b", 404, "Not Found"),
        (Method::DELETE, "webhooks/none", 404, "Not Found"),
        (Method::PUT, "dispatches", 405, "Method Not Allowed"),
        (Method::POST, "dispatches/a", 405, "Method Not Allowed"),
        (Method::POST, "sites", 405, "Method Not Allowed"),
        (Method::GET, "scenarios", 405, "Method Not Allowed"),
    ] {
        let (answered, body) = answer(rig.request(method, path)).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(body["type"], phrase, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let rig = Rig::new().await;
    let body = vec![b' '; 5 * 1024 * 1024];
    let request = rig.request(Method::POST, "scenarios").body(body);
    let (status, body) = answer(request).await;
    assert_eq!(status, 413);
    assert_eq!(body["type"], "Content Too Large");
}

#[tokio::test]
async fn a_test_dispatch_is_marked_as_one_and_told_to_webhooks() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let body = json!({"start_time": within(60), "end_time": within(120), "program_id": 7});
    let (status, answered) = rig.post("dispatches", &body).await;
    assert_eq!(status, 200);
    assert_eq!(answered, Value::Null);
    let id = rig.listed().await.remove(0);
    let dispatch = rig.sandbox.get(&id).unwrap();
    assert_eq!(dispatch["test"], true);
    assert_eq!(dispatch["program"]["id"], 7);
    rig.until(|sandbox| sandbox.log().deliveries.len() == 1)
        .await;
    let told = &receiver.received()[0];
    assert_eq!(told["event"]["name"], "dispatch.create");
    assert_eq!(told["resource"], format!("/2022-04-15/dispatches/{id}"));
}

#[tokio::test]
async fn an_unusable_test_dispatch_is_a_bad_request() {
    let rig = Rig::new().await;
    for body in [
        json!({}),
        json!({"start_time": within(60)}),
        json!({"start_time": within(60), "end_time": within(30)}),
        json!({"start_time": within(60), "end_time": "later"}),
        json!({"start_time": within(60), "end_time": within(73 * 3600)}),
        json!({"start_time": within(73 * 3600), "end_time": within(74 * 3600)}),
        json!({"start_time": within(-30), "end_time": within(60)}),
        json!({"start_time": within(60), "end_time": within(90), "program_id": "7"}),
    ] {
        let (status, answered) = rig.post("dispatches", &body).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(answered["type"], "Bad Request");
    }
    assert!(rig.listed().await.is_empty());
}

#[tokio::test]
async fn requests_are_logged_with_their_key_and_headers() {
    let rig = Rig::new().await;
    rig.get("dispatches?x=1").await;
    let requests = rig.sandbox.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "GET");
    assert_eq!(requests[0].path, "/2022-04-15/dispatches?x=1");
    assert_eq!(requests[0].status, Some(200));
    assert_eq!(requests[0].key.as_deref(), Some("secret"));
    assert!(requests[0].headers.iter().any(|name| name == KEY_HEADER));
}

#[tokio::test]
async fn a_sandbox_ends_when_told_to_even_with_an_answer_under_way() {
    let rig = Rig::new().await;
    let faults = json!({"api_delay_ms": 3_600_000});
    rig.sandbox.change_faults(&faults).unwrap();
    let asking = rig.request(Method::GET, "dispatches").send();
    let stopping = async {
        rig.until(|sandbox| sandbox.requests().len() == 1).await;
        rig.sandbox.stop();
        rig.sandbox.stopped().await;
    };
    let (asked, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(asking, stopping) })
        .await
        .unwrap();
    assert!(asked.is_err());
}

#[tokio::test]
async fn a_sandbox_does_not_start_with_an_option_out_of_range() {
    let options = Options {
        drop_webhooks: 1.5,
        ..Options::default()
    };
    let started = Sandbox::start(options, listener().await, CancellationToken::new());
    assert!(started.unwrap_err().to_string().contains("drop_webhooks"));
}

#[tokio::test]
async fn a_run_ends_well_when_it_is_told_to_end() {
    let stop = CancellationToken::new();
    let running = run(Options::default(), listener().await, stop.clone());
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, running).await.unwrap();
    assert!(ended.is_ok());
}
