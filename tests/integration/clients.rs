//! Clients that read what Voltus's published example programs read, in their
//! way, against `dispatchd sandbox` as it starts by default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::http::{Bounds, serve};
use dispatchd::model::rfc3339;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use warp::Filter;

use crate::harness::{Setup, StandIn, in_ms, now, wait_until};

const LIST: &str = "/2022-04-15/dispatches";

/// A field that the programs read without asking whether it is there.
fn must<'a>(value: &'a Value, field: &str) -> Result<&'a Value, String> {
    value.get(field).ok_or_else(|| format!("KeyError: {field}"))
}

/// A time that they parse.
fn time(value: &Value) -> Result<DateTime<Utc>, String> {
    let text = value.as_str().ok_or("a time is no text")?;
    let time = DateTime::parse_from_rfc3339(text).map_err(|error| error.to_string())?;
    Ok(time.to_utc())
}

/// An end, which may be null or absent.
fn end(dispatch: &Value) -> Result<Option<DateTime<Utc>>, String> {
    let end = dispatch.get("end_time").filter(|end| !end.is_null());
    end.map(time).transpose()
}

/// Whether the programs take it for over: past its end, or not authorized.
fn is_over(dispatch: &Value) -> Result<bool, String> {
    let authorized = must(dispatch, "authorized")?.as_bool();
    Ok(end(dispatch)?.is_some_and(|end| end < now()) || authorized != Some(true))
}

/// What the example server does with one webhook: it looks the resource up, and
/// says what it made of it.
async fn handle(sandbox: &StandIn, body: &[u8]) -> Result<String, String> {
    let hint: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let event = must(must(&hint, "event")?, "name")?;
    let resource = must(&hint, "resource")?;
    if (event, resource) == (&json!(""), &json!("")) {
        return Ok("hello".into());
    }
    let answer = sandbox.get(resource.as_str().unwrap_or_default()).await;
    if answer.status >= 400 {
        return Err(format!("HTTPError: {}", answer.status));
    }
    let dispatch = answer.json;
    time(must(&dispatch, "start_time")?)?;
    let over = is_over(&dispatch)?;
    let done = match event.as_str() {
        Some("dispatch.create") => "created",
        _ if over => "cancelled",
        _ => "updated",
    };
    must(&dispatch, "sites")?;
    let id = must(&dispatch, "id")?
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(format!("{id} {done}"))
}

/// Such a server.
struct Server {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Result<String, String>>>>,
    _stop: DropGuard,
}

impl Server {
    async fn start(sandbox: &Arc<StandIn>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::<Mutex<Vec<_>>>::default();
        let (keep, sandbox) = (Arc::clone(&said), Arc::clone(sandbox));
        let route = warp::post()
            .and(warp::path("dispatch-listener"))
            .and(warp::path::end())
            .and(warp::body::bytes())
            .then(move |body: Bytes| {
                let (keep, sandbox) = (Arc::clone(&keep), Arc::clone(&sandbox));
                async move {
                    let said = handle(&sandbox, &body).await;
                    let status = if said.is_ok() {
                        StatusCode::OK
                    } else {
                        StatusCode::INTERNAL_SERVER_ERROR
                    };
                    keep.lock().unwrap().push(said);
                    status
                }
            });
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(serve(
            listener,
            warp::service(route),
            Bounds::default(),
            stop.clone(),
        ));
        Self {
            address,
            said,
            _stop: stop.drop_guard(),
        }
    }

    async fn register(&self, sandbox: &StandIn) {
        let events = json!([{"name": "dispatch.create"}, {"name": "dispatch.update"}]);
        let url = format!("http://{}/dispatch-listener", self.address);
        let order = json!({"url": url, "events": events});
        let answer = sandbox.post("/2022-04-15/webhooks", &order).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(*self.said.lock().unwrap(), [Ok("hello".to_owned())]);
        self.said.lock().unwrap().clear();
    }

    /// What it said, without ids. Whatever it could not do is told.
    fn done(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let done = said.iter().map(|said| match said {
            Ok(said) => said.rsplit(' ').next().unwrap_or_default().to_owned(),
            Err(error) => error.clone(),
        });
        done.collect()
    }
}

/// The scenarios of a second or two, and what the server has to make of each.
fn scenarios() -> Vec<(Value, Vec<&'static str>)> {
    let at = |ms| rfc3339(in_ms(ms));
    let open = json!({"start_time": at(0), "end_time": null});
    let closed = json!({"start_time": at(0), "end_time": at(500), "metadata": {"x": 1}});
    vec![
        (
            json!({"scenario_type": "basic", "start_time": at(60_000), "end_time": at(120_000)}),
            vec!["created"],
        ),
        (
            json!({"scenario_type": "basic", "start_time": at(60_000), "end_time": at(120_000),
                "cancel_time": at(600)}),
            vec!["created", "cancelled"],
        ),
        (
            json!({"scenario_type": "basic", "start_time": at(60_000), "end_time": at(120_000),
                "minutes_between_dispatches": 1, "sites": [{"name": "Mill"}]}),
            vec!["created", "created"],
        ),
        (
            json!({"scenario_type": "custom", "dispatches": {"Dispatch": {"states": [
                {"published_time": at(0), "dispatch": open},
                {"published_time": at(900), "dispatch": closed}]}}}),
            vec!["created", "cancelled"],
        ),
    ]
}

