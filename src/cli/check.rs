//! `dispatchd check`

mod checks;
#[cfg(test)]
mod tests;

use std::fmt;

use super::output::{line, plain};
use super::{Failure, logging, runtime};
use crate::config::{Config, Origins, RunOptions};

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
pub(super) fn run(options: RunOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(options.log_format, "error")?;
    let env = |name: &str| std::env::var(name).ok();
    let config = Config::check(options, origins, &env);
    let checks = runtime()?.block_on(checks::all(config));
    for check in &checks {
        line(&check.to_string())?;
    }
    let names = |wanted: &dyn Fn(&Check) -> bool| {
        let checks = checks.iter().filter(|check| wanted(check));
        let mut names: Vec<&str> = checks.map(|check| check.name).collect();
        // Each problem of the configuration has a line, and each sink that fails.
        names.dedup();
        names
    };
    let failed = names(&|check| check.outcome == CheckOutcome::Failed);
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Runtime(format!(
            "{} of {} checks failed: {}",
            failed.len(),
            names(&|_| true).len(),
            failed.join(", ")
        )))
    }
}
