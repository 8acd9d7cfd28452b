//! Keeps those who wait for an answer, and the effects of a step.

use std::time::Duration;

use super::{Effect, WaiterReply};
use crate::sync::waiters::{Ticket, Waiters};

/// How many webhooks may wait at once. More are told to come back.
const MOST_WAITING: usize = 4096;

/// How many polls by hand and overrides may wait beside them: no flood of webhooks shuts
/// operators out.
const BY_HAND: usize = 256;

/// When those who could not be answered may come back. Voltus resends by itself; a
/// second is what its first resend waits.
pub(super) const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Who waits, and the effects of the step under way.
#[derive(Debug)]
pub(super) struct Answering<W> {
    pub waiters: Waiters<W>,
    pub effects: Vec<Effect<W>>,
    /// Whether nothing may be promised: this daemon does not know whether it leads (rule
    /// R15).
    pub suspended: bool,
    /// What was to be promised meanwhile, and to whom. The deadlines go on.
    held_back: Vec<(Ticket, WaiterReply)>,
}

impl<W> Answering<W> {
    pub fn new() -> Self {
        Self {
            waiters: Waiters::new(),
            effects: Vec::new(),
            suspended: false,
            held_back: Vec::new(),
        }
    }

    /// Whether so many wait that no other webhook may.
    pub fn is_full(&self) -> bool {
        self.waiters.len() >= MOST_WAITING
    }

    /// Whether so many wait that nobody else may who acts by hand.
    pub fn is_full_by_hand(&self) -> bool {
        self.waiters.len() >= MOST_WAITING + BY_HAND
    }

    /// Answers somebody who has no ticket. A promise that may not be made is none: it is
    /// not known how long that will last, and such a waiter has no deadline.
    pub fn reply(&mut self, waiter: W, outcome: WaiterReply) {
        let outcome = match outcome.is_promise() && self.suspended {
            true => WaiterReply::suspended(),
            false => outcome,
        };
        self.effects.push(Effect::Reply { waiter, outcome });
    }

    /// Promises may be made again: makes those that were held back, to all who still wait.
    pub fn resume(&mut self) {
        for (ticket, outcome) in std::mem::take(&mut self.held_back) {
            self.answer(ticket, outcome);
        }
    }

    /// Answers the holder of `ticket`, unless the holder was answered before. A promise
    /// waits until one may be made.
    pub fn answer(&mut self, ticket: Ticket, outcome: WaiterReply) {
        if self.suspended && outcome.is_promise() {
            self.held_back.push((ticket, outcome));
        } else if let Some(waiter) = self.waiters.take(ticket) {
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
