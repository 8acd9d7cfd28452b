//! The checks, each of which touches nothing.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use chrono::TimeDelta;
use futures_util::future::join_all;

use super::{Check, CheckOutcome};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, PublicUrl, StatePath};
use crate::daemon::{GoneSinks, gone_sinks};
use crate::delivery::sinks::{SinkSpec, wall_clock};
use crate::inventory::{Known, named, reason};
use crate::model::{Answer, count};
use crate::registration::{Action, decide};
use crate::store::{Postgres, PostgresTarget, Probe, SqliteStore};
use crate::voltus::{Admin, ApiError, ClientSettings, EnrolledSites, Look, Webhook};

/// From here on, starts and ends come noticeably early or late.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(5);

const CONFIGURATION: &str = "configuration";
const STATE: &str = "state";
const REACHABILITY: &str = "reachability";
const KEY: &str = "key";
const CLOCK: &str = "clock";
const REGISTRATION: &str = "registration";
const SINKS: &str = "sinks";
const SITES: &str = "sites";
const TRACES: &str = "traces";

fn ok(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        outcome: CheckOutcome::Ok,
        name,
        detail: detail.into(),
    }
}

fn failed(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        outcome: CheckOutcome::Failed,
        name,
        detail: detail.into(),
    }
}

fn skipped(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        outcome: CheckOutcome::Skipped,
        name,
        detail: detail.into(),
    }
}

/// All of them, in the order in which they build on one another.
pub(super) async fn all(config: Result<Config, ConfigError>) -> Vec<Check> {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let rest = [STATE, REACHABILITY, KEY, CLOCK, REGISTRATION, SINKS, SITES];
            let why = "needs a configuration that can work";
            let problems = error.0.iter();
            return problems
                .map(|problem| failed(CONFIGURATION, problem.to_string()))
                .chain(rest.map(|name| skipped(name, why)))
                .collect();
        }
    };
    // A database is asked in a way that blocks, which this thread must not.
    let state = thread::scope(|scope| scope.spawn(|| state(&config)).join());
    let state = state.unwrap_or_else(|_| failed(STATE, "the look at it broke off".to_owned()));
    let mut checks = vec![configuration(&config), state];
    let settings = ClientSettings {
        base: config.api_url.clone(),
        version: config.api_version.clone(),
        max_body: config.api_max_body,
    };
    let clock = SystemClock::new();
    let sinks = sinks(&config).await;
    match Admin::new(&settings, Arc::clone(&config.api_key), clock) {
        Ok(admin) => {
            let look = admin.look().await;
            let (webhooks, enrolled) = match &look.list {
                Ok(_) => (Some(admin.webhooks().await), Some(admin.sites().await)),
                Err(_) => (None, None),
            };
            checks.push(reachability(&config, &look));
            checks.push(key(&look));
            checks.push(clocks(&look));
            checks.push(registration(&config, webhooks));
            checks.extend(sinks);
            checks.push(sites(&config, enrolled));
        }
        Err(error) => {
            checks.push(failed(REACHABILITY, error.to_string()));
            let why = "the API cannot be asked";
            checks.extend([KEY, CLOCK, REGISTRATION].map(|name| skipped(name, why)));
            checks.extend(sinks);
            checks.push(skipped(SITES, why));
        }
    }
    checks.extend(traces(&config).await);
    checks
}

/// Whether the collector of traces takes them, if one is named.
async fn traces(config: &Config) -> Option<Check> {
    Some(match &config.traces {
        Err(error) => failed(TRACES, format!("{error}; until then no traces are sent")),
        Ok(None) => return None,
        Ok(Some(settings)) => match settings.look().await {
            Ok(()) => ok(TRACES, format!("{} takes them", settings.to())),
            Err(reason) => failed(
                TRACES,
                format!(
                    "{} does not take them: {reason}; correct OTEL_EXPORTER_OTLP_ENDPOINT or \
                     OTEL_EXPORTER_OTLP_HEADERS, or start the collector",
                    settings.to()
                ),
            ),
        },
    })
}

