//! What the machine is told, and what it wants done.

use std::time::Duration;

use crate::clock::Mono;
use crate::delivery::{Attempt, Start};
use crate::model::{Asked, DispatchId, Event};
use crate::store::{Batch, StoreError};
use crate::voltus::{ApiError, Question, Told};

/// Something that happened. `W` is how whoever waits is answered.
#[derive(Debug)]
pub enum Input<W> {
    /// A webhook says: look at this dispatch.
    Webhook {
        /// The dispatch.
        id: DispatchId,
        /// Who waits.
        waiter: W,
    },
    /// Somebody asks for a poll, and waits for it.
    Poll {
        /// Who waits.
        waiter: W,
    },
    /// Somebody will ask the API something else, and waits for the budget's
    /// leave.
    Leave {
        /// Who waits.
        waiter: W,
    },
    /// A question was answered, or not.
    Told {
        /// The question's place in the order.
        asked: Asked,
        /// The answer.
        result: Result<Told, ApiError>,
    },
    /// A request that keeps the webhook registered was answered, or not.
    Registered {
        /// When it was sent.
        issued: Mono,
        /// What came of it.
        result: Result<(), ApiError>,
    },
    /// A commit has ended.
    Committed(Result<(), StoreError>),
    /// An attempt to deliver has ended.
    Attempted {
        /// Which sink, counted from 0.
        sink: usize,
        /// The attempt's number.
        attempt: u64,
        /// What came of it.
        result: Attempt,
    },
}

/// Something to be done.
#[derive(Debug)]
pub enum Effect<W> {
    /// Ask the API.
    Ask {
        /// The question's place in the order.
        asked: Asked,
        /// The question.
        question: Question,
    },
    /// Write this. There is one commit at a time.
    Commit(Box<Batch>),
    /// Answer somebody who waits.
    Reply {
        /// Who.
        waiter: W,
        /// The answer.
        verdict: Verdict,
    },
    /// Show these to those who listen: they are on disk.
    Show(Vec<Event>),
    /// Try to deliver.
    Attempt {
        /// Which sink, counted from 0.
        sink: usize,
        /// What.
        start: Start,
    },
    /// End: another daemon has taken over.
    End(StoreError),
}

/// The answer to somebody who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was asked for is on disk.
    Settled,
    /// Neither the API nor the schedule knows the dispatch.
    Unknown,
    /// It could not be done now.
    Unavailable {
        /// Why, for the operator.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Too many wait already.
    Busy,
}
