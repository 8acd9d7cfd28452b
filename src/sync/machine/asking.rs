//! Which question goes to the API next.

use super::{Call, Effect, Machine, Verdict};
use crate::clock::Now;
use crate::model::{Asked, DispatchId};
use crate::voltus::Question;

impl<W> Machine<W> {
    /// Issues what is due, wanted, and within the budget: polls first, then
    /// look-ups that somebody waits for, then checks.
    pub(super) fn ask(&mut self, now: Now) {
        if now.mono < self.paused_until {
            return;
        }
        self.ask_for_list(now);
        while !self.leave.is_empty() && self.budget.take() {
            if let Some(waiter) = self.leave.pop_front() {
                self.reply(waiter, Verdict::Settled);
            }
        }
        while let Some(id) = self.fetcher.next(|ticket| self.waiters.waits(ticket)) {
            if self.budget.take() {
                self.fetcher.issue(&id);
                let question = Question::Dispatch(id.clone());
                self.issue(Call::Dispatch(id), question, now);
                continue;
            }
            self.share_a_list(&id, now);
            break;
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
            self.poller.soon(now.mono);
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
        self.asked += 1;
        let asked = Asked {
            term: self.term,
            count: self.asked,
        };
        self.calls.insert(asked, (call, now.mono));
        self.effects.push(Effect::Ask { asked, question });
        asked
    }
}
