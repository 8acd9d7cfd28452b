//! Two daemons that share a PostgreSQL database: one leads, the other takes over.

use chrono::TimeDelta;

use rustix::process::Signal;

use crate::harness::{
    Answer, Daemon, Receiver, Setup, World, ask, dispatch, in_ms, need, now, site_of, wait_for,
    wait_until,
};

#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub mod cluster;
use cluster::Cluster;

#[path = "../postgres/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub mod proxy;
use proxy::{Mode, Proxy};

const HOUR: i64 = 3_600_000;

/// The longest that nobody leads after the leader has failed.
const TAKE_OVER: TimeDelta = TimeDelta::seconds(10);

/// A server, and daemons that share one database in it.
pub struct Shared {
    pub world: World,
    pub receiver: Receiver,
    pub cluster: Cluster,
}

impl Shared {
    pub async fn new() -> Self {
        let programs = Cluster::programs();
        need("PostgreSQL", programs.is_some());
        Self {
            world: World::new().await,
            receiver: Receiver::new().await,
            cluster: Cluster::start(&[]).unwrap(),
        }
    }

    pub fn setup(&self, node: &str) -> Setup {
        let setup = self.world.setup().sink(self.receiver.sink());
        setup
            .polling("1s")
            .with("--node", node)
            .with("--state", self.cluster.url("dispatchd"))
    }

    /// The daemon that leads first, and one that stands by.
    pub async fn two(&self) -> (Daemon, Daemon) {
        let leader = self.setup("one").start().await;
        leads(&leader).await;
        let standby = self.setup("two").start().await;
        standby.wait_for_log("this one stands by").await;
        (leader, standby)
    }

    /// What the receiver has been told of a dispatch's site.
    pub async fn told(&self, id: &str, types: &[&str]) {
        let site = site_of(id);
        wait_until(&format!("{types:?} for {site}"), async || {
            self.receiver.types_of(&site) == types
        })
        .await;
    }
}

pub async fn leads(daemon: &Daemon) {
    wait_until("a daemon that leads and is ready", async || {
        is_leader(daemon).await && daemon.get("/readyz").await.status == 200
    })
    .await;
}

pub async fn is_leader(daemon: &Daemon) -> bool {
    let asked = daemon.http.get(daemon.status_url("/status"));
    let asked = tokio::time::timeout(std::time::Duration::from_secs(1), ask(asked)).await;
    asked.is_ok_and(|answer| answer.json["role"] == "leader")
}

#[apply(test)]
async fn when_the_leader_is_killed_the_other_daemon_goes_on_from_all_that_was_promised() {
    let shared = Shared::new().await;
    let (mut leader, standby) = shared.two().await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("d").await.status, 200);
    shared.told("d", &["site.curtail"]).await;
    // Promised, and its start comes while nobody leads. A standby passes webhooks on.
    shared
        .world
        .put(dispatch("next", 0, in_ms(2500), Some(in_ms(HOUR))));
    assert_eq!(standby.webhook("next").await.status, 200);

    leader.kill();
    let began = now();
    shared.told("next", &["site.curtail"]).await;
    let took = now() - began;
    assert!(took < TAKE_OVER, "{took:?}");
    leads(&standby).await;
    shared.told("d", &["site.curtail"]).await;
    // Of each subject the later term comes later: a receiver that keeps the highest drops
    // nothing that is right.
    for subject in ["d", "next", "site-d", "site-next"] {
        let terms: Vec<u64> = shared
            .receiver
            .taken()
            .iter()
            .filter(|heard| heard.text("subject") == subject)
            .filter_map(|heard| heard.event["term"].as_u64())
            .collect();
        assert!(
            !terms.is_empty() && terms.is_sorted(),
            "{subject}: {terms:?}"
        );
    }

    // The one that was killed comes back, and stands by.
    let again = shared.setup("one").start().await;
    again.wait_for_log("this one stands by").await;
    assert!(is_leader(&standby).await);
}

#[apply(test)]
async fn a_leader_that_stood_still_finds_out_that_another_leads_and_commands_nothing() {
    let shared = Shared::new().await;
    let (leader, standby) = shared.two().await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(2000), Some(in_ms(6000))));
    assert_eq!(leader.webhook("d").await.status, 200);
    leader.signal(Signal::STOP);
    shared.told("d", &["site.curtail"]).await;
    leads(&standby).await;
    shared.told("d", &["site.curtail", "site.release"]).await;

    let before = leader.log().len();
    leader.signal(Signal::CONT);
    leader.wait_for_log("dispatchd has lost the lead").await;
    leader.wait_for_log("this one stands by").await;
    let after: Vec<String> = leader.log().split_off(before);
    let started = |line: &&String| line.contains("site.") && line.contains("delivered");
    assert_eq!(after.iter().find(started), None, "{after:?}");
    assert_eq!(
        shared.receiver.types_of(&site_of("d")),
        ["site.curtail", "site.release"]
    );
    assert!(is_leader(&standby).await && !is_leader(&leader).await);
}

