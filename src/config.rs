//! Turns the options into a checked configuration.
//!
//! An option's value comes from the command line, else from its environment variable,
//! else from the configuration file ([`ConfigFile`]), else it is the default. The table
//! of options is [`RunOptions`]; all of these read it.
//!
//! Everything that is wrong is told at once, each by the option at fault.

mod api;
mod checks;
mod daemon;
mod file;
mod options;
mod origin;
mod public_url;
mod secrets;
mod sinks;
mod state;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::delivery::sinks::{SinkSecrets, SinkSpec};
use crate::secret::{Secret, is_open_to_all};
use crate::store::PostgresTarget;
use crate::trace;
use crate::voltus::ApiKey;

pub use api::{Api, ApiOptions, api_url};
pub(crate) use checks::{status_token_fits, webhook_secret_fits};
pub use daemon::{DaemonAccess, DaemonOptions};
pub use file::ConfigFile;
pub use options::{
    FileOption, LONGEST_DURATION, LogFormat, RunOptions, address, duration, whole_number,
};
pub(crate) use origin::suffix;
pub use origin::{Origin, Origins, Place};
pub use public_url::PublicUrl;
pub use sinks::ReplacedSinks;

/// What the daemon runs with. Every part of it has been checked.
#[derive(Debug)]
pub struct Config {
    /// The API's base.
    pub api_url: Url,
    /// The version in every path.
    pub api_version: String,
    /// The key to the API.
    pub api_key: Arc<ApiKey>,
    /// Requests to the API a minute, at most.
    pub api_rate: NonZeroU32,
    /// The longest answer of the API, in bytes.
    pub api_max_body: u64,
    /// Where webhooks come in.
    pub listen: SocketAddr,
    /// Where the status is asked for.
    pub status_listen: SocketAddr,
    /// The time between two polls.
    pub poll_interval: Duration,
    /// Where the schedule is kept.
    pub state: StatePath,
    /// Where other daemons of the same database reach the webhook listener. `None`: at
    /// its own address.
    pub advertise: Option<Url>,
    /// Whether no sink was given, so that the default is used.
    pub default_sinks: bool,
    /// Where events go.
    pub sinks: Vec<SinkSpec>,
    /// The sinks of the configuration file, if others take their place.
    pub replaced_sinks: Option<ReplacedSinks>,
    /// The names of sinks that are gone for good, whatever they were told.
    pub forget_sinks: Vec<String>,
    /// What signs what the HTTP sinks send.
    pub sink_secret: Option<Secret>,
    /// The same, as the sinks hold it.
    pub sink_secrets: SinkSecrets,
    /// How long before a start its sites are curtailed.
    pub pre_curtail: Duration,
    /// Whether test dispatches curtail sites too.
    pub curtail_on_test: bool,
    /// What webhooks must have in their path.
    pub webhook_secret: Option<Secret>,
    /// The URL to keep registered.
    pub public_url: Option<PublicUrl>,
    /// The longest that a webhook waits for its answer.
    pub webhook_deadline: Duration,
    /// Requests a second from one peer of the listener. `None` is no limit.
    pub peer_rate: Option<NonZeroU32>,
    /// Whether a proxy in front tells who the peer is.
    pub trust_forwarded_for: bool,
    /// How long what is over is kept.
    pub retain: Duration,
    /// What the status listener wants to be shown.
    pub status_token: Option<Secret>,
    /// Names beside its own under which the status listener may be asked.
    pub status_hosts: Vec<String>,
    /// The daemon's name, for people.
    pub node: String,
    /// Where traces go, if anywhere; or the variable that cannot be used. Then there are
    /// no traces: for these no daemon stays down.
    pub traces: Result<Option<trace::Settings>, trace::VariableError>,
    /// The file that some of this came from.
    pub file: Option<Arc<ConfigFile>>,
}

impl Config {
    /// The sinks that get events: `none` is no sink.
    pub fn receiving_sinks(&self) -> impl Iterator<Item = &SinkSpec> {
        let specs = self.sinks.iter();
        specs.filter(|spec| !spec.is_none())
    }

