//! `dispatchd status`

pub(super) mod report;
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

/// One look at the daemon that leads, as text. Says which of the others do not answer.
async fn look(clients: &[DaemonClient], json: bool, style: Style) -> Result<String, AskError> {
    let (client, silent) = leader(clients).await?;
    if json {
        let all = json!({
            "status": client.expect::<Value>(&["status"]).await?,
            "schedule": client.expect::<Value>(&["schedule"]).await?,
            "sites": client.get::<Value>(&["sites"]).await?,
        });
        return Ok(format!("{all}\n"));
    }
    let report = Report {
        status: client.expect(&["status"]).await?,
        schedule: client.expect(&["schedule"]).await?,
        sites: client.get(&["sites"]).await?,
    };
    let mut text = String::new();
    if clients.len() > 1 {
        text += &format!("{} leads\n", client.name());
    }
    for error in silent {
        text += &format!("{error}\n");
    }
    let style = Style {
        height: style
            .height
            .map(|height| height.saturating_sub(text.lines().count())),
        ..style
    };
    Ok(text + &table::draw(&report, style))
}

/// The daemon that leads, or the first one that answers; and why others did not.
async fn leader(clients: &[DaemonClient]) -> Result<(&DaemonClient, Vec<AskError>), AskError> {
    let mut answers = None;
    let mut errors = Vec::new();
    if let [client] = clients {
        return Ok((client, errors));
    }
    for client in clients {
        match client.expect::<Value>(&["status"]).await {
            Ok(status) if status["role"] == "leader" => answers = Some(client),
            Ok(_) => answers = answers.or(Some(client)),
            Err(error) => errors.push(error),
        }
    }
    match answers {
        Some(client) => Ok((client, errors)),
        None => Err(errors.swap_remove(0)),
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