#[apply(test)]
async fn a_leader_that_is_cut_off_from_the_database_without_a_sign_suspends_itself_before_another_leads()
 {
    let shared = Shared::new().await;
    let proxy = Proxy::start(shared.cluster.port());
    let by_proxy = shared.cluster.url_at(proxy.port(), "dispatchd");
    let leader = shared.setup("one").with("--state", by_proxy).start().await;
    leads(&leader).await;
    let standby = shared.setup("two").start().await;
    standby.wait_for_log("this one stands by").await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("d").await.status, 200);
    shared.told("d", &["site.curtail"]).await;

    proxy.set(Mode::Stall);
    leader.wait_for_log("suspended").await;
    let leads_by_the_database = "SELECT node FROM dispatchd.leader";
    assert_eq!(shared.cluster.sql(leads_by_the_database), "one");
    shared
        .world
        .put(dispatch("later", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("later").await.status, 503);
    shared.told("later", &["site.curtail"]).await;
    assert_eq!(shared.cluster.sql(leads_by_the_database), "two");
    leads(&standby).await;

    proxy.set(Mode::Pass);
    leader.wait_for_log("dispatchd has lost the lead").await;
    leader.wait_for_log("this one stands by").await;
    shared.told("later", &["site.curtail"]).await;
}

#[apply(test)]
async fn after_a_clean_stop_the_other_daemon_leads_within_two_seconds() {
    let shared = Shared::new().await;
    let (mut leader, standby) = shared.two().await;
    assert!(leader.stop(Signal::TERM).await.success());
    let began = now();
    wait_until("the other daemon leads", async || is_leader(&standby).await).await;
    let took = now() - began;
    assert!(took < TimeDelta::seconds(2), "{took:?}");
}

#[apply(test)]
async fn while_the_database_is_away_nothing_is_promised_and_afterwards_all_goes_on() {
    let mut shared = Shared::new().await;
    let (leader, standby) = shared.two().await;
    shared.cluster.stop("INT");
    wait_until("nobody says that it is ready", async || {
        leader.get("/readyz").await.status == 503
    })
    .await;
    let metrics = leader.http.get(leader.status_url("/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\ndispatchd_ready 0\n"), "{metrics}");
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    let answer: Answer = leader.webhook("d").await;
    assert_eq!(answer.status, 503, "{}", answer.json);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(shared.receiver.taken().len(), 0, "nobody is told anything");

    shared.cluster.start_again();
    // Either one, but one of them.
    let leads_now = wait_for("a leader that is ready", async || {
        for daemon in [&leader, &standby] {
            if is_leader(daemon).await && daemon.get("/readyz").await.status == 200 {
                return Some(daemon);
            }
        }
        None
    })
    .await;
    shared.told("d", &["site.curtail"]).await;
    let other = [&leader, &standby]
        .into_iter()
        .find(|daemon| daemon.status != leads_now.status);
    assert!(!is_leader(other.unwrap()).await);
}

#[apply(test)]
async fn a_leader_that_finds_another_server_than_before_gives_up_the_lead() {
    let shared = Shared::new().await;
    let (leader, standby) = shared.two().await;
    // As after the promotion of the database's standby.
    shared.cluster.sql(
        "UPDATE dispatchd.leader SET timeline = '000000FF';
         SELECT pg_terminate_backend(unnest(pids)) FROM dispatchd.leader",
    );
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("d").await.status, 503);
    // Either one may lead next.
    let next = wait_for("a leader that knows what was lost", async || {
        for daemon in [&leader, &standby] {
            let status = daemon.health().await;
            let knows = status["leadership"]["commits_lost_at"].is_string();
            if knows && status["role"] == "leader" {
                return Some(daemon);
            }
        }
        None
    })
    .await;
    shared.told("d", &["site.curtail"]).await;
    next.wait_for_log("commits may have been lost").await;
    let lost = "SELECT commits_lost FROM dispatchd.leader";
    assert_eq!(shared.cluster.sql(lost), "f", "that is made up for");
    let other = [&leader, &standby]
        .into_iter()
        .find(|daemon| daemon.id() != next.id())
        .unwrap();
    other.wait_for_log("this one stands by").await;
    assert!(!is_leader(other).await);
}

#[apply(test)]
async fn of_daemons_that_start_at_once_on_an_empty_database_one_leads() {
    let shared = Shared::new().await;
    for round in 0..10 {
        let url = shared.cluster.url(&format!("round{round}"));
        let setups = ["one", "two"].map(|node| shared.setup(node).with("--state", &url));
        let processes = setups.each_ref().map(Setup::spawn);
        let mut daemons = Vec::new();
        for process in processes {
            daemons.push(Daemon::of(process).await);
        }
        wait_until("one that leads", async || {
            is_leader(&daemons[0]).await || is_leader(&daemons[1]).await
        })
        .await;
        wait_until("one that stands by", async || {
            let stands_by = |daemon: &Daemon| {
                let log = daemon.log();
                log.iter().any(|line| line.contains("this one stands by"))
            };
            stands_by(&daemons[0]) || stands_by(&daemons[1])
        })
        .await;
        assert!(!(is_leader(&daemons[0]).await && is_leader(&daemons[1]).await));
    }
}

#[apply(test)]
async fn a_database_that_cannot_be_used_is_named_without_its_password_and_with_what_to_do() {
    let shared = Shared::new().await;
    let right = shared.cluster.url("dispatchd");
    let wrong = [
        (
            right.replace("/postgres?", "/nothing?"),
            "create the database",
        ),
        (right.replace("disable", "prefer"), "verify-full"),
        (right.replace("disable", "verify-full"), "sslmode=disable"),
        (right.replace("tester@", "@"), "names no user"),
    ];
    for (url, remedy) in wrong {
        let url = url.replace("tester@", "tester:s3cret@");
        let mut process = shared.setup("one").with("--state", &url).spawn();
        let ended = wait_for("the end", async || process.ended()).await;
        let log = process.log().join("\n");
        assert_eq!(ended.code(), Some(2), "{log}");
        assert!(log.contains("--state"), "{log}");
        assert!(log.contains(remedy), "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}
