//! States that released versions have written, kept in the folder of this name, are
//! opened by the program of now with everything in them. `states/make` writes one.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, Setup};

/// The API of all these states. Nobody answers there, so that only the state can tell.
const API: &str = "http://127.0.0.1:1";

/// A site that an operator had curtailed for two days when the state was written.
const OVERRIDDEN: &str = "plant-c";

/// One state, as it was written, and what its program said of it.
struct Released {
    name: String,
    file: PathBuf,
    said: Value,
}

fn released() -> Vec<Released> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/states");
    let mut all: Vec<Released> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "sqlite"))
        .map(|file| Released {
            name: file.file_stem().unwrap().to_string_lossy().into_owned(),
            said: serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap())
                .unwrap(),
            file,
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(!all.is_empty());
    all
}

/// A daemon of now on a copy of the state in `folder`.
async fn opened(released: &Released, folder: &Path) -> Daemon {
    std::fs::copy(&released.file, folder.join("state.db")).unwrap();
    let setup = Setup::new(API, folder.to_owned())
        .with("--retain", "3650d")
        .sink("exec:/bin/true")
        .sink("http://127.0.0.1:2/in");
    setup.start().await
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value[name].as_array();
    list.unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// All that was said is said again; what a newer version says beside it is its own.
fn assert_said_again(what: &str, before: &Value, now: &Value) {
    match before {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_said_again(&format!("{what}.{name}"), value, &now[name]);
            }
        }
        Value::Array(items) => {
            assert_eq!(list_len(now), items.len(), "{what}: {before} became {now}");
            for (place, item) in items.iter().enumerate() {
                assert_said_again(&format!("{what}[{place}]"), item, &now[place]);
            }
        }
        other => assert_eq!(now, other, "{what}"),
    }
}

fn list_len(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// Takes from `value` what time or this start of the daemon alone may change.
fn without(mut value: Value, fields: &[&str]) -> Value {
    if let Some(object) = value.as_object_mut() {
        for field in fields {
            object.remove(*field);
        }
    }
    value
}

#[apply(test)]
async fn every_dispatch_of_a_released_state_is_there_with_its_history() {
    for released in released() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = opened(&released, folder.path()).await;
        let dispatches = list(&released.said, "dispatches");
        assert_eq!(dispatches.len(), 6, "{}", released.name);
        let schedule = daemon.schedule().await;
        assert_eq!(list(&schedule, "dispatches").len(), dispatches.len());
        for before in dispatches {
            let id = before["id"].as_str().unwrap();
            let now = daemon.entry(id).await.unwrap_or_else(|| panic!("no {id}"));
            let what = format!("{} {id}", released.name);
            // The time of the last poll that changed nothing is not worth a commit.
            let aside = ["as_of", "last_confirmed"];
            assert_said_again(&what, &without(before.clone(), &aside), &now);
        }
        let phase = |phase: &str| {
            let of_phase = dispatches.iter().filter(|entry| entry["phase"] == *phase);
            of_phase.count()
        };
        let phases = ["active", "scheduled", "ended", "cancelled"].map(phase);
        assert_eq!(phases, [1, 2, 1, 2], "{}", released.name);
    }
}

#[apply(test)]
async fn every_site_of_a_released_state_is_curtailed_or_not_as_it_was() {
    for released in released() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = opened(&released, folder.path()).await;
        let now = daemon.get("/sites").await.json;
        let now = list(&now, "sites");
        let before = list(&released.said["sites"], "sites");
        let mut curtailed = 0;
        for site in before {
            let id = &site["id"];
            let there = now.iter().find(|now| now["id"] == *id);
            let there = there.unwrap_or_else(|| panic!("{}: no {id}", released.name));
            // An order lasts two days at most; whether a site is enrolled, and what a
            // sink has not taken, is found out after the start.
            let mut aside = vec!["as_of", "enrolled", "untold"];
            if id == OVERRIDDEN && !site["override"].is_null() {
                aside.extend(["state", "since", "until", "override"]);
            } else if site["state"] == "curtailed" {
                curtailed += 1;
            }
            let what = format!("{} {id}", released.name);
            assert_said_again(&what, &without(site.clone(), &aside), there);
        }
        assert_eq!(curtailed, 2, "{}", released.name);
    }
}

/// The one sink had taken both curtails, the other none: that goes on as it was.
#[apply(test)]
async fn what_each_sink_of_a_released_state_was_told_is_known() {
    for released in released() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = opened(&released, folder.path()).await;
        let outbox = daemon.get("/outbox").await.json;
        let pending = |name: &str| -> Vec<String> {
            let sinks = list(&outbox, "sinks");
            let sink = sinks.iter().find(|there| there["sink"] == name).unwrap();
            let commands = list(sink, "events").iter();
            let commands = commands.filter(|event| event["type"] == "site.curtail");
            let subjects = commands.map(|event| event["subject"].as_str().unwrap().to_owned());
            subjects.filter(|site| site != OVERRIDDEN).collect()
        };
        let name = &released.name;
        assert!(pending("exec:/bin/true").is_empty(), "{name}: {outbox}");
        let mut sites = pending("http://127.0.0.1:2/in");
        sites.sort();
        assert_eq!(sites, ["plant-a", "plant-b"], "{name}: {outbox}");
        assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    }
}

/// Without a daemon, as whoever settles a dispute reads it.
#[apply(test)]
fn a_released_state_gives_a_report_of_each_dispatch() {
    for released in released() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.db");
        std::fs::copy(&released.file, &state).unwrap();
        for dispatch in list(&released.said, "dispatches") {
            let id = dispatch["id"].as_str().unwrap();
            let mut report = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
            report.env_clear().args(["report", id, "--format", "json"]);
            let output = report.arg("--state").arg(&state).output().unwrap();
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {id}: {why}", released.name);
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(report.to_string().contains(id), "{report}");
        }
    }
}
