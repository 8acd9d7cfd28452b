//! The report, drawn from made-up and from real daemons.

use http::StatusCode;
use tokio::net::TcpListener;
use warp::Filter;

use super::*;
use crate::cli::testing::{Running, client, free_address, sandbox};
use crate::http::{Bounds, json_reply, serve};
use crate::sandbox::{Acceptance, SiteSpec, acceptance};

pub(super) const PLAIN: Style = Style {
    colours: false,
    height: None,
    cut: true,
};

fn status(state: &str) -> Value {
    json!({
        "version": "0.1.0", "started_at": "2026-11-24T07:00:00Z", "now": "2026-11-24T10:00:30Z",
        "sync": {
            "state": state, "poll_interval_seconds": 30.0,
            "last_poll": {"at": "2026-11-24T10:00:26Z", "ok": true, "error": null, "duration_ms": 12},
            "last_successful_poll": "2026-11-24T10:00:26Z", "next_poll": "2026-11-24T10:00:56Z",
            "webhooks": {"received": 12, "accepted": 11, "rejected": 1, "failed": 0,
                "last_at": "2026-11-24T09:58:30Z"},
            "missed_webhooks": 1, "heals": 3
        },
        "schedule": {"revision": 17, "scheduled": 1, "active": 1, "ended": 5, "cancelled": 0},
        "delivery": [
            {"sink": "stdout", "pending": 0, "oldest_pending_seconds": null, "delivered": 40, "failed_attempts": 0},
            {"sink": format!("https://{}.example", "long".repeat(40)), "pending": 12,
                "oldest_pending_seconds": 40.2, "delivered": 1, "failed_attempts": 1}
        ]
    })
}

fn dispatch(id: &str, phase: &str, start: &str, end: Value) -> Value {
    json!({
        "id": id, "phase": phase, "test": id == "test", "start_time": start, "end_time": end,
        "sites": [{"id": "s1"}, {"id": "s2"}], "first_seen": start, "discovered_by": "poll"
    })
}

fn report(status: Value, sites: Option<Value>) -> Report {
    let schedule = json!({"dispatches": [
        dispatch("test", "scheduled", "2026-11-25T09:45:00Z", Value::Null),
        dispatch("dkmq", "active", "2026-11-24T10:00:00Z", json!("2026-11-24T11:00:00Z")),
        dispatch("past", "ended", "2026-11-24T08:00:00Z", json!("2026-11-24T09:00:00Z")),
        dispatch(&"x".repeat(64), "active", "2026-11-24T10:00:00Z", Value::Null),
    ]});
    serde_json::from_value(json!({"status": status, "schedule": schedule, "sites": sites})).unwrap()
}

fn sites() -> Value {
    json!({"sites": [
        {"id": "asdf", "name": "Mill \u{1b}[2J north, with quite a long name", "customer_location_id": "L7",
            "state": "curtailed", "since": "2026-11-24T10:00:00Z", "until": null, "commitment_kw": 12.5,
            "sinks": []},
        {"id": "calm", "name": "Calm", "customer_location_id": "", "state": "normal", "since": null,
            "until": null, "commitment_kw": null}
    ]})
}

#[test]
fn while_polls_fail_the_first_line_says_so_though_the_schedule_is_fresh() {
    let mut status = status("fresh");
    status["sync"]["last_poll"] =
        json!({"at": "2026-11-24T10:11:59Z", "ok": false, "error": "down"});
    let drawn = table::draw(&report(status, None), PLAIN);
    let first = drawn.lines().next().unwrap();
    assert_eq!(
        first,
        "FRESH     the last poll failed; last good poll 4s ago, next in 26s"
    );
}

