//! `dispatchd demo`

use std::io::IsTerminal;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Failure, logging, runtime, stop};
use crate::clock::{Clock, SystemClock};
use crate::config::LogFormat;
use crate::demo::{self, DemoError, Outcome, Pace, Stage, Teller};
use crate::model::rfc3339;

/// What is logged unless RUST_LOG says otherwise. That polls fail for a while
/// is part of the story, and told by it.
const LOG: &str = "warn,dispatchd::sync::notices=off";

/// The options of `dispatchd demo`.
#[derive(Debug, Args)]
pub(super) struct DemoOptions {
    /// Keeps both running after the story, until SIGINT or SIGTERM
    #[arg(long)]
    stay: bool,
}

/// Tells the story. Fails unless all of it was seen.
pub(super) fn run(options: &DemoOptions) -> Result<(), Failure> {
    logging::start(LogFormat::Text, LOG)?;
    runtime()?.block_on(play(options))
}

async fn play(options: &DemoOptions) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    let stop = stop::on_signal(&tasks)?;
    let pace = Pace::default();
    let stdout = std::io::stdout();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let teller = Teller::new(stdout, std::io::stdout().is_terminal() && !no_colour);
    let stage = Stage::set(&pace, &teller).await.map_err(failed)?;
    introduce(&stage, &pace, &teller);
    let outcome = tokio::select! {
        outcome = demo::tell(&stage, &pace, &teller) => Some(outcome),
        () = stop.cancelled() => None,
        // `strike` tells why.
        () = stage.over() => None,
    };
    if let Some(outcome) = &outcome {
        conclude(outcome, &teller);
    }
    if options.stay && outcome.is_some() {
        stay(&stage, &stop, &teller).await;
    }
    stage.strike().await.map_err(failed)?;
    match outcome {
        None => Err(Failure::Runtime(
            "stopped before the story had ended".into(),
        )),
        Some(outcome) if !outcome.missing.is_empty() => Err(Failure::Runtime(format!(
            "not everything was seen: {}",
            outcome.missing.join("; ")
        ))),
        Some(_) => Ok(()),
    }
}

fn introduce(stage: &Stage, pace: &Pace, teller: &Teller) {
    for line in [
        "Voltus tells of dispatches by webhook, and a webhook may be lost. dispatchd polls as",
        "well, so a lost one costs some time and nothing else. Here it is, with a stand-in for",
        "Voltus in the same process. Nothing leaves this machine, and nothing is kept.",
        "",
    ] {
        teller.say(line);
    }
    teller.say(&format!("  Voltus     {}", stage.sandbox().url()));
    teller.say(&format!(
        "  dispatchd  {}, polling every {}",
        stage.status_url(),
        humantime::format_duration(pace.poll)
    ));
}

fn conclude(outcome: &Outcome, teller: &Teller) {
    teller.say(&match outcome.missing.len() {
        0 => "  Everything told here was checked at the status listener. `dispatchd run` polls\n  every 30 s, so that a lost webhook costs about half a minute at most\n  while the API answers.".to_owned(),
        1 => "  One thing was not seen as it should have been.".to_owned(),
        missing => format!("  {missing} things were not seen as they should have been."),
    });
}

/// Shows what can be tried, and waits.
async fn stay(stage: &Stage, stop: &CancellationToken, teller: &Teller) {
    let (voltus, status) = (stage.sandbox().url(), stage.status_url());
    let golf = json!({"id": "golf", "authorized": true,
        "start_time": rfc3339(SystemClock::new().now().wall),
        "sites": [{"id": "bakery", "name": "Bakery", "customer_location_id": "B1", "commitment": 40}]});
    teller.heading("Both keep running until Ctrl-C. To try from another terminal:");
    for (what, command) in [
        ("the schedule", format!("curl {status}/schedule")),
        ("what each site is to do", format!("curl {status}/sites")),
        ("health and counts", format!("curl {status}/status")),
        ("events as they happen", format!("curl -N {status}/events")),
        (
            "all events of this story",
            format!("curl -N '{status}/events?last_event_id=0'"),
        ),
        (
            "lose every webhook from now on",
            format!("curl -X PUT {voltus}/control/faults -d '{{\"drop_webhooks\": 1}}'"),
        ),
        (
            "publish a dispatch",
            format!("curl '{voltus}/control/dispatches?fill=true' -d '{golf}'"),
        ),
        (
            "what became of webhooks",
            format!("curl {voltus}/control/log"),
        ),
    ] {
        teller.say(&format!("\n  # {what}\n  {command}"));
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = stage.over() => {}
    }
}

fn failed(error: DemoError) -> Failure {
    Failure::Runtime(error.to_string())
}
