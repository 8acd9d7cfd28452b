//! What a standby answers, over its routes.

use std::net::SocketAddr;

use http::Method;
use http::header::RETRY_AFTER;
use serde_json::Value;

use super::*;
use crate::clock::SystemClock;
use crate::http::Bounds;
use crate::listener::Answered;
use crate::secret::Secret;
use crate::status::{Fingerprint, Losses};
use crate::store::LeaseRow;
use crate::voltus::Environment;

/// A standby that has just seen the lease.
struct Rig {
    leadership: watch::Sender<Leadership>,
    health: watch::Sender<LeaseHealth>,
    barred: watch::Sender<Option<Arc<str>>>,
    clock: SystemClock,
    traffic: Arc<Traffic>,
    routes: Endpoint,
}

fn row() -> LeaseRow {
    LeaseRow {
        term: 7,
        holder: "h".into(),
        beat: 1,
        node: "plant-a".into(),
        advertise: None,
        since: "2026-11-27T10:00:00Z".parse().unwrap(),
        fingerprint: Fingerprint::default().text().into(),
        given_back: false,
        server: "".into(),
    }
}

fn led_by(row: Option<LeaseRow>) -> Leadership {
    Leadership::Standby { leader: row }
}

impl Rig {
    fn new() -> Self {
        Self::with_token(None)
    }

