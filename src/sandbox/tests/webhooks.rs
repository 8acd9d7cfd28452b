use super::*;

/// A registration of both events.
fn registration(url: &str) -> Value {
    json!({"url": url, "events": [{"name": "dispatch.create"}, {"name": "dispatch.update"}]})
}

fn statuses(sandbox: &Sandbox) -> Vec<Outcome> {
    let deliveries = sandbox.log().deliveries;
    deliveries.into_iter().map(|d| d.outcome).collect()
}

async fn quick(rig: &Rig) {
    let faults = json!({"retry_base_ms": 1});
    rig.sandbox.change_faults(&faults).unwrap();
}

#[tokio::test]
async fn a_webhook_is_greeted_registered_listed_and_deleted() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    let (status, webhook) = rig.post("webhooks", &registration(&receiver.url)).await;
    assert_eq!(status, 200);
    assert_eq!(
        receiver.received(),
        [json!({"event": {"name": ""}, "resource": ""})]
    );
    assert_eq!(webhook["url"], receiver.url);
    assert_eq!(webhook["events"], registration("")["events"]);
    let (_, list) = rig.get("webhooks").await;
    assert_eq!(
        list,
        json!({"webhooks": [webhook], "page": 0, "perPage": 0})
    );
    let path = format!("webhooks/{}", text(&webhook["id"]));
    let (status, deleted) = answer(rig.request(Method::DELETE, &path)).await;
    assert_eq!(status, 200);
    assert_eq!(deleted, webhook);
    assert!(rig.sandbox.webhooks().is_empty());
    assert!(rig.sandbox.log().deliveries.is_empty());
}

#[tokio::test]
async fn a_registration_fails_unless_the_url_answers_exactly_200() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([204, 500, 302]).await;
    for _ in 0..3 {
        let (status, body) = rig.post("webhooks", &registration(&receiver.url)).await;
        assert_eq!(status, 400, "{body}");
    }
    let closed = listener().await.local_addr().unwrap();
    let closed = registration(&format!("http://{closed}/hook"));
    for wrong in [
        closed,
        registration("ftp://127.0.0.1/"),
        registration("/hook"),
        json!({"url": receiver.url, "events": []}),
        json!({"url": receiver.url, "events": [{"name": "dispatch.delete"}]}),
        json!({"url": receiver.url}),
    ] {
        let (status, body) = rig.post("webhooks", &wrong).await;
        assert_eq!(status, 400, "{wrong}");
        assert_eq!(body["type"], "Bad Request");
    }
    assert!(rig.sandbox.webhooks().is_empty());
}

#[tokio::test]
async fn a_webhook_gets_only_the_events_it_wants() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    let wanting = json!({"url": receiver.url, "events": [{"name": "dispatch.update"}]});
    assert_eq!(rig.post("webhooks", &wanting).await.0, 200);
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| !sandbox.log().deliveries.is_empty())
        .await;
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(
        received[1],
        json!({"event": {"name": "dispatch.update"}, "resource": "/2022-04-15/dispatches/a"})
    );
}

