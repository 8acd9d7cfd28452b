//! What must hold of each option.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::secrets::{Given, choose, read};
use super::{Config, ConfigError, Problem, RunOptions, StatePath};
use crate::delivery::sinks::{SinkSecrets, SinkSpec};
use crate::voltus::{ApiKey, is_loopback};

/// The host whose key is public.
const SANDBOX: &str = "sandbox.voltus.co";

/// The key of the sandbox, and of the stand-in on this machine.
const SANDBOX_KEY: &str = "secret";

/// No poll comes sooner after another.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Collects what is wrong.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, option: &'static str, problem: impl Into<String>) {
        self.0.push(Problem {
            option,
            problem: problem.into(),
        });
    }

    fn take<T>(&mut self, checked: Result<T, Problem>) -> Option<T> {
        checked.map_err(|problem| self.0.push(problem)).ok()
    }
}

pub(super) fn check(
    options: RunOptions,
    matches: &ArgMatches,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let mut problems = Problems::default();
    let api_url = problems.take(api_url(&options.api_url));
    let api_key = problems
        .take(choose(
            "--api-key",
            options.api_key,
            options.api_key_file,
            matches,
        ))
        .zip(api_url.as_ref())
        .and_then(|(given, url)| problems.take(api_key(given, url)));
    let mut secret = |option, text, file| {
        let chosen = choose(option, text, file, matches);
        problems.take(chosen.and_then(|given| read(option, given)))
    };
    let webhook_secret = secret(
        "--webhook-secret",
        options.webhook_secret,
        options.webhook_secret_file,
    );
    let sink_secret = secret(
        "--sink-secret",
        options.sink_secret,
        options.sink_secret_file,
    );
    let status_token = secret(
        "--status-token",
        options.status_token,
        options.status_token_file,
    );
    if let Some(Some(secret)) = &webhook_secret {
        webhook_secret_fits(secret, &mut problems);
    }
    version_fits(&options.api_version, &mut problems);
    if options.poll_interval < SHORTEST_INTERVAL {
        problems.add("--poll-interval", "must be 100ms at least");
    }
    if options.webhook_deadline < Duration::from_millis(10) {
        problems.add("--webhook-deadline", "must be 10ms at least");
    }
    if options.api_max_body.as_u64() == 0 {
        problems.add("--api-max-body", "must be more than 0");
    }
    let remote = !options.status_listen.ip().is_loopback();
    if remote && !options.allow_remote_status && matches!(status_token, Some(None)) {
        problems.add(
            "--status-listen",
            format!(
                "{} can be reached from elsewhere and shows customers' data; give --status-token, or --allow-remote-status if something else keeps strangers out",
                options.status_listen
            ),
        );
    }
    if options.listen == options.status_listen && options.listen.port() != 0 {
        problems.add("--status-listen", "is the same address as --listen");
    }
    let status_hosts = listed(options.status_hosts, env("DISPATCHD_STATUS_HOSTS"));
    let mut sinks = listed(options.sinks, env("DISPATCHD_SINKS"));
    if sinks.is_empty() {
        sinks.push("stdout".to_owned());
    }
    let sinks = sink_secret.and_then(|secret| read_sinks(&sinks, secret.as_ref(), &mut problems));

    match (api_url, api_key, sinks, webhook_secret, status_token) {
        (Some(api_url), Some(api_key), Some(sinks), Some(webhook_secret), Some(status_token))
            if problems.0.is_empty() =>
        {
            Ok(Config {
                api_url,
                api_version: options.api_version,
                api_key: Arc::new(api_key),
                api_rate: options.api_rate,
                api_max_body: options.api_max_body.as_u64(),
                listen: options.listen,
                status_listen: options.status_listen,
                poll_interval: options.poll_interval,
                state: state_path(&options.state),
                sinks,
                pre_curtail: options.pre_curtail,
                curtail_on_test: options.curtail_on_test,
                webhook_secret,
                webhook_deadline: options.webhook_deadline,
                peer_rate: NonZeroU32::new(options.peer_rate),
                trust_forwarded_for: options.trust_forwarded_for,
                retain: options.retain,
                status_token,
                status_hosts,
            })
        }
        _ => Err(ConfigError(problems.0)),
    }
}

fn state_path(path: &Path) -> StatePath {
    if path == Path::new(":memory:") {
        StatePath::Memory
    } else {
        StatePath::File(path.to_owned())
    }
}

/// What was written as options, else what the variable lists.
fn listed(written: Vec<String>, variable: Option<String>) -> Vec<String> {
    if !written.is_empty() {
        return written;
    }
    variable
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn api_url(text: &str) -> Result<Url, Problem> {
    let problem = |problem: String| Problem {
        option: "--api-url",
        problem,
    };
    let url = Url::parse(text).map_err(|error| {
        problem(format!(
            "{text:?} is not a URL ({error}); write it as https://api.voltus.co"
        ))
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(problem(format!(
            "{text:?} is not an http or https URL; write it as https://api.voltus.co"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem(
            "has a user or password in it; the key goes into --api-key".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(problem(format!("{text:?} has a query or a fragment")));
    }
    Ok(url)
}

fn api_key(given: Option<Given>, url: &Url) -> Result<ApiKey, Problem> {
    let key = match given {
        Some(Given::Text(key)) => ApiKey::fixed(&key),
        Some(Given::File(path)) => {
            return ApiKey::from_file(&path).map_err(|error| Problem {
                option: "--api-key-file",
                problem: error.to_string(),
            });
        }
        None if is_loopback(url) || url.host_str() == Some(SANDBOX) => {
            ApiKey::fixed(&SANDBOX_KEY.to_owned().into())
        }
        None => {
            return Err(Problem {
                option: "--api-key",
                problem: format!(
                    "{} needs a key; give --api-key or --api-key-file",
                    url.host_str().unwrap_or_default()
                ),
            });
        }
    };
    key.map_err(|error| Problem {
        option: "--api-key",
        problem: error.to_string(),
    })
}

/// It stands in a path as it is, so it must need no encoding.
fn webhook_secret_fits(secret: &SecretString, problems: &mut Problems) {
    let fits = secret
        .expose_secret()
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let dots = secret.expose_secret().bytes().all(|byte| byte == b'.');
    if !fits || dots {
        problems.add(
            "--webhook-secret",
            "may have letters, digits and - . _ ~ only, since it stands in a path",
        );
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
            format!("{version:?} is not a version; write it as 2022-04-15"),
        );
    }
}

fn read_sinks(
    texts: &[String],
    secret: Option<&SecretString>,
    problems: &mut Problems,
) -> Option<Vec<SinkSpec>> {
    let secrets = match secret.map(SinkSecrets::signing).transpose() {
        Ok(secrets) => secrets.unwrap_or_else(SinkSecrets::none),
        Err(error) => {
            problems.add("--sink-secret", error.to_string());
            return None;
        }
    };
    match SinkSpec::parse_all(texts.iter().map(String::as_str), &secrets) {
        Ok(specs) => Some(specs),
        Err(errors) => {
            for error in errors {
                problems.add("--sink", error.to_string());
            }
            None
        }
    }
}
