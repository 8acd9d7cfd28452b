//! What is written together, and what follows when it is.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::{Coordinator, Effect, WebhookOutcome};
use crate::clock::{Mono, Now};
use crate::delivery::Outbox;
use crate::model::{Asked, DispatchId, Source};
use crate::store::StoreError;
use crate::sync::log;
use crate::sync::waiters::Ticket;
use crate::sync::writer::{Aftermath, BatchBuilder, UnderWay, WaiterOutcome};

/// How long the disk is left alone after it failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// How often old events of sites and of the daemon are let go.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

impl<W> Coordinator<W> {
    /// Takes in what time brought and what the API told. While a commit is under
    /// way, that is built on what it writes: then the next one is ready when it
    /// ends.
    fn build_batch(&mut self, now: Now) {
        let due = self.is_due(now);
        if self.queue.is_empty() && !due {
            return;
        }
        let mut building = self.building.take().unwrap_or_else(|| self.begin(now));
        building.set_clocks(self.clocks(now));
        if due && !building.is_full() {
            building.clock(now);
        }
        while !building.is_full()
            && let Some(job) = self.queue.pop_front()
        {
            building.job(job, now);
        }
        self.building = Some(building);
    }

    /// Whether time brings something that is not gathered yet, and may be.
    fn is_due(&self, now: Now) -> bool {
        let due = match (&self.building, &self.writing) {
            (Some(building), _) => building.next_due(),
            (None, Some(under_way)) => under_way.next.next_due(),
            (None, None) => self.committed.next_due(),
        };
        now.mono >= self.write_not_before && due.is_some_and(|due| due <= now.wall)
    }

    /// The questions whose answers wait until time is caught up with.
    pub fn put_off(&self) -> impl Iterator<Item = Asked> {
        self.queue.iter().map(|job| job.asked)
    }

    /// Whether there is a chunk to prepare while a commit is under way.
    pub(super) fn has_chunk(&self) -> bool {
        let full = self.building.as_ref().is_some_and(BatchBuilder::is_full);
        self.writing.is_some() && !full && self.is_due(self.last_now)
    }

    fn begin(&self, now: Now) -> BatchBuilder {
        let base = self.writing.as_ref().map(|under_way| &under_way.next);
        BatchBuilder::new(
            base.unwrap_or(&self.committed),
            self.term,
            Arc::clone(&self.store_id),
            self.settings.rules,
            now,
        )
    }

    /// Writes what was gathered and what else is to be written in one commit, if
    /// none is under way.
    pub(super) fn write(&mut self, now: Now) {
        self.build_batch(now);
        if self.writing.is_some() {
            return;
        }
        let may_start = now.mono >= self.write_not_before;
        let due = self.committed.next_due().is_some_and(|due| due <= now.wall);
        // A poll that waits to be written ends the blindness.
        let polled = self.building.as_ref().is_some_and(BatchBuilder::polled);
        let blind = now.mono >= self.stale_at() && !polled;
        // While it stops, nothing is asked.
        let stale = blind && !self.committed.sync.stale && !self.stopping;
        let forget = now.mono >= self.forget_at;
        let probe = self.store_error.is_some();
        let delivered = self
            .outboxes
            .iter()
            .any(|outbox| outbox.must_write(now.mono) || (self.stopping && outbox.has_news()));
        let by_itself = stale || forget || probe || delivered;
        if self.building.is_none() && !(may_start && by_itself) {
            if !due {
                self.committed.as_of = now.wall;
            }
            return;
        }
        let mut building = self.building.take().unwrap_or_else(|| self.begin(now));
        building.set_clocks(self.clocks(now));
        if stale {
            building.stale(now);
        }
        if forget {
            self.forget_at = now.mono.saturating_add(FORGET_EVERY);
            building.forget(now);
        }
        if probe {
            building.probe();
        }
        let outboxes = self.outboxes.iter_mut();
        self.records = outboxes
            .map(|outbox| outbox.take_record(now.mono, self.stopping))
            .collect();
        building.sinks(self.records.iter().flatten().cloned());
        building.delivered(self.outboxes.iter().map(Outbox::done).min());
        building.skips(self.skips.begin());
        let (batch, under_way) = building.finish(now);
        if batch.is_empty() {
            self.settle(under_way, now);
        } else {
            // First: the disk is at work while the rest is seen to.
            self.effects.insert(0, Effect::Commit(Box::new(batch)));
            self.writing = Some(under_way);
        }
    }

    pub(super) fn commit_ended(&mut self, result: Result<(), StoreError>, now: Now) {
        let Some(under_way) = self.writing.take() else {
            return;
        };
        match result {
            Ok(()) => {
                if self.store_error.take().is_some() {
                    tracing::info!("the state file takes writes again");
                }
                self.write_not_before = Mono::ZERO;
                self.settle(under_way, now);
            }
            Err(error @ (StoreError::Fenced | StoreError::Closed)) => {
                self.effects.push(Effect::End(error));
            }
            Err(error) => self.commit_failed(under_way, &error, now),
        }
    }

