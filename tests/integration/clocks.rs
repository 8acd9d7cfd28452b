//! Clocks that are wrong, jump or stand still (rule R4), as far as a process can be
//! shown that from outside.
//!
//! Without privileges nobody can set the clocks that one running process reads. So
//! the wall clock that jumps under a running daemon, and the machine that is
//! suspended under it, are shown to the engine, the machine and the driver by tests
//! of their own, which have a clock that they set, and by the simulation. Here are
//! the other halves: what a clock that was ahead has left in the state file, an API
//! whose clock is another, a process that stood still, and one that was started
//! when `CLOCK_BOOTTIME` was anywhere.

use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, need, now, site_of, wait_until};

/// The header that tells the API's time.
fn date(time: DateTime<Utc>) -> (String, String) {
    let text = time.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    ("Date".to_owned(), text)
}

/// The API's clock shows this from now on, and its list these dispatches.
fn api_clock(world: &World, time: DateTime<Utc>, dispatches: &[Value]) {
    let list = json!({"dispatches": dispatches}).to_string();
    let told = |body: String| RawAnswer {
        headers: vec![date(time)],
        ..RawAnswer::json(StatusCode::OK, body)
    };
    world.list_answers(Some(told(list)));
    for dispatch in dispatches {
        let id = dispatch["id"].as_str().unwrap().to_owned();
        let by_id = told(dispatch.to_string());
        world.sandbox.override_answer(Question::Id(id), Some(by_id));
    }
}

async fn state_of(daemon: &Daemon, id: &str) -> Value {
    let site = daemon.get(&format!("/sites/{}", site_of(id))).await;
    site.json["state"].clone()
}

async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = daemon.http.get(daemon.status_url("/metrics"));
    let page = page.send().await.unwrap().text().await.unwrap();
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// A state file as a daemon leaves it whose clock was ahead: the dispatch is ended
/// there and its site released, although by the API it lasts for an hour yet. Gives
/// the dispatch as the API has it.
async fn ended_too_early(world: &World) -> Value {
    let mut daemon = world.setup().ready().await;
    let (start, end) = (in_ms(-10_000), in_ms(3_600_000));
    let right = dispatch("d", 1, start, Some(end));
    world.put(dispatch("d", 1, start, Some(in_ms(1500))));
    assert_eq!(daemon.webhook("d").await.status, 200);
    daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    daemon.wait_for_event(&site_of("d"), "site.release").await;
    daemon.wait_until_delivered().await;
    daemon.stop(Signal::TERM).await;
    world.put(right.clone());
    // Its end was the right one all the time, and was seen to pass.
    let file = rusqlite::Connection::open(world.path("state.db")).unwrap();
    let stored: String = file
        .query_row("SELECT dispatch FROM dispatches", [], |row| row.get(0))
        .unwrap();
    let mut stored: Value = serde_json::from_str(&stored).unwrap();
    stored["end_time"] = right["end_time"].clone();
    let changed = file
        .execute("UPDATE dispatches SET dispatch = ?1", [stored.to_string()])
        .unwrap();
    assert_eq!(changed, 1);
    right
}

/// The second table of failures: wall clock a day ahead for 3 s, here while an
/// earlier process ran.
#[apply(test)]
async fn what_ended_by_a_clock_that_was_ahead_is_curtailed_again_with_the_next_answer() {
    let world = World::new().await;
    ended_too_early(&world).await;
    let daemon = world.setup().ready().await;
    daemon.wait_for_phase("d", "active").await;
    daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    assert_eq!(state_of(&daemon, "d").await, "curtailed");
}

#[apply(test)]
async fn an_api_whose_clock_is_not_ours_undoes_no_end_until_the_two_agree() {
    for hours in [-2, 24] {
        let world = World::new().await;
        let right = ended_too_early(&world).await;
        let wrong = now() + TimeDelta::hours(hours);
        api_clock(&world, wrong, std::slice::from_ref(&right));
        let daemon = world.setup().ready().await;
        assert_eq!(daemon.poll().await.status, 200);
        assert_eq!(daemon.webhook("d").await.status, 200);
        assert_eq!(daemon.phase("d").await, "ended", "{hours}");
        assert!(daemon.events().is_empty(), "{:?}", daemon.events());
        // The difference is shown.
        let skew = metric(&daemon, "dispatchd_clock_skew_seconds").await;
        let expected = TimeDelta::hours(hours).as_seconds_f64();
        assert!((skew - expected).abs() < 60.0, "{skew}");
        // Within a minute they agree.
        api_clock(&world, now() - TimeDelta::seconds(30), &[right]);
        assert_eq!(daemon.poll().await.status, 200);
        daemon.wait_for_event(&site_of("d"), "site.curtail").await;
        assert_eq!(daemon.phase("d").await, "active", "{hours}");
    }
}

