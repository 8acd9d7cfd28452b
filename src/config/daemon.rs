//! The options of all commands that ask a running daemon.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::api::http_url;
use super::checks::status_token_fits;
use super::options::{FileOption, STATUS};
use super::secrets::{STATUS_TOKEN, choose, read};
use super::{ConfigError, Origins, Problem, Problems};

/// The options that say how a running daemon is asked.
#[derive(Debug, Args)]
pub struct DaemonOptions {
    /// The configuration file.
    #[command(flatten)]
    pub file: FileOption,

    /// The status listener of a running daemon; repeatable for `dispatchd status`
    #[arg(long, value_name = "URL", env = "DISPATCHD_STATUS_URL", value_delimiter = ',', default_value = "http://127.0.0.1:5001", help_heading = STATUS)]
    pub status_url: Vec<String>,

    /// The token that it wants to be shown
    #[arg(long, value_name = "T", env = "DISPATCHD_STATUS_TOKEN", hide_env_values = true, help_heading = STATUS)]
    pub status_token: Option<SecretString>,

    /// A file with that token
    #[arg(long, value_name = "PATH", env = "DISPATCHD_STATUS_TOKEN_FILE", help_heading = STATUS)]
    pub status_token_file: Option<PathBuf>,
}

/// How a running daemon is asked, checked.
#[derive(Debug)]
pub struct DaemonAccess {
    /// Its status listener.
    pub url: Url,
    /// What it wants to be shown.
    pub token: Option<SecretString>,
}

impl DaemonAccess {
    /// Checks what the operator wrote for a command that asks one daemon. `origins`
    /// tell where each value came from.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check(options: DaemonOptions, origins: &Origins<'_>) -> Result<Self, ConfigError> {
        let mut all = Self::check_all(options, origins)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => {
                let problem = "is given more than once; this command asks one daemon";
                Err(ConfigError(vec![Problem::new("--status-url", problem)]))
            }
        }
    }

    /// The same for a command that asks several daemons.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check_all(
        options: DaemonOptions,
        origins: &Origins<'_>,
    ) -> Result<Vec<Self>, ConfigError> {
        let mut problems = Problems::default();
        let of_file = origins.problems_of_file();
        let urls: Vec<Url> = options
            .status_url
            .iter()
            .filter_map(|url| problems.take(status_url(url)))
            .collect();
        let token = choose(
            &STATUS_TOKEN,
            options.status_token,
            options.status_token_file,
            origins,
        );
        let token = problems.take(token.and_then(|given| read(&STATUS_TOKEN, given)));
        if let Some(Some(secret)) = &token {
            let fits = status_token_fits(&secret.get());
            problems.take(fits.map_err(|problem| STATUS_TOKEN.problem(secret, problem)));
        }
        match token {
            Some(token) if problems.0.is_empty() && of_file.is_empty() => {
                let token = token.map(|token| (*token.get()).clone());
                let access = |url| Self {
                    url,
                    token: token.clone(),
                };
                Ok(urls.into_iter().map(access).collect())
            }
            _ => Err(ConfigError::of(of_file, problems, origins)),
        }
    }
}

fn status_url(text: &str) -> Result<Url, Problem> {
    let url = http_url("--status-url", text, "http://127.0.0.1:5001")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Problem::new(
            "--status-url",
            "the URL has a user or password in it; leave them out, and give the token as --status-token-file or --status-token",
        ));
    }
    Ok(url)
}
