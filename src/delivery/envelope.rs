//! An event as a receiver gets it: with the trace that it belongs to, if there is one, by
//! the CloudEvents extension *distributed tracing*.

use serde::{Serialize, Serializer};

use crate::model::Event;
use crate::trace::TraceContext;

/// The trace of one attempt to deliver.
#[derive(Debug, Clone)]
pub struct DeliveryTrace {
    attempt: TraceContext,
    /// What each event belongs under. Empty if all belong under the attempt.
    events: Vec<TraceContext>,
}

impl DeliveryTrace {
    /// An attempt with one event, which carries what its request carries, as the extension
    /// asks.
    pub fn of_one(attempt: TraceContext) -> Self {
        Self {
            attempt,
            events: Vec::new(),
        }
    }

    /// An attempt with several events, each of which belongs under what made it. One of
    /// which that is not known belongs under the attempt.
    pub fn of_many(
        attempt: TraceContext,
        causes: impl IntoIterator<Item = Option<TraceContext>>,
    ) -> Self {
        let causes = causes.into_iter();
        let events = causes.map(|cause| cause.unwrap_or_else(|| attempt.clone()));
        Self {
            events: events.collect(),
            attempt,
        }
    }

    /// The headers of the request that is the attempt.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.attempt.fields()
    }

    fn of_event(&self, place: usize) -> &TraceContext {
        self.events.get(place).unwrap_or(&self.attempt)
    }
}

/// An event, and the trace that it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The event.
    pub event: &'a Event,
    trace: Option<&'a TraceContext>,
}

impl Envelope<'_> {
    /// What says to whoever handles the event where it belongs. Empty without a trace.
    pub fn trace_fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.trace.into_iter().flat_map(TraceContext::fields)
    }
}

/// Without a trace it is written as the event is.
impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.event.write(serializer, self.trace_fields())
    }
}

/// The events of one attempt, which are written as a list.
#[derive(Debug, Clone, Copy)]
pub struct Envelopes<'a> {
    events: &'a [Event],
    trace: Option<&'a DeliveryTrace>,
}

impl<'a> Envelopes<'a> {
    /// Those of an attempt that belongs to `trace`.
    pub fn new(events: &'a [Event], trace: Option<&'a DeliveryTrace>) -> Self {
        Self { events, trace }
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Envelope<'a>> {
        let events = self.events.iter().enumerate();
        events.map(move |(place, event)| Envelope {
            event,
            trace: self.trace.map(|trace| trace.of_event(place)),
        })
    }
}

impl Serialize for Envelopes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}
