//! `dispatchd state copy` carries a whole state over, and a daemon goes on from the copy
//! as if nothing had happened.

use std::process::{Child, Command, Output, Stdio};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::deploy::{PROGRAM, said};
use crate::harness::{
    Answer, Daemon, Receiver, Setup, World, ask, dispatch, in_ms, need, site_of, wait_for,
    wait_until,
};
use crate::two_machines::cluster::Cluster;

const HOUR: i64 = 3_600_000;

/// A world with a database, and daemons that keep their state in a file or there.
struct Place {
    world: World,
    receiver: Receiver,
    cluster: Cluster,
}

impl Place {
    async fn new() -> Self {
        need("PostgreSQL", Cluster::programs().is_some());
        Self {
            world: World::new().await,
            receiver: Receiver::new().await,
            cluster: Cluster::start(&["fsync=off"]).unwrap(),
        }
    }

    fn setup(&self, state: &str) -> Setup {
        let setup = self.world.setup().sink(self.receiver.sink());
        setup.with("--state", state).with("--node", "one")
    }

    fn copy(&self, from: &str, to: &str) -> Output {
        command(&self.world, &[from, to]).output().unwrap()
    }

    fn copied(&self, from: &str, to: &str) {
        let output = self.copy(from, to);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("holds the same"),
            "{}",
            said(&output)
        );
        for side in [from, to] {
            // Of a database what stands before its options.
            let named = side.split('?').next().unwrap_or_default();
            assert!(said(&output).contains(named), "{}", said(&output));
        }
    }

    /// Expects that a copy is refused as bad input, and gives what it says.
    fn refused(&self, from: &str, to: &str) -> String {
        refused(self.copy(from, to))
    }
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir(world.folder());
    command.args(["state", "copy"]).args(arguments);
    command
}

fn refused(output: Output) -> String {
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty(), "{text}");
    text
}

/// A daemon that leads, and has polled.
async fn leading(setup: &Setup) -> Daemon {
    let daemon = setup.start().await;
    wait_until("a daemon that leads and is ready", async || {
        let status = daemon.get("/status").await;
        status.json["role"] == "leader" && daemon.get("/readyz").await.status == 200
    })
    .await;
    daemon
}

/// What a daemon tells of its state: each dispatch with its history and its report, and
/// each site. Waits until nothing is pending.
async fn told(daemon: &Daemon) -> Value {
    wait_for("nothing is pending", async || {
        let mut all = serde_json::Map::new();
        for id in ["held", "later", "over"] {
            all.insert(id.into(), told_of(daemon, id).await);
        }
        let mut sites = daemon.get("/sites").await.json["sites"].take();
        for site in sites.as_array_mut().unwrap() {
            // The API says so, not the state.
            site.as_object_mut().unwrap().remove("enrolled");
        }
        all.insert("sites".into(), sites);
        let schedule = daemon.schedule().await;
        all.insert("revision".into(), schedule["revision"].clone());
        let all = Value::from(all);
        (!all.to_string().contains("\"pending\"")).then_some(all)
    })
    .await
}

async fn told_of(daemon: &Daemon, id: &str) -> Value {
    let entry: Answer = daemon.get(&format!("/schedule/{id}")).await;
    assert_eq!(entry.status, 200, "{id}");
    let mut entry = entry.json;
    for field in ["last_confirmed", "as_of"] {
        // Each poll confirms it anew.
        entry.as_object_mut().unwrap().remove(field);
    }
    let report = daemon.http.get(daemon.status_url(&format!("/report/{id}")));
    let mut report = ask(report.header("accept", "application/json")).await.json;
    assert!(report["deliveries"].is_array(), "{report}");
    let dispatch = report["dispatch"].as_object_mut().unwrap();
    dispatch.remove("last_confirmed");
    serde_json::json!([entry, report])
}

