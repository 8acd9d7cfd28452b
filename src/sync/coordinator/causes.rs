//! Tells what led to what, for whoever follows a webhook from its request to its events.
//! Nothing is decided by it.

use std::ops::Range;

use super::Coordinator;
use super::asking::Call;
use crate::model::Asked;

impl<W> Coordinator<W> {
    /// Those who wait for the response to this request, the longest waiting first.
    pub fn waiting_for(&self, asked: Asked) -> impl Iterator<Item = &W> {
        let tickets = match self.asking.call(asked) {
            Some(Call::Dispatch(id)) => self.asking.look_ups.tickets(id),
            Some(Call::Poll) | None => &[],
        };
        let waiters = &self.answering.waiters;
        tickets.iter().filter_map(|ticket| waiters.get(*ticket))
    }

    /// The requests whose responses are in the commit under way. With each go those events
    /// of the batch that follow from it, and those who still wait for it.
    pub fn responses_in_commit(
        &self,
    ) -> impl Iterator<Item = (Asked, Range<usize>, impl Iterator<Item = &W>)> {
        let after_commit = self.writing.under_way().map(|it| &it.after_commit);
        let after_commit = after_commit.into_iter();
        after_commit.flat_map(|after_commit| {
            after_commit.responses.iter().map(|response| {
                let outcomes = after_commit.waiter_outcomes.get(response.waiters.clone());
                let tickets = outcomes.into_iter().flatten().map(|(ticket, ..)| *ticket);
                let waiters = tickets.filter_map(|ticket| self.answering.waiters.get(ticket));
                (response.asked, response.events.clone(), waiters)
            })
        })
    }
}
