//! `dispatchd site`

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::daemon_client::{AskError, DaemonClient};
use super::output::{plain, write};
use super::{Failure, logging, runtime};
use crate::clock::{Clock, SystemClock};
use crate::config::{DaemonAccess, DaemonOptions, LogFormat, Origins};
use crate::model::rfc3339;

/// The options of `dispatchd site`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct SiteOptions {
    /// The site's id, as `dispatchd status --json` shows it
    #[arg(value_name = "ID")]
    site: String,

    /// What it must do
    #[arg(value_enum, value_name = "ORDER")]
    order: Order,

    /// Until when: a time such as 2026-07-01T17:00:00Z, or how long, such as 4h; 48 hours
    /// at most
    #[arg(long, value_name = "T", required_if_eq_any([("order", "curtail"), ("order", "release")]))]
    until: Option<String>,

    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT", required_if_eq_any([("order", "curtail"), ("order", "release")]))]
    reason: Option<String>,

    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Curtail it, whatever dispatches say
    Curtail,
    /// Keep it out: release it, and let no dispatch curtail it
    Release,
    /// Let it follow its dispatches again
    Auto,
}

#[derive(Debug, Deserialize)]
struct Site {
    id: String,
    #[serde(default)]
    name: String,
    state: String,
    #[serde(default)]
    dispatches: Vec<String>,
    #[serde(rename = "override")]
    site_override: Option<Override>,
    #[serde(default)]
    sinks: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Override {
    until: DateTime<Utc>,
}

/// Asks a running daemon to order it.
pub(super) fn run(options: SiteOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let (method, body) =
        request(&options, SystemClock::new().now().wall).map_err(Failure::Usage)?;
    let access = DaemonAccess::check(options.daemon, &origins.within())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let client = DaemonClient::new(access)?;
    let path = ["sites", &options.site, "override"];
    let asked = client.send::<Site>(method, &path, &[], body.as_ref());
    match runtime()?.block_on(asked) {
        Ok(Some(site)) => write(&told(&site)).map(drop),
        Ok(None) => Err(Failure::Usage(format!(
            "ID: the daemon knows no site `{}`; `dispatchd status --json` lists the ids",
            plain(&options.site)
        ))),
        Err(AskError::Status {
            status: 400,
            message,
            ..
        }) => Err(Failure::Usage(
            message
                .replace("`until`", "--until")
                .replace("`reason`", "--reason"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What the daemon is asked, or what is wrong with the options.
fn request(options: &SiteOptions, now: DateTime<Utc>) -> Result<(Method, Option<Value>), String> {
    let state = match options.order {
        Order::Auto if options.until.is_some() || options.reason.is_some() => {
            return Err("auto: takes neither --until nor --reason; leave them out".to_owned());
        }
        Order::Auto => return Ok((Method::DELETE, None)),
        Order::Curtail => "curtailed",
        Order::Release => "normal",
    };
    let until = time(options.until.as_deref().unwrap_or_default(), now)?;
    let body = json!({"state": state, "until": rfc3339(until), "reason": options.reason});
    Ok((Method::PUT, Some(body)))
}

fn time(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let lasts = humantime::parse_duration(text).ok();
    lasts
        .and_then(|lasts| now.checked_add_signed(TimeDelta::from_std(lasts).ok()?))
        .ok_or_else(|| {
            format!(
                "--until: `{}` is neither a time such as 2026-07-01T17:00:00Z nor a duration such as 4h",
                plain(text)
            )
        })
}

/// What the site does from now, and who is told.
fn told(site: &Site) -> String {
    let name = match plain(&site.name) {
        name if name.is_empty() => plain(&site.id),
        name => format!("{} ({name})", plain(&site.id)),
    };
    let does = match (&site.site_override, &*site.state) {
        (Some(ordered), "curtailed") => {
            format!("is curtailed by hand until {}", rfc3339(ordered.until))
        }
        (Some(ordered), _) => format!("is kept out by hand until {}", rfc3339(ordered.until)),
        (None, "curtailed") => format!(
            "follows its dispatches: curtailed by {}",
            plain(&site.dispatches.join(", "))
        ),
        (None, _) => "follows its dispatches: nothing curtails it now".to_owned(),
    };
    let sinks = match site.sinks.is_empty() {
        true => "no sink is routed for it: nobody is told".to_owned(),
        false => format!(
            "its sinks: {}; `dispatchd status` names one that could not be told",
            plain(&site.sinks.join(", "))
        ),
    };
    format!("{name} {does}\n{sinks}\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: SiteOptions,
    }

    fn asked(line: &str) -> Result<(Method, Option<Value>), String> {
        let now = DateTime::UNIX_EPOCH;
        let words = std::iter::once("site").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        request(&line.options, now)
    }

    #[test]
    fn until_is_a_time_or_how_long() {
        for until in ["4h", "1970-01-01T04:00:00Z", "1970-01-01T05:00:00+01:00"] {
            assert_eq!(
                asked(&format!("mill release --until {until} --reason meter")),
                Ok((
                    Method::PUT,
                    Some(
                        json!({"state": "normal", "until": "1970-01-01T04:00:00Z", "reason": "meter"})
                    )
                ))
            );
        }
        let refused = asked("mill curtail --until noon --reason meter").unwrap_err();
        assert!(refused.contains("--until: `noon`"), "{refused}");
    }

    #[test]
    fn an_order_needs_an_end_and_a_reason_and_auto_neither() {
        for line in [
            "mill curtail --until 4h",
            "mill release --reason meter",
            "mill stop",
        ] {
            assert!(asked(line).is_err(), "{line}");
        }
        assert_eq!(asked("mill auto"), Ok((Method::DELETE, None)));
        assert!(asked("mill auto --until 4h").is_err());
    }
}
