//! The sinks, one file each.
//!
//! [`SinkSpec`] reads what the operator wrote and builds the sink from it.

mod build;
mod exec;
mod http;
mod mqtt;
mod none;
mod secrets;
mod spec;
mod stdout;
#[cfg(test)]
mod testing;

use std::time::Duration;

pub use build::{SinkBuildError, SinkContext, WallClock, wall_clock};
pub use exec::{ExecSink, become_program};
pub use http::{HttpClients, HttpSink};
pub use mqtt::MqttSink;
pub use none::NoneSink;
pub use secrets::{SinkSecretError, SinkSecrets};
pub use spec::{SinkSpec, SinkSpecError};
pub use stdout::StdoutSink;

use super::Attempt;
use crate::http::causes;

/// A failed attempt, to be tried again whenever the worker sees fit.
fn failed(reason: impl Into<String>) -> Attempt {
    Attempt::failed(reason)
}

/// A duration as an operator reads it.
fn spoken(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}
