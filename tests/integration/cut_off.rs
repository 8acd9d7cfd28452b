//! A leader whose way to the database is cut like a cable: a real network of its own, in
//! which nothing answers any more, not even with a refusal.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use chrono::TimeDelta;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::{dispatch, in_ms, need, now, wait_until};
use crate::two_machines::cluster::Cluster;
use crate::two_machines::proxy::Proxy;
use crate::two_machines::{Shared, is_leader, leads};

const HOUR: i64 = 3_600_000;

/// A network namespace with a cable to it. It is gone when this is dropped.
struct Network {
    name: String,
    /// The address at its end of the cable.
    address: String,
}

impl Network {
    /// `None` where this process may not make one.
    fn new() -> Option<Self> {
        let pid = std::process::id();
        let name = format!("dspd{pid}");
        // Four addresses of a range that is for tests, by the process's number.
        let at = |host: u32| {
            let number = (pid % (1 << 15)) * 4 + host;
            format!(
                "198.{}.{}.{}",
                18 + (number >> 16),
                (number >> 8) & 255,
                number & 255
            )
        };
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let network = Self {
            address: at(2),
            name,
        };
        let (near, far) = (network.near(), "cable");
        let made = ip(&[
            "link",
            "add",
            &near,
            "type",
            "veth",
            "peer",
            "name",
            far,
            "netns",
            &network.name,
        ]) && ip(&["addr", "add", &format!("{}/30", at(1)), "dev", &near])
            && ip(&["link", "set", &near, "up"])
            && network.inside(&["addr", "add", &format!("{}/30", at(2)), "dev", far])
            && network.inside(&["link", "set", far, "up"]);
        made.then_some(network)
    }

    /// The name of the near end of the cable.
    fn near(&self) -> String {
        format!("{}c", self.name)
    }

    fn inside(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// A listener at the far end of the cable.
    fn listener(&self) -> TcpListener {
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        let far = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let address = self.address.clone();
        // Which network a socket belongs to is decided when it is made.
        let made = thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(far.as_fd(), network).unwrap();
            let listener = TcpListener::bind((address, 0)).unwrap();
            move_into_link_name_space(own.as_fd(), network).unwrap();
            listener
        });
        made.join().unwrap()
    }

    /// Pulls the plug at the far end, or puts it in again.
    fn plug(&self, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        assert!(self.inside(&["link", "set", "cable", state]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "del", &self.near()]);
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip").args(arguments).output();
    done.is_ok_and(|done| done.status.success())
}

#[apply(test)]
async fn a_leader_whose_network_to_the_database_is_cut_commands_nothing_once_another_leads() {
    need("PostgreSQL", Cluster::programs().is_some());
    let network = Network::new();
    need("the right to make network namespaces", network.is_some());
    let network = network.unwrap();
    let shared = Shared::new().await;
    // What the far end passes on is on this side again.
    let far = Proxy::on(network.listener(), shared.cluster.port());
    let by_cable = shared
        .cluster
        .url_at(far.port(), "dispatchd")
        .replace("127.0.0.1", &network.address);
    let by_cable = format!("{by_cable}&allow_plaintext=1");
    let leader = shared.setup("one").with("--state", by_cable).start().await;
    leads(&leader).await;
    let standby = shared.setup("two").start().await;
    standby.wait_for_log("this one stands by").await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("d").await.status, 200);
    shared.told("d", &["site.curtail"]).await;
    // Its start comes when nobody leads, its end when the other one does.
    shared
        .world
        .put(dispatch("next", 0, in_ms(4500), Some(in_ms(14_000))));
    assert_eq!(leader.webhook("next").await.status, 200);

    network.plug(false);
    let began = now();
    leader
        .wait_for_log("suspended: the lease was not renewed")
        .await;
    assert!(!is_leader(&leader).await);
    shared.told("next", &["site.curtail"]).await;
    let took = now() - began;
    assert!(took < TimeDelta::seconds(10), "{took:?}");
    let leads_by_the_database = "SELECT node FROM dispatchd.leader";
    assert_eq!(shared.cluster.sql(leads_by_the_database), "two");
    // It reaches API and receivers, and answers nobody well.
    shared
        .world
        .put(dispatch("later", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(leader.webhook("later").await.status, 503);
    assert_eq!(leader.get("/readyz").await.status, 503);
    shared.told("later", &["site.curtail"]).await;
    let whole = ["site.curtail", "site.release"];
    shared.told("next", &whole).await;
    assert!(is_leader(&standby).await && !is_leader(&leader).await);

    network.plug(true);
    leader.wait_for_log("dispatchd has lost the lead").await;
    wait_until("it stands by", async || {
        let ready = leader.get("/readyz").await.status == 200;
        ready && !is_leader(&leader).await
    })
    .await;
    shared.told("d", &["site.curtail"]).await;
    shared.told("next", &whole).await;
    shared.told("later", &["site.curtail"]).await;
    // Of each subject the later term comes later.
    for subject in ["d", "next", "later", "site-d", "site-next", "site-later"] {
        let taken = shared.receiver.taken();
        let of = taken.iter().filter(|it| it.text("subject") == subject);
        let terms: Vec<u64> = of
            .filter_map(|heard| heard.event["term"].as_u64())
            .collect();
        assert!(
            !terms.is_empty() && terms.is_sorted(),
            "{subject}: {terms:?}"
        );
    }
}
