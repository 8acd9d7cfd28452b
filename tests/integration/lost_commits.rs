//! A database that lacks what was committed last: a standby of it was promoted, or an older
//! state came back. The next leader says so, and tells each site once more what it must do.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, Heard, Manner, dispatch, in_ms, site_of, wait_for, wait_until};
use crate::two_machines::proxy::{Mode, Proxy};
use crate::two_machines::{Shared, is_leader, leads};

const HOUR: i64 = 3_600_000;

/// The types of the events about a site that the receiver has taken since it had taken so
/// many. One that comes once more was taken before.
fn since(shared: &Shared, before: usize, id: &str) -> Vec<String> {
    let mut taken = shared.receiver.taken();
    let later = taken.split_off(before);
    let mut known: Vec<String> = taken.iter().map(|it| it.text("id").to_owned()).collect();
    let mut types = Vec::new();
    for heard in later.iter().filter(|it| it.text("subject") == site_of(id)) {
        let event = heard.text("id").to_owned();
        if !known.contains(&event) {
            known.push(event);
            types.push(heard.text("type").to_owned());
        }
    }
    types
}

/// What a receiver does at a site that drops all but the highest sequence so far.
fn highest_of(taken: &[Heard], subject: &str) -> Vec<String> {
    let mut highest = 0;
    let mut kept = Vec::new();
    for heard in taken.iter().filter(|it| it.text("subject") == subject) {
        let sequence = heard.event["sequence"].as_u64().unwrap();
        if sequence > highest {
            highest = sequence;
            kept.push(heard.text("type").to_owned());
        }
    }
    kept
}

/// When the daemon says that commits were lost, if it does.
async fn lost_at(daemon: &Daemon) -> Value {
    daemon.health().await["leadership"]["commits_lost_at"].clone()
}

async fn losses(daemon: &Daemon) -> String {
    let metrics = daemon.http.get(daemon.status_url("/metrics"));
    let text = metrics.send().await.unwrap().text().await.unwrap();
    let name = "dispatchd_commits_lost_total ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().to_owned()
}

/// The one of these that leads, is ready, and says that commits were lost.
async fn new_leader<'d>(daemons: &[&'d Daemon]) -> &'d Daemon {
    wait_for(
        "a leader that is ready and says what was lost",
        async || {
            for daemon in daemons {
                let leads = is_leader(daemon).await && daemon.get("/readyz").await.status == 200;
                if leads && lost_at(daemon).await.is_string() {
                    return Some(*daemon);
                }
            }
            None
        },
    )
    .await
}

fn called_off(id: &str) -> Value {
    let mut dispatch = dispatch(id, 1, in_ms(-HOUR), Some(in_ms(HOUR)));
    dispatch["authorized"] = json!(false);
    dispatch
}

