//! Keeps those who wait for an answer, and the effects of a step.

use std::time::Duration;

use super::{Effect, WaiterReply};
use crate::sync::waiters::{Ticket, Waiters};

/// How many may wait at once. More are told to come back.
const MOST_WAITING: usize = 4096;

/// When those who could not be answered may come back. Voltus resends by itself; a
/// second is what its first resend waits.
pub(super) const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Who waits, and the effects of the step under way.
#[derive(Debug)]
pub(super) struct Answering<W> {
    pub waiters: Waiters<W>,
    pub effects: Vec<Effect<W>>,
}

impl<W> Answering<W> {
    pub fn new() -> Self {
        Self {
            waiters: Waiters::new(),
            effects: Vec::new(),
        }
    }

    /// Whether so many wait that nobody else may.
    pub fn is_full(&self) -> bool {
        self.waiters.len() >= MOST_WAITING
    }

    /// Answers somebody who has no ticket.
    pub fn reply(&mut self, waiter: W, outcome: WaiterReply) {
        self.effects.push(Effect::Reply { waiter, outcome });
    }

    /// Answers the holder of `ticket`, unless the holder was answered before.
    pub fn answer(&mut self, ticket: Ticket, outcome: WaiterReply) {
        if let Some(waiter) = self.waiters.take(ticket) {
            self.reply(waiter, outcome);
        }
    }

    /// Tells the holder of `ticket` that it could not be done now, and why.
    pub fn refuse(&mut self, ticket: Ticket, reason: &str) {
        self.answer(ticket, unavailable(reason));
    }
}

/// It could not be done now.
pub(super) fn unavailable(reason: &str) -> WaiterReply {
    WaiterReply::Unavailable {
        reason: reason.to_owned(),
        retry_after: RESEND_AFTER,
    }
}
