use super::*;

#[tokio::test]
async fn the_public_sandbox_shows_one_dispatch_whose_times_move() {
    let rig = Rig::with(Options::default()).await;
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
    let moved = &second["dispatches"][0];
    assert_ne!(moved["start_time"], dispatch["start_time"]);
    assert_eq!(moved["modification_number"], 0);
}

#[tokio::test]
async fn a_dispatch_by_its_id_comes_wrapped_or_bare() {
    let rig = Rig::new().await;
    rig.sandbox
        .put(json!({"id": "dkmq", "odd": [1]}), false)
        .unwrap();
    let (_, wrapped) = rig.get("dispatches/dkmq").await;
    assert_eq!(wrapped["dispatches"], json!([{"id": "dkmq", "odd": [1]}]));
    rig.sandbox
        .change_faults(&json!({"wrap_by_id": false}))
        .unwrap();
    let (_, bare) = rig.get("dispatches/dkmq").await;
    assert_eq!(bare, json!({"id": "dkmq", "odd": [1]}));
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
        (Method::GET, "sites", 404, "Not Found"),
        (Method::GET, "dispatches/none", 404, "Not Found"),
        (Method::GET, "dispatches/a/b", 404, "Not Found"),
        (Method::DELETE, "webhooks/none", 404, "Not Found"),
        (Method::PUT, "dispatches", 405, "Method Not Allowed"),
        (Method::POST, "dispatches/a", 405, "Method Not Allowed"),
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
