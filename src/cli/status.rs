//! `dispatchd status`

pub(super) mod report;
mod several;
mod standby;
mod summary;
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

use super::daemon_client::DaemonClient;
use super::output::{line, write};
use super::{Failure, logging, runtime, stop};
use crate::config::{DaemonAccess, DaemonOptions, LogFormat, Origins};
use crate::system::terminal_height;
use report::Report;
use several::{Found, NoAnswer};
pub(super) use standby::Standing;
use table::Style;

/// The time between two looks of `--watch`.
const REDRAW: Duration = Duration::from_secs(2);

/// What the exit status means, for `--help`.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
  0  a daemon answered; of several one leads, and each other one may take over
  1  none answered; of several none leads, or one does not answer or is not ready
  2  bad usage or configuration";

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

impl From<NoAnswer> for Failure {
    fn from(error: NoAnswer) -> Self {
        Self::Runtime(error.to_string())
    }
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
            let looked = look(&clients, options.json, style).await?;
            write(&looked.text)?;
            looked
                .trouble
                .map_or(Ok(()), |trouble| Err(Failure::Runtime(trouble)))
        }
    })
}

/// What one look has found.
#[derive(Debug)]
struct Looked {
    text: String,
    /// Why several daemons do not stand in for each other.
    trouble: Option<String>,
}

/// One look at the daemon that leads, as text. Says which of the others stand by, are not
/// ready or do not answer.
async fn look(clients: &[DaemonClient], json: bool, style: Style) -> Result<Looked, NoAnswer> {
    let found = Found::among(clients).await?;
    let (client, trouble) = (found.client, found.trouble);
    if json {
        let mut all = json!({"status": client.expect::<Value>(&["status"]).await?});
        if found.standing.knows_no_schedule() {
            all["schedule"] = Value::Null;
            all["sites"] = Value::Null;
        } else {
            all["schedule"] = client.expect(&["schedule"]).await?;
            all["sites"] = client.get::<Value>(&["sites"]).await?.into();
        }
        if !found.daemons.is_empty() {
            all["daemons"] = found.daemons.into();
        }
        let text = format!("{all}\n");
        return Ok(Looked { text, trouble });
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
    Ok(Looked { text, trouble })
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
            Ok(looked) => looked.text,
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
    Style {
        height: terminal_height().filter(|_| !clear.is_empty()),
        ..style
    }
}
