//! Traces: what one webhook, poll or due time led to, as spans for an OpenTelemetry
//! collector.
//!
//! A [`Tracer`] opens spans, a [`TraceContext`] says under which span something belongs.
//! Both travel beside what is decided: the engine and the coordinator know neither. What
//! spans there are is in `spans.rs`.
//!
//! Tracing is off unless the environment names a collector ([`Settings`]). A tracer that is
//! off opens nothing, allocates nothing and adds nothing to an event.
//!
//! A trace is never worth a command: ended spans wait in a bounded queue, and where that is
//! full, or the collector does not take them, they are dropped and counted ([`Counts`]).

mod context;
mod export;
mod queue;
mod settings;
mod spans;
mod variables;

pub use context::TraceContext;
pub use export::Exporter;
pub use queue::Counts;
pub use settings::{Settings, VARIABLES};
pub use spans::{Span, Tracer};
pub use variables::VariableError;