fn configuration(config: &Config) -> Check {
    let sinks: Vec<&str> = config.receiving_sinks().map(|sink| sink.name()).collect();
    let events = if sinks.is_empty() {
        "no sink (--sink none), so that no site is told anything".to_owned()
    } else {
        format!("events to {}", sinks.join(", "))
    };
    let polls = humantime::format_duration(config.poll_interval);
    let mut detail = format!(
        "{} version {}, a poll every {polls}, {events}",
        config.origin(),
        config.api_version,
    );
    if let Some(file) = &config.file {
        detail += &format!("; options from {}", file.path().display());
    }
    if let Some(replaced) = &config.replaced_sinks {
        detail += &format!("; {replaced}");
    }
    for (option, file) in config.open_secrets() {
        detail += &format!(
            "; every user of this machine can read {} ({option}): chmod o-rwx takes that away",
            file.display()
        );
    }
    ok(CONFIGURATION, detail)
}

fn state(config: &Config) -> Check {
    let path = match &config.state {
        StatePath::Memory => return skipped(STATE, "nothing is kept: --state is :memory:"),
        StatePath::File(path) => path,
        StatePath::Postgres(target) => return database(config, target),
    };
    let shown = path.display();
    match SqliteStore::probe(path, &config.origin()) {
        Ok(Probe::Absent) => ok(STATE, format!("{shown} is not there yet and can be made")),
        Ok(Probe::Older) => ok(
            STATE,
            format!(
                "{shown} was written by an older dispatchd; the next start brings it up to date, and an older program refuses it from then on: back it up before"
            ),
        ),
        Ok(found) => held_sinks(config, path, found),
        Err(error) => failed(STATE, error.to_string()),
    }
}

/// Whether the database can be used, and what a commit in it is worth.
fn database(config: &Config, target: &PostgresTarget) -> Check {
    let probe = match Postgres::probe(target, &config.origin()) {
        Ok(probe) => probe,
        Err(error) => return failed(STATE, error.to_string()),
    };
    if !probe.is_durable() {
        return failed(
            STATE,
            format!(
                "{target}: synchronous_commit is off: what was promised can be lost when the server stops; set it to on"
            ),
        );
    }
    let mut detail = format!("{target}: PostgreSQL {}", probe.version);
    if probe.has_tables {
        match Postgres::probe_sinks(target).map(|stored| gone_sinks(config, &stored)) {
            Ok(Some(gone)) if config.default_sinks => detail += &not_compared(&gone),
            Ok(Some(gone)) => return failed(STATE, format!("{target}: {gone}")),
            Ok(None) => {}
            Err(error) => return failed(STATE, error.to_string()),
        }
    }
    if !probe.has_tables {
        detail.push_str("; the first start makes the tables");
    }
    if let Some(leader) = &probe.leader {
        detail += &format!("; led by {leader}, or last led by it");
    }
    detail.push_str(if probe.is_replicated() {
        "; what was answered 200 outlives the loss of the server, as commits wait for a standby"
    } else {
        "; what was answered 200 does not outlive the loss of the server's disk: synchronous_standby_names names no standby that commits wait for"
    });
    ok(STATE, detail)
}

/// Whether each sink that may hold sites curtailed is still named: without that the
/// daemon does not start.
fn held_sinks(config: &Config, path: &Path, found: Probe) -> Check {
    let shown = path.display();
    match SqliteStore::probe_sinks(path, found).map(|stored| gone_sinks(config, &stored)) {
        Ok(Some(gone)) if config.default_sinks => {
            let note = not_compared(&gone);
            ok(STATE, format!("{shown} can be gone on with{note}"))
        }
        Ok(Some(gone)) => failed(STATE, format!("{shown}: {gone}")),
        Ok(None) => match found {
            Probe::InUse => skipped(
                STATE,
                format!(
                    "{shown} is in use by a dispatchd that is running; every sink that holds sites curtailed is named"
                ),
            ),
            Probe::Interrupted => ok(
                STATE,
                format!(
                    "{shown} can be gone on with; the last dispatchd that used it was killed, or its machine stopped, and the next start takes over what its log {shown}-wal holds: do not delete that file"
                ),
            ),
            _ => ok(STATE, format!("{shown} can be gone on with")),
        },
        Err(error) => skipped(
            STATE,
            format!(
                "whether a sink that holds sites curtailed is named no more could not be looked at: {error}"
            ),
        ),
    }
}

