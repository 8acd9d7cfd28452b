//! `dispatchd report`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::daemon_client::DaemonClient;
use super::output::{plain, write};
use super::{Failure, logging, runtime};
use crate::config::{DaemonAccess, DaemonOptions, LogFormat, Origins};
use crate::model::DispatchId;
use crate::report::Report;
use crate::store::{PostgresTarget, SqliteReader, StoreReader};

/// The options of `dispatchd report`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ReportOptions {
    /// The dispatch's id
    #[arg(value_name = "ID")]
    id: String,

    /// How the report is written: for people, one CSV row a site and sink, or all as JSON
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    format: Format,

    /// A state file that no daemon uses, instead of a running daemon
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,

    #[command(flatten)]
    daemon: DaemonOptions,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

/// Writes the report of one dispatch.
pub(super) fn run(options: ReportOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let unknown = |whose: &str| {
        let id = plain(&options.id);
        Failure::Runtime(format!(
            "{whose} knows no dispatch `{id}`; dispatches are kept for --retain after they are over"
        ))
    };
    let Ok(id) = DispatchId::new(&options.id) else {
        return Err(Failure::Usage(format!(
            "`{}` is no id of a dispatch; ids have 1 to 64 of A-Z a-z 0-9 _ -",
            plain(&options.id)
        )));
    };
    let report = match &options.state {
        // Not repeated: a URL may hold a password.
        Some(path) if PostgresTarget::is_meant(path.to_str().unwrap_or_default()) => {
            return Err(Failure::Usage(
                "--state: a report is read from a state file, not from a database; ask the \
                 daemon that uses it (--status-url), or make a file of it with \
                 `dispatchd state copy`"
                    .to_owned(),
            ));
        }
        Some(path) => {
            let mut reader =
                SqliteReader::of_unused(path).map_err(|error| Failure::Usage(error.to_string()))?;
            let broken = |error| Failure::Runtime(format!("--state: {error}"));
            let entry = reader.entry(&id).map_err(broken)?;
            let entry = entry.ok_or_else(|| unknown(&path.display().to_string()))?;
            let history = reader.history(&id).map_err(broken)?;
            let record = reader.record(&id).map_err(broken)?;
            Report::new(&entry, &history, &record, None)
        }
        None => {
            let access = DaemonAccess::check(options.daemon, origins)
                .map_err(|error| Failure::Usage(error.to_string()))?;
            let client = DaemonClient::new(access)?;
            let path = ["report", id.as_str()];
            let found = runtime()?.block_on(client.get::<Report>(&path))?;
            found.ok_or_else(|| unknown(&format!("the daemon at {}", client.name())))?
        }
    };
    let text = match options.format {
        Format::Table => report.table(),
        Format::Csv => report.csv(),
        Format::Json => {
            let json = serde_json::to_string_pretty(&report);
            let json = json.map_err(|error| Failure::Runtime(error.to_string()))?;
            format!("{json}\n")
        }
    };
    write(&text).map(drop)
}
