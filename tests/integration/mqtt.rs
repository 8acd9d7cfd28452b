//! What a broker keeps of each site, whatever becomes of the broker. The broker is a
//! real one, mosquitto.

mod discovery;
mod sink;

use std::collections::BTreeMap;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{Broker, Daemon, World, dispatch, in_ms, site_of, wait_until};

/// Within this a broker must have the states again.
const AGAIN: Duration = Duration::from_secs(5);

impl Broker {
    /// Everything that it keeps, by topic.
    async fn kept_everywhere(&self) -> BTreeMap<String, String> {
        let options = MqttOptions::new(String::new(), ("127.0.0.1", self.port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
        let mut kept = BTreeMap::new();
        while let Ok(event) = events.poll().await {
            match event {
                // What is kept is on its way before the marker.
                Event::Incoming(Incoming::SubAck(_)) => {
                    let options = PublishOptions::at_least_once();
                    client.publish("marker", "", options).await.unwrap();
                }
                Event::Incoming(Incoming::Publish(publish)) => {
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    if topic == "marker" {
                        break;
                    }
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    kept.insert(topic, payload);
                }
                _ => {}
            }
        }
        kept
    }

    /// The events that it keeps, by site.
    async fn kept(&self) -> BTreeMap<String, Value> {
        let kept = self.kept_everywhere().await;
        let events = kept.iter().filter_map(|(topic, payload)| {
            let site = topic.strip_prefix("plant/site/")?;
            Some((site.to_owned(), serde_json::from_str(payload).ok()?))
        });
        events.collect()
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
#[apply(test)]
async fn a_broker_that_lost_its_state_has_it_again_each_time() {
    let mut broker = Broker::start().await;
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

#[apply(test)]
async fn a_broker_that_lost_its_state_has_it_again_after_a_restart_of_the_daemon() {
    let mut broker = Broker::start().await;
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

#[apply(test)]
async fn a_state_that_an_operator_cleared_is_there_again_after_a_connection() {
    let broker = Broker::start().await;
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
