//! Where in a trace something happens: [`TraceContext`].

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header, and the attribute of an event, that names trace and span.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The header, and the attribute of an event, that holds what other tracing systems keep.
pub(super) const TRACESTATE: &str = "tracestate";

/// The span under which something belongs. Copies lead to the same one, and cost no
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(Arc<SpanContext>);

impl TraceContext {
    /// What `headers` say by `traceparent` and `tracestate` (W3C Trace Context). `None`
    /// without a `traceparent`, or with one that cannot be read.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(TRACEPARENT)?;
        let context = TraceContextPropagator::new().extract(&Headers(headers));
        Self::of(context.span().span_context().clone())
    }

    pub(super) fn of(span: SpanContext) -> Option<Self> {
        span.is_valid().then(|| Self(Arc::new(span)))
    }

    pub(super) fn span(&self) -> &SpanContext {
        &self.0
    }

    /// Whether both belong to the same trace.
    pub fn is_of_trace(&self, other: &Self) -> bool {
        self.0.trace_id() == other.0.trace_id()
    }

    /// The names and values of the headers that carry it, which are those of the
    /// CloudEvents extension and, in capitals, of a program's environment too.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.0.trace_state().header();
        let state = (!state.is_empty()).then_some((TRACESTATE, state));
        [(TRACEPARENT, self.traceparent())].into_iter().chain(state)
    }

    fn traceparent(&self) -> String {
        let flags = self.0.trace_flags() & TraceFlags::SAMPLED;
        let (trace, span) = (self.0.trace_id(), self.0.span_id());
        format!("00-{trace}-{span}-{flags:02x}")
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Option<TraceContext> {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        TraceContext::from_headers(&headers.collect())
    }

    #[test]
    fn a_context_is_passed_on_as_it_came() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let fields = |context: TraceContext| context.fields().collect::<Vec<_>>();
        let context = read(&[(TRACEPARENT, parent)]).unwrap();
        assert_eq!(fields(context), [(TRACEPARENT, parent.to_owned())]);
        let context = read(&[(TRACEPARENT, parent), (TRACESTATE, "a=1,b=2")]).unwrap();
        assert_eq!(
            fields(context),
            [
                (TRACEPARENT, parent.to_owned()),
                (TRACESTATE, "a=1,b=2".to_owned())
            ]
        );
    }

    #[test]
    fn a_context_that_cannot_be_read_is_none() {
        let wrong = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for parent in wrong {
            assert_eq!(read(&[(TRACEPARENT, parent)]), None, "{parent}");
        }
        assert_eq!(read(&[(TRACESTATE, "a=1")]), None);
    }
}
