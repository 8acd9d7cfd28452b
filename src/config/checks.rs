//! Checks the value of each option.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::secrets::{Names, SINK_SECRET, STATUS_TOKEN, WEBHOOK_SECRET, choose, read};
use super::{
    Config, ConfigError, Origin, Origins, Problem, Problems, PublicUrl, RunOptions, empty_variable,
    sinks, state,
};
use crate::delivery::sinks::SinkSecrets;
use crate::secret::Secret;
use crate::system::host_name;
use crate::trace;

/// No poll comes sooner after another.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn check(
    options: RunOptions,
    origins: &Origins<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let of_file = origins.file().map(|file| file.problems());
    let of_file = of_file.unwrap_or_default();
    let mut problems = Problems::default();
    bounds(&options, &mut problems);
    let api = super::api::check(options.api, origins, &mut problems);
    let mut secret = |names: &Names, text, file| {
        let chosen = choose(names, text, file, origins);
        problems.take(chosen.and_then(|given| read(names, given)))
    };
    let webhook_secret = secret(
        &WEBHOOK_SECRET,
        options.webhook_secret,
        options.webhook_secret_file,
    );
    let sink_secret = secret(&SINK_SECRET, options.sink_secret, options.sink_secret_file);
    let status_token = secret(
        &STATUS_TOKEN,
        options.status_token,
        options.status_token_file,
    );
    if let Some(Some(secret)) = &webhook_secret {
        let fits = webhook_secret_fits(&secret.get());
        problems.take(fits.map_err(|problem| WEBHOOK_SECRET.problem(secret, problem)));
    }
    if let Some(Some(secret)) = &status_token {
        let fits = status_token_fits(&secret.get());
        problems.take(fits.map_err(|problem| STATUS_TOKEN.problem(secret, problem)));
    }
    let public_url = options
        .public_url
        .zip(webhook_secret.as_ref())
        .map(|(url, secret)| problems.take(PublicUrl::read(url, secret.as_ref())));
    let guarded = options.allow_remote_status || !matches!(status_token, Some(None));
    let listeners = (options.listen, options.status_listen);
    addresses(listeners, guarded, origins, &mut problems);
    let mut listed = |option, written, variable| {
        problems
            .take(listed(option, written, variable, origins, env))
            .unwrap_or_default()
    };
    let status_hosts = listed(
        "--status-host",
        options.status_hosts,
        "DISPATCHD_STATUS_HOSTS",
    );
    let forget_sinks = listed(
        "--forget-sink",
        options.forget_sinks,
        "DISPATCHD_FORGET_SINKS",
    );
    let sinks = listed("--sink", options.sinks, "DISPATCHD_SINKS");
    for host in &status_hosts.values {
        let fits = status_host_fits(host);
        problems.take(fits.map_err(|problem| Problem {
            origin: status_hosts.origin.clone(),
            ..Problem::new("--status-host", problem)
        }));
    }
    let status_hosts = status_hosts.values;
    let sink_secrets = sink_secret
        .as_ref()
        .and_then(|secret| problems.take(sink_secrets(secret.as_ref())));
    let sinks = sink_secrets
        .as_ref()
        .and_then(|secrets| sinks::choose(&sinks, origins.file(), secrets, &mut problems));
    let state = problems.take(state::check(
        &options.state,
        options.state_password_file,
        env,
    ));
    let advertise = problems.take(state::advertise(
        options.advertise.as_deref(),
        options.listen,
        state.as_ref(),
    ));

    let node = options.node.unwrap_or_else(host_name);
    let traces = trace::Settings::read(env, &node);
    let secrets = (sink_secrets, webhook_secret, status_token);
    match (api, sinks, state, secrets) {
        (
            Some(api),
            Some(sinks),
            Some(state),
            (Some(sink_secrets), Some(webhook_secret), Some(status_token)),
        ) if problems.0.is_empty() && of_file.is_empty() => Ok(Config {
            api_url: api.url,
            api_version: api.version,
            api_key: api.key,
            api_rate: options.api_rate,
            api_max_body: options.api_max_body.as_u64(),
            listen: options.listen,
            status_listen: options.status_listen,
            poll_interval: options.poll_interval,
            state,
            advertise: advertise.flatten(),
            default_sinks: sinks.is_default,
            sinks: sinks.used,
            replaced_sinks: sinks.replaced,
            forget_sinks: forget_sinks.values,
            sink_secret: sink_secret.flatten(),
            sink_secrets,
            pre_curtail: options.pre_curtail,
            curtail_on_test: options.curtail_on_test,
            webhook_secret,
            public_url: public_url.flatten(),
            webhook_deadline: options.webhook_deadline,
            peer_rate: NonZeroU32::new(options.peer_rate),
            trust_forwarded_for: options.trust_forwarded_for,
            retain: options.retain,
            status_token,
            status_hosts,
            node,
            traces,
            file: origins.file().cloned(),
        }),
        _ => Err(ConfigError::of(of_file, problems, origins)),
    }
}