#[apply(test)]
async fn voltus_example_server_takes_every_webhook_of_the_stand_in() {
    let sandbox = Arc::new(StandIn::start(&[]).await);
    let server = Server::start(&sandbox).await;
    server.register(&sandbox).await;
    for (scenario, wanted) in scenarios() {
        server.said.lock().unwrap().clear();
        let started = sandbox.post("/2022-04-15/scenarios", &scenario).await;
        assert_eq!(started.status, 200, "{}", started.json);
        wait_until("all states are published", async || {
            server.done().len() >= wanted.len()
        })
        .await;
        assert_eq!(server.done(), wanted, "{scenario}");
    }
    server.said.lock().unwrap().clear();
    let start = rfc3339(in_ms(60_000));
    let test = json!({"start_time": start, "end_time": rfc3339(in_ms(90_000)), "program_id": 867});
    assert_eq!(sandbox.post(LIST, &test).await.status, 200);
    wait_until("the test dispatch is told", async || {
        !server.done().is_empty()
    })
    .await;
    assert_eq!(server.done(), ["created"]);
    let log = sandbox.log().await;
    assert_eq!(log["contact_emails"], json!([]));
    for delivery in log["deliveries"].as_array().unwrap() {
        assert_eq!(
            (&delivery["outcome"], &delivery["attempt"]),
            (&json!(200), &json!(1))
        );
    }
}

#[apply(test)]
async fn wrapped_answers_are_an_option_that_the_example_server_cannot_read() {
    let sandbox = Arc::new(StandIn::start(&["--wrapped"]).await);
    let server = Server::start(&sandbox).await;
    server.register(&sandbox).await;
    let (scenario, _) = scenarios().remove(0);
    sandbox.post("/2022-04-15/scenarios", &scenario).await;
    wait_until("a webhook came", async || !server.done().is_empty()).await;
    assert_eq!(server.done()[0], "KeyError: start_time");
    let list = sandbox.get(LIST).await.json;
    let id = list["dispatches"][0]["id"].as_str().unwrap();
    let by_id = sandbox.get(&format!("{LIST}/{id}")).await.json;
    assert_eq!(by_id["dispatches"], list["dispatches"]);
}

/// The example poller: what it knows, and what it has done.
#[derive(Default)]
struct Poller {
    managed: BTreeMap<String, Value>,
    cancelled: BTreeSet<String>,
    done: Vec<String>,
}

impl Poller {
    async fn poll(&mut self, sandbox: &StandIn) -> Result<(), String> {
        let answer = sandbox.get(LIST).await;
        assert_eq!(answer.status, 200);
        let dispatches = must(&answer.json, "dispatches")?.as_array().unwrap();
        for dispatch in dispatches {
            time(must(dispatch, "start_time")?)?;
            must(dispatch, "sites")?;
            let id = must(dispatch, "id")?.as_str().unwrap().to_owned();
            if self.cancelled.contains(&id) {
                continue;
            }
            let known = self.managed.get(&id);
            let done = if is_over(dispatch)? {
                self.managed.remove(&id);
                self.cancelled.insert(id.clone());
                "cancelled"
            } else if known == Some(dispatch) {
                continue;
            } else {
                let done = known.map_or("created", |_| "updated");
                self.managed.insert(id, dispatch.clone());
                done
            };
            self.done.push(done.to_owned());
        }
        Ok(())
    }
}

#[apply(test)]
async fn voltus_example_poller_sees_a_fixture_that_stays_unless_it_is_to_move() {
    for (options, wanted) in [
        (&[][..], &["created"][..]),
        (&["--moving-fixture"], &["created", "updated", "updated"]),
    ] {
        let sandbox = StandIn::start(options).await;
        let mut poller = Poller::default();
        for _ in 0..3 {
            poller.poll(&sandbox).await.unwrap();
        }
        assert_eq!(poller.done, wanted, "{options:?}");
    }
}

#[apply(test)]
async fn voltus_example_poller_sees_a_dispatch_come_change_and_go() {
    let sandbox = StandIn::start(&[]).await;
    let mut poller = Poller::default();
    let at = |ms| rfc3339(in_ms(ms));
    let state = |published: String, dispatch: Value| json!({"published_time": published, "dispatch": dispatch});
    let start = at(30_000);
    let scenario = json!({"scenario_type": "custom", "dispatches": {"a": {"states": [
        state(at(0), json!({"start_time": start})),
        state(at(1500), json!({"start_time": start, "end_time": at(90_000)})),
        state(at(3000), json!({"start_time": start, "authorized": false})),
    ]}}});
    sandbox.post("/2022-04-15/scenarios", &scenario).await;
    let begun = now();
    while poller.done.len() < 3 && now() - begun < TimeDelta::seconds(20) {
        poller.poll(&sandbox).await.unwrap();
    }
    assert_eq!(poller.done, ["created", "updated", "cancelled"]);
}

