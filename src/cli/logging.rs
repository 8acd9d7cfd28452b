//! Sets up the log, which goes to standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failure;
use crate::config::LogFormat;

/// Starts logging, filtered by `RUST_LOG` and by `default` without it.
pub(super) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => filter,
        // Whoever cannot trust a certificate says so itself, with the reason.
        _ => format!("{default},rustls_platform_verifier=off"),
    };
    let filter: Targets = filter
        .parse()
        .map_err(|error| Failure::Usage(format!("RUST_LOG: {error}")))?;
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
