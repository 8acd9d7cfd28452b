//! What operators ask of the outboxes.

use std::sync::Arc;

use super::{Effect, Machine, Verdict};
use crate::clock::Now;
use crate::delivery::{Outbox, PendingEvent};

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

/// Operators who gave up events, and wait until that is on disk.
#[derive(Debug)]
pub(super) struct Skips<W> {
    waiting: Vec<(W, Vec<Arc<str>>)>,
    writing: Vec<(W, Vec<Arc<str>>)>,
}

impl<W> Default for Skips<W> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            writing: Vec::new(),
        }
    }
}

impl<W> Machine<W> {
    /// Lists pending events, as they stand.
    pub(super) fn list_pending(&mut self, request: &PendingRequest, waiter: W, now: Now) {
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
        let verdict = if pending.is_empty() && of.is_some() {
            Verdict::Unknown
        } else {
            Verdict::Pending(pending)
        };
        self.reply(waiter, verdict);
    }

    /// Gives up an event. Whoever asked is answered once that is on disk.
    pub(super) fn skip(&mut self, request: &SkipRequest, waiter: W, now: Now) {
        let of = request.sink.as_deref();
        let pending_at: Vec<Arc<str>> = self
            .outboxes
            .iter()
            .filter(|outbox| of.is_none() && outbox.has_pending(&request.event))
            .map(|outbox| outbox.name().into())
            .collect();
        if pending_at.len() > 1 {
            self.reply(waiter, Verdict::PendingAt(pending_at));
            return;
        }
        let skip = |outbox: &mut Outbox| {
            let asked = of.is_none_or(|sink| sink == outbox.name());
            let skipped = asked && outbox.skip(&request.event, now).is_some();
            skipped.then(|| outbox.name().into())
        };
        let sinks: Vec<Arc<str>> = self.outboxes.iter_mut().filter_map(skip).collect();
        if sinks.is_empty() {
            self.reply(waiter, Verdict::Unknown);
        } else {
            self.skips.waiting.push((waiter, sinks));
        }
    }

    /// A commit begins that has all that was skipped.
    pub(super) fn skips_begun(&mut self) {
        self.skips.writing.append(&mut self.skips.waiting);
    }

    /// That commit has ended.
    pub(super) fn skips_ended(&mut self, written: bool) {
        let ended = std::mem::take(&mut self.skips.writing);
        if written {
            for (waiter, sinks) in ended {
                let verdict = Verdict::Skipped(sinks);
                self.effects.push(Effect::Reply { waiter, verdict });
            }
        } else {
            // What was skipped is written with the next commit that succeeds.
            self.skips.waiting.splice(..0, ended);
        }
    }
}
