//! `dispatchd status`

pub(super) mod report;
mod standby;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::daemon_client::{AskError, DaemonClient};
use super::output::{line, write};
use super::{Failure, logging, runtime, stop};
use crate::config::{DaemonAccess, DaemonOptions, LogFormat, Origins};
use report::Report;
use standby::Standing;
use table::Style;

/// The time between two looks of `--watch`.
const REDRAW: Duration = Duration::from_secs(2);

/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The options of `dispatchd status`.
#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// One JSON object with status, schedule and sites
    #[arg(long)]
    json: bool,

    /// Looks again every 2 seconds, until SIGINT or SIGTERM
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    daemon: DaemonOptions,
}

/// Asks a running daemon how it is.
pub(super) fn run(options: StatusOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let access = DaemonAccess::check_all(options.daemon, origins)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let clients = access
        .into_iter()
        .map(DaemonClient::new)
        .collect::<Result<Vec<_>, _>>()?;
    let terminal = std::io::stdout().is_terminal();
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = var("TERM").is_some_and(|term| term == "dumb");
    let style = Style {
        colours: terminal && !dumb && var("NO_COLOR").is_none(),
        height: None,
        // What is read later must not lack what matters.
        cut: terminal,
    };
    runtime()?.block_on(async {
        if options.watch {
            let tasks = TaskTracker::new();
            let stop = stop::on_signal(&tasks)?;
            let clear = if terminal && !options.json { CLEAR } else { "" };
            watch(&clients, options.json, style, clear, stop).await
        } else {
            let text = look(&clients, options.json, style).await?;
            write(&text).map(drop)
        }
    })
}

/// One look at the daemon that leads, as text. Says which of the others stand by or do
/// not answer.
async fn look(clients: &[DaemonClient], json: bool, style: Style) -> Result<String, AskError> {
    let found = Found::among(clients).await?;
    let client = found.client;
    if json {
        let mut all = json!({"status": client.expect::<Value>(&["status"]).await?});
        if found.standing.knows_no_schedule() {
            all["schedule"] = Value::Null;
            all["sites"] = Value::Null;
        } else {
            all["schedule"] = client.expect(&["schedule"]).await?;
            all["sites"] = client.get::<Value>(&["sites"]).await?.into();
        }
        return Ok(format!("{all}\n"));
    }
    let mut text = found.lines;
    let style = Style {
        height: style
            .height
            .map(|height| height.saturating_sub(text.lines().count())),
        ..style
    };
    if found.standing.knows_no_schedule() {
        text += &standby::draw(&found.standing, style);
    } else {
        let report = Report {
            status: client.expect(&["status"]).await?,
            schedule: client.expect(&["schedule"]).await?,
            sites: client.get(&["sites"]).await?,
        };
        text += &table::draw(&report, style);
    }
    Ok(text)
}

/// The daemon that is shown.
struct Found<'a> {
    client: &'a DaemonClient,
    standing: Standing,
    /// Which of several daemons leads, which stand by, and why others do not answer.
    lines: String,
}

impl<'a> Found<'a> {
    /// The daemon that leads, or the first one that answers.
    async fn among(clients: &'a [DaemonClient]) -> Result<Self, AskError> {
        let mut answers: Vec<(&DaemonClient, Standing)> = Vec::new();
        let mut errors = Vec::new();
        for client in clients {
            match client.expect::<Standing>(&["status"]).await {
                Ok(standing) => answers.push((client, standing)),
                Err(error) => errors.push(error),
            }
        }
        if answers.is_empty() {
            return Err(errors.swap_remove(0));
        }
        let leader = answers.iter().position(|(_, standing)| standing.leads());
        let mut lines = String::new();
        if clients.len() > 1 {
            lines += &match leader.and_then(|at| answers.get(at)) {
                Some((client, _)) => format!("{} leads\n", client.name()),
                None => "none of these daemons leads\n".to_owned(),
            };
            let others = answers.iter().filter(|(_, standing)| !standing.leads());
            for (client, _) in others {
                lines += &format!("{} stands by\n", client.name());
            }
            for error in errors {
                lines += &format!("{error}\n");
            }
        }
        let (client, standing) = answers.swap_remove(leader.unwrap_or(0));
        Ok(Self {
            client,
            standing,
            lines,
        })
    }
}

/// Looks again and again. That nobody answers is a failure at first, and news
/// later on: a daemon that is started anew is back in a moment.
async fn watch(
    clients: &[DaemonClient],
    json: bool,
    style: Style,
    clear: &str,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let mut first = true;
    loop {
        let Some(looked) = stop
            .run_until_cancelled(look(clients, json, fitting(style, clear)))
            .await
        else {
            return Ok(());
        };
        let text = match looked {
            Ok(text) => text,
            Err(error) if first => return Err(error.into()),
            Err(error) if json => {
                super::note(&error.to_string());
                String::new()
            }
            Err(error) => format!("{error}\n"),
        };
        first = false;
        // What is not redrawn is told apart by an empty line.
        let gap = if json || !clear.is_empty() { "" } else { "\n" };
        if !write(&format!("{clear}{text}{gap}"))? {
            return Ok(());
        }
        let pause = tokio::time::sleep(REDRAW);
        if stop.run_until_cancelled(pause).await.is_none() {
            // The prompt comes on a line of its own.
            return if clear.is_empty() {
                Ok(())
            } else {
                line("").map(drop)
            };
        }
    }
}

/// The style for a screen that is redrawn: what is drawn fits it.
fn fitting(style: Style, clear: &str) -> Style {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let height = size.map(|size| usize::from(size.ws_row));
    Style {
        height: height.filter(|height| *height > 0 && !clear.is_empty()),
        ..style
    }
}
