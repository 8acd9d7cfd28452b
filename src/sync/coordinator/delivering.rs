//! Delivers: what each sink is sent next, and what operators ask of the outboxes.

use std::sync::Arc;

use super::answering::Answering;
use super::{Effect, WaiterReply};
use crate::clock::{Mono, Now};
use crate::delivery::{Announcement, Outbox, PendingEvent, Shares};
use crate::model::{Event, Route};
use crate::seldom::Seldom;
use crate::store::SinkRecord;
use crate::sync::batch_builder::BatchBuilder;
use crate::sync::skips::{Skip, Skips, Waiting};

/// Which pending events to list.
#[derive(Debug, Clone, Default)]
pub struct PendingRequest {
    /// Of this sink alone.
    pub sink: Option<String>,
    /// Behind this position.
    pub after: u64,
    /// The most events of each sink.
    pub limit: usize,
}

/// The pending events of one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkPending {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The events, oldest first.
    pub events: Vec<PendingEvent>,
}

/// An event to be given up.
#[derive(Debug, Clone)]
pub struct SkipRequest {
    /// The event's id.
    pub event: String,
    /// At this sink. It need not be named if the event is pending at one sink only.
    pub sink: Option<String>,
}

/// Commands that went to no sink, since no route takes their sites.
#[derive(Debug, Default)]
pub(super) struct Nowhere {
    /// The routes of what is left out on purpose.
    pub left_out: Vec<Route>,
    /// How many there were since the start.
    pub commands: u64,
    /// The last of them.
    pub last: Option<Event>,
    line: Seldom,
}

impl Nowhere {
    fn count(&mut self, announcement: &Announcement<'_>, now: Mono) {
        let nowhere = announcement.events().iter();
        let nowhere = nowhere.filter(|one| one.goes_nowhere(&self.left_out));
        let nowhere: Vec<&Event> = nowhere.map(|one| one.event).collect();
        let Some(first) = nowhere.first() else { return };
        self.commands += nowhere.len() as u64;
        self.last = nowhere.last().map(|event| Event::clone(event));
        if let Some(count) = self.line.count(now) {
            tracing::warn!(
                site = &*first.subject,
                command = &*first.event_type,
                commands = nowhere.len(),
                count,
                "commands of sites go to no sink: nobody is told what to do there; name the sites in \
                 `sites` of a [[sink]] (or their programs in `programs`) and restart dispatchd"
            );
        }
    }
}

/// The outboxes of all sinks.
#[derive(Debug)]
pub(super) struct Delivering<W> {
    pub outboxes: Vec<Outbox>,
    shares: Shares,
    skips: Skips<W>,
    pub nowhere: Nowhere,
    /// What the commit under way writes down of each outbox.
    records: Vec<Option<SinkRecord>>,
    /// Whether all that has come due since the start, or since the daemon last stood
    /// still, is taken in. Until then no command goes to a site: it may be over.
    pub caught_up: bool,
}

impl<W> Delivering<W> {
    pub fn new(outboxes: Vec<Outbox>) -> Self {
        Self {
            records: outboxes.iter().map(|_| None).collect(),
            outboxes,
            shares: Shares::default(),
            skips: Skips::default(),
            nowhere: Nowhere::default(),
            caught_up: false,
        }
    }

    /// Starts what may be delivered now, unless `nothing_new` may begin: the daemon stops,
    /// or does not know whether it leads. No attempt starts anywhere else.
    pub fn start(&mut self, effects: &mut Vec<Effect<W>>, nothing_new: bool, now: Now) {
        self.shares.set(&mut self.outboxes, now.mono);
        for (sink, outbox) in self.outboxes.iter_mut().enumerate() {
            outbox.advance(now);
            if nothing_new {
                continue;
            }
            outbox.hold_commands(!self.caught_up);
            let starts = outbox.start(now).into_iter();
            let abandoned = outbox.take_abandoned().into_iter();
            let read = outbox.read(now).into_iter();
            let refresh = outbox.refresh_read(now).into_iter();
            effects.extend(abandoned.map(|attempt| Effect::Abandon { sink, attempt }));
            effects.extend(starts.map(|start| Effect::Attempt { sink, start }));
            effects.extend(read.map(|read| Effect::ReadPending { sink, read }));
            effects.extend(refresh.map(|read| Effect::ReadRefresh { sink, read }));
        }
    }

