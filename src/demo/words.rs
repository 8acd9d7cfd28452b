//! Events and times in words.

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::feed::Heard;
use super::teller::Teller;

/// An event, for people.
pub(super) fn event(heard: &Heard, teller: &Teller) -> String {
    let data = &heard.data;
    let subject = &heard.subject;
    let what = match heard.event_type.as_str() {
        "dispatch.created" => format!("{subject}, brought by {}", source(data)),
        "dispatch.updated" => {
            let changed: Vec<&str> = items(&data["changed"]).collect();
            format!(
                "{subject}: {}, brought by {}",
                changed.join(", "),
                source(data)
            )
        }
        "dispatch.cancelled" => {
            let reason = data["cancel_reason"].as_str().unwrap_or_default();
            format!("{subject}: {reason}, brought by {}", source(data))
        }
        kind if kind.starts_with("dispatch.") => subject.clone(),
        "site.release" => name(heard).to_owned(),
        kind if kind.starts_with("site.") => {
            let power = match data["commitment_kw"].as_f64() {
                Some(kilowatts) => format!("{kilowatts} kW"),
                None => "an unknown amount".to_owned(),
            };
            let holders: Vec<&str> = items(&data["dispatches"]).collect();
            let until = match time(&data["until"]) {
                Some(time) => format!("until {:.1} s", teller.seconds_at(time)),
                None => "no end known".to_owned(),
            };
            format!(
                "{}: {power}, {until}, for {}",
                name(heard),
                holders.join(" and ")
            )
        }
        "sync.stale" => "no poll has succeeded for three intervals".to_owned(),
        "sync.recovered" => "polls succeed again".to_owned(),
        _ => subject.clone(),
    };
    format!("{:<18} {what}", heard.event_type)
}

/// A duration, as fine as it is short.
pub(super) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A time in an answer.
pub(super) fn time(value: &Value) -> Option<DateTime<chrono::Utc>> {
    let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(time.to_utc())
}

/// The texts in a list.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn source(data: &Value) -> &str {
    data["source"].as_str().unwrap_or_default()
}

fn name(heard: &Heard) -> &str {
    heard.data["name"].as_str().unwrap_or(&heard.subject)
}