    fn with_token(token: Option<&str>) -> Self {
        let clock = SystemClock::new();
        let (leadership, leadership_seen) = watch::channel(led_by(Some(row())));
        let (health, health_seen) = watch::channel(LeaseHealth {
            seen: Some(clock.now().mono),
            changes: 3,
            ..LeaseHealth::default()
        });
        let places = |name| {
            Places::new(Bounds {
                name,
                ..Bounds::default()
            })
        };
        let traffic = Arc::new(Traffic::default());
        let barred = watch::Sender::new(None);
        let standby = Standby {
            lease: LeaseView {
                leadership: leadership_seen,
                losses: watch::channel(Losses::default()).1,
                barred: barred.subscribe(),
                health: health_seen,
            },
            fingerprint: watch::channel(Fingerprint::default().text().into()).1,
            traffic: Arc::clone(&traffic),
            listeners: [places("webhooks"), places("status")],
            identity: Identity {
                node: "plant-b".into(),
                api_host: "sandbox.example".into(),
                environment: Environment::Sandbox,
            },
            poll_interval: Duration::from_secs(30),
            tracer: Tracer::off(),
            started_at: clock.now().wall,
            clock,
        };
        let address: SocketAddr = "127.0.0.1:5001".parse().unwrap();
        let token = token.map(|token| Secret::fixed(token.into()));
        let routes = standby.routes(Guard::new(address, &[], token));
        Self {
            leadership,
            health,
            barred,
            clock,
            traffic,
            routes,
        }
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, HeaderMap, String) {
        let request = warp::test::request()
            .method(method.as_str())
            .path(path)
            .header("host", "127.0.0.1:5001");
        let answer = request.reply(&self.routes).await;
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        (answer.status().as_u16(), answer.headers().clone(), body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.ask(Method::GET, path).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_standby_says_so_and_who_leads() {
    let rig = Rig::new();
    rig.traffic.count(Answered::Accepted, rig.clock.now().wall);
    assert_eq!(rig.get("/healthz").await, (200, json!({"alive": true})));
    assert_eq!(rig.get("/readyz").await, (200, json!({"ready": true})));
    let (status, leader) = rig.get("/leader").await;
    assert_eq!((status, &leader["leader"]), (503, &json!("plant-a")));
    let (status, body) = rig.get("/status").await;
    assert_eq!((status, &body["role"]), (200, &json!("standby")));
    let leadership = json!({
        "term": 7, "leader": "plant-a", "since": "2026-11-27T10:00:00Z", "commits_lost_at": null,
    });
    assert_eq!(body["leadership"], leadership);
    assert_eq!(body["node"], "plant-b");
    assert_eq!(body["sync"]["webhooks"]["accepted"], 1);
    assert_eq!(body["verdict"]["schedule"]["level"], "ok");
    assert_eq!(body["store"], json!({"ok": true, "error": null}));
    let (status, headers, page) = rig.ask(Method::GET, "/").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(page.contains("standing"));
}

/// Clients find every field of a leader's status.
#[tokio::test]
async fn its_status_is_as_the_interface_describes() {
    let schemas: Value = serde_json::from_str(include_str!("../openapi/schemas.json")).unwrap();
    let (_, status) = Rig::new().get("/status").await;
    let mut schema = schemas["Status"].clone();
    schema["components"] = json!({"schemas": schemas});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&status)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[tokio::test]
async fn what_only_a_leader_knows_is_answered_503_with_its_name() {
    let rig = Rig::new();
    for (method, path) in [
        (Method::GET, "/schedule"),
        (Method::GET, "/sites/s1"),
        (Method::GET, "/openapi.json"),
        (Method::GET, "/events"),
        (Method::POST, "/poll"),
        (Method::PUT, "/sites/s1/override"),
        (Method::GET, "/elsewhere"),
    ] {
        let (status, headers, body) = rig.ask(method, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["leader"]),
            (503, &json!("plant-a")),
            "{path}"
        );
        assert!(body["error"].is_string());
        assert_eq!(headers[RETRY_AFTER], "5");
    }
    for path in PATHS {
        let (status, headers, _) = rig.ask(Method::POST, path).await;
        assert_eq!(
            (status, headers["allow"].to_str().unwrap()),
            (405, "GET, HEAD"),
            "{path}"
        );
    }
    for nobody in [
        None,
        Some(LeaseRow {
            given_back: true,
            server: "".into(),
            ..row()
        }),
    ] {
        rig.leadership.send_replace(led_by(nobody));
        let (status, body) = rig.get("/schedule").await;
        assert_eq!((status, &body["leader"]), (503, &Value::Null));
    }
}

#[tokio::test]
async fn the_guard_stands_before_all_that_is_not_health() {
    let rig = Rig::with_token(Some("t0ken"));
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(rig.get(path).await.0, 200, "{path}");
    }
    assert_eq!(rig.get("/leader").await.0, 503);
    for path in ["/status", "/metrics", "/schedule", "/elsewhere"] {
        assert_eq!(rig.get(path).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn it_is_ready_while_it_sees_the_lease() {
    let rig = Rig::new();
    let now = rig.clock.now().mono;
    rig.health.send_modify(|health| {
        health.error = Some("connection refused".into());
        health.seen = now.checked_sub(Duration::from_secs(3));
    });
    let seen = rig.health.borrow().seen.is_some();
    if seen {
        assert_eq!(rig.get("/readyz").await.0, 200, "a failed look is no drama");
    }
    rig.health.send_modify(|health| health.seen = None);
    let (status, body) = rig.get("/readyz").await;
    let reason = "the lease has not been seen yet: connection refused";
    assert_eq!((status, &body["reason"]), (503, &json!(reason)));
    let (_, body) = rig.get("/status").await;
    assert_eq!(body["store"], json!({"ok": false, "error": reason}));
    assert_eq!(body["verdict"]["schedule"]["level"], "error");
}

#[test]
fn a_lease_that_was_seen_too_long_ago_is_not_seen() {
    let now = Now {
        wall: DateTime::UNIX_EPOCH,
        mono: Duration::from_secs(100),
    };
    let seen = |seconds| LeaseHealth {
        seen: Some(Duration::from_secs(seconds)),
        ..LeaseHealth::default()
    };
    assert_eq!(unseen(&seen(95), now), None);
    let expected = "the lease has not been seen for 6s".to_owned();
    assert_eq!(unseen(&seen(94), now), Some(expected));
}

#[tokio::test]
async fn a_standby_that_would_act_differently_is_not_ready_and_says_in_what() {
    let rig = Rig::new();
    let theirs = Fingerprint {
        pre_curtail: Duration::from_secs(60),
        public_url: Some("https://a.example".into()),
        ..Fingerprint::default()
    };
    let other = LeaseRow {
        fingerprint: theirs.text().into(),
        ..row()
    };
    rig.leadership.send_replace(led_by(Some(other.clone())));
    let (status, body) = rig.get("/readyz").await;
    let reason = body["reason"].as_str().unwrap();
    assert_eq!(status, 503);
    assert!(
        reason.contains("from the leader plant-a: it differs in --pre-curtail, --public-url;"),
        "{reason}"
    );
    let (_, body) = rig.get("/status").await;
    assert_eq!(body["verdict"]["schedule"]["level"], "warning");
    // Nobody leads who would act differently.
    let given_back = LeaseRow {
        given_back: true,
        server: "".into(),
        ..other
    };
    rig.leadership.send_replace(led_by(Some(given_back)));
    assert_eq!(rig.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_standby_that_could_not_lead_is_not_ready_and_says_so_gravely_when_nobody_leads() {
    let rig = Rig::new();
    let reason = "no sink is named `plant` any more";
    rig.barred.send_replace(Some(reason.into()));
    let (status, body) = rig.get("/readyz").await;
    let expected = format!("this daemon takes nothing over: {reason}");
    assert_eq!((status, &body["reason"]), (503, &json!(expected)));
    let (_, body) = rig.get("/status").await;
    assert_eq!(body["verdict"]["schedule"]["level"], "warning");
    assert_eq!(body["leadership"]["leader"], "plant-a");
    // The leader is dead, and its row stays as it was.
    rig.health.send_modify(|health| health.vacant = true);
    let (_, body) = rig.get("/status").await;
    assert_eq!(body["verdict"]["schedule"]["level"], "error");
    assert_eq!(body["leadership"]["leader"], Value::Null);
    rig.barred.send_replace(None);
    assert_eq!(rig.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn its_metrics_show_the_lease() {
    let rig = Rig::new();
    let (status, headers, text) = rig.ask(Method::GET, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    for line in [
        "dispatchd_leader 0",
        "dispatchd_term 7",
        "dispatchd_leader_changes_total 3",
        "dispatchd_ready 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    for name in [
        "dispatchd_lease_age_seconds ",
        "dispatchd_build_info{",
        "dispatchd_webhooks_total{",
        "process_start_time_seconds ",
    ] {
        assert!(
            text.lines().any(|own| own.starts_with(name)),
            "{name}\n{text}"
        );
    }
}

/// The channel may be a moment behind the clock.
#[test]
fn a_daemon_leads_while_it_may_act() {
    let (leadership, seen) = watch::channel(Leadership::Leading {
        term: 9,
        trusted_until: Duration::from_secs(10),
    });
    let since: DateTime<Utc> = "2026-11-27T10:00:00Z".parse().unwrap();
    let (_, health) = watch::channel(LeaseHealth {
        led_since: Some(since),
        ..LeaseHealth::default()
    });
    let losses = watch::Sender::new(Losses::default());
    let lease = LeaseView {
        leadership: seen,
        losses: losses.subscribe(),
        barred: watch::channel(None).1,
        health,
    };
    let node = "plant-b".into();
    let lead = |seconds| lease.lead(&node, Duration::from_secs(seconds));
    assert_eq!(
        (lead(9).role(), lead(9).answer().status().as_u16()),
        ("leader", 200)
    );
    assert_eq!(
        (lead(10).role(), lead(10).answer().status().as_u16()),
        ("standby", 503)
    );
    let expected = json!({
        "term": 9, "leader": "plant-b", "since": "2026-11-27T10:00:00Z",
        "commits_lost_at": "2026-11-27T10:00:07Z",
    });
    let lost = Losses {
        count: 1,
        last: Some(since + chrono::TimeDelta::seconds(7)),
    };
    losses.send_replace(lost);
    assert_eq!(lead(9).shown(), expected);
    leadership.send_replace(Leadership::Suspended { term: 9 });
    assert_eq!((lead(9).role(), lead(9).term), ("standby", Some(9)));
}
