//! What a broker keeps of each site, whatever becomes of the broker. With a real
//! broker, mosquitto, where there is one.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Daemon, World, dispatch, in_ms, site_of, wait_until};

/// Within this a broker must have the states again.
const AGAIN: Duration = Duration::from_secs(5);

/// Where Debian's package puts the broker; `sbin` is often not in `PATH`.
const PLACES: [&str; 3] = [
    "mosquitto",
    "/usr/sbin/mosquitto",
    "/usr/local/sbin/mosquitto",
];

/// A broker that keeps nothing when it ends.
struct Broker {
    port: u16,
    program: &'static str,
    folder: TempDir,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Broker {
    /// `None` if there is none on this machine.
    async fn start() -> Option<Self> {
        let there = |place: &&str| Command::new(place).arg("-h").output().is_ok();
        let program = PLACES.into_iter().find(there)?;
        // Another test may take the port first; then it ends at once.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let folder = tempfile::tempdir().unwrap();
            let text = format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n");
            std::fs::write(folder.path().join("conf"), text).unwrap();
            let child = spawn(program, &folder);
            let mut broker = Self {
                port,
                program,
                folder,
                child,
            };
            if broker.listens().await {
                return Some(broker);
            }
        }
        panic!("mosquitto does not start");
    }

    async fn listens(&mut self) -> bool {
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port. It has lost everything.
    async fn restart(&mut self) {
        self.kill();
        loop {
            self.child = spawn(self.program, &self.folder);
            if self.listens().await {
                return;
            }
        }
    }

    fn sink(&self) -> String {
        format!("mqtt://127.0.0.1:{}/plant", self.port)
    }

    /// The events that it keeps, by site.
    async fn kept(&self) -> BTreeMap<String, Value> {
        let options = MqttOptions::new(String::new(), ("127.0.0.1", self.port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client
            .subscribe("plant/site/#", QoS::AtLeastOnce)
            .await
            .unwrap();
        client.subscribe("marker", QoS::AtLeastOnce).await.unwrap();
        let mut kept = BTreeMap::new();
        while let Ok(event) = events.poll().await {
            match event {
                // The second one: what is kept is on its way before the marker.
                Event::Incoming(Incoming::SubAck(_)) => {
                    let options = PublishOptions::at_least_once();
                    client.publish("marker", "", options).await.unwrap();
                }
                Event::Incoming(Incoming::Publish(publish)) => {
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    let Some(site) = topic.strip_prefix("plant/site/") else {
                        break;
                    };
                    if let Ok(event) = serde_json::from_slice(&publish.payload) {
                        kept.insert(site.to_owned(), event);
                    }
                }
                _ => {}
            }
        }
        kept
    }

    /// Clears what it keeps of a site, as an operator may.
    async fn clear(&self, site: &str) {
        let options = MqttOptions::new(String::new(), ("127.0.0.1", self.port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let retained = PublishOptions::at_least_once().retained();
        let topic = format!("plant/site/{site}");
        client.publish(topic, "", retained).await.unwrap();
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Incoming::PubAck(_)) = event {
                break;
            }
        }
    }

    /// Waits until it keeps this of the sites.
    async fn keeps(&self, states: &[(&str, &str)]) {
        wait_until(&format!("the broker keeps {states:?}"), async || {
            let kept = self.kept().await;
            states.iter().all(|(id, kind)| {
                kept.get(&site_of(id))
                    .is_some_and(|event| event["type"] == *kind)
            })
        })
        .await;
    }

    async fn keeps_again(&self, states: &[(&str, &str)]) {
        let again = timeout(AGAIN, self.keeps(states)).await;
        assert!(again.is_ok(), "not within {AGAIN:?}: {states:?}");
    }
}

fn spawn(program: &str, folder: &TempDir) -> Child {
    Command::new(program)
        .arg("-c")
        .arg(folder.path().join("conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

macro_rules! broker {
    () => {
        match Broker::start().await {
            Some(broker) => broker,
            None => {
                println!("left out: there is no mosquitto on this machine");
                return;
            }
        }
    };
}

const CURTAIL: &str = "site.curtail";
const RELEASE: &str = "site.release";

/// Lets one site be curtailed, `on`, and another be released, `off`.
async fn one_curtailed_one_released(world: &World, daemon: &Daemon, broker: &Broker) {
    for id in ["on", "off"] {
        world.put(dispatch(id, 0, in_ms(-1000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    broker.keeps(&[("on", CURTAIL), ("off", CURTAIL)]).await;
    world.put(dispatch("off", 1, in_ms(-1000), Some(in_ms(0))));
    assert_eq!(daemon.webhook("off").await.status, 200);
    broker.keeps(&[("on", CURTAIL), ("off", RELEASE)]).await;
    daemon.wait_until_delivered().await;
}

/// fanuc-driver#59, Tasmota#536: the broker restarts without persistence, and
/// what it kept is gone.
#[tokio::test]
async fn a_broker_that_lost_its_state_has_it_again_each_time() {
    let mut broker = broker!();
    let world = World::new().await;
    let daemon = world.setup().sink(broker.sink()).ready().await;
    one_curtailed_one_released(&world, &daemon, &broker).await;
    let before = broker.kept().await;
    for _ in 0..2 {
        broker.restart().await;
        broker
            .keeps_again(&[("on", CURTAIL), ("off", RELEASE)])
            .await;
        let after = broker.kept().await;
        assert_eq!(
            after, before,
            "the same events, so that receivers know them"
        );
    }
    // What changes while the broker is away is not overwritten by what was.
    broker.kill();
    world.put(dispatch("on", 1, in_ms(-1000), Some(in_ms(0))));
    assert_eq!(daemon.webhook("on").await.status, 200);
    broker.restart().await;
    broker
        .keeps_again(&[("on", RELEASE), ("off", RELEASE)])
        .await;
}

#[tokio::test]
async fn a_broker_that_lost_its_state_has_it_again_after_a_restart_of_the_daemon() {
    let mut broker = broker!();
    let world = World::new().await;
    let setup = world.setup().sink(broker.sink());
    let mut daemon = setup.ready().await;
    one_curtailed_one_released(&world, &daemon, &broker).await;
    daemon.kill();
    broker.restart().await;
    assert!(broker.kept().await.is_empty());
    let _daemon = setup.start().await;
    broker
        .keeps_again(&[("on", CURTAIL), ("off", RELEASE)])
        .await;
}

#[tokio::test]
async fn a_state_that_an_operator_cleared_is_there_again_after_a_connection() {
    let broker = broker!();
    let world = World::new().await;
    let setup = world.setup().sink(broker.sink());
    let mut daemon = setup.ready().await;
    one_curtailed_one_released(&world, &daemon, &broker).await;
    broker.clear(&site_of("on")).await;
    assert!(!broker.kept().await.contains_key(&site_of("on")));
    daemon.kill();
    let _daemon = setup.start().await;
    broker
        .keeps_again(&[("on", CURTAIL), ("off", RELEASE)])
        .await;
}
