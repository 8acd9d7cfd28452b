//! What Home Assistant finds at a real broker: announcements as its documentation of MQTT
//! discovery wants them, and states that its templates read.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Broker, Daemon, World, dispatch, in_ms, need, site_of, wait_until};

impl Broker {
    /// The announcements that it keeps, by component and name of the entity.
    async fn announced(&self) -> BTreeMap<(String, String), (String, Value)> {
        let kept = self.kept_everywhere().await;
        let announced = kept.into_iter().filter_map(|(topic, payload)| {
            let parts: Vec<&str> = topic.split('/').collect();
            let ["homeassistant", component, id, "config"] = parts[..] else {
                assert!(!topic.starts_with("homeassistant"), "{topic}");
                return None;
            };
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!(id.chars().all(allowed), "{topic}");
            let config: Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(config["unique_id"], id);
            let device = config["device"]["name"].as_str().unwrap().to_owned();
            Some(((component.to_owned(), device), (topic.clone(), config)))
        });
        announced.collect()
    }
}

async fn a_site_is_curtailed(world: &World, broker: &Broker) -> Daemon {
    let sink = format!("{}?discovery=homeassistant", broker.sink());
    let daemon = world.setup().sink(sink).ready().await;
    world.put(dispatch("on", 0, in_ms(-1000), None));
    assert_eq!(daemon.poll().await.status, 200);
    broker.keeps(&[("on", super::CURTAIL)]).await;
    daemon
}

/// What Jinja, in which Home Assistant's templates are written, makes of a template.
fn rendered(template: &str, payload: &str) -> String {
    const SCRIPT: &str = "import sys, json, jinja2\n\
        print(jinja2.Template(sys.argv[1]).render(value_json=json.loads(sys.argv[2])))";
    let run = |script: &str, arguments: &[&str]| {
        let mut python = Command::new("python3");
        python
            .args(["-c", script])
            .args(arguments)
            .output()
            .unwrap()
    };
    need(
        "python3 with jinja2",
        run("import jinja2", &[]).status.success(),
    );
    let output = run(SCRIPT, &[template, payload]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[apply(test)]
async fn each_site_is_announced_to_home_assistant_as_a_sensor_that_is_on_and_one_of_kilowatts() {
    let broker = Broker::start().await;
    let world = World::new().await;
    let mut daemon = a_site_is_curtailed(&world, &broker).await;
    let announced = broker.announced().await;
    let components: Vec<&str> = announced
        .keys()
        .map(|(component, _)| &**component)
        .collect();
    assert_eq!(components, ["binary_sensor", "sensor"]);
    let kept = broker.kept_everywhere().await;
    for (_, config) in announced.values() {
        let state = config["state_topic"].as_str().unwrap();
        assert_eq!(state, format!("plant/site/{}", site_of("on")));
        assert!(
            kept.contains_key(state),
            "its state is there before Home Assistant is"
        );
        let availability = &config["availability"][0];
        let topic = availability["topic"].as_str().unwrap();
        assert_eq!(kept[topic], availability["payload_available"]);
    }
    assert_eq!(
        daemon.stop(rustix::process::Signal::TERM).await.code(),
        Some(0)
    );
    let kept = broker.kept_everywhere().await;
    assert_eq!(kept["plant/status"], "offline");
    assert_eq!(broker.announced().await.len(), 2, "it stays, unavailable");
}

#[apply(test)]
async fn home_assistants_templates_read_the_state_of_a_site() {
    let broker = Broker::start().await;
    let world = World::new().await;
    let daemon = a_site_is_curtailed(&world, &broker).await;
    let topic = format!("plant/site/{}", site_of("on"));
    let shown = async || {
        let payload = broker.kept_everywhere().await[&topic].clone();
        let announced = broker.announced().await;
        let values = announced.values().map(|(_, config)| {
            let template = config["value_template"].as_str().unwrap();
            rendered(template, &payload)
        });
        values.collect::<Vec<_>>()
    };
    let on = shown().await;
    assert_eq!(on[0], "ON");
    assert!(on[1].parse::<f64>().is_ok(), "{on:?}");
    world.put(dispatch("on", 1, in_ms(-1000), Some(in_ms(0))));
    assert_eq!(daemon.webhook("on").await.status, 200);
    broker.keeps(&[("on", super::RELEASE)]).await;
    // `None` makes the sensor unknown.
    assert_eq!(shown().await, ["OFF", "None"]);
}

#[apply(test)]
async fn a_broker_that_lost_its_state_has_the_announcements_again() {
    let mut broker = Broker::start().await;
    let world = World::new().await;
    let _daemon = a_site_is_curtailed(&world, &broker).await;
    let before = broker.announced().await;
    broker.restart().await;
    broker.keeps_again(&[("on", super::CURTAIL)]).await;
    wait_until("the announcements are there again", async || {
        broker.announced().await == before
    })
    .await;
}

/// Discovery is a comfort: what a site must do gets there without it.
#[apply(test)]
async fn a_broker_that_refuses_the_announcements_gets_the_commands() {
    let broker = Broker::with("acl without discovery").await;
    let world = World::new().await;
    let daemon = a_site_is_curtailed(&world, &broker).await;
    daemon.wait_until_delivered().await;
    daemon
        .wait_for_log("cannot be announced to Home Assistant")
        .await;
    assert!(broker.announced().await.is_empty());
}

/// Without the wish there is none.
#[apply(test)]
async fn nothing_is_announced_unless_it_was_asked_for() {
    let broker = Broker::start().await;
    let world = World::new().await;
    let daemon = world.setup().sink(broker.sink()).ready().await;
    world.put(dispatch("on", 0, in_ms(-1000), None));
    assert_eq!(daemon.poll().await.status, 200);
    broker.keeps(&[("on", super::CURTAIL)]).await;
    assert!(broker.announced().await.is_empty());
}

/// The flow reads the topics that there are, and each of its wires ends at a node.
#[apply(test)]
fn the_flow_for_node_red_hangs_together() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/node-red/flow.json");
    let flow: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let nodes = flow.as_array().unwrap();
    let of = |kind: &'static str| nodes.iter().filter(move |node| node["type"] == *kind);
    let topics: Vec<&str> = of("mqtt in")
        .filter_map(|node| node["topic"].as_str())
        .collect();
    assert_eq!(topics, ["plant/site/+", "plant/status"]);
    let is_there = |id: &Value| nodes.iter().any(|node| node["id"] == *id);
    let ends = nodes.iter().filter_map(|node| node["wires"].as_array());
    let ends: Vec<&Value> = ends
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .collect();
    assert!(ends.len() >= 4 && ends.into_iter().all(is_there));
    assert!(of("mqtt in").all(|node| is_there(&node["broker"])));
}
