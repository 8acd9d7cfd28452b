//! `dispatchd check`

mod checks;
#[cfg(test)]
mod tests;

use std::fmt;

use clap::ArgMatches;

use super::output::{line, plain};
use super::{Failure, logging, runtime};
use crate::config::{Config, RunOptions};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckOutcome {
    Ok,
    Failed,
    Skipped,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    outcome: CheckOutcome,
    name: &'static str,
    detail: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Skipped => "skipped",
        };
        write!(f, "{outcome} {}: {}", self.name, plain(&self.detail))
    }
}

/// Checks what `dispatchd run` would run with, a line each.
pub(super) fn run(options: RunOptions, matches: &ArgMatches) -> Result<(), Failure> {
    logging::start(options.log_format, "error")?;
    let env = |name: &str| std::env::var(name).ok();
    let config = Config::check(options, matches, &env);
    let checks = runtime()?.block_on(checks::all(config));
    for check in &checks {
        line(&check.to_string())?;
    }
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check.outcome == CheckOutcome::Failed)
        .map(|check| check.name)
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Runtime(format!(
            "{} of {} checks failed: {}",
            failed.len(),
            checks.len(),
            failed.join(", ")
        )))
    }
}