/// Whoever looks at a state alone gives no sinks. That the default is none of those that
/// hold sites curtailed is then no failure, and no reason to forget them.
fn not_compared(gone: &GoneSinks) -> String {
    let names: Vec<&str> = gone.sinks.iter().map(|sink| &*sink.name).collect();
    format!(
        "; sinks hold sites curtailed ({}), and none was given here: with the daemon's sinks this says whether each is named",
        names.join(", ")
    )
}

/// An answer of any status shows that there is a way; whether it is the right
/// place is another question.
fn reachability(config: &Config, look: &Look) -> Check {
    let origin = config.origin();
    let took = look.took.as_millis();
    match &look.list {
        Ok(response) => {
            let count = match &response.answer {
                Answer::List(list) => list.readings().len() + list.nameless(),
                _ => 0,
            };
            if response.problems.is_empty() {
                let detail =
                    format!("{origin} answers in {took} ms; dispatches in its list: {count}");
                ok(REACHABILITY, detail)
            } else {
                let detail = format!(
                    "{origin} answers, but parts of its list ({count}) cannot be read: {}",
                    response.problems
                );
                failed(REACHABILITY, detail)
            }
        }
        Err(ApiError::KeyRefused { .. }) => {
            ok(REACHABILITY, format!("{origin} answers in {took} ms"))
        }
        Err(error) => {
            let error = error.to_string();
            let named = error.contains(&origin);
            failed(
                REACHABILITY,
                if named {
                    error
                } else {
                    format!("{origin}: {error}")
                },
            )
        }
    }
}

fn key(look: &Look) -> Check {
    match &look.list {
        Ok(_) => ok(KEY, "the API takes it"),
        Err(error @ ApiError::KeyRefused { .. }) => failed(KEY, error.to_string()),
        Err(_) => skipped(KEY, "the API gave no list"),
    }
}

fn clocks(look: &Look) -> Check {
    let Some((ahead, margin)) = look.ahead else {
        return skipped(CLOCK, "the API did not tell the time");
    };
    let tenths = |span: TimeDelta| {
        let tenths = span.num_milliseconds().unsigned_abs().div_ceil(100);
        format!("{}.{}s", tenths / 10, tenths % 10)
    };
    if ahead.abs() <= margin {
        let detail = format!("agrees with the API's to within {}", tenths(margin));
        return ok(CLOCK, detail);
    }
    // The API's being ahead means that ours is behind.
    let side = if ahead > TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let detail = format!(
        "{} {side} the API's, give or take {}",
        tenths(ahead),
        tenths(margin)
    );
    if ahead.abs() - margin > SKEW_MAX {
        failed(
            CLOCK,
            format!("{detail}: starts and ends go by it; set it by NTP"),
        )
    } else {
        ok(CLOCK, detail)
    }
}

fn registration(config: &Config, webhooks: Option<Result<Vec<Webhook>, ApiError>>) -> Check {
    let webhooks = match webhooks {
        Some(Ok(webhooks)) => webhooks,
        Some(Err(error)) => return failed(REGISTRATION, error.to_string()),
        None => return skipped(REGISTRATION, "the API gave no list"),
    };
    let Some(wanted) = config.public_url.as_ref().map(PublicUrl::url) else {
        return if webhooks.is_empty() {
            skipped(
                REGISTRATION,
                "none, and --public-url is not given: without webhooks all comes by polls",
            )
        } else {
            let shown: Vec<String> = webhooks.iter().map(one).collect();
            ok(REGISTRATION, shown.join(", "))
        };
    };
    match decide(&webhooks, wanted, None) {
        Action::Nothing => ok(REGISTRATION, format!("{wanted} for all events")),
        Action::Delete(ids) => {
            let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
            let detail = format!(
                "{wanted} for all events; older ones beside it: {}",
                ids.join(", ")
            );
            ok(REGISTRATION, detail)
        }
        Action::Register => {
            let why = webhooks
                .iter()
                .find(|webhook| webhook.url.is_of_listener(wanted))
                .map_or_else(
                    || "is not registered".to_owned(),
                    |webhook| {
                        let lacks: Vec<&str> = webhook.lacks().collect();
                        if lacks.is_empty() {
                            format!("is registered with another secret ({})", webhook.id)
                        } else {
                            format!(
                                "is registered without {} ({})",
                                lacks.join(", "),
                                webhook.id
                            )
                        }
                    },
                );
            let remedy = "dispatchd run with --public-url sees to it";
            failed(REGISTRATION, format!("{wanted} {why}; {remedy}"))
        }
    }
}