    /// The files with secrets that every user of this machine can read, each with its
    /// option.
    pub fn open_secrets(&self) -> Vec<(&'static str, &Path)> {
        fn file(secret: &Option<Secret>) -> Option<&Path> {
            secret.as_ref().and_then(Secret::file)
        }
        let password = match &self.state {
            StatePath::Postgres(target) => target.password_file(),
            StatePath::Memory | StatePath::File(_) => None,
        };
        let files = [
            ("--api-key-file", self.api_key.file()),
            ("--webhook-secret-file", file(&self.webhook_secret)),
            ("--sink-secret-file", file(&self.sink_secret)),
            ("--status-token-file", file(&self.status_token)),
            (state::PASSWORD_FILE, password),
        ];
        let files = files.into_iter();
        let files = files.filter_map(|(option, file)| Some((option, file?)));
        files.filter(|(_, file)| is_open_to_all(file)).collect()
    }

    /// What names the sinks that are used, for messages: the places of the file's
    /// `[[sink]]` tables, or the option.
    pub fn sinks_named_by(&self) -> String {
        let file = self.file.as_ref().filter(|_| self.replaced_sinks.is_none());
        let tables = file.map_or(&[][..], |file| file.sinks());
        match (file, tables) {
            (Some(file), [first, ..]) => format!("{}, [[sink]]", file.place(first.line)),
            _ => "--sink".to_owned(),
        }
    }
}

/// Where the schedule is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePath {
    /// Nowhere: it is gone with the process.
    Memory,
    /// In this file.
    File(PathBuf),
    /// In this PostgreSQL database, with other daemons.
    Postgres(Box<PostgresTarget>),
}

impl StatePath {
    /// Reads where a schedule is kept. The password of a database comes from its URL, else
    /// from `password_file`, else from the environment, which `env` looks up.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn read(
        path: &Path,
        password_file: Option<PathBuf>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problem> {
        state::check(path, password_file, env)
    }
}

/// Something wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The option at fault, written as `--name`; or the key of the file at fault, or
    /// nothing if the problem says it.
    pub option: Cow<'static, str>,
    /// What is wrong with it, and what would be right.
    pub problem: String,
    /// Where the value came from that is at fault.
    pub origin: Origin,
}

/// What is wrong in the file begins with its line, and the option is written as there.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match &self.origin {
            Origin::File(place) => {
                write!(f, "{place}: ")?;
                self.option.trim_start_matches("--")
            }
            _ => &self.option,
        };
        if !option.is_empty() {
            write!(f, "{option}: ")?;
        }
        f.write_str(&self.problem)?;
        match &self.origin {
            Origin::File(_) => Ok(()),
            other => f.write_str(&suffix(other, &self.problem)),
        }
    }
}

impl Problem {
    pub(crate) fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self {
            option: option.into(),
            problem: problem.into(),
            origin: Origin::Default,
        }
    }

    /// The line of the file, if that is at fault.
    fn line(&self) -> Option<usize> {
        match &self.origin {
            Origin::File(place) => Some(place.line),
            _ => None,
        }
    }
}

/// What is wrong with a variable that is set and empty, and the remedy.
pub(crate) fn empty_variable(variable: &str) -> String {
    format!("the variable {variable} is empty; give it a value, or unset it")
}

/// Collects what is wrong.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, option: &'static str, problem: impl Into<String>) {
        self.0.push(Problem::new(option, problem));
    }

    fn take<T>(&mut self, checked: Result<T, Problem>) -> Option<T> {
        checked.map_err(|problem| self.0.push(problem)).ok()
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<Problem>);

impl ConfigError {
    /// The problems of `checks`, each with the place that gave the option its value,
    /// and those of the file, line by line.
    fn of(file: Vec<Problem>, checks: Problems, origins: &Origins<'_>) -> Self {
        let mut all = file;
        for mut problem in checks.0 {
            if problem.origin == Origin::Default {
                problem.origin = origins.of(&problem.option);
            }
            all.push(problem);
        }
        all.sort_by_key(|problem| (problem.line().is_none(), problem.line()));
        Self(all)
    }
}

impl Config {
    /// Checks what the operator wrote. `origins` tell where each value came
    /// from, `env` looks a variable up.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check(
        options: RunOptions,
        origins: &Origins<'_>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        checks::check(options, origins, env)
    }

    /// The API that the stored schedule belongs to.
    pub fn origin(&self) -> String {
        self.api_url.origin().ascii_serialization()
    }
}
