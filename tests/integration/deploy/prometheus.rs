//! A Prometheus that scrapes a daemon runs every query of the dashboard and
//! every alert.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{Server, free_port, path_of, tool};
use crate::harness::{Daemon, World, dispatch, hint, in_ms, wait_for, wait_until};
use crate::metrics::OF_THE_LEASE;
use crate::metrics::deploy::panels;

/// What Grafana puts in place of its variables: everything, and four times the
/// time between two scrapes or more.
const VARIABLES: [(&str, &str); 3] = [
    ("$__rate_interval", "20s"),
    ("$job", ".*"),
    ("$instance", ".*"),
];

struct Prometheus {
    port: u16,
    http: reqwest::Client,
    _server: Server,
}

impl Prometheus {
    /// Started by `command`, it scrapes `daemon` and goes by the alerts.
    async fn start(mut command: Command, world: &World, daemon: &Daemon) -> Self {
        let port = free_port();
        // JSON is YAML.
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [path_of("prometheus/alerts.yml")],
            "scrape_configs": [{
                "job_name": "dispatchd",
                "static_configs": [{"targets": [daemon.status.to_string()]}],
            }],
        });
        let file = world.path("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).unwrap();
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                world.path("tsdb").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(world.folder());
        let prometheus = Self {
            port,
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
            _server: Server::start(&mut command, world.path("prometheus.log")),
        };
        wait_until("Prometheus answers", async || {
            prometheus.ask("query", &[("query", "1")]).await.is_ok()
        })
        .await;
        prometheus
    }

    /// What its interface answers, or what it has against the question.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut url: reqwest::Url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port)
            .parse()
            .unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let answer = self
            .http
            .get(url)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer["error"].to_string())
        }
    }

    /// How often it has scraped so far.
    async fn scrapes(&self) -> u64 {
        let query = [("query", "count_over_time(up[1h])")];
        let data = self.ask("query", &query).await.unwrap();
        let count = data["result"][0]["value"][1].as_str();
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Whether a query gives a number.
    async fn has_data(&self, query: &str) -> bool {
        let data = self.ask("query", &[("query", query)]).await;
        let data = data.unwrap_or_else(|error| panic!("{query}: {error}"));
        let series = data["result"].as_array().unwrap().iter();
        let mut values = series.map(|series| series["value"][1].as_str().unwrap());
        values.any(|value| value != "NaN")
    }
}

/// Lets a bit of everything happen that the dashboard tells of.
async fn live(world: &World, daemon: &Daemon, round: usize) {
    let id = |kind: &str| format!("{kind}-{round}");
    // A dispatch that a webhook brings, one that the poller finds, and what the
    // clock does with both.
    world.put(dispatch(&id("told"), 0, in_ms(200), None));
    daemon
        .post(hint(&format!("/2022-04-15/dispatches/{}", id("told"))))
        .await;
    world.put(dispatch(&id("quiet"), 0, in_ms(200), Some(in_ms(700))));
    daemon.poll().await;
    // And a poll that fails.
    world.faults(json!({"api_error_rate": 1.0}));
    daemon.poll().await;
    world.faults(json!({"api_error_rate": 0.0}));
}

#[apply(test)]
async fn every_query_of_the_dashboard_gives_data_and_every_alert_can_be_evaluated() {
    let command = tool("prometheus");
    let world = World::new().await;
    // One receiver takes everything, nobody is at the other.
    let stuck = "http://127.0.0.1:1/in";
    let setup = world.setup().sink("stdout").sink(stuck);
    let setup = setup.with("--public-url", "http://127.0.0.1:1");
    let daemon = setup.ready().await;
    world.faults(json!({"rate_limit_per_minute": 100_000}));
    let prometheus = Prometheus::start(command, &world, &daemon).await;
    // A daemon alone has no lease.
    let of_the_lease = |query: &String| OF_THE_LEASE.iter().any(|name| query.contains(name));
    let queries: BTreeSet<String> = panels()
        .into_iter()
        .filter(|query| !of_the_lease(query))
        .map(|query| {
            VARIABLES
                .iter()
                .fold(query, |query, (name, value)| query.replace(name, value))
        })
        .collect();
    let mut without = queries.clone();
    let mut round = 0;
    wait_until("all queries have data", async || {
        let before = prometheus.scrapes().await;
        live(&world, &daemon, round).await;
        round += 1;
        wait_until("another scrape", async || {
            prometheus.scrapes().await > before
        })
        .await;
        for query in std::mem::take(&mut without) {
            if !prometheus.has_data(&query).await {
                without.insert(query);
            }
        }
        println!("round {round}: no data yet from {without:?}");
        without.is_empty()
    })
    .await;
    // The variables of the dashboard find the daemon.
    for label in ["job", "instance"] {
        let matched = [("match[]", "dispatchd_build_info")];
        let values = prometheus
            .ask(&format!("label/{label}/values"), &matched)
            .await;
        assert_eq!(values.unwrap().as_array().unwrap().len(), 1, "{label}");
    }

    let rules = wait_for("all alerts have been evaluated", async || {
        let rules = prometheus.ask("rules", &[]).await.unwrap();
        let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
        rules
            .iter()
            .all(|rule| rule["health"] != "unknown")
            .then_some(rules)
    })
    .await;
    assert!(rules.len() > 10, "{rules:?}");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let error = rule["lastError"].as_str().unwrap_or_default();
        assert_eq!(error, "", "{rule}");
    }
    let state = async |alert: &str| {
        let rules = prometheus.ask("rules", &[]).await.unwrap();
        let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
        let rule = rules.iter().find(|rule| rule["name"] == alert).cloned();
        rule.unwrap()["state"].as_str().unwrap().to_owned()
    };
    // The daemon runs and is well; when it is gone, that is noticed.
    for alert in [
        "DispatchdDown",
        "DispatchdStale",
        "DispatchdStoreNotWritable",
    ] {
        assert_eq!(state(alert).await, "inactive", "{alert}");
    }
    drop(daemon);
    wait_until("its end is noticed", async || {
        state("DispatchdDown").await == "pending"
    })
    .await;
}