#[test]
fn the_report_fits_80_columns_and_says_what_matters() {
    let drawn = table::draw(&report(status("fresh"), Some(sites())), PLAIN);
    let expected = "\
FRESH     the schedule is right; last poll 4s ago, next in 26s
webhooks  12 received, 11 accepted, 1 rejected, 0 failed; last 2m ago
heals     3 changes found by polls, 1 webhook missed
delivery  stdout: nothing pending
          https://longlonglonglonglonglonglonglon…: 12 pending, the oldest for
          40s; 1 failed attempt so far
schedule  1 active, 1 scheduled, 5 ended, 0 cancelled; revision 17
daemon    dispatchd 0.1.0, up 3h; times are UTC

PHASE      DISPATCH    START         END           NEXT              SITES
active     dkmq        11-24 10:00Z  11-24 11:00Z  ends in 59m       2
active     xxxxxxxxx…  11-24 10:00Z  open          end not known     2
scheduled  test        11-25 09:45Z  open          starts in 23h44m  2      test

CURTAILED  NAME         LOCATION  KW    SINCE         UNTIL  SINKS
asdf       Mill ?[2J …  L7        12.5  11-24 10:00Z  open   nobody
";
    assert_eq!(drawn, expected);
    assert!(
        drawn
            .lines()
            .all(|line| line.chars().count() <= table::WIDTH)
    );
}

#[test]
fn a_stale_schedule_says_so_first_and_why() {
    let mut stale = status("stale");
    stale["sync"]["last_successful_poll"] = json!("2026-11-24T09:40:00Z");
    stale["sync"]["last_poll"]["error"] = json!(
        "the API refuses the key (401): set --api-key or --api-key-file to a key that is valid there"
    );
    let drawn = table::draw(&report(stale, None), PLAIN);
    let lines: Vec<&str> = drawn.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "STALE     no poll has succeeded since 11-24 09:40Z (20m ago), next in 26s; the",
            "          schedule may be wrong",
            "last poll failed 4s ago: the API refuses the key (401): set --api-key or",
            "          --api-key-file to a key that is valid there",
        ]
    );
    assert!(drawn.ends_with("This daemon does not tell what its sites are to do.\n"));
    assert!(
        drawn
            .lines()
            .all(|line| line.chars().count() <= table::WIDTH)
    );
}

/// A reason that is cut ends where it matters.
#[test]
fn what_goes_to_no_terminal_is_not_cut() {
    let reason = "the receiver answered 401 Unauthorized: the signature is wrong";
    let sink = "http://127.0.0.1:8000/a/long/path/to/events";
    let mut status = status("fresh");
    status["untold"] = json!([{"site": "asdf", "name": "Mill", "sink": sink, "command": "release",
        "since": "2026-11-24T09:56:00Z", "reason": reason}]);
    let whole = Style {
        cut: false,
        ..PLAIN
    };
    let report = || report(status.clone(), Some(sites()));
    let drawn = table::draw(&report(), whole);
    let row = format!("asdf      release  Mill  4m30s ago  {sink}  {reason}\n");
    assert!(drawn.contains(&row), "{drawn}");
    assert!(drawn.contains("north, with quite a long name"), "{drawn}");
    assert!(!drawn.contains('…'), "{drawn}");
    let drawn = table::draw(&report(), PLAIN);
    assert!(
        drawn
            .lines()
            .all(|line| line.chars().count() <= table::WIDTH)
    );
}

/// No line contradicts another one.
#[test]
fn what_an_operator_must_look_at_is_in_the_first_verdict() {
    let first = |change: &dyn Fn(&mut Value)| {
        let mut status = status("fresh");
        status["verdict"] = json!({
            "schedule": {"level": "ok", "text": "The schedule is right."},
            "told": {"level": "ok", "text": "Every site has been told."}
        });
        change(&mut status);
        let drawn = table::draw(&report(status, None), PLAIN);
        drawn.replace("\n          ", " ")
    };
    let silent = first(&|status| {
        status["verdict"]["schedule"] = json!({"level": "warning", "text": "No webhook comes."});
        status["sync"]["unannounced_changes"] = json!(2);
        status["sync"]["missed_webhooks"] = json!(0);
    });
    assert!(
        silent.starts_with("FRESH     No webhook comes. last poll 4s ago"),
        "{silent}"
    );
    assert!(
        silent.contains("found by polls, no webhook has come for them\n"),
        "{silent}"
    );
    let doubt = first(&|status| status["sync"]["in_doubt"] = json!({"absent": 2, "lower": 0}));
    assert!(
        doubt.starts_with("FRESH     polls succeed; last poll 4s ago"),
        "{doubt}"
    );
    assert!(
        doubt.contains("in doubt  2 dispatches missing from the API's list; unchanged here until"),
        "{doubt}"
    );
    assert!(!doubt.contains("lower"), "{doubt}");
    let full = first(&|status| {
        status["verdict"]["schedule"] = json!({"level": "error", "text": "Nothing can be stored."});
    });
    assert!(
        full.starts_with("STORE     Nothing can be stored."),
        "{full}"
    );
}

