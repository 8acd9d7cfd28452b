//! What proves afterwards how a dispatch was carried out: `dispatchd report` and
//! `GET /report/{id}`.

use chrono::{DateTime, TimeDelta, Utc};
use http::header::ACCEPT;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::commands::{done, failed, run};
use crate::harness::{Daemon, Manner, Receiver, World, dispatch, in_ms, now, site_of, wait_until};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// The report of this dispatch, whose times are checked and taken out.
struct Checked {
    report: Value,
}

impl Checked {
    async fn of(daemon: &Daemon, id: &str) -> Self {
        let answer = daemon.get(&format!("/report/{id}")).await;
        assert_eq!(answer.status, 200);
        Self {
            report: answer.json,
        }
    }

    /// Takes out the time at `pointer`, which must be from `from` to `to`.
    fn time(&mut self, pointer: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
        let value = self.report.pointer_mut(pointer).unwrap();
        let at = time(value);
        assert!(from <= at && at <= to, "{pointer}: {from} {at} {to}");
        *value = json!("a time");
        at
    }

    /// Takes out the value at `pointer`.
    fn take(&mut self, pointer: &str) -> Value {
        let value = self.report.pointer_mut(pointer);
        value.unwrap_or_else(|| panic!("{pointer}")).take()
    }
}

/// The command lines of one site and sink.
async fn commands(daemon: &Daemon, id: &str, sink: &str) -> Vec<Value> {
    let report = daemon.get(&format!("/report/{id}")).await.json;
    let rows = report["deliveries"].as_array().unwrap();
    let row = rows.iter().find(|row| row["sink"] == sink).unwrap();
    row["commands"].as_array().unwrap().clone()
}

async fn wait_until_acknowledged(daemon: &Daemon, id: &str, sink: &str, count: usize) {
    wait_until("the commands are acknowledged", async || {
        let commands = commands(daemon, id, sink).await;
        let told = commands
            .iter()
            .filter(|line| line["delivery"] == "acknowledged");
        told.count() == count
    })
    .await;
}

