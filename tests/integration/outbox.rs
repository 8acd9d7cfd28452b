//! Nobody in the way: receivers that hang, refuse, ask to be left alone or are down,
//! for some subjects or for all.
//!
//! The rules speak of a second. That is held by the outbox's own tests, on a clock of
//! their own. Here the bounds are wider, as this machine may be busy with other tests,
//! and still much shorter than what one subject in the way would cost.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Daemon, Heard, Manner, Receiver, World, dispatch, in_ms, now, site_of, wait_until,
};

/// An attempt at a receiver that does not answer takes 15 s, at a program 30 s.
const SOON: Duration = Duration::from_secs(10);

/// Lets these dispatches come with one poll.
async fn polled(world: &World, daemon: &Daemon, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        world.put(dispatch(&id, 1, in_ms(3_600_000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
}

/// The time since then.
fn since(begun: DateTime<Utc>) -> Duration {
    (now() - begun).to_std().unwrap_or_default()
}

fn named(prefix: &str, number: usize) -> impl Iterator<Item = String> {
    (0..number).map(move |number| format!("{prefix}{number}"))
}

async fn delivery(daemon: &Daemon) -> Value {
    daemon.health().await["delivery"][0].clone()
}

/// The longest time from an event to its arrival, among these.
fn latest(heard: &[Heard]) -> TimeDelta {
    let late = heard.iter().map(|heard| {
        let happened: DateTime<Utc> = heard.text("time").parse().unwrap();
        heard.at - happened
    });
    late.max().unwrap_or_default()
}

#[apply(test)]
async fn twelve_of_forty_subjects_that_hang_delay_no_other() {
    for query in ["", "?batch=true"] {
        let world = World::new().await;
        let receiver = Receiver::new().await;
        receiver.behave_for("hangs", Manner::Hangs);
        let sink = format!("{}{query}", receiver.sink());
        let daemon = world.setup().sink(sink).ready().await;
        // In the order of ids those that hang go first.
        let others = named("other", 28);
        let begun = now();
        polled(&world, &daemon, named("hangs", 12).chain(others)).await;
        wait_until("the others arrive", async || receiver.taken().len() >= 28).await;
        let late = latest(&receiver.taken()).to_std().unwrap();
        assert!(late < SOON, "{query}: {late:?}");
        // The daemon hears of the last ones' arrival a moment after the receiver does.
        wait_until("only those that hang are pending", async || {
            delivery(&daemon).await["pending"] == 12
        })
        .await;
        assert!(since(begun) < SOON, "{query}: {:?}", since(begun));

        receiver.behave_for("hangs", Manner::Takes);
        daemon.wait_until_delivered().await;
    }
}

#[apply(test)]
async fn nine_of_thirty_subjects_that_hang_in_a_program_delay_no_other() {
    let world = World::new().await;
    let program = world.path("program.sh");
    let taken = world.path("taken");
    let script = format!(
        "#!/bin/sh\ncase \"$DISPATCHD_EVENT_SUBJECT\" in hangs*) exec sleep 600;; esac\necho \"$DISPATCHD_EVENT_SUBJECT\" >> {}\n",
        taken.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let sink = format!("exec:{}", program.display());
    let daemon = world.setup().sink(sink).ready().await;
    let begun = now();
    // In the order of ids those that hang go first.
    let others = named("other", 21);
    polled(&world, &daemon, named("hangs", 9).chain(others)).await;
    wait_until("the others are run", async || {
        let taken = std::fs::read_to_string(&taken).unwrap_or_default();
        taken.lines().count() == 21
    })
    .await;
    assert!(since(begun) < SOON * 2, "{:?}", since(begun));
}

#[apply(test)]
async fn one_subject_that_is_answered_410_stops_no_other_and_recovers_by_itself() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave_for("gone", Manner::Refuses(410));
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    polled(&world, &daemon, ["gone".to_owned()]).await;
    wait_until("the receiver answers 410", async || {
        delivery(&daemon).await["failed_attempts"].as_u64() >= Some(1)
    })
    .await;
    polled(&world, &daemon, ["fine".to_owned()]).await;
    wait_until("the other one arrives", async || {
        receiver.types_of("fine") == ["dispatch.created"]
    })
    .await;
    let sink = delivery(&daemon).await;
    assert_eq!(sink["state"], "retrying");
    assert!(
        sink["last_error"].as_str().unwrap().contains("410"),
        "{sink}"
    );

    receiver.behave_for("gone", Manner::Takes);
    daemon.wait_until_delivered().await;
    assert_eq!(receiver.types_of("gone"), ["dispatch.created"]);
    let sink = delivery(&daemon).await;
    assert_eq!(
        (&sink["state"], &sink["last_error"]),
        (&json!("ok"), &Value::Null)
    );
}

/// The answer to the curtail, and how long its pause would be for its release.
#[apply(test)]
async fn a_release_does_not_wait_for_the_pause_of_its_curtail() {
    for seconds in [40, 300] {
        let world = World::new().await;
        let receiver = Receiver::new().await;
        receiver.behave_for(&site_of("a"), Manner::Busy(seconds));
        let daemon = world.setup().sink(receiver.sink()).ready().await;
        world.put(dispatch("a", 0, in_ms(-1000), None));
        assert_eq!(daemon.webhook("a").await.status, 200);
        wait_until("the curtail is refused", async || {
            delivery(&daemon).await["failed_attempts"].as_u64() >= Some(1)
        })
        .await;
        receiver.behave_for(&site_of("a"), Manner::Takes);
        let begun = now();
        world.put(dispatch("a", 1, in_ms(-1000), Some(in_ms(0))));
        assert_eq!(daemon.webhook("a").await.status, 200);
        wait_until("the site is released", async || {
            receiver.types_of(&site_of("a")) == ["site.release"]
        })
        .await;
        assert!(since(begun) < SOON, "{seconds}: {:?}", since(begun));
    }
}

/// What is stored as pending is older than what has come due since.
#[apply(test)]
async fn after_a_restart_no_curtail_goes_out_for_what_has_ended_meanwhile() {
    for signal in [Signal::TERM, Signal::KILL] {
        let world = World::new().await;
        let receiver = Receiver::new().await;
        receiver.behave(Manner::Busy(1));
        let setup = world.setup().sink(receiver.sink());
        let mut daemon = setup.ready().await;
        let end = in_ms(2500);
        for id in ["a", "b", "c"] {
            world.put(dispatch(id, 1, in_ms(-1000), Some(end)));
            assert_eq!(daemon.webhook(id).await.status, 200);
        }
        wait_until("all curtails are refused", async || {
            delivery(&daemon).await["failed_attempts"].as_u64() >= Some(6)
        })
        .await;
        daemon.stop(signal).await;
        receiver.behave(Manner::Takes);
        wait_until("they have ended", async || now() > end).await;
        let _daemon = setup.ready().await;
        for id in ["a", "b", "c"] {
            wait_until("the site is released", async || {
                !receiver.types_of(&site_of(id)).is_empty()
            })
            .await;
            assert_eq!(receiver.types_of(&site_of(id)), ["site.release"]);
        }
    }
}

#[apply(test)]
async fn a_dead_receiver_gets_one_request_at_a_time_and_everything_once_it_is_back() {
    let world = World::new().await;
    let address = Receiver::gone();
    let sink = format!("http://{address}/in");
    let daemon = world.setup().sink(sink).ready().await;
    for id in named("d", 200) {
        world.put(dispatch(&id, 1, in_ms(-1000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    let begun = now();
    // Pauses of a half, one, two and four seconds, of which chance takes up to a half.
    wait_until("five probes have failed", async || {
        delivery(&daemon).await["failed_attempts"].as_u64() >= Some(5)
    })
    .await;
    assert!(since(begun) > Duration::from_secs(3), "{:?}", since(begun));
    let sink = delivery(&daemon).await;
    // Its first look found that nobody is there.
    assert_eq!(sink["state"], "failing");
    assert!(
        sink["last_error"].as_str().unwrap().contains("refused"),
        "{sink}"
    );
    assert_eq!(sink["pending"], 600);

    let receiver = Receiver::at(address).await;
    daemon.wait_until_delivered().await;
    let taken = receiver.taken();
    let commands = taken.iter().take(200);
    let first = commands.filter(|heard| heard.text("type") == "site.curtail");
    // Two connections may race for a place in the receiver's list.
    assert!(first.count() > 150, "site commands go first");
    assert_eq!(delivery(&daemon).await["state"], "ok");
}

#[apply(test)]
async fn an_event_that_is_refused_for_ever_is_named_and_holds_up_its_subject_only() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave_for("bad", Manner::Refuses(400));
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    polled(&world, &daemon, ["bad".to_owned(), "fine".to_owned()]).await;
    wait_until("the refused event is named", async || {
        let sink = delivery(&daemon).await;
        let refused = &sink["refused_events"][0];
        refused["subject"] == "bad" && refused["reason"].as_str().unwrap().contains("400")
    })
    .await;
    let sink = delivery(&daemon).await;
    let id = sink["refused_events"][0]["id"].as_str().unwrap().to_owned();
    world.put(dispatch("fine", 2, in_ms(1_800_000), None));
    assert_eq!(daemon.poll().await.status, 200);
    wait_until("the other one goes on", async || {
        receiver.types_of("fine") == ["dispatch.created", "dispatch.updated"]
    })
    .await;
    let named = |line: &String| line.contains(&id) && line.contains("does not take an event");
    wait_until("the log names it", async || daemon.log().iter().any(&named)).await;
    assert_eq!(daemon.log().iter().filter(|line| named(line)).count(), 1);
}

/// How many events are pending in the next test. A million take the same memory, and
/// less than three seconds to start with in a release build.
const PENDING: u64 = 150_000;

#[apply(test)]
async fn a_long_backlog_takes_little_memory_and_drains_in_order() {
    let world = World::new().await;
    let address = Receiver::gone();
    let setup = world
        .setup()
        .sink(format!("http://{address}/in?batch=true"));
    let mut daemon = setup.ready().await;
    daemon.stop(Signal::TERM).await;
    backlog(&world, PENDING);

    drop(daemon);

    let daemon = setup.ready().await;
    let counted = delivery(&daemon).await;
    assert_eq!(counted["pending"], PENDING, "{counted}");
    // By then all would have been read that is read while the receiver is away.
    wait_until("three probes have failed", async || {
        delivery(&daemon).await["failed_attempts"].as_u64() >= Some(3)
    })
    .await;
    let memory = daemon.memory("VmRSS");
    assert!(memory < 120 * 1024, "{memory} KiB");

    let receiver = Receiver::at(address).await;
    wait_until("some of it has arrived", async || {
        receiver.taken().len() > 8_000
    })
    .await;
    for subject in ["d1", "d77", "d499"] {
        let taken = receiver.taken().into_iter();
        let of = taken.filter(|heard| heard.text("subject") == subject);
        let numbers: Vec<u64> = of
            .map(|heard| heard.event["data"]["number"].as_u64().unwrap())
            .collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(numbers.len() > 10, "{subject}: {}", numbers.len());
        let first = sorted[0];
        let expected: Vec<u64> = (0..)
            .map(|nth| first + 500 * nth)
            .take(sorted.len())
            .collect();
        assert_eq!(sorted, expected, "{subject} without gaps");
    }
    assert!(daemon.memory("VmHWM") < 160 * 1024);
}

/// Writes so many events of 500 dispatches into the state file, as if they had
/// happened now.
fn backlog(world: &World, events: u64) {
    let mut file = rusqlite::Connection::open(world.path("state.db")).unwrap();
    let transaction = file.transaction().unwrap();
    let position: u64 = transaction
        .query_row("SELECT position FROM daemon", [], |row| row.get(0))
        .unwrap();
    let time = dispatchd::model::rfc3339(now());
    {
        let mut insert = transaction
            .prepare(
                "INSERT INTO events (position, type, subject, time, data, term, unconditional)
                 VALUES (?1, 'dispatch.updated', ?2, ?3, ?4, 1, 0)",
            )
            .unwrap();
        for number in 1..=events {
            let data = json!({"number": number, "padding": "x".repeat(300)}).to_string();
            let subject = format!("d{}", number % 500);
            insert
                .execute((position + number, subject, &time, data))
                .unwrap();
        }
        transaction
            .execute("UPDATE daemon SET position = ?1", [position + events])
            .unwrap();
    }
    transaction.commit().unwrap();
}
