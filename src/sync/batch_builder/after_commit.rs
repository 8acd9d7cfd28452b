//! What is left to do once a batch is committed: [`AfterCommit`].

use std::ops::Range;

use crate::engine::DoubtChange;
use crate::model::{Asked, DispatchId};
use crate::sync::heals::Correction;
use crate::sync::waiters::Ticket;

/// What to tell somebody who waited for a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync) enum WaiterOutcome {
    /// Its change is on disk.
    Changed,
    /// The answer says what was known, or was overtaken by a newer one.
    NothingNew,
    /// Neither the API nor the schedule knows it.
    Unknown,
    /// The answer cannot be read, or shows a lower number than ours.
    Unusable,
    /// The API does not know it, and it is live in the schedule.
    GoneButLive,
}

/// What one response brought to a batch.
#[derive(Debug)]
pub(in crate::sync) struct ResponseTaken {
    /// The request that it answers.
    pub asked: Asked,
    /// Which of the batch's events follow from it.
    pub events: Range<usize>,
    /// Which of [`AfterCommit::waiter_outcomes`] are for those who wait for it.
    pub waiters: Range<usize>,
}

/// What is left to do once a batch is committed.
#[derive(Debug, Default)]
pub(in crate::sync) struct AfterCommit {
    pub waiter_outcomes: Vec<(Ticket, DispatchId, WaiterOutcome)>,
    pub doubts: Vec<DoubtChange>,
    /// Changes that the poller found, one for each dispatch.
    pub heals: Vec<Correction>,
    pub polls: Vec<Asked>,
    /// Operators whose orders are on disk.
    pub orders: Vec<Ticket>,
    pub outdated: u64,
    pub rewinds: u64,
    /// How many sites were told their states once more, if all were.
    pub retold: Option<usize>,
    /// The responses that were taken in.
    pub responses: Vec<ResponseTaken>,
}
