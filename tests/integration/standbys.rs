//! Standbys that must not take over, or would act differently from the leader.

use chrono::TimeDelta;
use rustix::process::Signal;
use serde_json::Value;

use crate::commands::{done, failed, run};
use crate::harness::{Daemon, Receiver, Setup, dispatch, in_ms, now, wait_for, wait_until};
use crate::two_machines::{Shared, is_leader, leads};

const HOUR: i64 = 3_600_000;

/// A daemon of the same database that sends its events elsewhere.
fn elsewhere(shared: &Shared, receiver: &Receiver, node: &str) -> Setup {
    let setup = shared.world.setup().sink(receiver.sink());
    setup
        .polling("1s")
        .with("--node", node)
        .with("--state", shared.cluster.url("dispatchd"))
}

/// Has the leader tell its receiver to curtail the site of `id`.
async fn curtail(shared: &Shared, leader: &Daemon, id: &str, end: i64) {
    let dispatch = dispatch(id, 0, in_ms(-HOUR), Some(in_ms(end)));
    shared.world.put(dispatch);
    assert_eq!(leader.webhook(id).await.status, 200);
    shared.told(id, &["site.curtail"]).await;
}

async fn reason(daemon: &Daemon, words: &str) -> String {
    wait_for(&format!("{words:?} in /readyz"), async || {
        let answer = daemon.get("/readyz").await;
        let reason = answer.json["reason"].as_str().unwrap_or_default();
        (answer.status == 503 && reason.contains(words)).then(|| reason.to_owned())
    })
    .await
}

/// Longer than a leader trusts itself without a renewal, and shorter than another daemon
/// would wait.
const STOPPED: TimeDelta = TimeDelta::milliseconds(4500);

const HOLDER: &str = "SELECT node FROM dispatchd.leader";

#[apply(test)]
async fn a_standby_that_could_not_lead_takes_nothing_over_says_so_and_leads_once_it_could() {
    let shared = Shared::new().await;
    let mut leader = shared.setup("one").start().await;
    leads(&leader).await;
    let other = Receiver::new().await;
    let mut standby = elsewhere(&shared, &other, "two").start().await;
    let line = standby.wait_for_log("would act differently").await;
    assert!(line.contains("WARN") && line.contains("sinks"), "{line}");
    curtail(&shared, &leader, "d", 25_000).await;
    let line = standby.wait_for_log("this daemon could not lead").await;
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("--forget-sink"), "{line}");
    let reason = reason(&standby, "takes nothing over").await;
    assert!(reason.contains("site-d"), "{reason}");

    leader.kill();
    let line = standby.wait_for_log("nobody leads").await;
    assert!(line.contains("ERROR"), "{line}");
    assert_eq!(shared.cluster.sql(HOLDER), "one", "the lease is left alone");
    let status = standby.health().await;
    assert_eq!(status["leadership"]["leader"], Value::Null);
    assert_eq!(status["verdict"]["schedule"]["level"], "error");
    assert!(standby.ended().is_none());

    // Whoever can lead does, and releases the site; then the other one could as well.
    let mut again = shared.setup("one").start().await;
    leads(&again).await;
    shared.told("d", &["site.curtail", "site.release"]).await;
    standby.wait_for_log("this daemon could lead again").await;
    assert!(again.stop(Signal::TERM).await.success());
    leads(&standby).await;
    let line = standby.wait_for_log("dispatchd has taken the lead").await;
    assert!(
        line.contains("WARN") && line.contains("differently"),
        "{line}"
    );
    assert_eq!(other.taken().len(), 0, "nothing was due there");
}

#[apply(test)]
async fn a_daemon_that_could_not_lead_ends_its_start_where_nobody_leads_and_takes_no_lease() {
    let shared = Shared::new().await;
    let mut leader = shared.setup("one").start().await;
    leads(&leader).await;
    curtail(&shared, &leader, "d", HOUR).await;
    assert!(leader.stop(Signal::TERM).await.success());
    let other = Receiver::new().await;
    let mut process = elsewhere(&shared, &other, "two").spawn();
    let ended = wait_for("the end", async || process.ended()).await;
    let log = process.log().join("\n");
    assert_eq!(ended.code(), Some(2), "{log}");
    assert!(log.contains("--forget-sink"), "{log}");
    let given_back = "SELECT node, given_back FROM dispatchd.leader";
    assert_eq!(shared.cluster.sql(given_back), "one|t");
    assert_eq!(other.taken().len(), 0);
}

/// The standby may have looked before the site was curtailed.
#[apply(test)]
async fn a_lease_that_a_daemon_took_and_cannot_lead_with_is_given_back_at_once() {
    let shared = Shared::new().await;
    let mut leader = shared.setup("one").start().await;
    leads(&leader).await;
    let other = Receiver::new().await;
    let mut standby = elsewhere(&shared, &other, "two").start().await;
    standby.wait_for_log("this one stands by").await;
    // It sees that the other one leads: its start is over.
    let renewed = || -> u64 {
        let beat = shared.cluster.sql("SELECT beat FROM dispatchd.beat");
        beat.parse().unwrap()
    };
    let before = renewed();
    wait_until("renewals", async || renewed() > before + 3).await;
    curtail(&shared, &leader, "d", HOUR).await;
    assert!(leader.stop(Signal::TERM).await.success());
    standby.wait_for_log("this daemon could not lead").await;
    wait_until("a lease that is given back", async || {
        let given_back = "SELECT given_back FROM dispatchd.leader";
        shared.cluster.sql(given_back) == "t"
    })
    .await;
    standby.wait_for_log("nobody leads").await;
    assert!(!is_leader(&standby).await);
    assert!(standby.ended().is_none(), "it stands by");
    assert_eq!(other.taken().len(), 0);
    let again = shared.setup("one").start().await;
    leads(&again).await;
}