    /// When something is to be started, abandoned or read, if nothing happens before.
    pub fn next_due(&self, now: Mono) -> Option<Mono> {
        let outboxes = self.outboxes.iter();
        let due = outboxes.filter_map(|outbox| outbox.next_due(now));
        due.chain(self.shares.next_due()).min()
    }

    /// Whether deliveries alone are worth a commit.
    pub fn must_write(&self, now: Mono, stopping: bool) -> bool {
        let mut outboxes = self.outboxes.iter();
        outboxes.any(|outbox| outbox.must_write(now) || (stopping && outbox.has_news()))
    }

    /// Writes down with `batch` what came of deliveries.
    pub fn write_down(&mut self, batch: &mut BatchBuilder, stopping: bool, now: Mono) {
        if batch.is_rerouted() {
            self.outboxes.iter_mut().for_each(Outbox::rerouted);
        }
        let outboxes = self.outboxes.iter_mut();
        self.records = outboxes
            .map(|outbox| outbox.take_record(now, stopping))
            .collect();
        batch.sinks(self.records.iter().flatten().cloned());
        batch.delivered(self.outboxes.iter().map(Outbox::done).min());
        batch.skips(self.skips.begin());
    }

    /// The commit under way is on disk, and `events` with it.
    pub fn written(&mut self, events: &[Event], answering: &mut Answering<W>, now: Now) {
        let announcement: Announcement<'_> = events.iter().collect();
        for outbox in &mut self.outboxes {
            outbox.recorded();
            outbox.offer(&announcement, now);
        }
        // That there is no sink at all is told by itself.
        if !self.outboxes.is_empty() {
            self.nowhere.count(&announcement, now.mono);
        }
        for Waiting { waiter, skips } in std::mem::take(&mut self.skips.writing) {
            let sinks = skips.into_iter().map(|skip| skip.event.sink).collect();
            answering.reply(waiter, WaiterReply::Skipped(sinks));
        }
    }

    /// The commit under way has failed.
    pub fn not_written(&mut self, now: Mono) {
        for (outbox, record) in self.outboxes.iter_mut().zip(&mut self.records) {
            outbox.not_recorded(record.take(), now);
        }
    }

    /// Lists pending events, as they stand.
    pub fn list_pending(&self, request: &PendingRequest, now: Now) -> WaiterReply {
        let of = request.sink.as_deref();
        let pending: Vec<SinkPending> = self
            .outboxes
            .iter()
            .filter(|outbox| of.is_none_or(|sink| sink == outbox.name()))
            .map(|outbox| SinkPending {
                sink: outbox.name().into(),
                events: outbox.pending(request.after, request.limit, now),
            })
            .collect();
        if pending.is_empty() && of.is_some() {
            WaiterReply::Unknown
        } else {
            WaiterReply::Pending(pending)
        }
    }

    /// Gives up an event. Whoever asked is answered once that is on disk.
    pub fn skip(
        &mut self,
        request: &SkipRequest,
        waiter: W,
        answering: &mut Answering<W>,
        now: Now,
    ) {
        let of = request.sink.as_deref();
        let pending_at: Vec<Arc<str>> = self
            .outboxes
            .iter()
            .filter(|outbox| of.is_none() && outbox.has_pending(&request.event))
            .map(|outbox| outbox.name().into())
            .collect();
        if pending_at.len() > 1 {
            answering.reply(waiter, WaiterReply::PendingAt(pending_at));
            return;
        }
        let skip = |outbox: &mut Outbox| {
            let asked = of.is_none_or(|sink| sink == outbox.name());
            let skipped = asked.then(|| outbox.skip(&request.event, now))??;
            Some(Skip::new(skipped, outbox.name().into(), now.wall))
        };
        let skips: Vec<Skip> = self.outboxes.iter_mut().filter_map(skip).collect();
        if skips.is_empty() {
            answering.reply(waiter, WaiterReply::Unknown);
        } else {
            self.skips.waiting.push(Waiting { waiter, skips });
        }
    }
}

#[cfg(test)]
mod tests;
