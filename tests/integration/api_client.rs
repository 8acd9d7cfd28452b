//! How the daemon asks an API that moves, redirects, caches or fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::commands::run;
use crate::harness::{
    Daemon, Setup, Upstream, World, dispatch, in_ms, now, raw_answer, site_of, wait_until,
};

const NO_DISPATCHES: &str = r#"{"dispatches": []}"#;

/// How many requests for dispatches by id the daemon has made, by its own count.
async fn look_ups_made(daemon: &Daemon) -> u64 {
    let url = daemon.status_url("/metrics");
    let text = daemon.http.get(url).send().await.unwrap();
    let text = text.text().await.unwrap();
    let of_kind = |line: &&str| {
        line.starts_with("dispatchd_api_requests_total") && line.contains(r#"kind="dispatch""#)
    };
    text.lines()
        .filter(of_kind)
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}

/// Sends webhooks for many ids, ten at a time, for so long. Gives how many were
/// answered, all of them 503 with `Retry-After`.
async fn webhooks_in_vain(daemon: &Daemon, lasts: Duration) -> usize {
    let until = now() + lasts;
    let number = AtomicUsize::new(0);
    let sending = (0..10).map(|_| async {
        while now() < until {
            let id = number.fetch_add(1, Ordering::SeqCst) % 100;
            let answer = daemon.webhook(&format!("d{id}")).await;
            assert_eq!(answer.status, 503);
            let after: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
    });
    futures_util::future::join_all(sending).await;
    number.into_inner()
}

#[apply(test)]
async fn while_the_api_refuses_connections_webhooks_do_not_spend_the_budget() {
    let world = World::new().await;
    let daemon = world
        .setup()
        .with("--webhook-deadline", "500ms")
        .with("--peer-rate", "0")
        .ready()
        .await;
    world.sandbox.stop();
    world.sandbox.stopped().await;
    let webhooks = webhooks_in_vain(&daemon, Duration::from_secs(10)).await;
    let made = look_ups_made(&daemon).await;
    assert!(webhooks >= 50, "{webhooks}");
    assert!((2..=40).contains(&made), "{made} look-ups");
    daemon.wait_for_log("slowed down").await;
}

#[apply(test)]
async fn while_the_api_answers_503_to_everything_webhooks_do_not_spend_the_budget() {
    let world = World::new().await;
    let daemon = world
        .setup()
        .with("--webhook-deadline", "500ms")
        .with("--peer-rate", "0")
        .ready()
        .await;
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
    let before = look_ups_made(&daemon).await;
    webhooks_in_vain(&daemon, Duration::from_secs(8)).await;
    let made = look_ups_made(&daemon).await - before;
    assert!((2..=40).contains(&made), "{made} look-ups");
    // It is back: three good answers, and all goes at full speed.
    world.faults(json!({"api_error_rate": 0.0}));
    for number in 0..30 {
        world.put(dispatch(&format!("n{number}"), 1, in_ms(3_600_000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    wait_until("full speed", async || {
        daemon.webhook("n0").await.status == 200 && {
            let log = daemon.log();
            log.iter().any(|line| line.contains("at full speed"))
        }
    })
    .await;
    let begun = now();
    for number in 0..30 {
        assert_eq!(daemon.webhook(&format!("n{number}")).await.status, 200);
    }
    assert!((now() - begun).num_seconds() < 10);
    let changes = |words: &str| {
        let log = daemon.log();
        log.iter().filter(|line| line.contains(words)).count()
    };
    assert_eq!(changes("slowed down"), 1, "once for each change");
}

#[apply(test)]
async fn status_says_that_requests_are_slowed_down_why_and_until_when() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let slowdown = async || daemon.health().await["sync"]["slowdown"].clone();
    assert_eq!(slowdown().await, Value::Null);
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
    let begun = now();
    for id in ["a", "b"] {
        assert_eq!(daemon.webhook(id).await.status, 503);
    }
    let slow = slowdown().await;
    let time = |field: &str| {
        let text = slow[field].as_str().unwrap_or_default();
        text.parse::<DateTime<Utc>>().unwrap()
    };
    assert!(time("since") >= begun, "{slow}");
    assert!(time("next_request") > time("since"), "{slow}");
    assert!(slow["reason"].as_str().unwrap().contains("503"), "{slow}");
    assert_eq!(slow["silent_until"], Value::Null);
    assert_eq!(slow["good_answers_needed"], 3);
    let text = run(&world, Some(&daemon), &["status"]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("slowed down") && text.contains("503"),
        "{text}"
    );

    // The API asks to be left alone for two minutes.
    let busy = RawAnswer {
        headers: vec![("Retry-After".into(), "120".into())],
        ..RawAnswer::json(StatusCode::TOO_MANY_REQUESTS, r#"{"message": "busy"}"#)
    };
    world.list_answers(Some(busy));
    world.faults(json!({"api_error_rate": 0.0}));
    assert_eq!(daemon.poll().await.status, 503);
    let slow = slowdown().await;
    let until: DateTime<Utc> = slow["silent_until"].as_str().unwrap().parse().unwrap();
    let asked = (until - begun).num_seconds();
    assert!((119..=150).contains(&asked), "{slow}");
    assert!(slow["reason"].as_str().unwrap().contains("429"), "{slow}");
}

#[apply(test)]
async fn status_says_that_full_speed_is_back() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
    for id in ["a", "b"] {
        assert_eq!(daemon.webhook(id).await.status, 503);
    }
    world.faults(json!({"api_error_rate": 0.0}));
    for needed in [2, 1] {
        assert_eq!(daemon.poll().await.status, 200);
        let slowdown = daemon.health().await["sync"]["slowdown"].clone();
        assert_eq!(slowdown["good_answers_needed"], needed, "{slowdown}");
    }
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(daemon.health().await["sync"]["slowdown"], Value::Null);
}

#[apply(test)]
async fn one_dispatch_that_answers_500_slows_no_other_down() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let error = RawAnswer::json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"message": "oh"}"#);
    world
        .sandbox
        .override_answer(Question::Id("bad".into()), Some(error));
    for number in 0..20 {
        assert_eq!(daemon.webhook("bad").await.status, 503);
        let id = format!("good{number}");
        world.put(dispatch(&id, 1, in_ms(3_600_000), None));
        assert_eq!(daemon.webhook(&id).await.status, 200, "{id}");
    }
    assert!(!daemon.log().iter().any(|line| line.contains("slowed down")));
}

#[apply(test)]
async fn a_person_s_poll_comes_at_once_although_the_api_was_failing() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
    for id in ["a", "b", "c", "d"] {
        assert_eq!(daemon.webhook(id).await.status, 503);
    }
    assert_eq!(daemon.poll().await.status, 503);
    world.faults(json!({"api_error_rate": 0.0}));
    let begun = now();
    assert_eq!(daemon.poll().await.status, 200);
    assert!((now() - begun).num_milliseconds() < 2000);
}

#[apply(test)]
async fn when_the_api_moves_and_the_old_address_answers_503_the_new_one_is_found() {
    let world = World::new().await;
    // What is asked on a connection from before the move is answered by the old
    // address; what is asked on a newer one, by the new address.
    let newest = Arc::new(AtomicUsize::new(0));
    let moved_after = Arc::new(AtomicUsize::new(usize::MAX));
    let (seen, moved) = (Arc::clone(&newest), Arc::clone(&moved_after));
    let upstream = Upstream::new(move |request| {
        seen.fetch_max(request.connection, Ordering::SeqCst);
        let gone = moved.load(Ordering::SeqCst);
        if gone != usize::MAX && request.connection <= gone {
            raw_answer("503 Service Unavailable", "", "moved")
        } else {
            raw_answer("200 OK", "", NO_DISPATCHES)
        }
    })
    .await;
    let setup = Setup::new(&upstream.url(), world.folder().to_owned());
    let daemon = setup.polling("300ms").ready().await;
    moved_after.store(newest.load(Ordering::SeqCst), Ordering::SeqCst);
    wait_until("a poll fails", async || {
        daemon.health().await["sync"]["last_poll"]["ok"] == false
    })
    .await;
    wait_until("the next one succeeds", async || {
        daemon.health().await["sync"]["last_poll"]["ok"] == true
    })
    .await;
    daemon.wait_until_ready().await;
}

#[apply(test)]
async fn a_redirect_to_a_new_version_on_the_api_s_host_is_followed_and_warned_about_once() {
    let world = World::new().await;
    let shown = dispatch("d", 1, in_ms(3_600_000), None);
    let list = json!({"dispatches": [shown.clone()]}).to_string();
    let upstream = Upstream::new(move |request| {
        let moved = |to: &str| raw_answer("302 Found", &format!("location: {to}\r\n"), "");
        match request.path() {
            "/2022-04-15/dispatches" => moved("/2027-01-01/dispatches"),
            "/2022-04-15/dispatches/d" => moved("/2027-01-01/dispatches/d"),
            "/2027-01-01/dispatches" => raw_answer("200 OK", "", &list),
            "/2027-01-01/dispatches/d" => raw_answer("200 OK", "", &shown.to_string()),
            _ => raw_answer("404 Not Found", "", "{}"),
        }
    })
    .await;
    let setup = Setup::new(&upstream.url(), world.folder().to_owned());
    let daemon = setup.polling("200ms").ready().await;
    daemon.wait_for_phase("d", "scheduled").await;
    assert_eq!(daemon.webhook("d").await.status, 200);
    let polls = || {
        let requests = upstream.requests();
        let path = "/2027-01-01/dispatches";
        requests.iter().filter(|seen| seen.path() == path).count()
    };
    wait_until("some polls", async || polls() >= 4).await;
    let warned = |words: &str| {
        let log = daemon.log();
        log.iter().filter(|line| line.contains(words)).count()
    };
    let advice = "set --api-version 2027-01-01";
    // One line for the list, one for dispatches by id.
    assert_eq!(warned(advice), 2);
    assert_eq!(warned("a poll failed"), 0);
}

#[apply(test)]
async fn each_redirect_that_is_followed_takes_a_request_of_the_budget() {
    let world = World::new().await;
    let times: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let seen = Arc::clone(&times);
    let upstream = Upstream::new(move |request| {
        seen.lock().unwrap().push(now());
        match request.path() {
            "/2022-04-15/dispatches" => {
                raw_answer("307 Temporary Redirect", "location: /a/dispatches\r\n", "")
            }
            "/a/dispatches" => raw_answer("302 Found", "location: /b/dispatches\r\n", ""),
            _ => raw_answer("200 OK", "", NO_DISPATCHES),
        }
    })
    .await;
    let setup = Setup::new(&upstream.url(), world.folder().to_owned());
    // A quarter at once, then one every second and a third.
    let setup = setup.with("--api-rate", "60").polling("100ms");
    let daemon = setup.ready().await;
    wait_until("four seconds have passed", async || {
        let times = times.lock().unwrap();
        times.len() > 1 && now() - times[0] > TimeDelta::seconds(4)
    })
    .await;
    let times = times.lock().unwrap().clone();
    let at_once = times
        .iter()
        .filter(|at| **at - times[0] < TimeDelta::seconds(3))
        .count();
    assert!((9..=18).contains(&at_once), "{at_once} in three seconds");
    assert_eq!(daemon.health().await["sync"]["polls"]["failed"], 0);
}

#[apply(test)]
async fn a_redirect_to_another_host_is_not_followed_and_the_key_does_not_go_there() {
    let world = World::new().await;
    let other = Upstream::new(|_| raw_answer("200 OK", "", NO_DISPATCHES)).await;
    let to = format!("location: {}/2022-04-15/dispatches\r\n", other.url());
    let upstream = Upstream::new(move |_| raw_answer("307 Temporary Redirect", &to, "")).await;
    let setup = Setup::new(&upstream.url(), world.folder().to_owned());
    let daemon = setup.polling("200ms").start().await;
    wait_until("the error says what to do", async || {
        let health = daemon.health().await;
        let error = &health["sync"]["last_poll"]["error"];
        let error = error.as_str().unwrap_or_default();
        error.contains("not followed") && error.contains("--api-url")
    })
    .await;
    assert!(other.requests().is_empty());
    assert_eq!(daemon.get("/readyz").await.status, 503);
}

/// A list with these dispatches, as a cache has kept it for so many seconds.
fn cached(dispatches: &[Value], age: u64) -> RawAnswer {
    let body = json!({"dispatches": dispatches}).to_string();
    RawAnswer {
        headers: vec![("Age".into(), age.to_string())],
        ..RawAnswer::json(StatusCode::OK, body)
    }
}

fn unnumbered(id: &str, start: DateTime<Utc>, authorized: bool) -> Value {
    let mut dispatch = dispatch(id, 1, start, None);
    dispatch["authorized"] = authorized.into();
    dispatch
        .as_object_mut()
        .unwrap()
        .remove("modification_number");
    dispatch
}

#[apply(test)]
async fn a_list_from_a_cache_undoes_no_cancellation_and_curtails_nobody() {
    let world = World::new().await;
    let daemon = world.setup().polling("1h").ready().await;
    let start = in_ms(-1000);
    world.put(unnumbered("d", start, true));
    assert_eq!(daemon.webhook("d").await.status, 200);
    daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    world.put(unnumbered("d", start, false));
    assert_eq!(daemon.webhook("d").await.status, 200);
    daemon.wait_for_event(&site_of("d"), "site.release").await;
    for age in [1, 60, 3600] {
        let old = cached(&[unnumbered("d", start, true)], age);
        world.list_answers(Some(old));
        assert_eq!(daemon.poll().await.status, 200, "{age}");
        assert_eq!(daemon.phase("d").await, "cancelled", "{age}");
    }
    // Nor does one that lacks it raise a question, and news in it are taken.
    let news = cached(&[unnumbered("new", in_ms(60_000), true)], 60);
    world.list_answers(Some(news));
    let look_ups = world.look_ups("d").len();
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(daemon.phase("new").await, "scheduled");
    assert_eq!(world.look_ups("d").len(), look_ups);
    assert_eq!(
        daemon.types_of(&site_of("d")),
        ["site.curtail", "site.release"]
    );
    // What the API itself says later counts again.
    world.put(unnumbered("d", start, true));
    world.list_answers(None);
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(daemon.phase("d").await, "active");
}

#[apply(test)]
async fn an_answer_by_id_from_a_cache_changes_nothing_that_was_asked_for_later() {
    let world = World::new().await;
    let daemon = world.setup().polling("1h").ready().await;
    let start = in_ms(-1000);
    for authorized in [true, false] {
        world.put(unnumbered("d", start, authorized));
        assert_eq!(daemon.webhook("d").await.status, 200);
    }
    let old = unnumbered("d", start, true).to_string();
    let old = RawAnswer {
        headers: vec![("age".into(), "30".into())],
        ..RawAnswer::json(StatusCode::OK, old)
    };
    world
        .sandbox
        .override_answer(Question::Id("d".into()), Some(old));
    daemon.webhook("d").await;
    assert_eq!(daemon.phase("d").await, "cancelled");
}

#[apply(test)]
async fn a_list_that_is_older_than_three_intervals_is_no_successful_poll() {
    let world = World::new().await;
    let daemon = world.setup().polling("1s").ready().await;
    let list = [dispatch("d", 1, in_ms(60_000), None)];
    world.list_answers(Some(cached(&list, 60)));
    wait_until("the daemon is blind", async || {
        daemon.health().await["sync"]["state"] == "stale"
    })
    .await;
    let health = daemon.health().await;
    let error = health["sync"]["last_poll"]["error"].as_str().unwrap();
    assert!(error.contains("a cache"), "{error}");
    assert_eq!(daemon.get("/readyz").await.status, 503);
    // What it shows may be news all the same.
    daemon.wait_for_phase("d", "scheduled").await;
    world.list_answers(Some(cached(&list, 2)));
    daemon.wait_until_ready().await;
}

#[apply(test)]
async fn every_request_to_the_api_asks_caches_for_a_fresh_answer() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.known(&daemon, "d").await;
    for request in world.sandbox.requests() {
        let fresh = request.headers.iter().any(|name| name == "cache-control");
        assert!(fresh, "{request:?}");
    }
}