/// A webhook is lost, so that a list brings the dispatch; it starts; the receiver goes
/// down; the dispatch is ended by an update that a webhook brings; the daemon is killed
/// and starts again while the receiver is still down; then the receiver comes back.
#[apply(test)]
async fn a_report_tells_of_a_lost_webhook_a_kill_and_a_receiver_that_was_down() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let sink = receiver.sink();
    let setup = world.setup().sink(&sink);
    let mut daemon = setup.ready().await;
    let site = site_of("a");

    let start = in_ms(8_000);
    let first = dispatch("a", 0, start, None);
    world.put(first.clone());
    let asked = now();
    assert_eq!(daemon.poll().await.status, 200);
    let answered = now();
    assert!(answered < start, "this machine is too busy");
    wait_until_acknowledged(&daemon, "a", &sink, 1).await;
    let curtailed = now();

    receiver.behave(Manner::Fails);
    let end = now() - TimeDelta::milliseconds(5);
    let end = DateTime::from_timestamp_millis(end.timestamp_millis()).unwrap();
    let second = dispatch("a", 1, start, Some(end));
    world.put(second.clone());
    let asked_again = now();
    assert_eq!(daemon.webhook("a").await.status, 200);
    let answered_again = now();
    wait_until("the attempt that failed is on disk", async || {
        let file = Connection::open(world.path("state.db")).unwrap();
        let query = "SELECT count(*) FROM retries WHERE lane GLOB 'site/*' AND tries > 0";
        file.query_row(query, [], |row| row.get::<_, u64>(0))
            .unwrap()
            == 1
    })
    .await;
    let tried = now();
    daemon.kill();
    let mut daemon = setup.ready().await;
    // Longer than what counts as on time.
    wait_until("it has tried again, and is late", async || {
        let release = &commands(&daemon, "a", &sink).await[1];
        assert_eq!(release["delivery"], "pending");
        release["attempts"].as_u64() >= Some(2)
            && now() > answered_again + TimeDelta::milliseconds(2_100)
    })
    .await;
    let back = now();
    receiver.behave(Manner::Takes);
    wait_until_acknowledged(&daemon, "a", &sink, 2).await;
    let released = now();

    let mut report = Checked::of(&daemon, "a").await;
    let whole = report.report.clone();
    // What the API told.
    let before = report.time("/states/0/asked", asked, answered);
    report.time("/states/0/answered", before, answered);
    let before = report.time("/states/1/asked", asked_again, answered_again);
    report.time("/states/1/answered", before, answered_again);
    for (state, shown) in [("/states/0/body", &first), ("/states/1/body", &second)] {
        let body = report.take(state);
        for field in ["id", "authorized", "modification_number", "end_time"] {
            assert_eq!(body[field], shown[field], "{state}/{field}");
        }
        assert_eq!(time(&body["start_time"]), start);
        assert_eq!(body["sites"][0]["id"], site.as_str());
    }
    // What the sink was told.
    let (curtail, release) = ("/deliveries/0/commands/0", "/deliveries/0/commands/1");
    let of = |command: &str, field: &str| format!("{command}/{field}");
    report.time(&of(curtail, "due"), start, start);
    report.time(&of(curtail, "known"), start, start);
    let attempt = report.time(&of(curtail, "first_attempt"), start, curtailed);
    report.time(&of(curtail, "last_attempt"), attempt, attempt);
    let told = report.time(&of(curtail, "acknowledged"), attempt, curtailed);
    let early = (told - start).as_seconds_f64();
    assert_eq!(report.take(&of(curtail, "lateness_seconds")), early);
    report.time(&of(release, "due"), end, end);
    let known = report.time(&of(release, "known"), asked_again, answered_again);
    let attempt = report.time(&of(release, "first_attempt"), known, tried);
    report.time(&of(release, "last_attempt"), attempt.max(tried), released);
    let told = report.time(&of(release, "acknowledged"), back, released);
    let late = (told - known).as_seconds_f64();
    assert!(late > 2.0);
    assert_eq!(report.take(&of(release, "lateness_seconds")), late);
    let attempts = report.take(&of(release, "attempts"));
    assert!(attempts.as_u64() >= Some(3), "{attempts}");
    let error = report.take(&of(release, "last_error"));
    assert!(error.as_str().unwrap().contains("503"), "{error}");
    let worst = late.max(early);
    assert_eq!(report.take("/deliveries/0/lateness_seconds"), worst);
    assert_eq!(report.take("/totals/latest_seconds"), worst);
    let entry = report.take("/dispatch");
    assert_eq!(
        (&entry["id"], &entry["phase"]),
        (&json!("a"), &json!("ended"))
    );
    let name = report.take("/deliveries/0/name");
    let location = report.take("/deliveries/0/customer_location_id");
    let at = "a time";
    let state = |number: u64, way: &str| json!({"number": number, "way": way, "asked": at, "answered": at, "body": null});
    let expected = json!({
        "dispatch": null,
        "states": [state(1, "list"), state(2, "webhook")],
        "states_left_out": 0,
        "overrides": [],
        "deliveries": [{
            "site": site, "name": null, "customer_location_id": null, "sink": sink,
            "verdict": "late", "lateness_seconds": null,
            "commands": [
                {"command": "site.curtail", "due": at, "known": at, "first_attempt": at,
                 "last_attempt": at, "attempts": 1, "delivery": "acknowledged",
                 "acknowledged": at, "lateness_seconds": null, "last_error": null},
                {"command": "site.release", "due": at, "known": at, "first_attempt": at,
                 "last_attempt": at, "attempts": null, "delivery": "acknowledged",
                 "acknowledged": at, "lateness_seconds": null, "last_error": null},
            ],
        }],
        "commands_left_out": 0,
        "totals": {"on_time_within_seconds": 2.0, "on_time": 0, "late": 1,
                   "latest_seconds": null, "never": 0, "not_due": 0},
    });
    assert_eq!(report.report, expected);

    // The same as CSV, from the daemon and by the command, and from the file.
    let asked = daemon.http.get(daemon.status_url("/report/a"));
    let asked = asked.header(ACCEPT, "text/csv").send().await.unwrap();
    let kind = asked.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/csv"), "{kind}");
    let csv = asked.text().await.unwrap();
    assert_eq!(csv, csv_of(&whole, &[&name, &location], early, late));
    let by_command = ["report", "a", "--format", "csv"];
    assert_eq!(done(&run(&world, Some(&daemon), &by_command).await), csv);
    let by_command = ["report", "a", "--format", "json"];
    let json = done(&run(&world, Some(&daemon), &by_command).await);
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap()["deliveries"],
        whole["deliveries"]
    );
    let table = done(&run(&world, Some(&daemon), &["report", "a"]).await);
    assert!(
        table.contains("by list: ") && table.contains("by webhook: "),
        "{table}"
    );
    assert!(table.contains("0 on time (within 2 s), 1 late"), "{table}");
    let said = failed(&run(&world, Some(&daemon), &["report", "unknown"]).await, 1);
    assert!(said.contains("knows no dispatch `unknown`"), "{said}");
    assert_eq!(daemon.get("/report/unknown").await.status, 404);

    let path = world.path("state.db");
    let from_file = [
        "report",
        "a",
        "--format",
        "csv",
        "--state",
        path.to_str().unwrap(),
    ];
    let said = failed(&run(&world, None, &from_file).await, 2);
    assert!(said.contains("--state"), "a daemon uses it: {said}");
    daemon.kill();
    assert_eq!(done(&run(&world, None, &from_file).await), csv);
    let unknown = ["report", "unknown", "--state", path.to_str().unwrap()];
    let said = failed(&run(&world, None, &unknown).await, 1);
    assert!(said.contains("knows no dispatch `unknown`"), "{said}");
}