#[apply(test)]
async fn voltus_example_processor_reads_location_and_commitment_of_each_site() {
    let sandbox = StandIn::start(&[]).await;
    let sites = json!([{"id": "a", "name": "A"}, {"id": "b", "commitment": 7}]);
    let scenario = json!({"scenario_type": "basic", "start_time": rfc3339(now()), "sites": sites});
    for started in [None, Some(&scenario)] {
        if let Some(scenario) = started {
            sandbox.post("/2022-04-15/scenarios", scenario).await;
        }
        let list = sandbox.get(LIST).await.json;
        for dispatch in list["dispatches"].as_array().unwrap() {
            for site in dispatch["sites"].as_array().unwrap() {
                must(site, "customer_location_id").unwrap();
                must(site, "commitment").unwrap();
            }
        }
    }
}

#[apply(test)]
async fn voltus_example_of_telemetry_reads_the_meters_of_a_site() {
    let sandbox = StandIn::start(&[]).await;
    let sites = sandbox.get("/2022-04-15/sites").await;
    assert_eq!(sites.status, 200);
    let site = sites.json["sites"][0]["id"].as_str().unwrap();
    let query = "start_time=2026-11-18T00:00:00Z&end_time=2026-11-20T00:00:00Z&interval_seconds=30";
    let path = format!("/2022-04-15/telemetry/kw?{query}&site_id={site}");
    let answer = sandbox.get(&path).await;
    assert_eq!(answer.status, 200);
    for site in must(must(&answer.json, "data").unwrap(), "sites")
        .unwrap()
        .as_array()
        .unwrap()
    {
        must(site, "site_id").unwrap();
        for meter in must(site, "meters").unwrap().as_array().unwrap() {
            must(meter, "meter_id").unwrap();
            assert!(must(meter, "telemetry").unwrap().is_array());
        }
    }
}

#[apply(test)]
async fn a_notification_a_year_ago_calls_the_scenario_off() {
    let sandbox = StandIn::start(&[]).await;
    let (scenario, _) = scenarios().remove(2);
    sandbox.post("/2022-04-15/scenarios", &scenario).await;
    let listed = async || {
        sandbox.get(LIST).await.json["dispatches"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(listed().await, 2);
    let mut called_off = scenario;
    called_off["notification_time"] = rfc3339(now() - TimeDelta::days(365)).into();
    let answer = sandbox.post("/2022-04-15/scenarios", &called_off).await;
    assert_eq!(
        (answer.status, &answer.json["dispatches"]),
        (200, &json!({}))
    );
    assert_eq!(listed().await, 0);
}

/// A daemon that asks this sandbox, in `folder`.
fn daemon_at(sandbox: &StandIn, folder: &tempfile::TempDir) -> Setup {
    Setup::new(&sandbox.url, folder.path().to_owned()).polling("200ms")
}

#[apply(test)]
async fn a_fresh_stand_in_counts_no_heals_over_several_polls() {
    let sandbox = StandIn::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon_at(&sandbox, &folder).ready().await;
    let revision = daemon.revision().await;
    assert!(revision > 0, "the fixture is in the schedule");
    for _ in 0..5 {
        assert_eq!(daemon.poll().await.status, 200);
    }
    assert_eq!(daemon.revision().await, revision);
    let sync = daemon.health().await["sync"].clone();
    assert_eq!(
        (&sync["heals"], &sync["missed_webhooks"]),
        (&json!(0), &json!(0))
    );
}

#[apply(test)]
async fn a_stand_in_whose_fixture_moves_counts_a_heal_for_each_poll() {
    let sandbox = StandIn::start(&["--moving-fixture"]).await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon_at(&sandbox, &folder).ready().await;
    wait_until("heals", async || {
        daemon.health().await["sync"]["heals"].as_u64() >= Some(2)
    })
    .await;
}

#[apply(test)]
async fn the_daemon_reads_answers_by_id_bare_and_wrapped() {
    for options in [&[][..], &["--wrapped"]] {
        let sandbox = StandIn::start(options).await;
        let folder = tempfile::tempdir().unwrap();
        let daemon = daemon_at(&sandbox, &folder).polling("1h").ready().await;
        let (scenario, _) = scenarios().remove(0);
        let started = sandbox.post("/2022-04-15/scenarios", &scenario).await;
        let id = started.json["dispatches"]["Dispatch"]["id"]
            .as_str()
            .unwrap();
        assert_eq!(daemon.webhook(id).await.status, 200, "{options:?}");
        let entry = daemon.entry(id).await.unwrap();
        assert_eq!(entry["discovered_by"], "webhook", "{options:?}");
    }
}
