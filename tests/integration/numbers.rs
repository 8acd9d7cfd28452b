//! `sequence`, `term` and event ids over the lives of a daemon: whatever happens
//! to its state in between, none goes back and no id is used twice (rule R12).

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, Receiver, Setup, World, dispatch, in_ms, wait_until};

/// A daemon, its receiver, and a dispatch that goes on and off.
struct Lives {
    world: World,
    receiver: Receiver,
    setup: Setup,
    number: i64,
    /// How many commands the receiver has obeyed.
    obeyed: usize,
}

impl Lives {
    async fn new() -> Self {
        let world = World::new().await;
        let receiver = Receiver::new().await;
        let setup = world.setup().sink(receiver.sink());
        Self {
            world,
            receiver,
            setup,
            number: 0,
            obeyed: 0,
        }
    }

    fn state(&self) -> std::path::PathBuf {
        self.world.path("state.db")
    }

    /// Changes the dispatch, so that its site is curtailed, or not.
    async fn change(&mut self, daemon: &Daemon, curtailed: bool) {
        self.number += 1;
        let end = (!curtailed).then(|| in_ms(-1));
        let changed = dispatch("d", self.number, in_ms(-60_000), end);
        self.world.put(changed);
        assert_eq!(daemon.webhook("d").await.status, 200);
    }

    /// One life, from start to end. Its site is curtailed and released, and a
    /// receiver that keeps the highest `sequence` obeys both.
    async fn live(&mut self) {
        let mut daemon = self.setup.ready().await;
        for (curtailed, command) in [(true, "site.curtail"), (false, "site.release")] {
            self.change(&daemon, curtailed).await;
            self.obeyed += 1;
            wait_until(command, async || {
                let obeyed = self.receiver.types_of("site-d");
                obeyed.len() >= self.obeyed && obeyed.last().is_some_and(|last| last == command)
            })
            .await;
            self.obeyed = self.receiver.types_of("site-d").len();
        }
        daemon.wait_until_delivered().await;
        assert!(daemon.stop(Signal::TERM).await.success());
    }

