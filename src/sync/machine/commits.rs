//! What is written together, and what follows when it is.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::{Effect, Machine, Verdict};
use crate::clock::{Mono, Now};
use crate::delivery::Outbox;
use crate::model::{Asked, DispatchId};
use crate::store::StoreError;
use crate::sync::log;
use crate::sync::waiters::Ticket;
use crate::sync::writer::{Aftermath, Fate, Gathering, UnderWay};

/// How long the disk is left alone after it failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// How often old events of sites and of the daemon are let go.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

impl<W> Machine<W> {
    /// Gathers what waits to be written into one commit, if none is under way.
    pub(super) fn write(&mut self, now: Now) {
        if self.writing.is_some() {
            return;
        }
        let may_start = now.mono >= self.write_not_before;
        let due = self.committed.next_due().is_some_and(|due| due <= now.wall);
        // A poll that waits to be written ends the blindness.
        let polled = self.queue.iter().any(|job| job.poll.is_some());
        let blind = now.mono >= self.stale_at() && !polled;
        let stale = blind && !self.committed.sync.stale;
        let forget = now.mono >= self.forget_at;
        let probe = self.store_error.is_some();
        let delivered = self
            .outboxes
            .iter()
            .any(|outbox| outbox.must_write(now.mono) || (self.stopping && outbox.has_news()));
        let by_itself = due || stale || forget || probe || delivered;
        if self.queue.is_empty() && !(may_start && by_itself) {
            if !due {
                self.committed.as_of = now.wall;
            }
            return;
        }
        let mut gathering = Gathering::new(
            &self.committed,
            self.term,
            &self.store_id,
            &self.settings.rules,
            now,
        );
        gathering.clock();
        for job in self.queue.drain(..) {
            gathering.job(job);
        }
        if stale {
            gathering.stale();
        }
        if forget {
            self.forget_at = now.mono + FORGET_EVERY;
            gathering.forget(now);
        }
        if probe {
            gathering.probe();
        }
        self.records = self.outboxes.iter_mut().map(Outbox::take_record).collect();
        gathering.sinks(self.records.iter().flatten().cloned());
        gathering.delivered(self.outboxes.iter().map(Outbox::settled).min());
        let (batch, under_way) = gathering.finish();
        if batch.is_empty() {
            self.settle(under_way, now);
        } else {
            self.effects.push(Effect::Commit(Box::new(batch)));
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
        self.write_not_before = now.mono + DISK_PAUSE;
        for (outbox, record) in self.outboxes.iter_mut().zip(&mut self.records) {
            outbox.not_recorded(record.take(), now.mono);
        }
        for (ticket, ..) in failed.aftermath.fates {
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
            Arc::make_mut(&mut self.tally).commit(&done, &self.committed, rules, now.wall);
        }
        self.committed = done.next;
        log::changes(&done.changes);
        log::sites(&done.site_changes);
        for outbox in &mut self.outboxes {
            outbox.recorded();
            outbox.offer(&done.events);
        }
        if !done.events.is_empty() {
            self.effects.push(Effect::Show(done.events));
        }
        let Aftermath {
            fates,
            look_ups,
            heals,
            polls,
            outdated,
            unreadable,
            rewinds,
        } = done.aftermath;
        self.counts.outdated += outdated;
        self.counts.unreadable += unreadable;
        self.counts.rewinds += rewinds;
        if rewinds > 0 {
            tracing::warn!(
                dispatches = rewinds,
                "the API's numbers went back, as after a restore from a backup; taken over"
            );
        }
        for (ticket, id, fate) in fates {
            self.meet(ticket, &id, fate, now);
        }
        for id in &look_ups {
            self.fetcher.want_check(id);
        }
        for id in &heals {
            self.heals.heal(id, now.mono);
        }
        for asked in polls {
            self.poll_succeeded(asked, now);
        }
    }

    fn meet(&mut self, ticket: Ticket, id: &DispatchId, fate: Fate, now: Now) {
        match fate {
            Fate::Settled => self.answer(ticket, Verdict::Settled),
            Fate::Unknown => self.answer(ticket, Verdict::Unknown),
            Fate::Doubtful => {
                self.poller.soon(now.mono);
                self.refuse(ticket, "the API's answer cannot be taken yet");
            }
            Fate::LookAgain => {
                if self.waiters.waits(ticket) {
                    self.fetcher.want(id, ticket);
                }
            }
        }
    }

    fn poll_succeeded(&mut self, asked: Asked, now: Now) {
        let Some(poll) = self.poller.under_way(asked) else {
            return;
        };
        for ticket in std::mem::take(&mut poll.tickets) {
            self.answer(ticket, Verdict::Settled);
        }
        let random = self.random.random();
        self.poller.succeeded(now, random);
        self.tally_poll(true);
    }

    /// Counts the poll that has just ended.
    pub(super) fn tally_poll(&mut self, succeeded: bool) {
        if let Some(report) = &self.poller.last {
            Arc::make_mut(&mut self.tally).poll(succeeded, report.duration);
        }
    }
}
