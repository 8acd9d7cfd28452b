//! Turns the options into a checked configuration.
//!
//! Everything that is wrong is told at once, each by the option at fault.

mod api;
mod checks;
mod daemon;
mod options;
mod public_url;
mod secrets;
mod variables;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use url::Url;

use crate::delivery::sinks::{SinkSecrets, SinkSpec};
use crate::secret::Secret;
use crate::voltus::ApiKey;

pub use api::{Api, ApiOptions, api_url};
pub(crate) use checks::{status_token_fits, webhook_secret_fits};
pub use daemon::{DaemonAccess, DaemonOptions};
pub use options::{LONGEST_DURATION, LogFormat, RunOptions, address, duration, whole_number};
pub use public_url::PublicUrl;
pub(crate) use variables::{set_by, suffix};

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
    /// Where events go.
    pub sinks: Vec<SinkSpec>,
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
}

impl Config {
    /// The sinks that get events: `none` is no sink.
    pub fn receiving_sinks(&self) -> impl Iterator<Item = &SinkSpec> {
        self.sinks.iter().filter(|sink| !sink.is_none())
    }
}

/// Where the schedule is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePath {
    /// Nowhere: it is gone with the process.
    Memory,
    /// In this file.
    File(PathBuf),
}

/// Something wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {problem}{}", variables::suffix(.variable.as_deref(), .problem))]
pub struct Problem {
    /// The option at fault.
    pub option: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
    /// The variable that gave the option its value, if one did.
    pub variable: Option<String>,
}

impl Problem {
    pub(crate) fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self {
            option,
            problem: problem.into(),
            variable: None,
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
    /// The same, each problem with the variable that gave the option its value.
    /// `O` are the options of the command.
    fn naming_variables<O: clap::Args>(mut self, matches: &ArgMatches) -> Self {
        let command = O::augment_args(clap::Command::new("dispatchd"));
        for problem in &mut self.0 {
            let variable = set_by(problem.option, &command, matches);
            problem.variable = problem.variable.take().or(variable);
        }
        self
    }
}

impl Config {
    /// Checks what the operator wrote. `matches` tell where each value came
    /// from, `env` looks a variable up.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check(
        options: RunOptions,
        matches: &ArgMatches,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let checked = checks::check(options, matches, env);
        checked.map_err(|error| error.naming_variables::<RunOptions>(matches))
    }

    /// The API that the stored schedule belongs to.
    pub fn origin(&self) -> String {
        self.api_url.origin().ascii_serialization()
    }
}
