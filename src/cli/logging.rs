//! Sets up the log, which goes to standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failure;
use crate::config::LogFormat;

/// Reads a filter. A level of `debug` without a target is about this program: the
/// libraries that it uses stay at `info`, unless their targets are named, or the level
/// is `trace`.
fn targets(filter: &str) -> Result<Targets, ParseError> {
    /// It says that a certificate cannot be trusted. Whoever asked says so too, with
    /// the reason.
    const VERIFIER: &str = "rustls_platform_verifier";

    let mut targets: Targets = filter.parse()?;
    let named: Vec<String> = targets.iter().map(|(name, _)| name.to_owned()).collect();
    let is_named = |target: &str| named.iter().any(|name| name == target);
    if targets.default_level() == Some(LevelFilter::DEBUG) {
        targets = targets.with_default(LevelFilter::INFO);
        if !is_named("dispatchd") {
            targets = targets.with_target("dispatchd", LevelFilter::DEBUG);
        }
    }
    if targets.default_level() != Some(LevelFilter::TRACE) && !is_named(VERIFIER) {
        targets = targets.with_target(VERIFIER, LevelFilter::OFF);
    }
    Ok(targets)
}

/// Starts logging, filtered by `RUST_LOG` and by `default` without it.
pub(super) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.trim().is_empty() => filter,
        _ => default.to_owned(),
    };
    let filter = targets(&filter).map_err(|error| {
        Failure::Usage(format!(
            "RUST_LOG: `{filter}` cannot be used: {error}; write a level, such as debug, or targets, such as info,dispatchd::listener=debug"
        ))
    })?;
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        // It would be told on standard error, and that panics where a terminal
        // has been closed.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let subscriber = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => subscriber.with(layer).try_init(),
        LogFormat::Json => subscriber.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| Failure::Runtime(format!("logging cannot start: {error}")))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn debug_is_ours_unless_a_library_is_named() {
        let lets =
            |filter: &str, target, level| targets(filter).unwrap().would_enable(target, &level);
        assert!(lets("debug", "dispatchd::sync::driver", Level::DEBUG));
        for library in ["hyper_util::client", "reqwest::connect", "rustls::client"] {
            assert!(!lets("debug", library, Level::DEBUG), "{library}");
            assert!(lets("debug", library, Level::INFO), "{library}");
            assert!(lets("trace", library, Level::TRACE), "{library}");
        }
        assert!(lets(
            "debug,hyper_util=debug",
            "hyper_util::client",
            Level::DEBUG
        ));
        assert!(lets("hyper_util=trace", "hyper_util::client", Level::TRACE));
        assert!(!lets(
            "debug,dispatchd=warn",
            "dispatchd::sync",
            Level::INFO
        ));
        assert!(!lets(
            "warn,dispatchd::listener=debug",
            "dispatchd::sync",
            Level::INFO
        ));
    }

    #[test]
    fn a_certificate_that_cannot_be_trusted_is_told_by_whoever_asked() {
        let verifier = "rustls_platform_verifier::verification";
        let lets = |filter: &str| {
            targets(filter)
                .unwrap()
                .would_enable(verifier, &Level::ERROR)
        };
        assert!(!lets("info") && !lets("debug"));
        assert!(lets("trace") && lets("info,rustls_platform_verifier=info"));
    }
}
