//! `dispatchd verify`

mod proof;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::DurationRound;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;

use super::daemon_client::DaemonClient;
use super::scenario::later;
use super::{Failure, api, logging, runtime};
use crate::clock::{Clock, SystemClock};
use crate::config::{
    ApiOptions, DaemonAccess, DaemonOptions, LogFormat, Origins, duration, whole_number,
};
use proof::Proof;

/// What the exit status means, for `--help`.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
  0  a webhook brought the test dispatch, or a poll where none is registered
  1  neither did in time, or the proof could not be carried out
  2  bad usage or configuration
  3  only a poll brought it, although a webhook is registered";

/// The options of `dispatchd verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyOptions {
    /// Time until the test dispatch begins; it must end within 72 hours
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    start_in: Duration,

    /// Length of the test dispatch
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    length: Duration,

    /// Id of the program to test [default: Voltus's test program]
    #[arg(long, value_name = "N", value_parser = whole_number(0..=i64::MAX), allow_hyphen_values = true)]
    program_id: Option<i64>,

    /// Time that the daemon has to learn of it [default: two poll intervals and
    /// 30s]
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,

    #[command(flatten)]
    api: ApiOptions,

    #[command(flatten)]
    daemon: DaemonOptions,
}

/// Makes a test dispatch and watches the daemon until it has it.
pub(super) fn run(options: VerifyOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let clock = SystemClock::new();
    let (start, end) = times(&options, clock.now().wall)?;
    let access = DaemonAccess::check(options.daemon, origins)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let proof = Proof {
        admin: api::admin(api::check(options.api, origins)?, api::ANSWER_MAX)?,
        daemon: DaemonClient::new(access)?,
        clock,
        start,
        end,
        program_id: options.program_id,
        timeout: options.timeout,
    };
    runtime()?
        .block_on(proof.run(&mut |text| super::output::line(text).map(drop)))
        .map(drop)
}

/// Start and end in whole seconds, since the API may know no fractions.
fn times(
    options: &VerifyOptions,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Failure> {
    const WITHIN: Duration = Duration::from_secs(72 * 3600);
    if options.length < Duration::from_secs(1) {
        return Err(Failure::Usage("--length: must be 1s at least".into()));
    }
    if options.start_in.saturating_add(options.length) > WITHIN {
        return Err(Failure::Usage(
            "--start-in: with --length it must be within the next 72 hours".into(),
        ));
    }
    let now = now.duration_trunc(TimeDelta::seconds(1)).unwrap_or(now);
    let start = later("--start-in", now, options.start_in)?;
    let start = start.duration_trunc(TimeDelta::seconds(1)).unwrap_or(start);
    let end = later("--length", start, options.length)?;
    let end = end.duration_trunc(TimeDelta::seconds(1)).unwrap_or(end);
    Ok((start, end))
}