    /// Nothing of what was built on the commit is kept (rule R5).
    fn commit_failed(&mut self, failed: UnderWay, error: &StoreError, now: Now) {
        let reason = error.to_string();
        if self.store_error.as_ref() != Some(&reason) {
            tracing::error!(%error, "nothing can be written; webhooks are answered 503 until it can");
        }
        self.store_error = Some(reason.clone());
        // What was built on it meanwhile as well: that is taken in anew.
        if let Some(building) = self.building.take() {
            let later = std::mem::take(&mut self.queue);
            self.queue = building.undo().into_iter().chain(later).collect();
        }
        self.write_not_before = now.mono.saturating_add(DISK_PAUSE);
        for (outbox, record) in self.outboxes.iter_mut().zip(&mut self.records) {
            outbox.not_recorded(record.take(), now.mono);
        }
        self.skips.failed();
        for (ticket, ..) in failed.aftermath.waiter_outcomes {
            self.refuse(ticket, &reason);
        }
        for asked in failed.aftermath.polls {
            self.poll_failed(asked, reason.clone(), None, now);
        }
        self.poller.soon(now.mono);
    }

    /// What a batch was gathered for has come true.
    fn settle(&mut self, done: UnderWay, now: Now) {
        if !done.changes.is_empty() || !done.site_changes.is_empty() {
            let rules = &self.settings.rules;
            Arc::make_mut(&mut self.counters).commit(&done, &self.committed, rules, now.wall);
        }
        log::mass_absence(
            self.committed.schedule.mass_absence(),
            done.next.schedule.mass_absence(),
        );
        self.committed = done.next;
        log::changes(&done.changes);
        log::sites(&done.site_changes);
        for outbox in &mut self.outboxes {
            outbox.recorded();
            outbox.offer(&done.events, now);
        }
        self.skips_written();
        if !done.events.is_empty() {
            self.effects.push(Effect::Show(done.events));
        }
        let Aftermath {
            waiter_outcomes,
            doubts,
            heals,
            polls,
            outdated,
            rewinds,
        } = done.aftermath;
        self.counts.outdated += outdated;
        self.counts.rewinds += rewinds;
        if rewinds > 0 {
            tracing::warn!(
                dispatches = rewinds,
                "the API's numbers went back, as after a restore from a backup; taken over"
            );
        }
        let mass_absence = self.committed.schedule.mass_absence().is_some();
        log::doubts(&doubts, mass_absence, &self.lower_numbers, now.mono);
        for change in &done.changes {
            if change.source != Source::Timer {
                self.look_again.caught_up(&change.id);
            }
        }
        for (ticket, id, waiter_outcome) in waiter_outcomes {
            self.meet(ticket, &id, waiter_outcome, now);
        }
        for correction in heals {
            self.heals.heal(correction, now.mono);
        }
        for asked in polls {
            self.poll_succeeded(asked, now);
        }
    }

    fn meet(&mut self, ticket: Ticket, id: &DispatchId, waiter_outcome: WaiterOutcome, now: Now) {
        match waiter_outcome {
            WaiterOutcome::Changed => self.answer(ticket, WebhookOutcome::Applied),
            WaiterOutcome::NothingNew => {
                self.look_again.hint(id, now.mono);
                self.answer(ticket, WebhookOutcome::Applied);
            }
            WaiterOutcome::Unknown => {
                self.look_again.hint(id, now.mono);
                self.answer(ticket, WebhookOutcome::Unknown);
            }
            WaiterOutcome::Unusable if self.waiters.fetches_again(ticket) => {
                self.fetcher.want(id, ticket);
            }
            WaiterOutcome::Unusable | WaiterOutcome::GoneButLive => {
                self.look_again.hint(id, now.mono);
                self.poller.soon(now.mono);
                self.refuse(ticket, "the API's answer cannot be taken yet");
            }
        }
    }

    fn poll_succeeded(&mut self, asked: Asked, now: Now) {
        let Some(poll) = self.poller.under_way(asked) else {
            return;
        };
        for ticket in std::mem::take(&mut poll.tickets) {
            self.answer(ticket, WebhookOutcome::Applied);
        }
        let random = self.random.random();
        self.poller.succeeded(now, random);
        self.count_poll(true);
    }

    /// Counts the poll that has just ended.
    pub(super) fn count_poll(&mut self, succeeded: bool) {
        if let Some(report) = &self.poller.last {
            Arc::make_mut(&mut self.counters).poll(succeeded, report.duration);
        }
    }
}