#[apply(test)]
async fn after_the_promotion_of_a_replica_that_lagged_each_site_is_told_its_state_once_more() {
    let mut shared = Shared::new().await;
    let stream = Proxy::start(shared.cluster.port());
    let replica = shared.cluster.replica(stream.port());
    let both = format!(
        "postgres://tester@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write",
        shared.cluster.port(),
        replica.port()
    );
    let one = shared.setup("one").with("--state", &both).start().await;
    leads(&one).await;
    let two = shared.setup("two").with("--state", &both).start().await;
    two.wait_for_log("this one stands by").await;
    let world = &shared.world;
    for id in ["kept", "ends", "moved"] {
        world.put(dispatch(id, 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    }
    world.put(dispatch("later", 0, in_ms(HOUR), Some(in_ms(2 * HOUR))));
    for id in ["kept", "ends", "moved", "later"] {
        assert_eq!(one.webhook(id).await.status, 200);
    }
    for id in ["kept", "ends", "moved"] {
        shared.told(id, &["site.curtail"]).await;
    }
    shared.cluster.wait_for_replica(&replica);

    // From here on nothing reaches the replica. The receivers hear of it.
    stream.set(Mode::Stall);
    world.put(called_off("ends"));
    assert_eq!(one.webhook("ends").await.status, 200);
    shared.told("ends", &["site.curtail", "site.release"]).await;
    for id in ["new", "new2"] {
        world.put(dispatch(id, 0, in_ms(-HOUR), Some(in_ms(HOUR))));
        assert_eq!(one.webhook(id).await.status, 200);
        shared.told(id, &["site.curtail"]).await;
    }
    assert_eq!(losses(&two).await, "0");
    let before = shared.receiver.taken().len();
    shared.cluster.stop("QUIT");
    replica.sql("SELECT pg_promote()");

    let leader = new_leader(&[&one, &two]).await;
    wait_until("the mark is gone", async || {
        replica.sql("SELECT commits_lost FROM dispatchd.leader") == "f"
    })
    .await;
    assert_eq!(losses(leader).await, "1");
    leader.wait_for_log("commits may have been lost").await;
    leader.wait_for_log("is told once more").await;
    let told_once = [
        ("kept", "site.curtail"),
        ("moved", "site.curtail"),
        ("new", "site.curtail"),
        ("new2", "site.curtail"),
        ("ends", "site.release"),
        ("later", "site.release"),
    ];
    for (id, command) in told_once {
        wait_until(&format!("{command} of {id}"), async || {
            !since(&shared, before, id).is_empty()
        })
        .await;
    }
    // Two lists later there is no more of it, and a receiver that keeps the highest number
    // has dropped nothing.
    shared.world.wait_for_polls(2).await;
    let taken = shared.receiver.taken();
    for (id, command) in told_once {
        assert_eq!(since(&shared, before, id), [command], "{id}");
        let kept = highest_of(&taken, &site_of(id));
        assert_eq!(kept.last().unwrap(), command, "{id}");
        let about = taken.iter().filter(|it| it.text("subject") == site_of(id));
        let ids: BTreeSet<&str> = about.map(|it| it.text("id")).collect();
        assert_eq!(kept.len(), ids.len(), "{id}: none was dropped");
    }
    // Of a dispatch, too, what is told anew has numbers above those of the lost commits.
    let terms: Vec<u64> = taken
        .iter()
        .filter(|heard| heard.text("subject") == "new")
        .map(|heard| heard.event["term"].as_u64().unwrap())
        .collect();
    assert!(
        terms.is_sorted() && terms.first() < terms.last(),
        "{terms:?}"
    );
    // Commands go on.
    shared.world.put(called_off("kept"));
    assert_eq!(leader.webhook("kept").await.status, 200);
    let whole = ["site.curtail", "site.curtail", "site.release"];
    shared.told("kept", &whole).await;
}

#[apply(test)]
async fn a_new_leader_that_is_killed_before_or_while_it_tells_the_sites_leaves_that_to_the_next() {
    let shared = Shared::new().await;
    let (mut one, mut two) = shared.two().await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    shared
        .world
        .put(dispatch("e", 0, in_ms(HOUR), Some(in_ms(2 * HOUR))));
    assert_eq!(one.webhook("d").await.status, 200);
    assert_eq!(one.webhook("e").await.status, 200);
    shared.told("d", &["site.curtail"]).await;
    let lost = || {
        shared
            .cluster
            .sql("SELECT commits_lost FROM dispatchd.leader")
    };

    // The API does not answer, so that what holds is not known: no site is told anything.
    shared
        .world
        .faults(json!({"api_error_rate": 1.0, "api_error_status": 500}));
    one.kill();
    shared
        .cluster
        .sql("UPDATE dispatchd.leader SET timeline = '000000FF'");
    two.wait_for_log("commits may have been lost").await;
    assert_eq!(lost(), "t");
    assert!(lost_at(&two).await.is_string());
    two.kill();
    shared.told("d", &["site.curtail"]).await;

    // The next one knows it too. Its commands are refused when it has written them down.
    shared.world.faults(json!({"api_error_rate": 0.0}));
    shared.receiver.behave_for("site-", Manner::Fails);
    let mut three = shared.setup("three").start().await;
    three.wait_for_log("commits may have been lost").await;
    wait_until("the sites' states are written down", async || lost() == "f").await;
    three.kill();
    assert_eq!(since(&shared, 0, "e"), [""; 0]);

    shared.receiver.behave_for("site-", Manner::Takes);
    let four = shared.setup("four").start().await;
    leads(&four).await;
    shared.told("d", &["site.curtail", "site.curtail"]).await;
    shared.told("e", &["site.release"]).await;
    assert_eq!(lost_at(&four).await, Value::Null, "that is made up for");
    shared.world.wait_for_polls(2).await;
    shared.told("d", &["site.curtail", "site.curtail"]).await;
    shared.told("e", &["site.release"]).await;
}

#[apply(test)]
async fn a_daemon_alone_that_finds_another_server_goes_on_by_itself() {
    let shared = Shared::new().await;
    let mut one = shared.setup("one").start().await;
    leads(&one).await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(one.webhook("d").await.status, 200);
    shared.told("d", &["site.curtail"]).await;
    shared.cluster.sql(
        "UPDATE dispatchd.leader SET timeline = '000000FF';
         SELECT pg_terminate_backend(unnest(pids)) FROM dispatchd.leader",
    );
    shared.world.put(called_off("d"));
    assert_eq!(one.webhook("d").await.status, 503);
    assert_eq!(new_leader(&[&one]).await.id(), one.id());
    shared.told("d", &["site.curtail", "site.release"]).await;
    assert!(one.ended().is_none(), "in the same process");
    // A clean stop gives back what it has now.
    let next = shared.setup("two").start().await;
    next.wait_for_log("this one stands by").await;
    assert!(one.stop(Signal::TERM).await.success());
    leads(&next).await;
}

/// A standby of the database is promoted just after this daemon has taken the lead there.
#[apply(test)]
async fn a_new_leader_whose_database_is_replaced_before_it_has_loaded_goes_on_in_the_same_process()
{
    let shared = Shared::new().await;
    let mut first = shared.setup("first").start().await;
    leads(&first).await;
    assert_eq!(first.stop(Signal::TERM).await.code(), Some(0));
    // What the leader's row then says of the server is not this one.
    shared.cluster.sql(
        "CREATE FUNCTION dispatchd.other() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN NEW.timeline := 'FFFFFFFF'; RETURN NEW; END $$;
         CREATE TRIGGER other BEFORE UPDATE OF timeline ON dispatchd.leader
         FOR EACH ROW EXECUTE FUNCTION dispatchd.other()",
    );
    let daemon = shared.setup("daemon").start().await;
    daemon
        .wait_for_log("lets go of the lead, and stands by")
        .await;
    shared.cluster.sql("DROP TRIGGER other ON dispatchd.leader");
    new_leader(&[&daemon]).await;
}
