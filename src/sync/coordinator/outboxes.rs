//! What operators ask of the outboxes.

use std::sync::Arc;

use super::{Coordinator, Effect, WebhookOutcome};
use crate::clock::Now;
use crate::delivery::{Outbox, PendingEvent};
use crate::sync::skips::{Skip, Waiting};

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

impl<W> Coordinator<W> {
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
        let outcome = if pending.is_empty() && of.is_some() {
            WebhookOutcome::Unknown
        } else {
            WebhookOutcome::Pending(pending)
        };
        self.reply(waiter, outcome);
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
            self.reply(waiter, WebhookOutcome::PendingAt(pending_at));
            return;
        }
        let skip = |outbox: &mut Outbox| {
            let asked = of.is_none_or(|sink| sink == outbox.name());
            let skipped = asked.then(|| outbox.skip(&request.event, now))??;
            Some(Skip::new(skipped, outbox.name().into(), now.wall))
        };
        let skips: Vec<Skip> = self.outboxes.iter_mut().filter_map(skip).collect();
        if skips.is_empty() {
            self.reply(waiter, WebhookOutcome::Unknown);
        } else {
            self.skips.waiting.push(Waiting { waiter, skips });
        }
    }

    /// The commit under way is on disk, and with it what operators gave up.
    pub(super) fn skips_written(&mut self) {
        for Waiting { waiter, skips } in std::mem::take(&mut self.skips.writing) {
            let sinks = skips.into_iter().map(|skip| skip.event.sink).collect();
            let outcome = WebhookOutcome::Skipped(sinks);
            self.effects.push(Effect::Reply { waiter, outcome });
        }
    }
}
