//! Announces sites to Home Assistant, as its MQTT discovery documents it: for each site
//! a binary sensor that is on while the site is curtailed, and a sensor of the amount.
//!
//! An announcement is retained, as the site's state is. It comes before the first event
//! of a site on each connection, on which every site's newest event is published again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::topic;
use crate::model::Event;

/// Where Home Assistant looks for announcements unless it is told otherwise.
const PREFIX: &str = "homeassistant";

/// The sites that were announced on one connection.
#[derive(Debug, Default)]
pub(super) struct Announced(Mutex<HashSet<Arc<str>>>);

impl Announced {
    /// Whether the site is to be announced now; from then on it counts as announced.
    pub(super) fn is_new(&self, site: &Arc<str>) -> bool {
        let mut sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !sites.contains(site) && sites.insert(site.clone())
    }
}

/// What is published, retained.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) topic: String,
    pub(super) payload: String,
}

/// What a site calls itself in the payload of its events.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Site {
    name: Option<String>,
    customer_location_id: Option<String>,
}

/// The announcements of the site that a `site.*` event is about.
pub(super) fn of(prefix: &str, event: &Event) -> [Announcement; 2] {
    let site: Site = serde_json::from_str(event.data.get()).unwrap_or_default();
    let names = [site.name, site.customer_location_id];
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| event.subject.to_string());
    let id = format!("dispatchd__{}__{}", word(prefix), word(&event.subject));
    let state = topic::of(prefix, event).name;
    let common = json!({
        "state_topic": state,
        "json_attributes_topic": state,
        "json_attributes_template": "{{ value_json.data | tojson }}",
        "availability": [{
            "topic": topic::status(prefix),
            "payload_available": "online",
            "payload_not_available": "offline",
        }],
        "qos": 1,
        "device": {"identifiers": [id], "name": name, "manufacturer": "dispatchd"},
        "origin": {"name": "dispatchd", "sw_version": env!("CARGO_PKG_VERSION")},
    });
    let curtailed = json!({
        "name": "Curtailed",
        "value_template": "{{ 'ON' if value_json.data.state == 'curtailed' else 'OFF' }}",
        "payload_on": "ON",
        "payload_off": "OFF",
        "icon": "mdi:transmission-tower-export",
    });
    // An amount that is not known is null: the template gives `None`, by which the sensor
    // becomes unknown.
    let commitment = json!({
        "name": "Commitment",
        "value_template": "{{ value_json.data.commitment_kw }}",
        "unit_of_measurement": "kW",
        "device_class": "power",
    });
    [
        announcement(
            "binary_sensor",
            &format!("{id}__curtailed"),
            &common,
            curtailed,
        ),
        announcement("sensor", &format!("{id}__commitment"), &common, commitment),
    ]
}

fn announcement(component: &str, id: &str, common: &Value, mut own: Value) -> Announcement {
    if let (Value::Object(own), Value::Object(common)) = (&mut own, common) {
        own.extend(common.clone());
        own.insert("unique_id".to_owned(), id.into());
    }
    Announcement {
        topic: format!("{PREFIX}/{component}/{id}/config"),
        payload: own.to_string(),
    }
}

/// The text with nothing but letters, digits and `-`, which ids may have; every other byte
/// is `_` and two hexadecimal digits. Two texts never become the same, nor does one contain
/// the `__` that stands between them.
fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            word.push(byte.into());
        } else {
            word.push_str(&format!("_{byte:02X}"));
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::delivery::sinks::testing::event;

    fn announced(prefix: &str, site: &str, data: &str) -> [(String, Value); 2] {
        let event = Event {
            data: Arc::new(RawValue::from_string(data.to_owned()).unwrap()),
            ..event("e", "site.curtail", site)
        };
        of(prefix, &event).map(|one| (one.topic, serde_json::from_str(&one.payload).unwrap()))
    }

    #[test]
    fn a_site_is_one_device_with_two_entities_whose_state_is_its_own_topic() {
        let data = r#"{"id":"s 1","name":"Plant A","state":"curtailed","commitment_kw":12}"#;
        let [(on_topic, on), (kw_topic, kw)] = announced("plant/7", "s 1", data);
        let id = "dispatchd__plant_2F7__s_201";
        assert_eq!(
            on_topic,
            format!("homeassistant/binary_sensor/{id}__curtailed/config")
        );
        assert_eq!(
            kw_topic,
            format!("homeassistant/sensor/{id}__commitment/config")
        );
        for entity in [&on, &kw] {
            assert_eq!(entity["state_topic"], "plant/7/site/s%201");
            assert_eq!(entity["availability"][0]["topic"], "plant/7/status");
            assert_eq!(entity["device"], kw["device"]);
            assert_eq!(entity["device"]["name"], "Plant A");
        }
        assert_ne!(on["unique_id"], kw["unique_id"]);
        assert_eq!(kw["unit_of_measurement"], "kW");
    }

    #[test]
    fn a_site_without_a_name_is_called_by_its_location_or_its_id() {
        let name = |data| announced("p", "s1", data)[0].1["device"]["name"].clone();
        assert_eq!(
            name(r#"{"name":"","customer_location_id":"store-17"}"#),
            "store-17"
        );
        assert_eq!(name(r#"{"name":null}"#), "s1");
        assert_eq!(name("[]"), "s1");
    }

    /// Two daemons at one broker have two prefixes, and ids come from elsewhere.
    #[test]
    fn no_two_sites_or_prefixes_share_an_id() {
        let pairs = [
            ("a", "5Fb_x"),
            ("a_b", "5Fx"),
            ("a", "b/c"),
            ("a/b", "c"),
            ("a", "b_2Fc"),
            ("A", "b/c"),
        ];
        let mut topics = HashSet::new();
        for (prefix, site) in pairs {
            let [(topic, config), _] = announced(prefix, site, "{}");
            let id = topic.split('/').nth(2).unwrap();
            assert!(
                id.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
                "{id}"
            );
            assert_eq!(config["unique_id"], id);
            assert!(topics.insert(topic.clone()), "{topic}");
        }
    }

    #[test]
    fn a_site_is_announced_once_on_a_connection() {
        let announced = Announced::default();
        assert!(announced.is_new(&"a".into()));
        assert!(!announced.is_new(&"a".into()));
        assert!(announced.is_new(&"b".into()));
    }
}