/// Looks at each sink as the daemon does every minute. Each at which nothing can be
/// delivered has a line; the others share one.
async fn sinks(config: &Config) -> Vec<Check> {
    let sinks: Vec<&SinkSpec> = config.receiving_sinks().collect();
    if sinks.is_empty() {
        return vec![skipped(
            SINKS,
            "there is none, so that no site is told anything",
        )];
    }
    let clock = wall_clock(Arc::new(SystemClock::new()));
    let looks = sinks.iter().map(|sink| sink.look(Arc::clone(&clock)));
    let results = join_all(looks).await;
    let (mut there, mut checks) = (Vec::new(), Vec::new());
    for (sink, result) in sinks.iter().zip(results) {
        match result {
            Ok(()) => there.push(sink.name()),
            Err(reason) => checks.push(failed(
                SINKS,
                format!(
                    "{}: {reason}; see that its receiver runs, and that address and password are right",
                    sink.name()
                ),
            )),
        }
    }
    if !there.is_empty() {
        let all = if checks.is_empty() {
            "all"
        } else {
            "the others"
        };
        checks.push(ok(
            SINKS,
            format!("{all} can be reached: {}", there.join(", ")),
        ));
    }
    checks
}

/// Voltus advises to check that all expected sites are enrolled: a route expects the
/// sites that it names, and an enrolled site expects a sink. An API that does not tell
/// its sites is no failure.
fn sites(config: &Config, enrolled: Option<Result<EnrolledSites, ApiError>>) -> Check {
    let enrolled = match enrolled {
        Some(Ok(enrolled)) => enrolled,
        Some(Err(error)) => {
            let detail = format!("the enrolled sites are not known: {}", reason(&error));
            return skipped(SITES, detail);
        }
        None => return skipped(SITES, "the API gave no list"),
    };
    let routes: Vec<_> = config.sinks.iter().map(SinkSpec::sink_route).collect();
    let known = Known::new(enrolled, None, &routes, SystemClock::new().now());
    let compared = &known.comparison;
    let mut detail = format!(
        "enrolled: {}",
        count(known.sites.len() as u64, "site", "sites")
    );
    if let Some(gap) = &known.gap {
        detail += &format!(" (there may be more: {gap})");
    }
    if compared.unrouted > 0 {
        detail += &format!(
            "; routed to no sink: {}; add them to `sites` of a [[sink]], one with `to = \"none\"` if they are left out on purpose",
            named(&compared.first_unrouted, compared.unrouted)
        );
    }
    for unmatched in &compared.unmatched {
        detail += &format!(
            "; \"{}\" of {} matches no enrolled site",
            unmatched.pattern, unmatched.sink
        );
    }
    if !compared.unmatched.is_empty() {
        detail += "; correct them, or take them out if the sites are not enrolled any more";
    }
    if compared.is_clean() {
        ok(SITES, detail)
    } else {
        failed(SITES, detail)
    }
}

fn one(webhook: &Webhook) -> String {
    let lacks: Vec<&str> = webhook.lacks().collect();
    if lacks.is_empty() {
        format!("{} ({})", webhook.url, webhook.id)
    } else {
        format!(
            "{} ({}) without {}",
            webhook.url,
            webhook.id,
            lacks.join(", ")
        )
    }
}
