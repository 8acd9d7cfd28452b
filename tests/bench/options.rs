//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use url::Url;

use crate::Fault;

/// Measures the daemon, its peers in Python and the limit in one run, side by
/// side, and prints tables of ratios.
///
/// The limit is what the same server and client cost when nothing is decided and
/// nothing kept. The peers are what one would write in an afternoon: a listener
/// with Flask under gunicorn (2 workers of 8 threads), and pollers that compare
/// dictionaries. All run on this machine, also the upstream and the clients, so
/// only ratios tell something. Each is measured in turn, round after round; a
/// ratio is the median of those of all rounds.
///
/// The exit status is 1 if a bound that is a ratio or a size is missed (with
/// --short: by more than a half), and 2 if something could not be measured.
/// It never depends on an absolute time.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub struct Options {
    /// How often everything is measured [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// A short form, for every change: less time for each figure, and no lists of
    /// 100,000 dispatches
    #[arg(long)]
    pub short: bool,

    /// Measures these parts alone; repeatable
    #[arg(long, value_enum, value_name = "PART")]
    pub only: Vec<Part>,

    /// The daemon alone, without limit and peers: quick, and without ratios
    #[arg(long)]
    pub alone: bool,

    /// Longest list of dispatches of two sites, and the most dispatches that are stored
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub largest: usize,

    /// The program to be measured; without it the one that was built beside this
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,

    /// A Python that has what tests/bench/peers/requirements.txt lists
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,

    /// Where state files are made; without it beside the program
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,

    #[arg(long, hide = true, value_name = "ADDR", requires = "api")]
    pub limit: Option<SocketAddr>,

    #[arg(long, hide = true, value_name = "URL")]
    pub api: Option<Url>,

    #[arg(long, hide = true, value_name = "URL", requires = "limit")]
    pub receiver: Option<Url>,

    #[arg(long, hide = true, value_name = "PATH", requires = "limit")]
    pub journal: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// New, duplicate and junk webhooks
    Webhooks,
    /// From the webhook of an active dispatch to the commands of its sites
    Chain,
    /// New webhooks on PostgreSQL, which must be installed
    Database,
    /// Polls of lists of dispatches of two sites
    Polls,
    /// A million pairs of dispatch and site
    Memory,
    /// 100,000 sites that start in one second
    Starts,
    /// Webhooks while somebody reads the whole schedule
    Status,
    /// Doing nothing, and starting
    Idle,
    /// With ever more stored, up to a million; only when it is named
    Growth,
}

impl Options {
    /// How often everything is measured.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(5)
    }

    /// Whether this part is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        let by_itself = self.only.is_empty() && part != Part::Growth;
        by_itself || self.only.contains(&part)
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && !self.alone && self.largest >= 100_000
    }

    /// Where state files are made.
    pub fn folder(&self) -> Result<PathBuf, Fault> {
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(beside()?.join("bench")),
        }
    }

    /// The program to be measured.
    pub fn daemon(&self) -> Result<PathBuf, Fault> {
        let path = match &self.daemon {
            Some(path) => path.clone(),
            None => beside()?.join("dispatchd"),
        };
        path.canonicalize().map_err(|error| {
            let path = path.display();
            format!("no daemon at {path} ({error}): run `cargo build --release`, or give --daemon")
                .into()
        })
    }
}

/// Where cargo puts the programs that it builds as this one.
fn beside() -> Result<PathBuf, Fault> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(|examples| examples.parent());
    Ok(folder
        .ok_or("where this program stands is not known")?
        .to_owned())
}
