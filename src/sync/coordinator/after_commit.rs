//! What follows once a commit is on disk, or has failed.

use std::sync::Arc;

use rand::RngExt;

use super::writing::Ended;
use super::{Coordinator, Effect, WaiterReply};
use crate::clock::Now;
use crate::model::{Asked, DispatchId, Source};
use crate::store::StoreError;
use crate::sync::batch_builder::{AfterCommit, CommitUnderWay, WaiterOutcome};
use crate::sync::log;
use crate::sync::notices::PollFailure;
use crate::sync::waiters::Ticket;

impl<W> Coordinator<W> {
    pub(super) fn commit_ended(&mut self, result: Result<(), StoreError>, now: Now) {
        match self.writing.ended(result, self.asking.clocks(now), now) {
            Some(Ended::Written(done)) => self.commit_written(*done, now),
            Some(Ended::Failed(failed, reason)) => self.commit_failed(*failed, &reason, now),
            Some(Ended::End(error)) => {
                self.ended = true;
                self.answering.effects.push(Effect::End(error));
            }
            None => {}
        }
    }

    /// Nothing of what was built on the commit is kept (rule R5).
    fn commit_failed(&mut self, failed: CommitUnderWay, reason: &str, now: Now) {
        self.delivering.not_written(now.mono);
        for (ticket, ..) in failed.after_commit.waiter_outcomes {
            self.answering.refuse(ticket, reason);
        }
        for ticket in failed.after_commit.orders {
            self.answering.refuse(ticket, reason);
        }
        let failure = PollFailure {
            kind: "store",
            error: reason.to_owned(),
            told_to_wait: None,
        };
        for asked in failed.after_commit.polls {
            let ended = self.asking.poll_failed(
                asked,
                &failure,
                &mut self.answering,
                &mut self.random,
                now,
            );
            if ended {
                self.count_poll(false);
            }
        }
        self.asking.poller.soon(now.mono);
    }

    /// All that a batch was built for has come true.
    pub(super) fn commit_written(&mut self, done: CommitUnderWay, now: Now) {
        let committed = &mut self.writing.committed;
        if !done.changes.is_empty() || !done.site_changes.is_empty() {
            let rules = &self.settings.rules;
            Arc::make_mut(&mut self.counters).commit(&done, committed, rules, now.wall);
        }
        self.log_limits.mass_absence(
            committed.schedule.mass_absence(),
            done.next.schedule.mass_absence(),
            now.mono,
        );
        *committed = done.next;
        let list = done.after_commit.polls.iter().max().copied();
        let clocks = self.asking.clocks(now);
        self.writing
            .look_past(done.jobs, &done.events, list, clocks, now);
        let committed = &self.writing.committed;
        let mass_absence = committed.schedule.mass_absence().is_some();
        log::changes(&done.changes);
        log::overridden(&done.overridden);
        log::sites(&done.site_changes);
        self.delivering
            .written(&done.events, &mut self.answering, now);
        if !done.events.is_empty() {
            self.answering.effects.push(Effect::Show(done.events));
        }
        let AfterCommit {
            waiter_outcomes,
            doubts,
            heals,
            polls,
            orders,
            outdated,
            rewinds,
            retold,
            responses: _,
        } = done.after_commit;
        if let Some(sites) = retold {
            log::retold(sites);
        }
        self.outdated += outdated;
        self.rewinds += rewinds;
        self.log_limits.rewinds(rewinds, now.mono);
        self.log_limits.doubts(&doubts, mass_absence, now.mono);
        for change in &done.changes {
            if change.source != Source::Timer {
                self.asking.look_again.caught_up(&change.id);
            }
        }
        for (ticket, id, outcome) in waiter_outcomes {
            self.answer_waiter(ticket, &id, outcome, now);
        }
        for ticket in orders {
            self.answering.answer(ticket, WaiterReply::Applied);
        }
        log::heals(&heals);
        for correction in heals {
            self.heals.heal(correction, now.mono);
        }
        for asked in polls {
            self.poll_succeeded(asked, now);
        }
    }

    /// Answers a webhook by what came of its look-up, or has its dispatch looked up
    /// once more.
    fn answer_waiter(&mut self, ticket: Ticket, id: &DispatchId, outcome: WaiterOutcome, now: Now) {
        let answering = &mut self.answering;
        let asking = &mut self.asking;
        match outcome {
            WaiterOutcome::Changed => answering.answer(ticket, WaiterReply::Applied),
            WaiterOutcome::NothingNew => {
                asking.look_again.hint(id, now.mono);
                answering.answer(ticket, WaiterReply::Applied);
            }
            WaiterOutcome::Unknown => {
                asking.look_again.hint(id, now.mono);
                answering.answer(ticket, WaiterReply::Unknown);
            }
            WaiterOutcome::Unusable if answering.waiters.fetches_again(ticket) => {
                asking.look_ups.want(id, ticket);
            }
            WaiterOutcome::Unusable | WaiterOutcome::GoneButLive => {
                asking.look_again.hint(id, now.mono);
                asking.poller.soon(now.mono);
                answering.refuse(ticket, "the API's answer cannot be taken yet");
            }
        }
    }

    fn poll_succeeded(&mut self, asked: Asked, now: Now) {
        let Some(poll) = self.asking.poller.under_way(asked) else {
            return;
        };
        for ticket in std::mem::take(&mut poll.tickets) {
            self.answering.answer(ticket, WaiterReply::Applied);
        }
        let listed = poll.listed;
        self.asking.poller.succeeded(now, self.random.random());
        let took = self.asking.poller.last.as_ref().map(|poll| poll.duration);
        self.asking
            .notices
            .poll_succeeded(listed, took.unwrap_or_default(), now.mono);
        self.count_poll(true);
    }

    /// Counts the poll that has just ended.
    pub(super) fn count_poll(&mut self, succeeded: bool) {
        if let Some(report) = &self.asking.poller.last {
            Arc::make_mut(&mut self.counters).poll(succeeded, report.duration);
        }
    }
}
