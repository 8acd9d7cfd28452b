//! Makes sinks from what the operator wrote.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::spec::Kind;
use super::{
    ExecSink, HttpClients, HttpSink, MqttSink, NoneSink, SinkSpec, StdoutSink, causes, mqtt,
};
use crate::clock::Clock;
use crate::delivery::{Sink, look};
use crate::trust::Trust;

/// Tells the time of day. Signatures carry it.
pub type WallClock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The wall of a [`Clock`], for sinks, which need not know its type.
pub fn wall_clock<C: Clock>(clock: Arc<C>) -> WallClock {
    Arc::new(move || clock.now().wall)
}

/// What a sink works with besides its own options.
#[derive(Clone)]
pub struct SinkContext {
    /// The time of day.
    pub clock: WallClock,
    /// Until when this daemon may act: without trust a sink makes no new connection to keep.
    pub trust: Trust,
    /// Where the sinks' own tasks live.
    pub tasks: TaskTracker,
    /// Ends those tasks. To be cancelled after the last delivery, since a sink
    /// with a connection closes it then.
    pub stop: CancellationToken,
    /// The clients that HTTP sinks share.
    pub http: HttpClients,
}

/// Why a sink that was understood cannot be made.
#[derive(Debug, Error)]
pub enum SinkBuildError {
    /// The HTTP client does not start.
    #[error(
        "sink `{name}`: no HTTP client can be made: {}; it needs the system's certificates \
         (package `ca-certificates`) and a valid proxy, if the environment names one",
        causes(.source)
    )]
    Http {
        /// The sink's name.
        name: String,
        /// What the client said.
        source: reqwest::Error,
    },
    /// The address cannot be called.
    #[error("sink `{name}`: its address cannot be called: write http://host[:port]/path")]
    Address {
        /// The sink's name.
        name: String,
    },
    /// TLS does not start.
    #[error(
        "sink `{name}`: TLS is not possible: {source}; install the system's certificates \
         (package `ca-certificates`), or write mqtt://"
    )]
    Tls {
        /// The sink's name.
        name: String,
        /// What the library said.
        source: rustls::Error,
    },
    /// Standard output cannot be had.
    #[error(
        "sink `stdout`: standard output cannot be written: {source}; open it, or give another --sink"
    )]
    Stdout {
        /// What the system said.
        source: std::io::Error,
    },
}

impl SinkSpec {
    /// Makes the sink. Must be called inside the runtime: a sink that keeps a
    /// connection begins to connect.
    pub fn build(&self, context: &SinkContext) -> Result<Arc<dyn Sink>, SinkBuildError> {
        let name = self.name().to_owned();
        Ok(match self.kind() {
            Kind::None => Arc::new(NoneSink),
            Kind::Stdout => Arc::new(
                StdoutSink::standard().map_err(|source| SinkBuildError::Stdout { source })?,
            ),
            Kind::Exec(program) => Arc::new(ExecSink::new(name, program.clone())),
            Kind::Http(target) => {
                let clock = context.clock.clone();
                Arc::new(HttpSink::new(name, target, clock, &context.http)?)
            }
            Kind::Mqtt(target) => Arc::new(MqttSink::start(name, target, context)?),
        })
    }

    /// Looks once whether something could be delivered now, as the running sink does,
    /// and delivers nothing. A daemon that runs with the same sink is not disturbed.
    ///
    /// # Errors
    /// Why nothing can be delivered. Holds no secret.
    pub async fn look(&self, clock: WallClock) -> Result<(), String> {
        if let Kind::Mqtt(target) = self.kind() {
            return look(mqtt::knock(target)).await;
        }
        let context = SinkContext {
            clock,
            trust: Trust::endless(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            http: HttpClients::default(),
        };
        let sink = self.build(&context).map_err(|error| error.to_string())?;
        look(sink.probe()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::delivery::sinks::SinkSecrets;

    #[tokio::test]
    async fn a_sink_goes_by_the_name_of_its_spec() {
        let context = SinkContext {
            clock: wall_clock(Arc::new(SystemClock::new())),
            trust: Trust::endless(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            http: HttpClients::default(),
        };
        let texts = [
            "stdout",
            "none",
            "exec:/bin/sh",
            "http://me:pw@127.0.0.1:1/in?token=t",
            "mqtt://me:pw@127.0.0.1:1/plant",
        ];
        for spec in SinkSpec::parse_all(texts, &SinkSecrets::none()).unwrap() {
            let sink = spec.build(&context).unwrap();
            assert_eq!(sink.name(), spec.name());
            assert!(sink.batch() >= 1);
        }
        context.stop.cancel();
        context.tasks.close();
        context.tasks.wait().await;
    }
}
