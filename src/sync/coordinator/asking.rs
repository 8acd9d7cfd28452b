//! Which question goes to the API next.

use super::{Call, Coordinator, Effect, WebhookOutcome};
use crate::clock::Now;
use crate::model::{Asked, DispatchId};
use crate::sync::fetcher::Why;
use crate::voltus::Question;

impl<W> Coordinator<W> {
    /// Issues what is due, wanted, and within the budget: polls first, then
    /// redirects, requests for the registration, and look-ups.
    pub(super) fn ask(&mut self, now: Now) {
        if now.mono < self.slowdown.silent_until() {
            return;
        }
        self.ask_for_list(now);
        // What is under way ends before anything new begins.
        while !self.redirects.is_empty() && self.budget.take() {
            if let Some(waiter) = self.redirects.pop_front() {
                self.slowdown.issued(now.mono);
                self.reply(waiter, WebhookOutcome::Applied);
            }
        }
        while !self.token_waiters.is_empty() && self.slowdown.allows(now.mono) && self.budget.take()
        {
            if let Some(waiter) = self.token_waiters.pop_front() {
                self.slowdown.issued(now.mono);
                self.reply(waiter, WebhookOutcome::Applied);
            }
        }
        while self.slowdown.allows(now.mono)
            && let Some((id, why)) = self.next_look_up(now)
        {
            if !self.budget.take() {
                self.share_a_list(&id, now);
                break;
            }
            if why == Why::LookAgain {
                self.look_again.issued(&id, now.mono);
            }
            self.fetcher.issue(&id, why);
            let question = Question::Dispatch(id.clone());
            self.issue(Call::Dispatch(id), question, now);
        }
    }

    /// The dispatch to look up next, if there is one: webhooks that wait go first,
    /// but for one look-up in four (rule R9).
    fn next_look_up(&mut self, now: Now) -> Option<(DispatchId, Why)> {
        if !self.fetcher.has_room() {
            return None;
        }
        if self.fetcher.is_turn_of_checks()
            && let Some(check) = self.next_check(now)
        {
            return Some(check);
        }
        let waits = |ticket| self.waiters.waits(ticket);
        match self.fetcher.next_webhook(waits) {
            Some(id) => Some((id, Why::Webhook)),
            None => self.next_check(now),
        }
    }

    /// The next look-up for which no webhook waits: of the engine's doubts and of
    /// what is looked up again, in turn.
    fn next_check(&mut self, now: Now) -> Option<(DispatchId, Why)> {
        // An answer that is not taken in yet may settle what would be checked.
        if !self.queue.is_empty() {
            return None;
        }
        let newest = match (&self.building, &self.writing) {
            (Some(building), _) => building.schedule(),
            (None, Some(under_way)) => &under_way.next.schedule,
            (None, None) => &self.committed.schedule,
        };
        let may = |id: &DispatchId| self.fetcher.may_check(id, now.mono);
        let mut doubts = newest.checks_due(now.mono).filter(|id| may(id));
        let again = self.look_again.next(now.mono, may);
        match (doubts.next(), again) {
            (Some(id), again) if again.is_none() || self.doubt_is_next => {
                self.doubt_is_next = false;
                Some((id.clone(), Why::Check))
            }
            (_, again) => {
                self.doubt_is_next = true;
                again.map(|id| (id, Why::LookAgain))
            }
        }
    }

    /// More wait than the budget allows, `first` before all others: one list may
    /// answer all who came after the last one was issued. Whom it does not answer
    /// waits for a look-up, and not for the next list, so lists leave tokens to
    /// the look-ups once one of those who wait needs one.
    fn share_a_list(&mut self, first: &DispatchId, now: Now) {
        let first = self.fetcher.awaited_by(first);
        if first.is_some_and(|first| self.poller.may_answer(first)) {
            self.poller.at_once(now.mono);
        } else if self.poller.may_answer(self.fetcher.newest()) {
            self.poller.for_news(now.mono);
        }
        self.ask_for_list(now);
    }

    fn ask_for_list(&mut self, now: Now) {
        let due = self.poller.due().is_some_and(|due| due <= now.mono);
        if due && self.budget.take_for_poll() {
            let before = self.waiters.next_ticket();
            let asked = self.issue(Call::Poll, Question::List, now);
            self.poller.issue(asked, now, before);
        }
    }

    fn issue(&mut self, call: Call, question: Question, now: Now) -> Asked {
        // The place behind it is for an answer that a cache made after it.
        self.asked += 2;
        let asked = Asked {
            term: self.term,
            count: self.asked,
        };
        self.calls.insert(asked, (call, now.mono));
        self.request_log.issued(asked, now.mono);
        self.slowdown.issued(now.mono);
        self.effects.push(Effect::Ask { asked, question });
        asked
    }
}
