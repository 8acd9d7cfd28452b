//! `dispatchd outbox`

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::daemon_client::{AskError, DaemonClient};
use super::output::{plain, write};
use super::{Failure, logging, runtime};
use crate::config::{DaemonAccess, DaemonOptions, LogFormat, Origins, whole_number};
use crate::model::count;

/// The options of `dispatchd outbox`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct OutboxOptions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists what each sink has pending or refuses, with reasons
    List(ListOptions),
    /// Gives up one event at one sink: it is not delivered there any more
    Skip(SkipOptions),
}

#[derive(Debug, Args)]
struct ListOptions {
    /// This sink alone
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,

    /// The most events of each sink, 1000 at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole_number(1..=1000_u16), allow_hyphen_values = true)]
    limit: u16,

    /// Those behind this position, as the last line of the page before says
    #[arg(long, value_name = "POSITION", value_parser = whole_number(0..=i64::MAX), allow_hyphen_values = true)]
    after: Option<i64>,

    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, Args)]
struct SkipOptions {
    /// The event's id, as the list shows it
    #[arg(value_name = "EVENT_ID")]
    event: String,

    /// At this sink; needed if the event is pending at several
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,

    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    sinks: Vec<Sink>,
}

#[derive(Debug, Deserialize)]
struct Sink {
    sink: String,
    state: Option<String>,
    pending: u64,
    failed_attempts: Option<u64>,
    last_error: Option<String>,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    position: u64,
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: String,
    since: String,
    failed_attempts: u32,
    last_error: Option<String>,
    next_attempt: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Skipped {
    sinks: Vec<String>,
}

/// Asks a running daemon.
pub(super) fn run(options: OutboxOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let origins = &origins.within();
    match options.action {
        Action::List(options) => list(options, origins),
        Action::Skip(options) => skip(options, origins),
    }
}

fn client(daemon: DaemonOptions, origins: &Origins<'_>) -> Result<DaemonClient, Failure> {
    let access =
        DaemonAccess::check(daemon, origins).map_err(|error| Failure::Usage(error.to_string()))?;
    DaemonClient::new(access)
}

fn list(options: ListOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    let client = client(options.daemon, origins)?;
    let number = options.limit.to_string();
    let mut query = vec![("limit", number.as_str())];
    query.extend(options.sink.as_deref().map(|sink| ("sink", sink)));
    let after = options.after.map(|after| after.to_string());
    query.extend(after.as_deref().map(|after| ("after", after)));
    let limit = usize::from(options.limit);
    let asked = async {
        if options.json {
            let answer = client
                .ask::<Value>(Method::GET, &["outbox"], &query)
                .await?;
            return Ok::<_, AskError>(answer.map(|answer| format!("{answer}\n")));
        }
        let answer = client
            .ask::<Outbox>(Method::GET, &["outbox"], &query)
            .await?;
        Ok(answer.map(|outbox| {
            let sinks = outbox.sinks.iter();
            sinks.map(|sink| described(sink, limit)).collect()
        }))
    };
    match runtime()?.block_on(asked)? {
        Some(text) => write(&text).map(drop),
        None => Err(Failure::Usage(match options.sink {
            Some(sink) => format!(
                "--sink: the daemon has no sink `{}`; `dispatchd outbox list` shows their names",
                plain(&sink)
            ),
            None => "the daemon has no /outbox; upgrade it to the version of this program".into(),
        })),
    }
}

/// A sink with its pending events: the id on a line of its own, to be copied, then
/// what is known of it.
fn described(sink: &Sink, limit: usize) -> String {
    let failed = match sink.failed_attempts {
        None | Some(0) => String::new(),
        Some(failed) => format!(
            ", {} since the start",
            count(failed, "failed attempt", "failed attempts")
        ),
    };
    let mut text = format!(
        "{}: {}, {}{failed}\n",
        plain(&sink.sink),
        sink.state.as_deref().unwrap_or("state unknown"),
        match sink.pending {
            0 => "nothing pending".to_owned(),
            n => format!("{n} pending"),
        }
    );
    if let Some(error) = &sink.last_error {
        text.push_str(&format!("  last error: {}\n", plain(error)));
    }
    for event in &sink.events {
        text.push_str(&format!(
            "  {}\n      {} {}, since {}",
            plain(&event.id),
            plain(&event.event_type),
            plain(&event.subject),
            event.since
        ));
        match event.failed_attempts {
            0 => {}
            1 => text.push_str(", 1 failed attempt"),
            n => text.push_str(&format!(", {n} failed attempts")),
        }
        if let Some(next) = &event.next_attempt {
            text.push_str(&format!(", next try {next}"));
        }
        text.push('\n');
        if let Some(error) = &event.last_error {
            text.push_str(&format!("      {}\n", plain(error)));
        }
    }
    let left = sink.pending.saturating_sub(sink.events.len() as u64);
    if let Some(last) = sink.events.last()
        && left > 0
    {
        let how = match sink.events.len() < limit {
            true => "they are listed once those before them are delivered".to_owned(),
            false => format!(
                "the next page: --sink '{}' --after {}",
                plain(&sink.sink),
                last.position
            ),
        };
        text.push_str(&format!("  {left} more are pending; {how}\n"));
    }
    text
}

fn skip(options: SkipOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    let client = client(options.daemon, origins)?;
    let path = ["outbox", &options.event, "skip"];
    let sink = options.sink.as_deref();
    let query: Vec<(&str, &str)> = sink.map(|sink| ("sink", sink)).into_iter().collect();
    let asked = client.ask::<Skipped>(Method::POST, &path, &query);
    let event = plain(&options.event);
    match runtime()?.block_on(asked) {
        Ok(Some(skipped)) => {
            let sinks = plain(&skipped.sinks.join(", "));
            write(&format!("skipped {event} at {sinks}\n")).map(drop)
        }
        Ok(None) => {
            let at = sink.map(|sink| format!(" at `{}`", plain(sink)));
            Err(Failure::Runtime(format!(
                "no event {event} is pending{}; `dispatchd outbox list` shows those that are",
                at.unwrap_or_default()
            )))
        }
        Err(AskError::Status {
            status: 409,
            message,
            ..
        }) => Err(Failure::Usage(format!("--sink: {message}"))),
        Err(error) => Err(error.into()),
    }
}
