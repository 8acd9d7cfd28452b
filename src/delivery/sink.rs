//! The trait of all sinks: one attempt to deliver events.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::DeliveryTrace;
use crate::model::Event;

/// How long a look at a sink may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// How one attempt to deliver ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has it.
    Delivered,
    /// A connection was made, or there is none to make, and the events may or
    /// may not have arrived. This is a failure of their subjects alone.
    Failed {
        /// What went wrong, for the operator. Holds no secret.
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
        /// The receiver said that it wants no more events (410). The outbox
        /// tries again all the same, and shows the sink as paused if the
        /// receiver goes on saying so.
        gone: bool,
    },
    /// No connection could be made: refused, unreachable, an unknown name, TLS.
    /// Nothing has arrived, and nothing else would: this is a failure of the
    /// receiver as a whole. A receiver that is slow, or that answers with an
    /// error, is not unreachable.
    Unreachable {
        /// What went wrong, for the operator. Holds no secret.
        reason: String,
    },
    /// The daemon broke the attempt off, since it does not know whether it still leads
    /// (rule R15). The events may or may not have arrived. That is nobody's failure: they
    /// go again as soon as they may.
    BrokenOff,
}

impl Attempt {
    /// A failed attempt whose receiver asked for nothing.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
            retry_after: None,
            gone: false,
        }
    }

    /// Why the events may not have arrived, for the operator. `None` if they have.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Delivered => None,
            Self::Failed { reason, .. } | Self::Unreachable { reason } => Some(reason),
            Self::BrokenOff => Some("broken off: this daemon does not know whether it leads"),
        }
    }

    /// An attempt for which no connection could be made.
    pub fn unreachable(reason: impl Into<String>) -> Self {
        Self::Unreachable {
            reason: reason.into(),
        }
    }
}

/// The result of a `probe` of a sink, which must come within 5 seconds.
///
/// # Errors
/// Why nothing can be delivered. Holds no secret.
pub async fn look(probe: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(LOOK_TIMEOUT, probe).await.unwrap_or_else(|_| {
        let within = humantime::format_duration(LOOK_TIMEOUT);
        Err(format!("no connection within {within}"))
    })
}

/// A receiver of events. One attempt a call; when to try again is decided
/// elsewhere.
pub trait Sink: Send + Sync + 'static {
    /// Names the sink in logs, metrics and the store. Holds no secret and is
    /// the same after a restart.
    fn name(&self) -> &str;

    /// The most events that it takes in one attempt, at least 1.
    fn batch(&self) -> usize {
        1
    }

    /// The most attempts that it takes at the same time, at least 1. Attempts
    /// that hang keep their places; if all places are taken, the outbox abandons
    /// the attempt that has hung longest.
    fn at_once(&self) -> usize {
        256
    }

    /// How many connections the sink has made, if what the receiver keeps of each
    /// site may be lost between two of them. After each new one the outbox sends
    /// the newest event of every site again.
    fn connections(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Looks whether something could be delivered now, without delivering anything:
    /// a connection can be made, the program is there and may be run.
    ///
    /// # Errors
    /// Why nothing can be delivered. Holds no secret.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tries once to deliver `events`, all of them or none, and says with them to which
    /// `trace` they belong, if there is one.
    ///
    /// Ends within a bounded time. At most one attempt for a subject is under
    /// way at a time. An attempt that the outbox abandons is dropped: nothing of
    /// it may arrive afterwards that was not on its way already.
    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
        trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>>;
}