#[tokio::test]
async fn a_delivery_that_fails_is_sent_again_until_it_is_taken() {
    let rig = Rig::new().await;
    quick(&rig).await;
    let receiver = Receiver::new([503, 301, 206, 202]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 4)
        .await;
    let log = rig.sandbox.log();
    let attempts: Vec<u32> = log.deliveries.iter().map(|d| d.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(
        statuses(&rig.sandbox),
        [503, 301, 206, 202].map(Outcome::Answered)
    );
    assert!(log.contact_emails.is_empty());
}

#[tokio::test]
async fn after_five_resends_in_vain_the_contacts_are_emailed() {
    let rig = Rig::new().await;
    quick(&rig).await;
    let receiver = Receiver::new([500; 6]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| !sandbox.log().contact_emails.is_empty())
        .await;
    let (status, log) = rig.control(Method::GET, "log", &Value::Null).await;
    assert_eq!(status, 200);
    let deliveries = log["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 6);
    assert!(deliveries.iter().all(|d| d["outcome"] == 500));
    let email = &log["contact_emails"][0];
    assert_eq!(email["resource"], "/2022-04-15/dispatches/a");
    assert!(text(&email["text"]).starts_with("contact email"));
    assert_eq!(receiver.received().len(), 6);
}

#[tokio::test]
async fn resends_wait_twice_as_long_each_time() {
    let rig = Rig::new().await;
    let faults = json!({"retry_base_ms": 20});
    rig.sandbox.change_faults(&faults).unwrap();
    let receiver = Receiver::new([500; 4]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 5)
        .await;
    let deliveries = rig.sandbox.log().deliveries;
    for (pair, least) in deliveries.windows(2).zip([20, 40, 80, 160]) {
        let waited = (pair[1].at - pair[0].at).num_milliseconds();
        // The wall clock is cut to whole milliseconds.
        assert!(waited >= least - 1, "{waited} ms, not {least}");
    }
}

#[tokio::test]
async fn a_lost_webhook_is_never_resent() {
    let rig = Rig::new().await;
    quick(&rig).await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let lose = |share: f64| {
        let faults = json!({"drop_webhooks": share, "duplicate_webhooks": share});
        rig.sandbox.change_faults(&faults).unwrap();
    };
    lose(1.0);
    rig.sandbox.put(json!({"id": "lost"}), true).unwrap();
    lose(0.0);
    rig.sandbox.put(json!({"id": "told"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    assert_eq!(
        statuses(&rig.sandbox),
        [Outcome::Dropped, Outcome::Answered(200)]
    );
    assert_eq!(receiver.received().len(), 1);
    assert!(rig.sandbox.log().contact_emails.is_empty());
}

#[tokio::test]
async fn a_duplicated_webhook_is_sent_twice() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let faults = json!({"duplicate_webhooks": 1});
    rig.sandbox.change_faults(&faults).unwrap();
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    let received = receiver.received();
    assert_eq!(received[0], received[1]);
    let copies = rig.sandbox.log().deliveries;
    assert_eq!(copies.iter().filter(|d| d.duplicate).count(), 1);
}

#[tokio::test]
async fn a_delayed_webhook_is_overtaken() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let delay = |ms: [u64; 2]| {
        let faults = json!({"webhook_delay_ms": ms});
        rig.sandbox.change_faults(&faults).unwrap();
    };
    delay([600, 600]);
    rig.sandbox.put(json!({"id": "slow"}), true).unwrap();
    delay([0, 0]);
    rig.sandbox.put(json!({"id": "quick"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    let received = receiver.received();
    assert_eq!(received[0]["resource"], "/2022-04-15/dispatches/quick");
    assert_eq!(received[1]["resource"], "/2022-04-15/dispatches/slow");
}

#[tokio::test]
async fn a_webhook_sent_by_hand_is_neither_lost_nor_copied() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([]).await;
    rig.sandbox.add_webhook(receiver.url.as_str());
    let faults = json!({"drop_webhooks": 1, "duplicate_webhooks": 1});
    rig.sandbox.change_faults(&faults).unwrap();
    rig.sandbox.webhook_now("ghost", Event::Update);
    rig.until(|sandbox| !sandbox.log().deliveries.is_empty())
        .await;
    assert_eq!(statuses(&rig.sandbox), [Outcome::Answered(200)]);
    assert_eq!(
        receiver.received(),
        [json!({"event": {"name": "dispatch.update"}, "resource": "/2022-04-15/dispatches/ghost"})]
    );
}

#[tokio::test]
async fn a_deleted_webhook_is_not_sent_what_was_still_under_way() {
    let rig = Rig::new().await;
    let receiver = Receiver::new([503]).await;
    let webhook = rig.sandbox.add_webhook(receiver.url.as_str());
    rig.sandbox
        .change_faults(&json!({"retry_base_ms": 800}))
        .unwrap();
    rig.sandbox.put(json!({"id": "a"}), true).unwrap();
    rig.until(|sandbox| sandbox.log().deliveries.len() == 1)
        .await;
    let path = format!("webhooks/{}", webhook.id);
    answer(rig.request(Method::DELETE, &path)).await;
    rig.until(|sandbox| sandbox.log().deliveries.len() == 2)
        .await;
    assert_eq!(statuses(&rig.sandbox)[1], Outcome::Unregistered);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn the_same_seed_loses_the_same_webhooks() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::new().await;
        // Nobody listens there, and nobody needs to.
        rig.sandbox.add_webhook("http://127.0.0.1:1/");
        let faults = json!({"drop_webhooks": 0.5, "webhook_delay_ms": [3_600_000, 3_600_000]});
        rig.sandbox.change_faults(&faults).unwrap();
        for number in 0..40 {
            rig.sandbox
                .put(json!({"id": format!("d{number}")}), true)
                .unwrap();
        }
        let lost = rig.sandbox.log().deliveries;
        runs.push(lost.into_iter().map(|d| d.resource).collect::<Vec<_>>());
    }
    assert_eq!(runs[0], runs[1]);
    assert!((5..35).contains(&runs[0].len()), "{}", runs[0].len());
}
