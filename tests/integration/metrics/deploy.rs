//! The alerts and the dashboard ask for metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::exposition::Exposition;
use super::queries::{Query, Selector};
use super::{ALL, OF_THE_LEASE, read, well_used};
use crate::deploy::{path_of, ran, said, text_of, tool};

/// What Prometheus itself adds.
const ITS_OWN: [&str; 2] = ["job", "instance"];

/// The expressions of the alerts. Each is on one line.
fn alerts() -> Vec<String> {
    let text = text_of("prometheus/alerts.yml");
    let lines = text.lines().map(str::trim_start);
    let found: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("expr: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(found.len(), text.matches("- alert: ").count());
    found
}

/// The expressions of the dashboard.
pub fn panels() -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("expr")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|value| gather(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&text_of("grafana/dashboard.json")).unwrap();
    let mut found = Vec::new();
    gather(&dashboard, &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

fn check(query: &str, metrics: &Exposition) {
    let read = Query::read(query);
    assert!(!read.selectors.is_empty(), "{query}");
    let mut labels: BTreeSet<&str> = ITS_OWN.into();
    for selector in &read.selectors {
        // A daemon alone has no lease, and what it would be asked for has no labels.
        if selector.name == "up" || OF_THE_LEASE.contains(&&*selector.name) {
            continue;
        }
        check_selector(selector, metrics, query);
        let series = metrics.series(&selector.name);
        labels.extend(series.flat_map(|sample| sample.labels.keys().map(String::as_str)));
    }
    for label in &read.grouped_by {
        assert!(labels.contains(label.as_str()), "{label} in {query}");
    }
}

fn check_selector(selector: &Selector, metrics: &Exposition, query: &str) {
    let name = &selector.name;
    assert!(
        metrics.series(name).next().is_some(),
        "{name} does not exist: {query}"
    );
    for (label, operator, wanted) in &selector.matchers {
        if ITS_OWN.contains(&label.as_str()) {
            continue;
        }
        let values: BTreeSet<&str> = metrics
            .series(name)
            .filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect();
        let wanted: Vec<String> = match operator.as_str() {
            "=" => vec![wanted.clone()],
            // In the alerts: a bound as either format writes it.
            "=~" => wanted
                .split('|')
                .map(|one| one.replace("(\\\\.0)?", ""))
                .collect(),
            other => panic!("{other} in {query}"),
        };
        for wanted in &wanted {
            assert!(
                values.contains(wanted.as_str()),
                "{label} {wanted}: {query}"
            );
        }
    }
}

#[apply(test)]
async fn alerts_and_dashboard_ask_for_what_there_is() {
    let (_world, daemon) = well_used().await;
    let (metrics, _) = read(&daemon).await;
    for query in alerts().iter().chain(&panels()) {
        check(query, &metrics);
    }
    // Metrics that the words of an alert send the operator to.
    let text = text_of("prometheus/alerts.yml");
    for (at, _) in text.match_indices("dispatchd_") {
        let name: &str = &text[at..];
        let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        let name = &name[..end.unwrap()];
        let known = metrics.types.contains_key(name)
            || metrics.series(name).next().is_some()
            || OF_THE_LEASE.contains(&name);
        assert!(known, "{name} does not exist");
    }
}

/// Metrics that say what another one says that a panel or an alert asks for.
const TOLD_BY_OTHERS: [&str; 5] = [
    "dispatchd_delivered_events_total",
    "dispatchd_sink_failing",
    "dispatchd_sink_paused",
    "dispatchd_store_commits_total",
    "dispatchd_webhook_last_timestamp_seconds",
];

#[apply(test)]
fn what_the_daemon_tells_is_on_the_dashboard_or_in_an_alert() {
    let queries = alerts().into_iter().chain(panels());
    let asked: BTreeSet<String> = queries
        .flat_map(|query| Query::read(&query).selectors)
        .flat_map(|selector| {
            let of_histogram =
                ["_bucket", "_count", "_sum"].map(|end| selector.name.strip_suffix(end));
            let of_histogram: Vec<String> = of_histogram
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect();
            of_histogram.into_iter().chain([selector.name])
        })
        .collect();
    let missing: Vec<&str> = ALL
        .split_whitespace()
        .chain(OF_THE_LEASE)
        .filter(|name| name.starts_with("dispatchd_") && !asked.contains(*name))
        .collect();
    assert_eq!(missing, TOLD_BY_OTHERS);
}

#[apply(test)]
fn every_alert_says_what_to_do_and_has_a_test() {
    let alerts = text_of("prometheus/alerts.yml");
    let tests = text_of("prometheus/alerts_test.yml");
    for alert in alerts.split("- alert: ").skip(1) {
        let (name, body) = alert.split_once('\n').unwrap();
        for part in ["severity: ", "summary: ", "description: ", "runbook: "] {
            assert_eq!(body.matches(part).count(), 1, "{part} of {name}");
        }
        let expected = format!("alertname=\"{name}\"");
        assert!(tests.contains(&expected), "{name} has no test");
    }
}

/// Expects that promtool finds the file to be as it should.
fn promtool(arguments: [&str; 2], file: &Path) {
    let arguments = arguments.map(AsRef::as_ref);
    let output = ran("promtool", &[&arguments[..], &[file.as_os_str()]].concat());
    assert!(output.status.success(), "{}", said(&output));
}

#[apply(test)]
fn promtool_accepts_the_alerts_and_runs_their_tests() {
    promtool(["check", "rules"], &path_of("prometheus/alerts.yml"));
    promtool(["test", "rules"], &path_of("prometheus/alerts_test.yml"));
}

#[apply(test)]
fn promtool_accepts_the_queries_of_the_dashboard() {
    let rules: Vec<Value> = panels()
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "5m");
            serde_json::json!({"record": format!("panel:{number}"), "expr": query})
        })
        .collect();
    // JSON is YAML.
    let rules = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, rules.to_string()).unwrap();
    promtool(["check", "rules"], &file);
}

#[apply(test)]
async fn promtool_has_nothing_to_say_against_the_metrics() {
    let mut promtool = tool("promtool");
    let (_world, daemon) = well_used().await;
    let (_, text) = read(&daemon).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.txt");
    std::fs::write(&file, text).unwrap();
    let promtool = promtool.args(["check", "metrics"]);
    let ran = promtool.stdin(std::fs::File::open(file).unwrap()).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    assert_eq!(said(&ran), "");
}