/// The CSV of a report with one row, a curtail and a release.
fn csv_of(report: &Value, names: &[&Value], early: f64, late: f64) -> String {
    let row = &report["deliveries"][0];
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut cells = vec!["a".to_owned(), plain(&row["site"])];
    cells.extend(names.iter().map(|name| plain(name)));
    cells.extend([
        plain(&row["sink"]),
        "late".to_owned(),
        format!("{:.3}", late.max(early)),
    ]);
    for (index, lateness) in [(0, early), (1, late)] {
        let command = &row["commands"][index];
        let fields = [
            "due",
            "known",
            "first_attempt",
            "last_attempt",
            "attempts",
            "acknowledged",
        ];
        cells.extend(fields.map(|field| plain(&command[field])));
        cells.push(format!("{lateness:.3}"));
    }
    cells.extend(["2".to_owned(), plain(&row["commands"][1]["last_error"])]);
    let quoted = |cell: &String| match cell.contains([',', '"']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    let cells: Vec<String> = cells.iter().map(quoted).collect();
    format!(
        "dispatch,site,name,customer_location_id,sink,verdict,lateness_seconds,\
curtail_due,curtail_known,curtail_first_attempt,curtail_last_attempt,curtail_attempts,\
curtail_acknowledged,curtail_lateness_seconds,release_due,release_known,\
release_first_attempt,release_last_attempt,release_attempts,release_acknowledged,\
release_lateness_seconds,commands,last_error\r\n{}\r\n",
        cells.join(",")
    )
}

#[apply(test)]
async fn each_sink_has_its_own_row_also_one_that_never_answers() {
    let world = World::new().await;
    let (good, mute) = (Receiver::new().await, Receiver::new().await);
    mute.behave(Manner::Hangs);
    let setup = world.setup().sink(good.sink()).sink(mute.sink());
    let daemon = setup.ready().await;
    world.put(dispatch("a", 0, in_ms(-1_000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    wait_until_acknowledged(&daemon, "a", &good.sink(), 1).await;
    wait_until("the other is tried", async || {
        commands(&daemon, "a", &mute.sink()).await[0]["attempts"] == 1
    })
    .await;
    let pending = &commands(&daemon, "a", &mute.sink()).await[0];
    assert_eq!(pending["command"], "site.curtail");
    assert_eq!(pending["delivery"], "pending");
    assert_eq!(pending["acknowledged"], Value::Null);

    // Called off: the curtail is superseded while its attempt still hangs.
    let mut off = dispatch("a", 1, in_ms(-1_000), None);
    off["authorized"] = json!(false);
    world.put(off);
    assert_eq!(daemon.webhook("a").await.status, 200);
    wait_until_acknowledged(&daemon, "a", &good.sink(), 2).await;
    wait_until("the other's curtail is told as superseded", async || {
        let commands = commands(&daemon, "a", &mute.sink()).await;
        let told: Vec<&Value> = commands.iter().map(|line| &line["delivery"]).collect();
        told == ["superseded", "pending"]
    })
    .await;
    let report = daemon.get("/report/a").await.json;
    let release = &report["deliveries"][0]["commands"][1];
    assert_eq!(release["command"], "site.release");
    assert_eq!(
        release["due"], release["known"],
        "due as soon as it was known"
    );
    let verdict = |sink: String| {
        let rows = report["deliveries"].as_array().unwrap();
        let row = rows.iter().find(|row| row["sink"] == sink.as_str());
        row.unwrap()["verdict"].clone()
    };
    assert_ne!(verdict(good.sink()), "never");
    assert_eq!(verdict(mute.sink()), "never");
    assert_eq!(report["totals"]["never"], 1);
}

#[apply(test)]
async fn a_dispatch_that_is_cancelled_before_its_start_tells_no_site_anything() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    world.put(dispatch("a", 0, in_ms(3_600_000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    let mut off = dispatch("a", 1, in_ms(3_600_000), None);
    off["authorized"] = json!(false);
    world.put(off);
    assert_eq!(daemon.poll().await.status, 200);
    let report = daemon.get("/report/a").await.json;
    let states = report["states"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> = states
        .iter()
        .map(|state| (&state["way"], &state["body"]["authorized"]))
        .collect();
    let (webhook, list) = (json!("webhook"), json!("list"));
    assert_eq!(told, [(&webhook, &json!(true)), (&list, &json!(false))]);
    assert_eq!(report["deliveries"][0]["commands"], json!([]));
    assert_eq!(report["deliveries"][0]["verdict"], "not_due");
    assert_eq!(report["totals"]["not_due"], 1);
}

#[apply(test)]
async fn a_command_that_a_newer_one_of_another_dispatch_made_up_for_is_late_not_lost() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave(Manner::Fails);
    let daemon = world.setup().sink(receiver.sink()).ready().await;
    let shared = |id: &str| {
        let mut dispatch = dispatch(id, 0, in_ms(-1_000), None);
        dispatch["sites"][0]["id"] = json!("shared");
        dispatch
    };
    world.put(shared("a"));
    assert_eq!(daemon.webhook("a").await.status, 200);
    world.put(shared("b"));
    assert_eq!(daemon.webhook("b").await.status, 200);
    wait_until("the first command is superseded", async || {
        let commands = commands(&daemon, "a", &receiver.sink()).await;
        commands
            .first()
            .is_some_and(|line| line["delivery"] == "superseded")
    })
    .await;
    assert_eq!(
        commands(&daemon, "a", &receiver.sink()).await[0]["acknowledged"],
        Value::Null
    );
    receiver.behave(Manner::Takes);
    wait_until_acknowledged(&daemon, "b", &receiver.sink(), 1).await;
    let made_up = &commands(&daemon, "a", &receiver.sink()).await[0];
    let told = &commands(&daemon, "b", &receiver.sink()).await[0];
    assert_eq!(told["command"], "site.curtail", "what was missed is sent");
    assert_eq!(made_up["acknowledged"], told["acknowledged"]);
    let report = daemon.get("/report/a").await.json;
    assert_ne!(report["deliveries"][0]["verdict"], "never");
}