#[apply(test)]
async fn an_api_whose_clock_is_not_ours_starts_and_ends_nothing_early_or_late() {
    let world = World::new().await;
    let day = TimeDelta::days(1);
    let (start, end) = (in_ms(3000), in_ms(6000));
    let ours = dispatch("d", 1, start, Some(end));
    // By the API's clock it has been over for a day.
    api_clock(&world, now() + day, &[ours]);
    let daemon = world.setup().ready().await;
    daemon.wait_for_phase("d", "scheduled").await;
    let curtail = daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    assert!(curtail.time() >= start, "{curtail:?}");
    let release = daemon.wait_for_event(&site_of("d"), "site.release").await;
    assert!(release.time() >= end, "{release:?}");
}

/// Numbers begin above the API's clock where it is ahead of ours by more than a
/// minute: ours may have been set back (rule R12).
#[apply(test)]
async fn numbers_begin_above_the_api_s_clock_where_ours_is_behind_it() {
    let world = World::new().await;
    let ahead = now() + TimeDelta::days(2);
    api_clock(&world, ahead, &[dispatch("d", 1, in_ms(-1000), None)]);
    let daemon = world.setup().ready().await;
    let event = daemon.wait_for_event(&site_of("d"), "site.curtail").await;
    let sequence = event.event["sequence"].as_i64().unwrap();
    // The header has whole seconds.
    let shown = ahead - TimeDelta::seconds(1);
    assert!(sequence > shown.timestamp_micros(), "{sequence}");
}

/// The second table of failures: suspended with the network down. A process that is
/// stopped misses as much; that a suspend is counted is for the clock's own tests.
#[apply(test)]
async fn a_daemon_that_stood_still_for_three_intervals_says_at_once_that_it_is_stale() {
    let world = World::new().await;
    let daemon = world.setup().polling("1s").ready().await;
    daemon.signal(Signal::STOP);
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
    let until = now() + TimeDelta::seconds(4);
    wait_until("three intervals have passed", async || now() > until).await;
    daemon.signal(Signal::CONT);
    // The very first answer.
    assert_eq!(daemon.get("/readyz").await.status, 503);
    assert_eq!(daemon.health().await["sync"]["state"], "stale");
    daemon.wait_for_event("dispatchd", "sync.stale").await;
    world.faults(json!({"api_error_rate": 0.0}));
    daemon.wait_until_ready().await;
    daemon.wait_for_event("dispatchd", "sync.recovered").await;
}

/// Whether this machine lets the test give a process another `CLOCK_BOOTTIME`.
fn may_move_boottime() -> bool {
    let tried = Command::new("unshare")
        .args(["--time", "--boottime", "1000", "true"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

/// A time namespace moves the clock for a process from its start on. No one can move
/// it under a process that runs.
#[apply(test)]
async fn wherever_boottime_stands_the_daemon_polls_and_becomes_stale_and_well_in_time() {
    need(
        "time namespaces, or the right to make one",
        may_move_boottime(),
    );
    let years = (30_u64 * 365 * 86_400).to_string();
    for offset in ["86400", years.as_str()] {
        let world = World::new().await;
        let setup = world.setup().polling("500ms");
        let setup = setup.wrapped(&["unshare", "--time", "--boottime", offset, "--"]);
        let daemon = setup.ready().await;
        world.put(dispatch("d", 1, in_ms(1000), Some(in_ms(2500))));
        daemon.wait_for_event(&site_of("d"), "site.curtail").await;
        daemon.wait_for_event(&site_of("d"), "site.release").await;
        world.wait_for_polls(6).await;
        assert_eq!(daemon.get("/readyz").await.status, 200, "{offset}");
        world.faults(json!({"api_error_rate": 1.0, "api_error_status": 503}));
        let begun = now();
        daemon.wait_for_event("dispatchd", "sync.stale").await;
        let took = (now() - begun).to_std().unwrap();
        assert!(took < Duration::from_secs(10), "{offset}: {took:?}");
        world.faults(json!({"api_error_rate": 0.0}));
        daemon.wait_until_ready().await;
    }
}