#[apply(test)]
async fn a_state_that_is_looked_at_without_sinks_is_no_failure() {
    let shared = Shared::new().await;
    let mut leader = shared.setup("one").start().await;
    leads(&leader).await;
    curtail(&shared, &leader, "d", HOUR).await;
    assert!(leader.stop(Signal::TERM).await.success());
    let url = shared.cluster.url("dispatchd");
    let lines = done(&run(&shared.world, None, &["check", "--state", &url]).await);
    let line = lines.lines().find(|line| line.contains(" state: "));
    let line = line.unwrap_or_default();
    assert!(line.starts_with("ok state: "), "{lines}");
    assert!(line.contains("none was given here"), "{line}");
    assert!(!line.contains("--forget-sink"), "{line}");
    let with_others = ["check", "--state", &url, "--sink", "none"];
    let output = run(&shared.world, None, &with_others).await;
    assert!(failed(&output, 1).contains("state"));
}

/// All threads stand still, and nothing is wrong with the database.
#[apply(test)]
async fn a_process_that_stood_still_says_that_it_was_the_process() {
    let shared = Shared::new().await;
    let leader = shared.setup("one").start().await;
    leads(&leader).await;
    leader.signal(Signal::STOP);
    let began = now();
    wait_until("the end of its trust", async || now() - began > STOPPED).await;
    leader.signal(Signal::CONT);
    let line = leader.wait_for_log("the lease was not renewed").await;
    assert!(line.contains("stood still for"), "{line}");
    leader.wait_for_log("the lease is renewed again").await;
    let log = leader.log();
    let suspended = log.iter().filter(|line| line.contains("uspended"));
    assert_eq!(suspended.count(), 1, "one line says so: {log:?}");
}

/// Receivers would refuse all that it signs. A secret that is replaced at both is no
/// difference.
#[apply(test)]
async fn a_standby_with_another_sink_secret_is_not_ready_until_both_have_the_same() {
    let shared = Shared::new().await;
    let write = |name: &str, secret: &str| {
        let path = shared.world.path(name);
        std::fs::write(&path, secret).unwrap();
        path.display().to_string()
    };
    let files = [write("one", "hush-41d9"), write("two", "hush-7c22")];
    let setup = |at: usize, node| {
        let setup = shared.setup(node);
        setup.with("--sink-secret-file", &files[at])
    };
    let leader = setup(0, "one").start().await;
    leads(&leader).await;
    let standby = setup(1, "two").start().await;
    let line = standby.wait_for_log("this standby is not ready").await;
    assert!(line.contains("differs=\"--sink-secret\""), "{line}");
    reason(&standby, "it differs in --sink-secret;").await;

    // Both get a third one, the leader first.
    for (name, daemon) in [("one", &leader), ("two", &standby)] {
        write(name, "hush-0b5e");
        daemon.signal(Signal::HUP);
        daemon.wait_for_log("it holds another value now").await;
    }
    wait_until("a standby that is ready", async || {
        standby.get("/readyz").await.status == 200
    })
    .await;
    standby
        .wait_for_log("this standby would act as the leader does")
        .await;
    let kept = shared
        .cluster
        .sql("SELECT fingerprint FROM dispatchd.leader");
    assert!(!kept.contains("hush"), "{kept}");
}

/// The password is changed at the server and in the file, and the daemon goes on.
#[apply(test)]
async fn a_changed_password_of_the_database_counts_from_the_next_connection_on() {
    let shared = Shared::new().await;
    let path = shared.world.path("password");
    std::fs::write(&path, "first").unwrap();
    let sql = "ALTER USER tester PASSWORD 'first'";
    shared.cluster.sql(sql);
    let hba = format!("{}/pg_hba.conf", shared.cluster.data());
    let trust = std::fs::read_to_string(&hba).unwrap();
    // Psql goes by way of another database.
    let rules = format!("host power tester 127.0.0.1/32 scram-sha-256\n{trust}");
    std::fs::write(&hba, rules).unwrap();
    shared.cluster.sql("CREATE DATABASE power");
    shared.cluster.sql("SELECT pg_reload_conf()");
    let url = shared.cluster.url("dispatchd");
    let url = url.replace("/postgres?", "/power?");
    let setup = shared.setup("one").with("--state", url);
    let leader = setup
        .with("--state-password-file", path.display())
        .start()
        .await;
    leads(&leader).await;
    let warned = leader
        .wait_for_log("every user of this machine can read it")
        .await;
    assert!(warned.contains("--state-password-file"), "{warned}");

    shared.cluster.sql("ALTER USER tester PASSWORD 'second'");
    std::fs::write(&path, "second").unwrap();
    leader.signal(Signal::HUP);
    let line = leader.wait_for_log("password: read again").await;
    assert!(line.contains("--state-password-file"), "{line}");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'power'";
    shared.cluster.sql(cut);
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    wait_until("a webhook that is taken", async || {
        leader.webhook("d").await.status == 200
    })
    .await;
    assert!(is_leader(&leader).await);
}

/// systemd starts it again, which helps once the database is back.
#[apply(test)]
async fn a_database_that_cannot_be_reached_is_a_failure_at_run_time_with_a_remedy() {
    let mut shared = Shared::new().await;
    shared.cluster.stop("INT");
    let mut process = shared.setup("one").spawn();
    let ended = wait_for("the end", async || process.ended()).await;
    let log = process.log().join("\n");
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("does PostgreSQL run there"), "{log}");
    let url = shared.cluster.url("dispatchd");
    let copy = ["state", "copy", "from.db", &url];
    let said = failed(&run(&shared.world, None, &copy).await, 1);
    assert!(said.contains("does PostgreSQL run there"), "{said}");
}