/// Untold and curtailed sites go before dispatches, and each table says how much is
/// left out.
#[test]
fn on_a_terminal_the_report_fits_its_height() {
    let mut status = status("fresh");
    status["verdict"] = json!({
        "schedule": {"level": "ok", "text": "The schedule is right."},
        "told": {"level": "error", "text": "250 sites not told: Mill (http://a: refused, 4 min)."}
    });
    status["untold_sites"] = json!(250);
    let untold = |site: u32| {
        json!({"site": format!("s{site}"), "name": "Mill", "sink": "http://a",
            "since": "2026-11-24T09:56:00Z", "reason": "connection refused"})
    };
    status["untold"] = (0..100).map(untold).collect();
    let curtailed = |site: u32| {
        json!({"id": format!("s{site}"), "name": "Mill", "state": "curtailed",
            "since": "2026-11-24T10:00:00Z", "until": null, "commitment_kw": 1})
    };
    let sites: Vec<Value> = (0..300).map(curtailed).collect();
    let report = report(status, Some(json!({"sites": sites})));
    for height in [24, 30, 50, 200] {
        let style = Style {
            height: Some(height),
            ..PLAIN
        };
        let drawn = table::draw(&report, style);
        assert!(drawn.lines().count() < height, "{height}:\n{drawn}");
        assert!(drawn.starts_with("UNTOLD    250 sites not told"), "{drawn}");
    }
    let style = Style {
        height: Some(40),
        ..PLAIN
    };
    let drawn = table::draw(&report, style);
    assert!(drawn.contains("\nNOT TOLD  "), "{drawn}");
    for left_out in ["and 2", "and 297 more"] {
        assert!(drawn.contains(left_out), "{left_out}:\n{drawn}");
    }
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let report = report(status("fresh"), Some(sites()));
    let coloured = table::draw(
        &report,
        Style {
            colours: true,
            ..PLAIN
        },
    );
    assert!(coloured.starts_with("\x1b[1;32mFRESH"));
    let mut plain = coloured;
    for code in ["0", "2", "1;31", "1;32", "1;33"] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    let same = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(same(&plain), same(&table::draw(&report, PLAIN)));
}

#[tokio::test]
async fn a_running_daemon_is_shown() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &[]).await;
    let now = crate::clock::Clock::now(&crate::clock::SystemClock::new()).wall;
    let site = SiteSpec {
        id: "s1".into(),
        name: "Mill".into(),
        customer_location_id: "L7".into(),
        commitment: crate::model::Kilowatts(12.0),
    };
    let hour = chrono::TimeDelta::hours(1);
    let order = acceptance(Acceptance::Basic, now, now + hour, hour, &[site]);
    let id = sandbox.scenario(order).unwrap()["Dispatch"].clone();
    let client = daemon.client();
    crate::http::client_builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("http://{}/poll", daemon.status))
        .send()
        .await
        .unwrap();
    let clients = [client];
    let drawn = look(&clients, false, PLAIN).await.unwrap().text;
    assert!(
        drawn.starts_with("SINKS     No sink is configured: nobody is told."),
        "{drawn}"
    );
    assert!(
        drawn.contains("\nFRESH     the schedule is right; last poll "),
        "{drawn}"
    );
    assert!(drawn.contains(&format!("scheduled  {id}")), "{drawn}");
    let json = look(&clients, true, PLAIN).await.unwrap().text;
    assert_eq!(json.matches('\n').count(), 1, "one object, one line");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["sync"]["state"], "fresh");
    assert_eq!(json["schedule"]["dispatches"][0]["id"], id.as_str());
    assert!(json.as_object().unwrap().contains_key("sites"));
}