/// Checks durations and sizes that have a least value.
fn bounds(options: &RunOptions, problems: &mut Problems) {
    if options.poll_interval < SHORTEST_INTERVAL {
        problems.add("--poll-interval", "must be 100ms at least");
    }
    if options.webhook_deadline < Duration::from_millis(10) {
        problems.add("--webhook-deadline", "must be 10ms at least");
    }
    if options.api_max_body.as_u64() == 0 {
        problems.add("--api-max-body", "must be more than 0");
    }
}

/// Checks where the listeners are bound: to two addresses, and that of the status listener
/// not open to everybody unless it is `guarded`.
fn addresses(
    (webhooks, status): (SocketAddr, SocketAddr),
    guarded: bool,
    origins: &Origins<'_>,
    problems: &mut Problems,
) {
    let guarded = guarded
        || origins.is_unreadable("--allow-remote-status")
        || STATUS_TOKEN.is_unreadable(origins);
    if !status.ip().is_loopback() && !guarded {
        problems.add(
            "--status-listen",
            format!(
                "{status} can be reached from elsewhere and shows customers' data; give --status-token, or --allow-remote-status if something else keeps strangers out"
            ),
        );
    }
    let same = webhooks == status && webhooks.port() != 0;
    let listeners = ["--listen", "--status-listen"];
    if same && !listeners.iter().any(|option| origins.is_unreadable(option)) {
        problems.add("--status-listen", "is the same address as --listen");
    }
}

/// Values of an option that is repeatable.
pub(super) struct Listed {
    pub values: Vec<String>,
    /// Where they come from.
    pub origin: Origin,
}

/// None.
impl Default for Listed {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            origin: Origin::Default,
        }
    }
}

/// What was written as options, else what the variable lists, else what the file has.
fn listed(
    option: &'static str,
    written: Vec<String>,
    variable: &str,
    origins: &Origins<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Listed, Problem> {
    let origin = origins.of(option);
    let list = match origin {
        Origin::CommandLine => None,
        _ => env(variable),
    };
    let Some(list) = list else {
        return Ok(Listed {
            values: written,
            origin,
        });
    };
    let values: Vec<String> = list
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    let origin = Origin::Variable(variable.to_owned());
    if values.is_empty() {
        return Err(Problem {
            origin,
            ..Problem::new(option, empty_variable(variable))
        });
    }
    Ok(Listed { values, origin })
}

/// The name alone, as the `Host` header has it.
fn status_host_fits(host: &str) -> Result<(), String> {
    match host.parse::<http::uri::Authority>() {
        Ok(authority) if !host.contains('@') && !authority.host().is_empty() => Ok(()),
        _ => Err(format!(
            "`{host}` is not the name of a host; write it as ops.example.com, without http:// and without a path"
        )),
    }
}

/// It travels in a header, so it must be able to stand in one.
pub(crate) fn status_token_fits(token: &SecretString) -> Result<(), &'static str> {
    match http::HeaderValue::from_str(token.expose_secret()) {
        Ok(_) => Ok(()),
        Err(_) => Err(
            "the token has a character that cannot stand in an HTTP header; use printable ASCII",
        ),
    }
}

/// It stands in a path as it is, so it must need no encoding.
pub(crate) fn webhook_secret_fits(secret: &SecretString) -> Result<(), &'static str> {
    let fits = secret
        .expose_secret()
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let dots = secret.expose_secret().bytes().all(|byte| byte == b'.');
    if !fits || dots {
        return Err(
            "the secret may have letters, digits and - . _ ~ only, since it stands in a path",
        );
    }
    Ok(())
}

fn sink_secrets(secret: Option<&Secret>) -> Result<SinkSecrets, Problem> {
    let Some(secret) = secret else {
        return Ok(SinkSecrets::none());
    };
    SinkSecrets::signing(&secret.get())
        .map_err(|error| SINK_SECRET.problem(secret, error.to_string()))
}
