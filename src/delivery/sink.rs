//! Where events go.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::model::Event;

/// How one attempt to deliver ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has it.
    Delivered,
    /// It may or may not have arrived. It must be tried again.
    Failed {
        /// What went wrong, for the operator. Holds no secret.
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver wants no more, ever. The sink rests until a restart.
    Refused {
        /// Its words, for the operator.
        reason: String,
    },
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

    /// Tries once to deliver `events`, all of them or none.
    ///
    /// Ends within a bounded time. At most one attempt for a subject is under
    /// way at a time.
    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>>;
}
