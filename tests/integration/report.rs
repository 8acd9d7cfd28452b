//! What proves afterwards how a dispatch was carried out: `dispatchd report` and
//! `GET /report/{id}`.

use chrono::{DateTime, TimeDelta, Utc};
use http::header::ACCEPT;
use serde_json::Value;

use crate::commands::{done, failed, run};
use crate::harness::{Manner, Receiver, World, dispatch, in_ms, now, site_of, wait_until};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[apply(test)]
async fn a_report_tells_of_a_lost_webhook_a_kill_and_a_receiver_that_was_down() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave(Manner::Fails);
    let setup = world.setup().sink(receiver.sink());
    let mut daemon = setup.ready().await;
    let site = site_of("a");

    // The webhook is lost: the list brings the dispatch.
    let (start, before) = (in_ms(-1_000), now());
    world.put(dispatch("a", 0, start, None));
    assert_eq!(daemon.poll().await.status, 200);
    let learned = now();
    wait_until("the receiver has refused the command", async || {
        let report = daemon.get("/report/a").await.json;
        report["deliveries"][0]["commands"][0]["last_error"].is_string()
    })
    .await;
    daemon.kill();
    let mut daemon = setup.ready().await;
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    let back = now();
    receiver.behave(Manner::Takes);
    wait_until("the site is told", async || {
        daemon.get("/report/a").await.json["deliveries"][0]["verdict"] == "late"
    })
    .await;
    let told = now();

    // The end comes by a webhook.
    let end = in_ms(1_500);
    world.put(dispatch("a", 1, start, Some(end)));
    assert_eq!(daemon.webhook("a").await.status, 200);
    wait_until("the site is released", async || {
        let report = daemon.get("/report/a").await.json;
        let commands = report["deliveries"][0]["commands"].as_array().unwrap();
        let last = commands.last().unwrap();
        last["command"] == "site.release" && last["acknowledged"].is_string()
    })
    .await;

    let report = daemon.get("/report/a").await.json;
    let states = report["states"].as_array().unwrap();
    let ways: Vec<&Value> = states.iter().map(|state| &state["way"]).collect();
    assert_eq!(ways, ["list", "webhook"]);
    assert!(before <= time(&states[0]["asked"]));
    assert!(time(&states[0]["asked"]) <= time(&states[0]["answered"]));
    assert!(time(&states[0]["answered"]) <= learned);
    assert_eq!(states[0]["body"]["end_time"], Value::Null);
    assert_eq!(time(&states[1]["body"]["end_time"]), end);
    assert_eq!(report["states_left_out"], 0);

    let row = &report["deliveries"][0];
    assert_eq!(row["site"], site.as_str());
    assert_eq!(row["sink"], receiver.sink());
    let commands = row["commands"].as_array().unwrap();
    let names: Vec<&Value> = commands.iter().map(|line| &line["command"]).collect();
    assert_eq!(names, ["site.curtail", "site.adjust", "site.release"]);
    let curtail = &commands[0];
    assert_eq!(time(&curtail["due"]), start);
    assert!(before <= time(&curtail["known"]) && time(&curtail["known"]) <= learned);
    assert!(time(&curtail["first_attempt"]) <= learned + TimeDelta::seconds(5));
    let acknowledged = time(&curtail["acknowledged"]);
    assert!(back <= acknowledged && acknowledged <= told);
    assert!(curtail["attempts"].as_u64().unwrap() >= 2, "{curtail}");
    let lateness = (acknowledged - time(&curtail["known"])).as_seconds_f64();
    assert_eq!(curtail["lateness_seconds"], lateness);
    assert!(lateness > 2.0, "{curtail}");
    let release = &commands[2];
    assert_eq!(time(&release["due"]), end);
    assert_eq!(release["known"], release["due"]);
    assert_eq!(report["totals"]["late"], 1);
    assert_eq!(report["totals"]["latest_seconds"], lateness);
    assert_eq!(report["totals"]["never"], 0);

    // The same as CSV, from the daemon and by the command, and from the file.
    let asked = daemon.http.get(daemon.status_url("/report/a"));
    let asked = asked.header(ACCEPT, "text/csv").send().await.unwrap();
    assert!(
        asked.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/csv")
    );
    let csv = asked.text().await.unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert!(lines[0].starts_with("dispatch,site,name,"), "{csv}");
    assert!(lines[1].starts_with(&format!("a,{site},")), "{csv}");
    assert!(lines[1].contains(&format!(",late,{lateness:.3},")), "{csv}");
    let by_command = ["report", "a", "--format", "csv"];
    assert_eq!(done(&run(&world, Some(&daemon), &by_command).await), csv);
    let table = done(&run(&world, Some(&daemon), &["report", "a"]).await);
    assert!(table.contains("by list: "), "{table}");
    assert!(table.contains("0 never"), "{table}");
    let said = failed(&run(&world, Some(&daemon), &["report", "unknown"]).await, 1);
    assert!(said.contains("knows no dispatch `unknown`"), "{said}");
    assert_eq!(daemon.get("/report/unknown").await.status, 404);

    daemon.kill();
    let path = world.path("state.db");
    let state = path.to_str().unwrap();
    let from_file = ["report", "a", "--format", "csv", "--state", state];
    assert_eq!(done(&run(&world, None, &from_file).await), csv);
    let unknown = ["report", "unknown", "--state", state];
    let said = failed(&run(&world, None, &unknown).await, 1);
    assert!(said.contains("knows no dispatch `unknown`"), "{said}");
}
