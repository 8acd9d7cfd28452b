//! Logs go to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::LogFormat;

/// Starts logging, filtered by `RUST_LOG` and by `default` without it.
pub(super) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)
            .map_err(|error| Failure::Usage(format!("RUST_LOG: {error}")))?,
        // Whoever cannot trust a certificate says so itself, with the reason.
        _ => EnvFilter::new(format!("{default},rustls_platform_verifier=off")),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be told on standard error, and that panics where a terminal
        // has been closed.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::Runtime(format!("logging cannot start: {error}")))
}
