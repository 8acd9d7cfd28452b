//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::Fault;

/// Runs the real daemon for a time in a bad world, kills it every few seconds,
/// and checks in the end that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "soak")]
pub struct Options {
    /// For how long the world is bad, in minutes
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = positive)]
    minutes: f64,

    /// The same in seconds
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = positive)]
    seconds: Option<f64>,

    /// The program to be tested; without it the one that was built beside this
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,

    /// Draws what happens; without it a new one is drawn, and shown
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How long everything may take to come right in the end, in seconds
    #[arg(long, value_name = "N", default_value_t = SETTLE, value_parser = positive)]
    settle: f64,

    /// How many daemons: one on a state file, or two that share a PostgreSQL database,
    /// which must be installed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    daemons: u8,

    /// Keeps the state file and the daemon's log here; without it they are
    /// removed in the end
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
}

/// Receivers may have asked to be left alone for up to 300 s.
const SETTLE: f64 = 420.0;

/// A day. Bookkeeping grows with the time.
const LONGEST: f64 = 86_400.0;

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0.0 && *number <= LONGEST)
        .ok_or_else(|| "a number above 0, a day at most".to_owned())
}

impl Options {
    /// For how long the world is bad.
    pub fn time(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(self.minutes * 60.0);
        Duration::from_secs_f64(seconds.min(LONGEST))
    }

    /// How long everything may take to come right once nothing is wrong any more.
    pub fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle.min(LONGEST))
    }

    /// What draws the rest.
    pub fn seed(&self) -> u64 {
        self.seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>()))
    }

    /// Whether two daemons share a database.
    pub fn are_two(&self) -> bool {
        self.daemons == 2
    }

    /// Where files are to stay, if they are.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// The program to be tested.
    pub fn daemon(&self) -> Result<PathBuf, Fault> {
        let path = match &self.daemon {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .ok()
                .and_then(|own| Some(own.parent()?.parent()?.join("dispatchd")))
                .ok_or("where this program stands is not known: give --daemon")?,
        };
        if path.is_file() {
            return Ok(path.canonicalize()?);
        }
        let build = if cfg!(debug_assertions) {
            "cargo build"
        } else {
            "cargo build --release"
        };
        Err(format!(
            "there is no daemon at {}: run `{build}` first, or give --daemon",
            path.display()
        )
        .into())
    }
}
