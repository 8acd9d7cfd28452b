//! Remembers what belongs under which span, from a webhook or poll over its request and its
//! commit to the attempts to deliver: [`Traces`].
//!
//! The coordinator knows nothing of it. It says which requests wait for whom and which
//! events follow from which request; what is remembered here is bounded, and where it is
//! forgotten, or was never known as after a start, a new trace begins.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Waiter;
use crate::delivery::DeliveryTrace;
use crate::model::{Asked, Event};
use crate::store::Batch;
use crate::trace::{Span, TraceContext, Tracer};
use crate::voltus::Question;

/// The most requests that are remembered. At most 64 look-ups and a poll are under way;
/// their responses wait for the disk.
const REQUESTS: usize = 8192;

/// The most causes of events that are remembered: events that follow from one response
/// count once.
const CAUSES: usize = 16_384;

/// The most links of one span, which is what collectors keep.
const LINKS: usize = 128;

/// What belongs under which span.
#[derive(Debug)]
pub(super) struct Traces {
    tracer: Tracer,
    /// The spans of requests.
    requests: BTreeMap<Asked, TraceContext>,
    /// The spans of commits, by the position of the first event, with that of the last.
    commits: BTreeMap<u64, (u64, TraceContext)>,
}

impl Traces {
    /// `None` if `tracer` opens no spans.
    pub fn new(tracer: Tracer) -> Option<Self> {
        tracer.is_on().then(|| Self {
            tracer,
            requests: BTreeMap::new(),
            commits: BTreeMap::new(),
        })
    }

    /// The request `asked` is sent, for which `waiters` wait.
    pub fn request<'w>(
        &mut self,
        asked: Asked,
        question: &Question,
        waiters: impl Iterator<Item = &'w Waiter>,
    ) -> Span {
        let causes: Vec<TraceContext> = traces_of(waiters).take(LINKS).collect();
        let span = match question {
            Question::List => self.tracer.poll(),
            Question::Dispatch(id) => self.tracer.look_up(&causes, id.as_str()),
        };
        if let Some(context) = span.context() {
            self.requested(asked, context);
        }
        span
    }

    /// The request `asked` has this span.
    pub fn requested(&mut self, asked: Asked, span: TraceContext) {
        self.requests.insert(asked, span);
        while self.requests.len() > REQUESTS {
            self.requests.pop_first();
        }
    }

    /// The commit of `batch` begins, with these responses in it, the events that follow from
    /// each, and those who wait for it. Each response has a span, in its own trace; what
    /// follows from none has one too, in a trace that begins with it.
    pub fn commit<'w, W: Iterator<Item = &'w Waiter>>(
        &mut self,
        batch: &Batch,
        responses: impl Iterator<Item = (Asked, Range<usize>, W)>,
    ) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut first = None;
        // Events follow from responses one after another, and some from none.
        let mut next = 0;
        for (asked, events, waiters) in responses {
            self.of_no_response(batch, next..events.start, &mut first, &mut spans);
            next = events.end;
            let cause = self.requests.get(&asked).cloned();
            // The webhooks that a list answered; those of a look-up are linked from there.
            let mut links: Vec<TraceContext> = first.iter().cloned().collect();
            links.extend(traces_of(waiters).filter(|waiter| {
                let cause = cause.as_ref();
                cause.is_none_or(|cause| !cause.is_of_trace(waiter))
            }));
            links.truncate(LINKS);
            let span = self.opened(batch, cause.as_ref(), &links, events);
            first = first.or_else(|| span.context());
            spans.push(span);
        }
        self.of_no_response(batch, next..batch.events.len(), &mut first, &mut spans);
        spans
    }

    /// What came due, or an operator ordered, or follows from silence.
    fn of_no_response(
        &mut self,
        batch: &Batch,
        events: Range<usize>,
        first: &mut Option<TraceContext>,
        spans: &mut Vec<Span>,
    ) {
        if events.is_empty() {
            return;
        }
        let links: Vec<TraceContext> = first.iter().cloned().collect();
        let span = self.opened(batch, None, &links, events);
        *first = first.take().or_else(|| span.context());
        spans.push(span);
    }

    fn opened(
        &mut self,
        batch: &Batch,
        cause: Option<&TraceContext>,
        links: &[TraceContext],
        events: Range<usize>,
    ) -> Span {
        let span = self
            .tracer
            .commit(cause, links, batch.revision, events.len());
        let events = batch.events.get(events).unwrap_or_default();
        if let (Some(context), [first, ..]) = (span.context(), events) {
            let last = events.last().unwrap_or(first);
            // Positions grow: what is known from here on is of a commit that failed.
            self.commits.split_off(&first.position);
            if let Some(mut before) = self.commits.last_entry() {
                let end = first.position.saturating_sub(1);
                before.get_mut().0 = before.get().0.min(end);
            }
            let range = (last.position, context);
            self.commits.insert(first.position, range);
        }
        while self.commits.len() > CAUSES {
            self.commits.pop_first();
        }
        span
    }

    /// An attempt to deliver `events` to the sink called `sink` begins. `None` without an
    /// event.
    pub fn delivery(&self, sink: &str, events: &[Event]) -> Option<(Span, DeliveryTrace)> {
        let first = events.first()?;
        let mut causes: Vec<TraceContext> = Vec::new();
        for cause in events.iter().filter_map(|event| self.cause(event)) {
            if causes.len() < LINKS && !causes.contains(cause) {
                causes.push(cause.clone());
            }
        }
        let described = [&*first.id, &*first.event_type, &*first.subject];
        let span = self.tracer.deliver(&causes, sink, events.len(), described);
        let attempt = span.context()?;
        let trace = match events {
            [_] => DeliveryTrace::of_one(attempt),
            events => {
                let causes = events.iter().map(|event| self.cause(event).cloned());
                DeliveryTrace::of_many(attempt, causes)
            }
        };
        Some((span, trace))
    }

    /// The commit that made the event, if that is remembered.
    fn cause(&self, event: &Event) -> Option<&TraceContext> {
        let (_, (last, context)) = self.commits.range(..=event.position).next_back()?;
        (event.position <= *last).then_some(context)
    }
}

fn traces_of<'w>(waiters: impl Iterator<Item = &'w Waiter>) -> impl Iterator<Item = TraceContext> {
    waiters.filter_map(|waiter| waiter.trace.clone())
}

#[cfg(test)]
mod tests;
