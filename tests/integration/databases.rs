//! Two daemons while their database is restarted or away, and while they are replaced.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures_util::future::join;
use rustix::process::Signal;
use tokio::task::spawn_blocking;

use crate::harness::{Daemon, Receiver, ask, dispatch, in_ms, now, site_of, wait_for, wait_until};
use crate::two_machines::{Shared, is_leader, leads};

const HOUR: i64 = 3_600_000;

/// How long the database is away in one of the tests.
const AWAY: TimeDelta = TimeDelta::seconds(60);

/// How often another daemon than before was seen to lead.
async fn changes_of_roles(daemons: [&Daemon; 2]) -> u64 {
    let mut most = 0;
    for daemon in daemons {
        let metrics = daemon.http.get(daemon.status_url("/metrics"));
        let text = metrics.send().await.unwrap().text().await.unwrap();
        let name = "dispatchd_leader_changes_total ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        most = most.max(line.unwrap().parse().unwrap());
    }
    most
}

/// How many commands of each type the receiver has got for a site, redeliveries left out.
fn commands(receiver: &Receiver, id: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for command in receiver.types_of(&site_of(id)) {
        *counts.entry(command).or_default() += 1;
    }
    counts
}

async fn one_leads(daemons: [&Daemon; 2]) {
    wait_until("one daemon that leads and is ready", async || {
        let mut leading = 0;
        for daemon in daemons {
            let ready = daemon.get("/readyz").await.status == 200;
            leading += usize::from(is_leader(daemon).await && ready);
        }
        leading == 1
    })
    .await;
}

#[apply(test)]
async fn what_was_answered_200_is_kept_when_the_database_is_restarted_under_load() {
    let shared = Shared::new().await;
    let (one, two) = shared.two().await;
    let Shared {
        world,
        receiver,
        cluster: mut database,
    } = shared;
    let (kept, refused) = (RefCell::new(Vec::new()), Cell::new(0));
    let (number, goes_on) = (Cell::new(0), Cell::new(true));
    // Both daemons get webhooks, of which the standby passes on what it gets.
    let load = async |daemon: &Daemon| {
        while goes_on.get() {
            number.set(number.get() + 1);
            let id = format!("d{}", number.get());
            world.put(dispatch(&id, 0, in_ms(-HOUR), Some(in_ms(HOUR))));
            match daemon.webhook(&id).await.status {
                200 => kept.borrow_mut().push(id),
                _ => refused.set(refused.get() + 1),
            }
        }
    };
    let restart = async {
        wait_until("webhooks are taken", async || kept.borrow().len() > 20).await;
        let restarted = spawn_blocking(|| {
            database.stop("INT");
            database.start_again();
            database
        })
        .await
        .unwrap();
        let before = kept.borrow().len();
        wait_until("webhooks are taken again", async || {
            kept.borrow().len() > before + 20
        })
        .await;
        goes_on.set(false);
        restarted
    };
    // It ends when this is dropped.
    let (_, _database) = join(join(load(&one), load(&two)), restart).await;
    one_leads([&one, &two]).await;
    let kept = kept.into_inner();
    println!("{} answered 200, {} not", kept.len(), refused.get());
    for id in &kept {
        wait_until(&format!("the curtail of {id}"), async || {
            !receiver.types_of(&site_of(id)).is_empty()
        })
        .await;
        assert_eq!(receiver.types_of(&site_of(id)), ["site.curtail"], "{id}");
    }
    assert!(changes_of_roles([&one, &two]).await <= 1);
}

#[apply(test)]
async fn a_database_that_is_away_for_a_minute_costs_answers_and_no_more_than_one_change_of_roles() {
    let mut shared = Shared::new().await;
    let (one, two) = shared.two().await;
    shared
        .world
        .put(dispatch("before", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(one.webhook("before").await.status, 200);
    shared.told("before", &["site.curtail"]).await;
    shared.cluster.stop("INT");
    let began = now();
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    for daemon in [&one, &two] {
        wait_until("it is not ready", async || {
            daemon.get("/readyz").await.status == 503
        })
        .await;
    }
    // It polls every second, and cannot take in what it would hear.
    one.wait_for_log("the schedule is stale").await;
    while now() - began < AWAY {
        for daemon in [&one, &two] {
            let answer = daemon.webhook("d").await;
            assert_eq!(answer.status, 503, "{}", answer.json);
            assert!(!answer.header("retry-after").is_empty());
            assert_eq!(daemon.get("/readyz").await.status, 503);
            assert_eq!(daemon.get("/healthz").await.status, 200);
            assert!(!is_leader(daemon).await, "nobody knows who leads");
        }
    }
    assert_eq!(shared.receiver.types_of(&site_of("d")), [""; 0]);
    shared.cluster.start_again();
    one_leads([&one, &two]).await;
    shared.told("d", &["site.curtail"]).await;
    for daemon in [&one, &two] {
        wait_until("it is ready again", async || {
            daemon.get("/readyz").await.status == 200
        })
        .await;
        assert_eq!(daemon.webhook("d").await.status, 200);
    }
    shared.told("before", &["site.curtail"]).await;
    shared.told("d", &["site.curtail"]).await;
    assert!(changes_of_roles([&one, &two]).await <= 1);
}

#[apply(test)]
async fn daemons_that_are_replaced_one_after_the_other_leave_out_no_command_and_give_none_twice() {
    const DISPATCHES: i64 = 60;
    let shared = Shared::new().await;
    let (mut one, mut two) = shared.two().await;
    // One starts every 400 ms, and ends two seconds later.
    let id = |number: i64| format!("d{number}");
    for number in 0..DISPATCHES {
        let start = in_ms(2000 + 400 * number);
        let end = start + TimeDelta::seconds(2);
        shared.world.put(dispatch(&id(number), 0, start, Some(end)));
    }
    assert_eq!(one.poll().await.status, 200);

    assert!(two.stop(Signal::TERM).await.success());
    let new_two = shared.setup("two").start().await;
    new_two.wait_for_log("this one stands by").await;
    // The newer version has added something that an older one can live with.
    shared.cluster.sql(
        "ALTER TABLE dispatchd.daemon ADD COLUMN newer TEXT;
         ALTER TABLE dispatchd.dispatches ADD COLUMN newer TEXT;
         UPDATE dispatchd.schema_version SET version = 2, compatible = 1",
    );
    assert!(one.stop(Signal::TERM).await.success());
    leads(&new_two).await;
    let new_one = shared.setup("one").start().await;
    new_one.wait_for_log("this one stands by").await;

    for number in 0..DISPATCHES {
        let site = site_of(&id(number));
        let told = wait_for(&format!("the end of {site}"), async || {
            let told = shared.receiver.types_of(&site);
            (told.len() >= 2).then_some(told)
        })
        .await;
        assert_eq!(told, ["site.curtail", "site.release"], "{site}");
    }
    // Nothing came twice under another number either.
    for number in 0..DISPATCHES {
        let counts = commands(&shared.receiver, &id(number));
        assert_eq!(counts.values().copied().max(), Some(1), "{counts:?}");
    }
    let answer = ask(new_one.http.get(new_one.status_url("/leader"))).await;
    assert_eq!(answer.json["leader"], "two");
}
