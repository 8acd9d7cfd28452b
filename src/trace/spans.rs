//! The spans that there are, each opened by a method of [`Tracer`].
//!
//! | span | from | to | belongs under |
//! |---|---|---|---|
//! | `webhook` | its body is read | it is answered | what its sender says by `traceparent` |
//! | `look-up` | the request is sent | its response is read | the webhook that asked for it first; links to the others |
//! | `poll` | the request is sent | its response is read | nothing |
//! | `commit` | the batch goes to the store | it is on disk | the look-up or poll whose response it holds; one for each of them |
//! | `deliver` | the attempt begins | its result is known | the commit of its event; links to those of the other events |

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};
use tokio_util::task::TaskTracker;

use super::queue::{Counts, queue};
use super::{Exporter, Settings, TraceContext};

/// The most characters of an attribute, whoever its text comes from.
const LONGEST: usize = 256;

/// Opens spans. Copies lead to the same one.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Active>>);

struct Active {
    tracer: SdkTracer,
    counts: Arc<Counts>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_on = self.is_on();
        f.debug_tuple("Tracer").field(&is_on).finish()
    }
}

impl Tracer {
    /// One that opens nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// One whose spans go where `settings` say, by a task among `tasks`. To be called
    /// inside the runtime.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn start(
        settings: &Settings,
        tasks: &TaskTracker,
    ) -> Result<(Self, Exporter), reqwest::Error> {
        let (queue, waiting) = queue(settings.queue, settings.batch);
        let counts = Arc::clone(&waiting.counts);
        let exporter = Exporter::start(settings, waiting, tasks)?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler.clone())
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok((Self(Some(Arc::new(Active { tracer, counts }))), exporter))
    }

    /// Whether spans are opened at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What became of the spans. `None` if it opens none.
    pub fn counts(&self) -> Option<&Counts> {
        self.0.as_ref().map(|active| &*active.counts)
    }

    /// A webhook about `dispatch`, whose sender says that it belongs under `parent`.
    pub fn webhook(&self, parent: Option<&TraceContext>, dispatch: &str) -> Span {
        self.open("webhook", SpanKind::Server, parent, &[], || {
            vec![
                text("http.request.method", "POST"),
                text("dispatchd.dispatch", dispatch),
            ]
        })
    }

    /// A look-up of `dispatch`. `causes` are the webhooks that wait for it.
    pub fn look_up(&self, causes: &[TraceContext], dispatch: &str) -> Span {
        let (first, others) = split(causes);
        self.open("look-up", SpanKind::Client, first, others, || {
            vec![
                text("http.request.method", "GET"),
                text("dispatchd.dispatch", dispatch),
            ]
        })
    }

    /// A poll.
    pub fn poll(&self) -> Span {
        self.open("poll", SpanKind::Client, None, &[], || {
            vec![text("http.request.method", "GET")]
        })
    }

    /// A commit of `events` events because of the response to `cause`, or because of no
    /// response.
    pub fn commit(
        &self,
        cause: Option<&TraceContext>,
        links: &[TraceContext],
        revision: u64,
        events: usize,
    ) -> Span {
        self.open("commit", SpanKind::Internal, cause, links, || {
            vec![
                number("dispatchd.revision", revision),
                number("dispatchd.events", events as u64),
            ]
        })
    }

    /// An attempt to deliver `events` events to `sink`. `causes` are their commits, as far
    /// as they are known; `first` is the first event.
    pub fn deliver(
        &self,
        causes: &[TraceContext],
        sink: &str,
        events: usize,
        first: [&str; 3],
    ) -> Span {
        let (cause, links) = split(causes);
        let [id, event_type, subject] = first;
        self.open("deliver", SpanKind::Producer, cause, links, || {
            vec![
                text("dispatchd.sink", sink),
                number("dispatchd.events", events as u64),
                text("cloudevents.event_id", id),
                text("cloudevents.event_type", event_type),
                text("cloudevents.event_subject", subject),
            ]
        })
    }

    fn open(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<&TraceContext>,
        links: &[TraceContext],
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Span {
        let Some(active) = &self.0 else {
            return Span::default();
        };
        let mut context = Context::new();
        if let Some(parent) = parent {
            context = context.with_remote_span_context(parent.span().clone());
        }
        let links = links
            .iter()
            .map(|link| Link::with_context(link.span().clone()));
        let span = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes())
            .with_links(links.collect())
            .start_with_context(&active.tracer, &context);
        Span(Some(Box::new(span)))
    }
}

fn split(causes: &[TraceContext]) -> (Option<&TraceContext>, &[TraceContext]) {
    match causes.split_first() {
        Some((first, others)) => (Some(first), others),
        None => (None, &[]),
    }
}

fn text(key: &'static str, value: &str) -> KeyValue {
    let value: String = value.chars().take(LONGEST).collect();
    KeyValue::new(key, value)
}

fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, Value::I64(value.try_into().unwrap_or(i64::MAX)))
}

/// A span that is open. It ends when it is dropped. Of a tracer that is off it is nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SdkSpan>>);

impl Span {
    /// What belongs under it. `None` if it is nothing.
    pub fn context(&self) -> Option<TraceContext> {
        TraceContext::of(self.0.as_ref()?.span_context().clone())
    }

    /// It ends with this HTTP status, which means `outcome`.
    pub fn answered(mut self, status: u16, outcome: &str) {
        let Some(span) = &mut self.0 else { return };
        span.set_attribute(number("http.response.status_code", status.into()));
        span.set_attribute(text("dispatchd.outcome", outcome));
        if status >= 500 {
            span.set_status(Status::error(outcome.to_owned()));
        }
    }

    /// It has failed, for this reason, which holds no secret.
    pub fn failed(&mut self, reason: &dyn fmt::Display) {
        if let Some(span) = &mut self.0 {
            let reason: String = reason.to_string().chars().take(LONGEST).collect();
            span.set_status(Status::error(reason));
        }
    }
}