#[apply(test)]
async fn a_daemon_goes_on_from_the_copy_in_a_database_and_from_the_copy_back_in_a_file() {
    let place = Place::new().await;
    let mut daemon = place.setup("from.db").ready().await;
    let put = |id: &str, start, end| {
        place.world.put(dispatch(id, 0, start, Some(end)));
    };
    put("held", in_ms(-HOUR), in_ms(HOUR));
    put("later", in_ms(HOUR), in_ms(2 * HOUR));
    put("over", in_ms(-HOUR), in_ms(1500));
    for id in ["held", "later", "over"] {
        assert_eq!(daemon.webhook(id).await.status, 200);
    }
    place
        .world
        .put(dispatch("held", 1, in_ms(-HOUR), Some(in_ms(3 * HOUR))));
    assert_eq!(daemon.webhook("held").await.status, 200);
    daemon.wait_for_phase("over", "ended").await;
    daemon.wait_until_delivered().await;
    let before = told(&daemon).await;
    assert!(daemon.stop(Signal::TERM).await.success());
    let heard = place.receiver.taken().len();
    let highest = |taken: &[crate::harness::Heard]| -> u64 {
        let numbers = taken.iter().filter_map(|heard| sequence(&heard.event));
        numbers.max().unwrap()
    };
    let (sequence_before, term_before) = {
        let taken = place.receiver.taken();
        (highest(&taken), taken.last().unwrap().event["term"].clone())
    };

    let url = place.cluster.url("dispatchd");
    place.copied("from.db", &url);
    let mut daemon = leading(&place.setup(&url)).await;
    assert_eq!(told(&daemon).await, before);
    // What the file had of it is not made known again: the site stays curtailed.
    assert_eq!(place.receiver.taken().len(), heard);
    let lost = place
        .cluster
        .sql("SELECT commits_lost FROM dispatchd.leader");
    assert_eq!(lost, "f");
    place
        .world
        .put(dispatch("held", 2, in_ms(-HOUR), Some(in_ms(-1000))));
    assert_eq!(daemon.webhook("held").await.status, 200);
    daemon.wait_until_delivered().await;
    let site = site_of("held");
    let types = place.receiver.types_of(&site);
    assert_eq!(types.last().unwrap(), "site.release");
    let taken = place.receiver.taken();
    for new in &taken[heard..] {
        assert!(sequence(&new.event).unwrap() > sequence_before, "{new:?}");
        assert!(new.event["term"].as_u64() > term_before.as_u64(), "{new:?}");
    }
    let before = told(&daemon).await;
    assert!(daemon.stop(Signal::TERM).await.success());
    let (heard, sequence_before) = (taken.len(), highest(&taken));

    place.copied(&url, "back.db");
    let mode = std::fs::metadata(place.world.path("back.db")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o600);
    let daemon = place.setup("back.db").ready().await;
    assert_eq!(told(&daemon).await, before);
    assert_eq!(place.receiver.taken().len(), heard);
    place
        .world
        .put(dispatch("new", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(daemon.webhook("new").await.status, 200);
    daemon.wait_until_delivered().await;
    let taken = place.receiver.taken();
    assert!(taken.len() > heard);
    for new in &taken[heard..] {
        assert!(sequence(&new.event).unwrap() > sequence_before, "{new:?}");
    }
}

fn sequence(event: &Value) -> Option<u64> {
    let sequence = &event["sequence"];
    let text = sequence.as_str().and_then(|text| text.parse().ok());
    text.or(sequence.as_u64())
}

#[apply(test)]
async fn a_state_that_a_daemon_uses_is_not_copied_and_the_daemon_is_named() {
    let place = Place::new().await;
    let url = place.cluster.url("dispatchd");
    let daemon = place.setup("state.db").ready().await;
    let text = place.refused("state.db", &url);
    assert!(text.contains("FROM state.db: another dispatchd"), "{text}");
    drop(daemon);
    place.copied("state.db", &url);

    let leader = leading(&place.setup(&url)).await;
    let standby = place.setup(&url).with("--node", "two").start().await;
    standby.wait_for_log("this one stands by").await;
    let text = place.refused(&url, "back.db");
    assert!(text.contains("the daemon `one` leads there"), "{text}");
    // While nobody leads, the standby is about to.
    drop(leader);
    let text = place.refused(&url, "back.db");
    assert!(text.contains("the daemon `two` leads there"), "{text}");
    drop(standby);
    // A daemon that was killed did not give the lead back, and is gone nevertheless.
    place.copied(&url, "back.db");
}

#[apply(test)]
async fn a_target_that_is_not_empty_is_refused_and_left_alone() {
    let place = Place::new().await;
    for state in ["from.db", "other.db"] {
        let mut daemon = place.setup(state).ready().await;
        place.world.known(&daemon, "d").await;
        assert!(daemon.stop(Signal::TERM).await.success());
    }
    let url = place.cluster.url("dispatchd");
    place.copied("from.db", &url);
    std::fs::write(place.world.path("notes"), "precious").unwrap();
    place
        .cluster
        .sql("CREATE SCHEMA theirs; CREATE TABLE theirs.notes (text TEXT)");
    let theirs = place.cluster.url("theirs");
    let wrong = [
        ("other.db", "TO other.db: is not empty"),
        ("from.db", "TO from.db: is not empty"),
        ("notes", "TO notes: this is not a state file"),
        (
            &url,
            "is not empty: there is a state in its schema `dispatchd`",
        ),
        (&theirs, "holds tables of something else"),
        (":memory:", "TO: `:memory:` is kept nowhere"),
        ("nowhere/to.db", "TO nowhere/to.db: "),
        ("mysql://h/d", "TO: is a URL of something else"),
    ];
    for (to, reason) in wrong {
        let text = place.refused("from.db", to);
        assert!(text.contains(reason), "{text}");
    }
    let text = place.refused("absent.db", "to.db");
    assert!(text.contains("FROM absent.db: "), "{text}");
    assert!(text.contains("there is no state in it"), "{text}");
    assert!(text.contains("of its daemon"), "{text}");
    let nothing = place.cluster.url("nothing");
    let text = place.refused(&nothing, "to.db");
    assert!(text.contains("there is no state in it"), "{text}");
    assert!(!place.world.path("to.db").exists());
    assert_eq!(
        std::fs::read(place.world.path("notes")).unwrap(),
        b"precious"
    );
    // What was refused can be used as before.
    let daemon = place.setup("other.db").ready().await;
    assert_eq!(daemon.phase("d").await, "scheduled");
}

#[apply(test)]
async fn no_message_has_a_password_wherever_it_comes_from() {
    let place = Place::new().await;
    let daemon = place.setup("from.db").ready().await;
    drop(daemon);
    let url = place
        .cluster
        .url("dispatchd")
        .replace("tester@", "tester:s3cret@");
    let wrong = url.replace("/postgres?", "/nothing?");
    let text = place.refused("from.db", &wrong);
    assert!(text.contains("TO postgres://tester@"), "{text}");
    assert!(text.contains("create the database"), "{text}");
    let mut by_file = command(&place.world, &["from.db", &place.cluster.url("x")]);
    by_file.args(["--state-password-file", "absent"]);
    let output = by_file.output().unwrap();
    assert!(refused(output).contains("--state-password-file"));
    let output = place.copy("from.db", &url);
    assert!(output.status.success(), "{}", said(&output));
    for text in [text, said(&output), place.refused("from.db", &url)] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// A state file with so many events that it takes a while to copy them.
fn grow(world: &World, file: &str) {
    let file = Connection::open(world.path(file)).unwrap();
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300000)
         INSERT INTO events (position, type, subject, time, data, term)
         SELECT n, 'dispatch.updated', 'd', '2026-01-01T00:00:00Z', '{}', 1 FROM n";
    file.execute_batch(sql).unwrap();
}

/// A copy that runs. It is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[apply(test)]
async fn a_copy_that_was_killed_is_half_a_copy_with_which_no_daemon_starts() {
    let place = Place::new().await;
    let daemon = place.setup("from.db").ready().await;
    drop(daemon);
    grow(&place.world, "from.db");
    let url = place.cluster.url("dispatchd");
    for to in ["to.db", &url] {
        let mut copy = command(&place.world, &["from.db", to]);
        let copy = copy.stdout(Stdio::null()).stderr(Stdio::null());
        let mut copy = Running(copy.spawn().unwrap());
        wait_until("a part is copied", async || {
            if to == "to.db" {
                std::fs::metadata(place.world.path(to)).is_ok_and(|file| file.len() > 2 << 20)
            } else {
                let there = "SELECT to_regclass('dispatchd.events') IS NOT NULL";
                place.cluster.sql(there) == "t"
                    && place.cluster.sql("SELECT count(*) FROM dispatchd.events") != "0"
            }
        })
        .await;
        assert!(copy.0.try_wait().unwrap().is_none(), "it has ended");
        drop(copy);

        let mut process = place.setup(to).spawn();
        let ended = wait_for("the end", async || process.ended()).await;
        let log = process.log().join("\n");
        assert_eq!(ended.code(), Some(2), "{log}");
        assert!(log.contains("holds half a copy"), "{log}");
        let text = place.refused("from.db", to);
        assert!(
            text.contains("TO") && text.contains("half a copy"),
            "{text}"
        );
        let text = place.refused(to, "third.db");
        assert!(
            text.contains("FROM") && text.contains("half a copy"),
            "{text}"
        );
    }
    // As the messages say.
    std::fs::remove_file(place.world.path("to.db")).unwrap();
    place.cluster.sql("DROP SCHEMA dispatchd CASCADE");
    place.copied("from.db", "to.db");
    place.copied("from.db", &url);
    assert_eq!(
        place.cluster.sql("SELECT count(*) FROM dispatchd.events"),
        "300000"
    );
}

#[apply(test)]
async fn a_copy_that_breaks_off_says_so_and_ends_with_a_failure() {
    let place = Place::new().await;
    let daemon = place.setup("from.db").ready().await;
    place.world.known(&daemon, "d").await;
    drop(daemon);
    let file = Connection::open(place.world.path("from.db")).unwrap();
    file.execute_batch("UPDATE events SET data = 'no JSON'")
        .unwrap();
    drop(file);
    let output = place.copy("from.db", "to.db");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FROM: the state is damaged"), "{text}");
    assert!(text.contains("half a copy"), "{text}");
    let text = place.refused("to.db", "third.db");
    assert!(text.contains("half a copy"), "{text}");
}
