use super::*;

fn two_states(first: String, second: String) -> Value {
    let dispatch = |authorized: bool| {
        json!({
            "authorized": authorized,
            "start_time": within(3600),
            "end_time": within(7200),
            "sites": [{"id": "s1", "name": "One", "customer_location_id": "", "commitment": null}],
        })
    };
    json!({"name": "mine", "scenario_type": "custom", "dispatches": {"only": {"states": [
        {"published_time": first, "dispatch": dispatch(true)},
        {"published_time": second, "dispatch": dispatch(false)},
    ]}}})
}

fn events(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    received.iter().map(|b| text(&b["event"]["name"])).collect()
}

#[tokio::test]
async fn a_basic_scenario_shows_one_dispatch() {
    let rig = Rig::with(Options::default()).await;
    let scenario = json!({
        "scenario_type": "basic",
        "start_time": within(60),
        "end_time": within(120),
        "sites": [{"id": "s1", "name": "One", "customer_location_id": "L", "commitment": 5}],
        "program": {"id": 3, "name": "P"},
    });
    let (status, answered) = rig.post("scenarios", &scenario).await;
    assert_eq!(status, 200, "{answered}");
    let id = text(&answered["dispatches"]["Dispatch"]["id"]);
    assert_eq!(rig.listed().await, [id.as_str()]);
    let dispatch = rig.sandbox.get(&id).unwrap();
    assert_eq!(dispatch["start_time"], scenario["start_time"]);
    assert_eq!(dispatch["sites"], scenario["sites"]);
    for field in ["id", "name"] {
        assert_eq!(dispatch["program"][field], scenario["program"][field]);
    }
    assert_eq!(dispatch["test"], false);
}

#[tokio::test]
async fn a_new_scenario_makes_the_previous_ones_dispatches_disappear() {
    let rig = Rig::new().await;
    let basic =
        json!({"scenario_type": "basic", "start_time": within(60), "end_time": within(120)});
    rig.post("scenarios", &basic).await;
    let old = rig.listed().await.remove(0);
    rig.post("scenarios", &basic).await;
    let new = rig.listed().await;
    assert_eq!(new.len(), 1);
    assert_ne!(new[0], old);
    assert_eq!(rig.get(&format!("dispatches/{old}")).await.0, 404);
}

#[tokio::test]
async fn a_state_whose_time_has_passed_is_published_at_once() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let (_, answered) = rig
        .post("scenarios", &two_states(within(-20), within(-10)))
        .await;
    let id = text(&answered["dispatches"]["only"]["id"]);
    let dispatch = rig.sandbox.get(&id).unwrap();
    assert_eq!(dispatch["authorized"], false);
    assert_eq!(dispatch["modification_number"], 1);
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    let mut events = events(&receiver);
    events.sort();
    assert_eq!(events, ["dispatch.create", "dispatch.update"]);
}

#[tokio::test]
async fn a_later_state_comes_at_its_time_as_an_update() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let update = now() + TimeDelta::milliseconds(300);
    let ids = rig
        .sandbox
        .scenario(two_states(within(0), rfc3339(update)))
        .unwrap();
    let id = &ids["only"];
    let before = rig.sandbox.get(id).unwrap();
    assert_eq!(before["authorized"], true);
    assert_eq!(before["modification_number"], 0);
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    assert!(now() >= update);
    let after = rig.sandbox.get(id).unwrap();
    assert_eq!(after["authorized"], false);
    assert_eq!(after["modification_number"], 1);
    assert_eq!(after["creation_time"], before["creation_time"]);
    assert_eq!(events(&receiver), ["dispatch.create", "dispatch.update"]);
}

#[tokio::test]
async fn a_scenario_that_was_overwritten_publishes_nothing_more() {
    let rig = Rig::new().await;
    let soon = now() + TimeDelta::milliseconds(100);
    let later = now() + TimeDelta::milliseconds(300);
    let scenario = |at| two_states(rfc3339(at), within(3600));
    rig.sandbox.scenario(scenario(soon)).unwrap();
    let ids = rig.sandbox.scenario(scenario(later)).unwrap();
    rig.until(|sandbox| sandbox.get(&ids["only"]).is_some())
        .await;
    assert_eq!(rig.listed().await, [ids["only"].as_str()]);
}

#[tokio::test]
async fn every_acceptance_test_is_a_scenario_that_the_api_takes() {
    let rig = Rig::new().await;
    let site = SiteSpec {
        id: "s1".into(),
        name: "One".into(),
        customer_location_id: "L".into(),
        commitment: crate::model::Kilowatts(12.5),
    };
    for kind in Acceptance::ALL {
        let length = TimeDelta::seconds(2);
        let start = now() + TimeDelta::seconds(1);
        let scenario = acceptance(kind, now(), start, length, std::slice::from_ref(&site));
        let (status, answered) = rig.post("scenarios", &scenario).await;
        assert_eq!(status, 200, "{answered}");
        assert_eq!(answered["name"], kind.name());
    }
}

#[tokio::test]
async fn an_unusable_scenario_is_refused_and_leaves_the_present_one() {
    let rig = Rig::new().await;
    let basic =
        json!({"scenario_type": "basic", "start_time": within(60), "end_time": within(120)});
    rig.post("scenarios", &basic).await;
    let before = rig.listed().await;
    for wrong in [
        json!({}),
        json!({"scenario_type": "odd"}),
        json!({"scenario_type": "basic"}),
        json!({"scenario_type": "basic", "start_time": "noon"}),
        json!({"scenario_type": "custom", "dispatches": {"a": {"states": []}}}),
    ] {
        let (status, body) = rig.post("scenarios", &wrong).await;
        assert_eq!(status, 400, "{wrong}");
        assert_eq!(body["type"], "Bad Request");
    }
    assert_eq!(rig.listed().await, before);
}

#[tokio::test]
async fn a_dispatch_is_put_and_removed_by_hand() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let put = |path: &'static str, body: Value| {
        let rig = &rig;
        async move { rig.control(Method::POST, path, &body).await.0 }
    };
    assert_eq!(put("dispatches", json!({"id": "a"})).await, 200);
    assert_eq!(
        put("dispatches?notify=false", json!({"id": "b"})).await,
        200
    );
    assert_eq!(put("dispatches", json!({"id": "no/path"})).await, 400);
    assert_eq!(put("dispatches", json!({"start_time": 1})).await, 400);
    assert_eq!(
        put("dispatches?notify=maybe", json!({"id": "c"})).await,
        400
    );
    assert_eq!(rig.listed().await, ["a", "b"]);
    rig.until(|sandbox| !sandbox.log().deliveries.is_empty())
        .await;
    assert_eq!(events(&receiver), ["dispatch.create"]);
    let remove = || rig.control(Method::DELETE, "dispatches/a", &Value::Null);
    assert_eq!(remove().await.0, 204);
    assert_eq!(remove().await.0, 404);
    assert_eq!(rig.listed().await, ["b"]);
}
