//! What must hold once nothing is wrong any more:
//!
//! - the schedule is what is true upstream;
//! - each site's duty, and each receiver's last word on it, is what must be now;
//! - each receiver has had every event about a dispatch, and its last one tells
//!   the state that the schedule has;
//! - the broker retains every site's last command, and no other.
//!
//! A receiver's last word on a subject is the one with the highest `sequence`: it
//! drops what is lower.
//!
//! What must hold at every moment is checked as it happens: what was answered
//! 200 or told a receiver is there after a kill ([`crate::webhooks`],
//! [`crate::run`]), events come in order ([`crate::heard`]), and a broker that was
//! restarted has every site's state again within 5 s ([`crate::broker`]). How late
//! each site command came is judged after the end ([`crate::lateness`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::Fault;
use crate::clock::now;
use crate::daemon::Life;
use crate::heard::Heard;
use crate::run::World;
use crate::truth::{Dispatch, Duty, duties};

/// Nobody is asked to be right so close to a start or an end.
const MARGIN: Duration = Duration::from_millis(700);

/// What is not as it must be.
pub async fn wrong(world: &World, life: &Life) -> Result<Vec<String>, Fault> {
    let schedule = life.get("/schedule").await?;
    let sites = life.get("/sites").await?;
    let health = life.get("/status").await?;
    let time = now();
    let books = world.upstream.books();
    let all = &books.dispatches;
    if let Some(near) = all
        .values()
        .find(|one| one.is_there() && one.is_near_a_change(time, MARGIN))
    {
        return Ok(vec![format!("{} is about to change", near.id)]);
    }
    let mut wrong = pending(&health);
    wrong.extend(schedule_against(&schedule, all, time));
    let duties = duties(all.values(), time);
    wrong.extend(sites_against(&sites, &duties));
    for receiver in &world.receivers {
        let (name, heard) = (receiver.name, receiver.heard());
        wrong.extend(commands_against(name, &heard, &duties));
        wrong.extend(words_against(name, &heard, &schedule));
        let missing = world
            .catalogue
            .events
            .iter()
            .filter(|event| event.must_arrive() && !heard.sequences.contains(&event.sequence));
        wrong.extend(missing.map(|event| {
            format!(
                "{name}: {} {} of {} never came",
                event.kind, event.sequence, event.subject
            )
        }));
    }
    if let Some(broker) = &world.broker {
        wrong.extend(commands_against("mqtt", &broker.heard(), &duties));
        let missing = broker.missing();
        if !missing.is_empty() {
            let sites = missing.join(", ");
            wrong.push(format!("mqtt: no state is retained of {sites}"));
        }
    }
    Ok(wrong)
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().into_iter().flatten()
}

fn pending(health: &Value) -> Vec<String> {
    list(health, "delivery")
        .filter(|sink| sink["pending"] != 0)
        .map(|sink| format!("{}: {} are pending", sink["sink"], sink["pending"]))
        .collect()
}

fn schedule_against(
    schedule: &Value,
    all: &BTreeMap<String, Dispatch>,
    time: DateTime<Utc>,
) -> Vec<String> {
    let entries: BTreeMap<&str, &Value> = list(schedule, "dispatches")
        .filter_map(|entry| Some((entry["id"].as_str()?, entry)))
        .collect();
    let mut wrong: Vec<String> = all
        .values()
        .filter_map(|one| match entries.get(one.id.as_str()) {
            Some(entry) if one.is_there() => one.difference(entry, time),
            Some(entry) => {
                // Its last states may have been missed; it must be over.
                let over = matches!(entry["phase"].as_str(), Some("ended" | "cancelled"));
                (!over).then(|| format!("{}: is gone upstream, and {}", one.id, entry["phase"]))
            }
            None if !one.is_there() || one.may_be_forgotten(time) => None,
            None => Some(format!("{}: is not in the schedule", one.id)),
        })
        .collect();
    let strangers = entries.keys().filter(|id| !all.contains_key(**id));
    wrong.extend(strangers.map(|id| format!("{id}: is not known upstream")));
    wrong
}

fn duty_of(site: &Value) -> Option<Duty> {
    (site["state"] == "curtailed").then(|| Duty {
        holders: list(site, "dispatches")
            .filter_map(|id| Some(id.as_str()?.to_owned()))
            .collect(),
        commitment: site["commitment_kw"].as_i64(),
        until: site["until"].as_str().and_then(|text| text.parse().ok()),
    })
}

fn sites_against(sites: &Value, duties: &BTreeMap<String, Duty>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut wrong = Vec::new();
    for site in list(sites, "sites") {
        let id = site["id"].as_str().unwrap_or_default();
        known.insert(id);
        let (theirs, ours) = (duty_of(site), duties.get(id));
        if theirs.as_ref() != ours {
            wrong.push(format!("{id}: has to do {theirs:?}, must do {ours:?}"));
        }
    }
    let unknown = duties.keys().filter(|id| !known.contains(id.as_str()));
    wrong.extend(unknown.map(|id| format!("{id}: must curtail, and is not known")));
    wrong
}

/// What a receiver believes of sites, taken from its last words.
fn commands_against(name: &str, heard: &Heard, duties: &BTreeMap<String, Duty>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told = BTreeSet::new();
    for (key, word) in &heard.newest {
        if let Some(site) = key.strip_prefix("site/") {
            told.insert(site);
            let curtailed = word.kind != "site.release";
            let theirs = duty_of(&word.data).filter(|_| curtailed);
            let ours = duties.get(site);
            if theirs.as_ref() != ours {
                wrong.push(format!(
                    "{name}: the last word on {site} is {} {theirs:?}, it must do {ours:?}",
                    word.kind
                ));
            }
        }
    }
    let silent = duties.keys().filter(|site| !told.contains(site.as_str()));
    let silent: Vec<&str> = silent.map(String::as_str).collect();
    if !silent.is_empty() {
        let sites = silent.join(", ");
        wrong.push(format!(
            "{name}: has no word on sites that must curtail: {sites}"
        ));
    }
    wrong
}

/// What a receiver believes of dispatches, taken from its last words.
fn words_against(name: &str, heard: &Heard, schedule: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in list(schedule, "dispatches") {
        let id = entry["id"].as_str().unwrap_or_default();
        let word = heard.newest.get(&format!("dispatch/{id}"));
        let fields = |value: &Value| (value["phase"].clone(), value["metadata"].clone());
        if word.map(|word| fields(&word.data)) != Some(fields(entry)) {
            let last = word.map(|word| &word.kind);
            wrong.push(format!(
                "{name}: the last word on {id} is {last:?}, it is {}",
                entry["phase"]
            ));
        }
    }
    wrong
}
