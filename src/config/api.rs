//! The options of all commands that ask the API.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::options::API;
use super::secrets::{API_KEY, Given, choose, read};
use super::{ConfigError, Origins, Problem, Problems};
use crate::http::is_loopback;
use crate::secret::Secret;
use crate::voltus::{ApiKey, Environment, KeySource};

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
    /// Checks what the operator wrote. `origins` tell where each value came
    /// from.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn check(options: ApiOptions, origins: &Origins<'_>) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let of_file = origins.problems_of_file();
        match check(options, origins, &mut problems) {
            Some(api) if problems.0.is_empty() && of_file.is_empty() => Ok(api),
            _ => Err(ConfigError::of(of_file, problems, origins)),
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
    origins: &Origins<'_>,
    problems: &mut Problems,
) -> Option<Api> {
    let url = problems.take(api_url(&options.api_url));
    let given = choose(&API_KEY, options.api_key, options.api_key_file, origins);
    let key = problems
        .take(given)
        .zip(url.as_ref())
        .and_then(|(given, url)| problems.take(api_key(given, url, origins)));
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
    http_url("--api-url", text, "https://sandbox.voltus.co").and_then(|url| {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new(
                "--api-url",
                "the URL has a user or password in it; leave them out, and give the key as --api-key-file or --api-key",
            ));
        }
        Ok(url)
    })
}

/// An http or https URL that can be the base of paths. What is wrong is told with
/// the text as it should have been written, or with `example`.
pub(super) fn http_url(option: &'static str, text: &str, example: &str) -> Result<Url, Problem> {
    let wrong = |problem: String| Err(Problem::new(option, problem));
    // What stands before an @ may be a password.
    let shown = match text.contains('@') {
        true => "the value".to_owned(),
        false => format!("`{text}`"),
    };
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => {
            let better = with_scheme(text).unwrap_or_else(|| example.to_owned());
            return wrong(format!(
                "{shown} is not an http or https URL; write {better}"
            ));
        }
    };
    if url.query().is_some() || url.fragment().is_some() {
        let mut better = url.clone();
        better.set_query(None);
        better.set_fragment(None);
        let better = match text.contains('@') {
            true => example,
            false => better.as_str().trim_end_matches('/'),
        };
        return wrong(format!(
            "{shown} has a query (?) or a fragment (#); write {better}"
        ));
    }
    Ok(url)
}

/// `text`, of which only the scheme was left out, with the scheme that is likely
/// meant: addresses and this machine are asked without TLS as a rule, names with it.
fn with_scheme(text: &str) -> Option<String> {
    if text.contains("//") || text.contains(['@', '?', '#']) || text.contains(char::is_whitespace) {
        return None;
    }
    let url = Url::parse(&format!("http://{text}")).ok()?;
    let by_name = matches!(url.host(), Some(url::Host::Domain(_))) && !is_loopback(&url);
    let scheme = if by_name { "https" } else { "http" };
    Some(format!("{scheme}://{text}"))
}

fn api_key(given: Option<Given>, url: &Url, origins: &Origins<'_>) -> Result<ApiKey, Problem> {
    let (secret, source) = match read(&API_KEY, given)? {
        Some(secret) => {
            let name = API_KEY.used(&secret, origins);
            let source = match secret.file() {
                Some(file) => KeySource::File(name, file.to_owned()),
                None => KeySource::Given(name),
            };
            (secret, source)
        }
        // The file gives one that cannot be used, and is refused for that.
        None if Api::is_sandbox(url) || API_KEY.is_unreadable(origins) => {
            (Secret::fixed(SANDBOX_KEY.into()), KeySource::Public)
        }
        None => {
            let problem = format!(
                "{} needs a key; give --api-key-file (or the variable VOLTUS_API_KEY_FILE) or \
                 --api-key (VOLTUS_API_KEY)",
                url.host_str().unwrap_or_default()
            );
            return Err(Problem::new("--api-key", problem));
        }
    };
    match ApiKey::new(secret.clone()) {
        Ok(key) => Ok(key.from_source(source)),
        Err(error) => Err(API_KEY.problem(&secret, error.to_string())),
    }
}

fn version_fits(version: &str, problems: &mut Problems) {
    let fits = !version.is_empty()
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        problems.add(
            "--api-version",
            format!("`{version}` is not a version; write it as 2022-04-15"),
        );
    }
}
