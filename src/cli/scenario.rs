//! `dispatchd scenario`

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use super::output::{line, write};
use super::{Failure, api, logging, note, runtime};
use crate::clock::{Clock, SystemClock};
use crate::config::{Api, ApiOptions, FileOption, LogFormat, Origins, api_url, duration};
use crate::model::Kilowatts;
use crate::sandbox::{Acceptance, SiteSpec, acceptance};
use crate::voltus::{ApiError, KeySource};

/// The options of `dispatchd scenario`.
#[derive(Debug, Args)]
pub(super) struct ScenarioOptions {
    /// Acceptance test to start
    #[arg(
        value_name = "TEST",
        value_parser = PossibleValuesParser::new(Acceptance::ALL.map(Acceptance::name))
            .try_map(|name| name.parse::<Acceptance>()),
        required_unless_present = "file"
    )]
    test: Option<Acceptance>,

    /// Time until the first dispatch begins
    #[arg(long, value_name = "D", default_value = "1m", value_parser = duration)]
    start_in: Duration,

    /// Length of each dispatch
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    length: Duration,

    /// Site to curtail; repeatable
    #[arg(
        long = "site",
        value_name = "ID:NAME:LOCATION:KW",
        default_values = ["asdf:Site 1:1:12", "lkjh:Site 2:2:40"],
        value_parser = site
    )]
    sites: Vec<SiteSpec>,

    /// JSON file with the body of POST /scenarios, instead of TEST
    #[arg(long, value_name = "PATH", conflicts_with_all = ["start_in", "length", "sites"])]
    file: Option<PathBuf>,

    /// Print the request instead of sending it
    #[arg(long)]
    print: bool,

    #[command(flatten)]
    config: FileOption,

    #[command(flatten)]
    api: ApiOptions,
}

/// Starts a scenario, and tells the ids of its dispatches, one a line.
pub(super) fn run(options: ScenarioOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "warn")?;
    let order = match (&options.file, options.test) {
        (Some(path), _) => from_file(path)?,
        (None, Some(test)) => from_options(test, &options, SystemClock::new().now().wall)?,
        (None, None) => return Err(Failure::Usage("name a test, or give --file".into())),
    };
    if options.print {
        return write(&format!("{order:#}\n")).map(drop);
    }
    let url =
        api_url(&options.api.api_url).map_err(|problem| Failure::Usage(problem.to_string()))?;
    if !Api::is_sandbox(&url) {
        return Err(Failure::Usage(format!(
            "--api-url: {} is no sandbox: scenarios are started at sandbox.voltus.co or on this machine only",
            url.host_str().unwrap_or_default()
        )));
    }
    let admin = api::admin(api::check(options.api, origins)?, api::ANSWER_MAX)?;
    let started = runtime()?.block_on(admin.start_scenario(&order));
    let ids = started.map_err(|error| match &error {
        ApiError::KeyRefused {
            key: KeySource::Public,
            ..
        } => Failure::Runtime(format!(
            "{error}; scenarios at Voltus's sandbox need a key of your own, which Voltus issues"
        )),
        _ => error.into(),
    })?;
    if ids.is_empty() {
        note("the scenario was started; the API did not tell the ids of its dispatches");
    }
    for id in ids {
        line(id.as_str())?;
    }
    Ok(())
}

fn from_options(
    test: Acceptance,
    options: &ScenarioOptions,
    now: DateTime<Utc>,
) -> Result<Value, Failure> {
    let start = later("--start-in", now, options.start_in)?;
    if options.length.is_zero() {
        return Err(Failure::Usage("--length: must be more than 0".into()));
    }
    later("--length", start, options.length.saturating_mul(4))?;
    let length = TimeDelta::from_std(options.length)
        .map_err(|error| Failure::Usage(format!("--length: {error}")))?;
    Ok(acceptance(test, now, start, length, &options.sites))
}

/// `time` moved by `by`, as far as a date can be written.
pub(super) fn later(
    option: &str,
    time: DateTime<Utc>,
    by: Duration,
) -> Result<DateTime<Utc>, Failure> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| time.checked_add_signed(by))
        .filter(|time| time.timestamp() < 253_402_300_800) // the year 10000
        .ok_or_else(|| {
            Failure::Usage(format!(
                "{option}: the time would be after the year 9999; give a shorter one"
            ))
        })
}

fn from_file(path: &Path) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("--file {}: {problem}", path.display()));
    const REMEDY: &str = "it must hold the JSON object of POST /scenarios; `dispatchd scenario basic --print` shows one";
    let text = std::fs::read(path)
        .map_err(|error| wrong(format!("the file cannot be read: {error}; check the path")))?;
    let order: Value = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not JSON ({error}); {REMEDY}")))?;
    if order.is_object() {
        Ok(order)
    } else {
        Err(wrong(format!("not a JSON object; {REMEDY}")))
    }
}

/// `ID:NAME:LOCATION:KW`. The name may have colons in it.
fn site(text: &str) -> Result<SiteSpec, String> {
    let parts = || {
        let (id, rest) = text.split_once(':')?;
        let (rest, kw) = rest.rsplit_once(':')?;
        let (name, location) = rest.rsplit_once(':')?;
        Some((id, name, location, kw))
    };
    let (id, name, location, kw) =
        parts().ok_or("write a site as ID:NAME:LOCATION:KW, such as s1:Mill:L7:120")?;
    if id.is_empty() {
        return Err(
            "the id is empty; write a site as ID:NAME:LOCATION:KW, such as s1:Mill:L7:120".into(),
        );
    }
    let commitment = kw
        .parse()
        .ok()
        .filter(|kw: &f64| kw.is_finite() && *kw >= 0.0)
        .ok_or_else(|| {
            format!("`{kw}` is not a number of kW; write a site as ID:NAME:LOCATION:KW, such as s1:Mill:L7:120")
        })?;
    Ok(SiteSpec {
        id: id.to_owned(),
        name: name.to_owned(),
        customer_location_id: location.to_owned(),
        commitment: Kilowatts(commitment),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_four_parts_and_its_name_may_have_colons() {
        let spec = site("s1:Mill: north:L7:12.5").unwrap();
        assert_eq!(
            (spec.id.as_str(), spec.name.as_str()),
            ("s1", "Mill: north")
        );
        assert_eq!(spec.customer_location_id, "L7");
        assert_eq!(spec.commitment, Kilowatts(12.5));
        assert_eq!(site("s1:::0").unwrap().customer_location_id, "");
        for wrong in [
            "s1",
            "s1:a:1",
            ":a:L:1",
            "s1:a:L:",
            "s1:a:L:-1",
            "s1:a:L:NaN",
        ] {
            assert!(site(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_stay_within_what_can_be_written() {
        let now = DateTime::UNIX_EPOCH;
        assert!(later("--start-in", now, Duration::from_secs(60)).is_ok());
        assert!(later("--start-in", now, Duration::from_secs(1 << 40)).is_err());
        assert!(later("--start-in", now, Duration::MAX).is_err());
    }
}
