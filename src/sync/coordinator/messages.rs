//! The inputs and effects of the coordinator.

use std::sync::Arc;
use std::time::Duration;

use super::answering::unavailable;
use super::delivering::{PendingRequest, SinkPending, SkipRequest};
use super::trusting::SUSPENDED;
use crate::clock::Mono;
use crate::delivery::{Attempt, Read, RefreshPage, RefreshRead, Start};
use crate::model::{Asked, DispatchId, Event, OverrideOrder};
use crate::store::{Batch, StoreError};
use crate::sync::health::RegistrationHealth;
use crate::voltus::{ApiError, ApiResponse, Question};

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
    /// leave. The answer is [`WaiterReply::Granted`] then.
    Token {
        /// Who waits.
        waiter: W,
    },
    /// Somebody will ask the API something that has time, and waits until nothing else
    /// wants a token. The answer is [`WaiterReply::Granted`] then.
    SpareToken {
        /// Who waits.
        waiter: W,
    },
    /// A question was answered, or not.
    Response {
        /// The question's place in the order.
        asked: Asked,
        /// The answer.
        result: Result<ApiResponse, ApiError>,
    },
    /// A request that keeps the webhook registered was answered, or not.
    Registered {
        /// When it was sent.
        issued: Mono,
        /// What came of it.
        result: Result<(), ApiError>,
    },
    /// How the registration of the daemon's webhook stands.
    Registration(RegistrationHealth),
    /// A request for the enrolled sites failed.
    InventoryFailed {
        /// When it was sent.
        issued: Mono,
        /// Why.
        error: ApiError,
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
        /// How long it waited to be made, because this machine was busy.
        waited: Duration,
    },
    /// A read of pending events has ended.
    PendingRead {
        /// Which sink, counted from 0.
        sink: usize,
        /// The events, oldest first.
        result: Result<Vec<Event>, StoreError>,
    },
    /// A sink has made a connection anew.
    Connected {
        /// Which sink, counted from 0.
        sink: usize,
    },
    /// Somebody has looked whether a sink's receiver is there.
    Probed {
        /// Which sink, counted from 0.
        sink: usize,
        /// Why nothing can be delivered to it, if nothing can.
        result: Result<(), String>,
    },
    /// A read of what goes to a sink once more has ended.
    RefreshRead {
        /// Which sink, counted from 0.
        sink: usize,
        /// What was read.
        result: Result<RefreshPage, StoreError>,
    },
    /// An operator asks which events are pending. The answer is
    /// [`WaiterReply::Pending`], or [`WaiterReply::Unknown`] if no sink has that name.
    ListPending {
        /// Which.
        request: PendingRequest,
        /// Who waits.
        waiter: W,
    },
    /// An operator orders what a site must do. The answer is [`WaiterReply::Applied`]
    /// once that is on disk.
    Override {
        /// What is ordered.
        order: OverrideOrder,
        /// Who waits.
        waiter: W,
    },
    /// The API answered a request with a redirect, and somebody waits until the
    /// budget allows the request that follows it. The answer is
    /// [`WaiterReply::Granted`] then. It does not wait for the pauses of a slowdown: it
    /// is part of a request that has waited for them.
    Redirect {
        /// Who is to be answered.
        waiter: W,
    },
    /// An operator gives an event up. The answer is [`WaiterReply::Skipped`] once that
    /// is on disk, [`WaiterReply::Unknown`] if no such event is pending, or
    /// [`WaiterReply::PendingAt`] if a sink must be named.
    Skip {
        /// Which.
        request: SkipRequest,
        /// Who waits.
        waiter: W,
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
        outcome: WaiterReply,
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
    /// Drop an attempt: it hangs, and its result counts no more.
    Abandon {
        /// Which sink, counted from 0.
        sink: usize,
        /// The attempt's number.
        attempt: u64,
    },
    /// Read events from the store for a sink that has room for them. There is one
    /// read a sink at a time.
    ReadPending {
        /// Which sink, counted from 0.
        sink: usize,
        /// Which events.
        read: Read,
    },
    /// Read from the store what goes to a sink once more. There is one such read a
    /// sink at a time.
    ReadRefresh {
        /// Which sink, counted from 0.
        sink: usize,
        /// What to read.
        read: RefreshRead,
    },
    /// End: another daemon has taken over. The last effect.
    End(StoreError),
}

/// The answer to somebody who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaiterReply {
    /// What was asked for is on disk.
    Applied,
    /// The budget allows the request.
    Granted,
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
    /// What is pending, by sink.
    Pending(Vec<SinkPending>),
    /// The event is not delivered any more at these sinks.
    Skipped(Vec<Arc<str>>),
    /// The event is pending at these sinks, and none was named.
    PendingAt(Vec<Arc<str>>),
}

impl WaiterReply {
    /// It could not be done: this daemon does not know whether it still leads.
    pub(in crate::sync) fn suspended() -> Self {
        unavailable(SUSPENDED)
    }

    /// Whether it says that something is settled, as only a leader may (rule R15).
    pub fn is_promise(&self) -> bool {
        match self {
            Self::Applied | Self::Unknown | Self::Skipped(_) => true,
            Self::Granted
            | Self::Unavailable { .. }
            | Self::Busy
            | Self::Pending(_)
            | Self::PendingAt(_) => false,
        }
    }

    /// Why it could not be done now, for the operator.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unavailable { reason, .. } => Some(reason),
            _ => None,
        }
    }
}