    /// Expects that over all that came, numbers and terms only grew for each
    /// subject, and that no id was used twice.
    fn only_grew(&self) {
        let taken = self.receiver.taken();
        let events: Vec<&Value> = taken.iter().map(|heard| &heard.event).collect();
        let number = |event: &Value, field: &str| event[field].as_u64().unwrap();
        for subject in ["d", "site-d"] {
            let of_subject = events.iter().filter(|event| event["subject"] == subject);
            let pairs: Vec<_> = of_subject
                .map(|event| (number(event, "sequence"), number(event, "term")))
                .collect();
            assert!(pairs.len() >= 2, "{subject}: {pairs:?}");
            assert!(
                pairs.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
                "{subject}: {pairs:?}"
            );
            assert!(pairs.iter().all(|(sequence, _)| *sequence < 1 << 53));
        }
        let ids: BTreeSet<&str> = events
            .iter()
            .map(|event| event["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), events.len(), "{events:?}");
    }
}

/// Copies the state file, as the README says.
fn back_up(state: &Path, copy: &Path) {
    let _ = std::fs::remove_file(copy);
    let source = Connection::open(state).unwrap();
    source
        .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
        .unwrap();
}

fn remove(state: &Path) {
    for more in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{more}", state.display()));
    }
}

fn put_back(state: &Path, copy: &Path) {
    remove(state);
    std::fs::copy(copy, state).unwrap();
}

#[apply(test)]
async fn numbers_only_grow_when_the_state_file_is_deleted() {
    let mut lives = Lives::new().await;
    for _ in 0..3 {
        lives.live().await;
        remove(&lives.state());
    }
    lives.only_grew();
}

#[apply(test)]
async fn numbers_only_grow_when_a_backup_is_put_back_however_often() {
    let mut lives = Lives::new().await;
    let copy = lives.world.path("copy.db");
    lives.live().await;
    back_up(&lives.state(), &copy);
    for _ in 0..3 {
        lives.live().await;
        put_back(&lives.state(), &copy);
    }
    lives.live().await;
    lives.only_grew();
}

#[apply(test)]
async fn numbers_only_grow_when_a_daemon_without_a_file_is_started_again() {
    let mut lives = Lives::new().await;
    lives.setup = lives.setup.with("--state", ":memory:");
    for _ in 0..3 {
        lives.live().await;
    }
    lives.only_grew();
}

#[apply(test)]
async fn numbers_only_grow_when_the_clock_has_gone_back_an_hour() {
    let mut lives = Lives::new().await;
    lives.live().await;
    // The same as a clock that goes back: the file is from an hour ahead.
    let file = Connection::open(lives.state()).unwrap();
    file.execute_batch(
        "UPDATE daemon SET position = position + 3600000000, term = term + 3600000;
         UPDATE events SET position = position + 3600000000, term = term + 3600000;
         UPDATE sinks SET settled = settled + 3600000000",
    )
    .unwrap();
    let ahead: i64 = file
        .query_row("SELECT position FROM daemon", [], |row| row.get(0))
        .unwrap();
    drop(file);
    lives.live().await;
    lives.only_grew();
    let taken = lives.receiver.taken();
    let last = taken.last().unwrap().event["sequence"].as_i64().unwrap();
    assert!(last > ahead, "{last} after {ahead}");
}

#[apply(test)]
async fn numbers_of_a_file_of_an_older_version_go_on_far_above_and_its_events_keep_their_ids() {
    let mut lives = Lives::new().await;
    lives.setup = lives.setup.sink("none");
    let mut daemon = lives.setup.ready().await;
    lives.receiver.behave(crate::harness::Manner::Fails);
    lives.change(&daemon, true).await;
    assert!(daemon.stop(Signal::TERM).await.success());
    // The same, as the third version kept it: with small numbers.
    let file = Connection::open(lives.state()).unwrap();
    file.execute_batch(
        "UPDATE daemon SET position = position - (SELECT min(position) - 1 FROM events), term = 7;
         UPDATE told SET position = position - (SELECT min(position) - 1 FROM events);
         UPDATE sinks SET settled = 0;
         UPDATE events SET position = position - (SELECT min(position) - 1 FROM events);
         ALTER TABLE events DROP COLUMN term;
         ALTER TABLE events DROP COLUMN unconditional;
         ALTER TABLE settled_beyond DROP COLUMN upto;
         ALTER TABLE retries DROP COLUMN pause;
         DROP TABLE skipped;
         ALTER TABLE dispatches DROP COLUMN way;
         ALTER TABLE dispatches DROP COLUMN asked;
         ALTER TABLE dispatches DROP COLUMN answered;
         ALTER TABLE dispatches DROP COLUMN left_out;
         ALTER TABLE events DROP COLUMN due;
         ALTER TABLE events DROP COLUMN known;
         ALTER TABLE retries DROP COLUMN first_attempt;
         ALTER TABLE retries DROP COLUMN last_attempt;
         ALTER TABLE retries DROP COLUMN tries;
         DROP TABLE states; DROP TABLE commands;
         ALTER TABLE sinks DROP COLUMN route;
         PRAGMA user_version = 3",
    )
    .unwrap();
    let id: String = file
        .query_row("SELECT store_id FROM daemon", [], |row| row.get(0))
        .unwrap();
    drop(file);
    lives.receiver.behave(crate::harness::Manner::Takes);
    let daemon = lives.setup.ready().await;
    wait_until("the old command arrives", async || {
        lives.receiver.types_of("site-d") == ["site.curtail"]
    })
    .await;
    lives.change(&daemon, false).await;
    wait_until("the new command arrives", async || {
        lives.receiver.types_of("site-d").len() == 2
    })
    .await;
    daemon.wait_until_delivered().await;
    lives.only_grew();
    let taken = lives.receiver.taken();
    let mut commands = taken
        .iter()
        .filter(|heard| heard.text("subject") == "site-d");
    let old = &commands.next().unwrap().event;
    assert_eq!(old["term"], json!(0));
    assert_eq!(old["id"], json!(format!("{id}-{}", old["sequence"])));
    let new = &commands.next().unwrap().event;
    assert_eq!(
        new["id"],
        json!(format!("{id}-{}-{}", new["term"], new["sequence"]))
    );
}

/// What `GET /events` shows from `last` on, up to the first event of this type.
async fn shown_until(daemon: &Daemon, last: &str, event_type: &str) -> Vec<Value> {
    let request = daemon.http.get(daemon.status_url("/events"));
    let request = request.header("last-event-id", last);
    let mut answer = request.send().await.unwrap();
    let (mut text, mut events) = (String::new(), Vec::new());
    loop {
        let chunk = answer.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((block, rest)) = text.split_once("\n\n") {
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                let event: Value = serde_json::from_str(data).unwrap();
                events.push(event);
            }
            text = rest.to_owned();
            if events
                .last()
                .is_some_and(|event| event["type"] == event_type)
            {
                return events;
            }
        }
    }
}

#[apply(test)]
async fn a_listener_goes_on_after_a_backup_was_put_back_and_after_the_file_was_lost() {
    let mut lives = Lives::new().await;
    let copy = lives.world.path("copy.db");
    lives.live().await;
    back_up(&lives.state(), &copy);
    lives.live().await;
    let last = lives.receiver.taken().last().unwrap().text("id").to_owned();
    for replace in [put_back, |state: &Path, _: &Path| remove(state)] {
        replace(&lives.state(), &copy);
        let mut daemon = lives.setup.ready().await;
        lives.change(&daemon, true).await;
        let shown = shown_until(&daemon, &last, "site.curtail").await;
        let types: Vec<&Value> = shown.iter().map(|event| &event["type"]).collect();
        assert!(
            types.ends_with(&[&json!("dispatch.started"), &json!("site.curtail")]),
            "{types:?}"
        );
        lives.change(&daemon, false).await;
        daemon.wait_until_delivered().await;
        assert!(daemon.stop(Signal::TERM).await.success());
    }
}
