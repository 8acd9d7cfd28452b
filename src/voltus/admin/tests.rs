//! The client against a sandbox, and what it makes of odd answers.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::path::FullPath;

use super::*;
use crate::clock::SystemClock;
use crate::http::{Bounds, json_reply, serve};
use crate::model::Answer;
use crate::sandbox::{Options, Sandbox};

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn admin(base: &str, key: &str) -> Admin<SystemClock> {
    let settings = ClientSettings {
        base: base.parse().unwrap(),
        version: "2022-04-15".into(),
        max_body: 1024 * 1024,
    };
    let key = ApiKey::fixed(&key.to_owned().into()).unwrap();
    Admin::new(&settings, Arc::new(key), SystemClock::new()).unwrap()
}

async fn sandbox() -> (Sandbox, Admin<SystemClock>) {
    let options = Options {
        fixture: false,
        seed: Some(1),
        ..Options::default()
    };
    let sandbox = Sandbox::start(options, listener().await, CancellationToken::new()).unwrap();
    let admin = admin(&sandbox.url(), "secret");
    (sandbox, admin)
}

/// A peer that answers every request with `status` and `body`.
async fn stub(status: u16, body: Value) -> String {
    let listener = listener().await;
    let base = format!("http://{}", listener.local_addr().unwrap());
    let routes = warp::any()
        .and(warp::path::full())
        .map(move |_: FullPath| json_reply(StatusCode::from_u16(status).unwrap(), &body));
    tokio_util::task::TaskTracker::new().spawn(serve(
        listener,
        warp::service(routes),
        Bounds::default(),
        CancellationToken::new(),
    ));
    base
}

#[tokio::test]
async fn webhooks_are_registered_listed_and_deleted() {
    let (sandbox, admin) = sandbox().await;
    let receiver = stub(200, json!({})).await;
    let url = WebhookUrl::new(format!("{receiver}/dispatch-listener/hush"));
    let id = admin.register(&url).await.unwrap().unwrap();
    let listed = admin.webhooks().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].url.is_same(&url) && listed[0].is_whole() && listed[0].id == id);
    assert_eq!(admin.delete(&id).await, Ok(true));
    assert_eq!(admin.delete(&id).await, Ok(false));
    assert!(sandbox.webhooks().is_empty());
}

#[tokio::test]
async fn a_url_in_a_refusal_is_repeated_without_its_secret() {
    let api = stub(
        400,
        json!({"message": "http://a.example/dispatch-listener/hush-1 answered 404 (hush-1)", "type": "Bad Request"}),
    )
    .await;
    let url = WebhookUrl::new("http://a.example/dispatch-listener/hush-1");
    let error = admin(&api, "k").register(&url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the API answered 400: http://a.example/dispatch-listener/<hidden> answered 404 (<hidden>)"
    );
}

#[tokio::test]
async fn a_test_dispatch_may_be_answered_with_nothing_bare_or_wrapped() {
    let (start, end) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    for (body, id) in [
        (json!(null), None),
        (json!({"message": "made"}), None),
        (json!({"id": "a", "program": {"id": 5}}), Some("a")),
        (
            json!({"dispatches": [{"id": "a", "sites": [{"id": "s"}]}]}),
            Some("a"),
        ),
    ] {
        let api = stub(200, body.clone()).await;
        let made = admin(&api, "k").make_test_dispatch(start, end, None).await;
        let made = made.unwrap();
        assert_eq!(made.as_ref().map(DispatchId::as_str), id, "{body}");
    }
}

#[tokio::test]
async fn the_ids_of_a_scenario_are_found_in_any_form() {
    for dispatches in [
        json!({"Dispatch 1": {"id": "a"}, "Dispatch 2": {"id": "b"}}),
        json!({"Dispatch 1": "a", "Dispatch 2": "b"}),
        json!([{"id": "a", "sites": [{"id": "s"}]}, {"id": "b"}]),
        json!({"Dispatch 1": {"dispatch": {"id": "a"}}, "Dispatch 2": {"id": "b"}}),
    ] {
        let api = stub(200, json!({"dispatches": dispatches, "id": "run"})).await;
        let ids = admin(&api, "k").start_scenario(&json!({})).await.unwrap();
        let ids: Vec<&str> = ids.iter().map(DispatchId::as_str).collect();
        assert_eq!(ids, ["a", "b"], "{dispatches}");
    }
}

#[tokio::test]
async fn a_look_tells_the_list_and_the_time() {
    let (sandbox, admin) = sandbox().await;
    let look = admin.look().await;
    assert!(matches!(look.list.unwrap().answer, Answer::List(list) if list.readings().is_empty()));
    let (ahead, margin) = look.ahead.unwrap();
    assert!(ahead.abs() <= margin, "{ahead} {margin}");
    let refused = super::tests::admin(&sandbox.url(), "wrong").look().await;
    assert!(matches!(refused.list, Err(ApiError::KeyRefused { .. })));
    assert!(refused.ahead.is_some(), "a refusal tells the time, too");
    sandbox.down(true);
    let down = admin.look().await;
    assert!(down.list.is_err() && down.ahead.is_none());
}

#[test]
fn clocks_are_compared_in_the_middle_of_the_way() {
    let at = |ms: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(ahead(&headers, at(0), at(400)), None);
    // 1_800_000_000 is 2027-01-15T08:00:00Z.
    headers.insert(DATE, "Fri, 15 Jan 2027 08:00:10 GMT".parse().unwrap());
    assert_eq!(
        ahead(&headers, at(0), at(400)),
        Some((
            TimeDelta::milliseconds(10_300),
            TimeDelta::milliseconds(700)
        ))
    );
    headers.insert(DATE, "soon".parse().unwrap());
    assert_eq!(ahead(&headers, at(0), at(400)), None);
}
