//! The options of all commands that ask the API.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args};
use secrecy::SecretString;
use url::Url;

use super::options::API;
use super::secrets::{API_KEY, Given, choose, read};
use super::{ConfigError, Problem, Problems};
use crate::secret::Secret;
use crate::voltus::{ApiKey, Environment};

/// The key of the sandbox, and of the stand-in on this machine.
const SANDBOX_KEY: &str = "secret";

/// The options that say how the API is reached.
#[derive(Debug, Args)]
pub struct ApiOptions {
    /// The API's base.
    #[arg(long, global = true, help = "The API: https://sandbox.voltus.co or https://api.voltus.co", value_name = "URL", env = "VOLTUS_API_URL", default_value = "https://sandbox.voltus.co", help_heading = API)]
    pub api_url: String,

    /// The API's version, the first part of its paths
    #[arg(long, global = true, value_name = "V", env = "VOLTUS_API_VERSION", default_value = "2022-04-15", help_heading = API)]
    pub api_version: String,

    /// The key to the API; "secret" for the sandbox and loopback hosts
    #[arg(long, global = true, value_name = "KEY", env = "VOLTUS_API_KEY", hide_env_values = true, help_heading = API)]
    pub api_key: Option<SecretString>,

    /// A file with the key, read again when the API refuses the key
    #[arg(long, global = true, value_name = "PATH", env = "VOLTUS_API_KEY_FILE", help_heading = API)]
    pub api_key_file: Option<PathBuf>,
}

/// How the API is reached, checked.
#[derive(Debug)]
pub struct Api {
    /// The API's base.
    pub url: Url,
    /// The version in every path.
    pub version: String,
    /// The key to the API.
    pub key: Arc<ApiKey>,
}

impl Api {
    /// Checks what the operator wrote. `matches` tell where each value came
    /// from.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check(options: ApiOptions, matches: &ArgMatches) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        match check(options, matches, &mut problems) {
            Some(api) if problems.0.is_empty() => Ok(api),
            _ => Err(ConfigError(problems.0)),
        }
    }

    /// Whether scenarios may be started there: on the sandbox, or on a stand-in
    /// on this machine.
    pub fn is_sandbox(url: &Url) -> bool {
        Environment::of(url) == Environment::Sandbox
    }
}

pub(super) fn check(
    options: ApiOptions,
    matches: &ArgMatches,
    problems: &mut Problems,
) -> Option<Api> {
    let url = problems.take(api_url(&options.api_url));
    let given = choose(&API_KEY, options.api_key, options.api_key_file, matches);
    let key = problems
        .take(given)
        .zip(url.as_ref())
        .and_then(|(given, url)| problems.take(api_key(given, url)));
    version_fits(&options.api_version, problems);
    Some(Api {
        url: url?,
        version: options.api_version,
        key: Arc::new(key?),
    })
}

/// Reads what was written as `--api-url`.
///
/// # Errors
/// With what would be right.
pub fn api_url(text: &str) -> Result<Url, Problem> {
    http_url("--api-url", text, "https://api.voltus.co").and_then(|url| {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new(
                "--api-url",
                "has a user or password in it; the key goes into --api-key",
            ));
        }
        Ok(url)
    })
}

/// An http or https URL that can be the base of paths.
pub(super) fn http_url(option: &'static str, text: &str, example: &str) -> Result<Url, Problem> {
    let url = Url::parse(text).map_err(|error| {
        let problem = format!("{text:?} is not a URL ({error}); write it as {example}");
        Problem::new(option, problem)
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        let problem = format!("{text:?} is not an http or https URL; write it as {example}");
        return Err(Problem::new(option, problem));
    }
    if url.query().is_some() || url.fragment().is_some() {
        let problem = format!("has a query or a fragment; write it as {example}");
        return Err(Problem::new(option, problem));
    }
    Ok(url)
}

fn api_key(given: Option<Given>, url: &Url) -> Result<ApiKey, Problem> {
    let secret = match read(&API_KEY, given)? {
        Some(secret) => secret,
        None if Api::is_sandbox(url) => Secret::fixed(SANDBOX_KEY.into()),
        None => {
            let problem = format!(
                "{} needs a key; give --api-key or --api-key-file",
                url.host_str().unwrap_or_default()
            );
            return Err(Problem::new("--api-key", problem));
        }
    };
    ApiKey::new(secret.clone()).map_err(|error| API_KEY.problem(&secret, error.to_string()))
}

fn version_fits(version: &str, problems: &mut Problems) {
    let fits = !version.is_empty()
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        problems.add(
            "--api-version",
            format!("{version:?} is not a version; write it as 2022-04-15"),
        );
    }
}
