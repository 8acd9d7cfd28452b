use super::*;

#[tokio::test]
async fn faults_are_set_in_part_and_answered_whole() {
    let rig = Rig::new().await;
    let (status, faults) = rig
        .control(Method::PUT, "faults", &json!({"api_error_rate": 0.25}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(faults["api_error_rate"], 0.25);
    assert_eq!(faults["retry_base_ms"], 1000);
    assert_eq!(faults["seed"], 1);
    let (_, again) = rig.control(Method::GET, "faults", &Value::Null).await;
    assert_eq!(again, faults);
}

#[tokio::test]
async fn a_fault_that_is_unknown_or_out_of_range_is_named_and_changes_nothing() {
    let rig = Rig::new().await;
    let before = rig.sandbox.faults();
    for (patch, field) in [
        (json!({"drop_webhooks": 0.5, "drop_all": true}), "drop_all"),
        (
            json!({"drop_webhooks": 0.5, "api_delay_ms": -1}),
            "api_delay_ms",
        ),
        (json!({"drop_webhooks": 2}), "drop_webhooks"),
    ] {
        let (status, body) = rig.control(Method::PUT, "faults", &patch).await;
        assert_eq!(status, 400);
        assert!(text(&body["message"]).contains(field), "{body}");
    }
    assert_eq!(rig.sandbox.faults(), before);
}

#[tokio::test]
async fn control_works_while_the_api_is_down_or_failing() {
    let rig = Rig::new().await;
    rig.sandbox.down(true);
    rig.sandbox
        .change_faults(&json!({"api_error_rate": 1, "truncate_bodies": 1}))
        .unwrap();
    let (status, faults) = rig
        .control(Method::PUT, "faults", &json!({"api_error_rate": 0}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(faults["truncate_bodies"], 1.0);
    assert!(rig.sandbox.requests().is_empty());
}

#[tokio::test]
async fn an_api_that_is_down_closes_the_connection_without_an_answer() {
    let rig = Rig::new().await;
    rig.sandbox.down(true);
    let failed = rig.request(Method::GET, "dispatches").send().await;
    assert!(failed.is_err());
    assert_eq!(rig.sandbox.requests()[0].status, None);
    rig.sandbox.down(false);
    assert_eq!(rig.get("dispatches").await.0, 200);
}

#[tokio::test]
async fn requests_over_the_rate_are_told_when_to_come_back() {
    let rig = Rig::new().await;
    let ask = || rig.request(Method::GET, "dispatches").send();
    let free = ask().await.unwrap();
    assert_eq!(free.headers()["x-ratelimit-limit"], "101");
    let limit = json!({"rate_limit_per_minute": 2});
    rig.sandbox.change_faults(&limit).unwrap();
    for left in ["1", "0"] {
        let response = ask().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-limit"], "2");
        assert_eq!(response.headers()["x-ratelimit-remaining"], left);
    }
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(
        refused.json::<Value>().await.unwrap()["type"],
        "Too Many Requests"
    );
}

#[tokio::test]
async fn errors_have_the_status_that_was_asked_for() {
    let rig = Rig::new().await;
    let faults = json!({"api_error_rate": 1, "api_error_status": 503});
    rig.sandbox.change_faults(&faults).unwrap();
    let (status, body) = rig.get("dispatches").await;
    assert_eq!(status, 503);
    assert_eq!(body["type"], "Service Unavailable");
}

#[tokio::test]
async fn a_truncated_answer_is_sound_http_and_broken_json() {
    let rig = Rig::new().await;
    let faults = json!({"truncate_bodies": 1});
    rig.sandbox.change_faults(&faults).unwrap();
    let response = rig.request(Method::GET, "dispatches").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.text().await.unwrap();
    assert!(body.starts_with('{'), "{body}");
    assert!(serde_json::from_str::<Value>(&body).is_err(), "{body}");
}

#[tokio::test]
async fn an_empty_list_hides_what_still_answers_by_its_id() {
    let rig = Rig::new().await;
    rig.sandbox.put(json!({"id": "dkmq"}), false).unwrap();
    rig.sandbox
        .change_faults(&json!({"empty_list": true}))
        .unwrap();
    assert!(rig.listed().await.is_empty());
    assert_eq!(rig.get("dispatches/dkmq").await.0, 200);
}

#[tokio::test]
async fn a_late_answer_tells_what_was_true_when_it_was_asked_for() {
    let rig = Rig::new().await;
    let delay = |ms: u64| {
        let faults = json!({"api_delay_ms": ms});
        rig.sandbox.change_faults(&faults).unwrap();
    };
    rig.sandbox
        .put(json!({"id": "a", "state": "old"}), false)
        .unwrap();
    delay(500);
    let late = rig.get("dispatches");
    let meanwhile = async {
        let settled = |sandbox: &Sandbox| {
            let requests = sandbox.requests();
            requests.iter().any(|request| request.status.is_some())
        };
        rig.until(settled).await;
        delay(0);
        rig.sandbox
            .put(json!({"id": "a", "state": "new"}), false)
            .unwrap();
        rig.get("dispatches").await
    };
    let ((_, late), (_, prompt)) = tokio::join!(late, meanwhile);
    assert_eq!(late["dispatches"][0]["state"], "old");
    assert_eq!(prompt["dispatches"][0]["state"], "new");
}

#[tokio::test]
async fn an_answer_put_in_stands_for_one_question_only() {
    let rig = Rig::new().await;
    rig.sandbox.put(json!({"id": "a"}), false).unwrap();
    rig.sandbox.put(json!({"id": "b"}), false).unwrap();
    let page = RawAnswer::html(StatusCode::BAD_GATEWAY, "<h1>Bad gateway</h1>");
    let of_a = Question::Id("a".into());
    rig.sandbox
        .override_answer(of_a.clone(), Some(page.clone()));
    assert_eq!(rig.get("dispatches/a").await.0, 502);
    assert_eq!(rig.get("dispatches/b").await.0, 200);
    rig.sandbox
        .override_answer(Question::ById, Some(page.clone()));
    assert_eq!(rig.get("dispatches/b").await.0, 502);
    assert_eq!(rig.listed().await, ["a", "b"]);
    rig.sandbox.override_answer(Question::ById, None);
    rig.sandbox.override_answer(of_a, None);
    rig.sandbox.override_answer(Question::List, Some(page));
    let response = rig.request(Method::GET, "dispatches").send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    assert_eq!(rig.get("dispatches/a").await.0, 200);
}

#[tokio::test]
async fn an_answer_may_break_off_or_hang_after_a_good_start() {
    let rig = Rig::new().await;
    let start = RawAnswer::json(StatusCode::OK, r#"{"dispatches": ["#);
    let put_in = |ending| {
        let answer = start.clone().ending(ending);
        rig.sandbox.override_answer(Question::List, Some(answer));
        rig.request(Method::GET, "dispatches").send()
    };
    let mut broken = put_in(Ending::BreaksOff).await.unwrap();
    assert_eq!(broken.status(), 200);
    assert_eq!(
        broken.chunk().await.unwrap().unwrap(),
        &br#"{"dispatches": ["#[..]
    );
    assert!(broken.chunk().await.is_err());

    let mut hanging = put_in(Ending::Hangs).await.unwrap();
    assert!(hanging.chunk().await.unwrap().is_some());
    let more = tokio::time::timeout(Duration::from_millis(100), hanging.chunk()).await;
    assert!(more.is_err(), "it did not hang");
    rig.sandbox.stop();
    assert!(hanging.chunk().await.is_err());
    rig.sandbox.stopped().await;
}
