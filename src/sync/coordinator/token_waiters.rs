//! Requests of others that wait until the budget allows them.

use std::collections::VecDeque;

use super::WaiterReply;
use super::answering::Answering;
use crate::clock::Mono;
use crate::sync::budget::Budget;
use crate::sync::slowdown::Slowdown;

/// Those who wait for a token, by how urgent it is.
#[derive(Debug)]
pub(super) struct TokenWaiters<W> {
    /// They follow a redirect of the API.
    pub redirects: VecDeque<W>,
    /// They keep the webhook registered.
    pub registration: VecDeque<W>,
    /// They have time.
    pub spare: VecDeque<W>,
}

impl<W> Default for TokenWaiters<W> {
    fn default() -> Self {
        Self {
            redirects: VecDeque::new(),
            registration: VecDeque::new(),
            spare: VecDeque::new(),
        }
    }
}

impl<W> TokenWaiters<W> {
    /// Lets redirects and requests for the registration go.
    pub fn serve(
        &mut self,
        budget: &mut Budget,
        slowdown: &mut Slowdown,
        answering: &mut Answering<W>,
        now: Mono,
    ) {
        // What is under way ends before anything new begins.
        while !self.redirects.is_empty() && budget.take() {
            if let Some(waiter) = self.redirects.pop_front() {
                slowdown.issued(now);
                answering.reply(waiter, WaiterReply::Granted);
            }
        }
        while !self.registration.is_empty() && slowdown.allows(now) && budget.take() {
            if let Some(waiter) = self.registration.pop_front() {
                slowdown.issued(now);
                answering.reply(waiter, WaiterReply::Granted);
            }
        }
    }

    /// Lets requests go that have time. Nothing else wants a token now. While
    /// requests are slowed down, each is needed for dispatches.
    pub fn serve_spare(
        &mut self,
        budget: &mut Budget,
        slowdown: &Slowdown,
        answering: &mut Answering<W>,
    ) {
        while !self.spare.is_empty() && !slowdown.is_slow() && budget.take_spare() {
            if let Some(waiter) = self.spare.pop_front() {
                answering.reply(waiter, WaiterReply::Granted);
            }
        }
    }

    /// All who wait. None waits any more.
    pub fn give_up(&mut self) -> impl Iterator<Item = W> {
        let urgent = self.redirects.drain(..).chain(self.registration.drain(..));
        urgent.chain(self.spare.drain(..))
    }
}