#[test]
fn a_database_that_may_lack_commits_is_named() {
    let mut lost = status("fresh");
    lost["leadership"] = json!({"term": 7, "leader": "a", "since": null, "commits_lost_at": null});
    let drawn = table::draw(&report(lost.clone(), None), PLAIN);
    assert!(!drawn.contains("database"), "{drawn}");
    lost["leadership"]["commits_lost_at"] = json!("2026-11-24T09:58:00Z");
    let drawn = table::draw(&report(lost, None), PLAIN);
    let expected = "database  may lack its last commits, seen 11-24 09:58Z: each site is told once\n          more what to do\n";
    assert!(drawn.contains(expected), "{drawn}");
}

/// A daemon that answers /status so, and 503 otherwise as a standby does.
pub(super) async fn answering(status: Value) -> DaemonClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shown = warp::path!("status").map(move || json_reply(StatusCode::OK, &status));
    let refusal = json!({"error": "this daemon stands by", "leader": "plant-a"});
    let rest = warp::any().map(move || json_reply(StatusCode::SERVICE_UNAVAILABLE, &refusal));
    let service = warp::service(shown.or(rest).unify());
    TaskTracker::new().spawn(serve(
        listener,
        service,
        Bounds::default(),
        CancellationToken::new(),
    ));
    client(address)
}

pub(super) fn standby() -> Value {
    json!({
        "version": "0.1.0", "started_at": "2026-11-24T07:00:00Z", "now": "2026-11-24T10:00:30Z",
        "node": "plant-b", "role": "standby",
        "leadership": {"term": 7, "leader": "plant-a", "since": "2026-11-24T09:00:00Z"},
        "api": {"host": "sandbox.voltus.co", "environment": "sandbox"},
        "verdict": {
            "schedule": {"level": "ok", "text": "This daemon stands by: plant-a leads."},
            "told": {"level": "ok", "text": "A standby tells no site what to do."}
        },
        "untold_sites": null,
        "sync": {"state": "starting", "next_poll": null,
            "webhooks": {"received": 12, "accepted": 11, "rejected": 1, "failed": 0, "last_at": null}},
        "schedule": {"revision": null, "scheduled": null, "active": null, "ended": null, "cancelled": null},
        "delivery": []
    })
}

#[tokio::test]
async fn a_standby_is_shown_in_plain_words() {
    let clients = [answering(standby()).await];
    let drawn = look(&clients, false, PLAIN).await.unwrap().text;
    let expected = "\
STANDBY   This daemon stands by: plant-a leads.
leader    plant-a since 11-24 09:00Z, term 7
webhooks  12 received to be passed on: 11 accepted, 1 rejected, 0 failed
daemon    dispatchd 0.1.0 on plant-b (standby), up 3h; times are UTC
API       sandbox.voltus.co (sandbox)
          ask the leader for schedule and sites: set --status-url to its status
          listener
";
    assert_eq!(drawn, expected);
    let json = look(&clients, true, PLAIN).await.unwrap().text;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["role"], "standby");
    assert_eq!(
        (&json["schedule"], &json["sites"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn whoever_is_no_daemon_or_nobody_is_told_apart() {
    let nobody = free_address().await;
    let error = look(&[client(nobody)], false, PLAIN).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot connect to http://127.0.0.1:") && text.contains("--status-url"),
        "{text}"
    );
    let told = |status: u16, body: Value| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes =
            warp::any().map(move || json_reply(StatusCode::from_u16(status).unwrap(), &body));
        let service = warp::service(routes);
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(serve(listener, service, Bounds::default(), stop));
        look(&[client(address)], false, PLAIN)
            .await
            .unwrap_err()
            .to_string()
    };
    assert!(
        told(200, json!({"a": 1}))
            .await
            .contains("is not the status listener of dispatchd: ")
    );
    for status in [302, 401, 404] {
        let text = told(status, json!({})).await;
        let expected = format!("is not the status listener of dispatchd: it answered {status}");
        assert!(text.contains(&expected), "{text}");
    }
    let no_path = told(404, json!({"error": "no such path"})).await;
    assert!(no_path.contains("it has no /status"), "{no_path}");
    let token = told(401, json!({"error": "this needs a token"})).await;
    assert!(token.contains("--status-token"), "{token}");
    let foreign = told(403, json!({"error": "asked under \u{7}a name"})).await;
    assert!(
        foreign.ends_with("answered 403: asked under ?a name"),
        "{foreign}"
    );
}
