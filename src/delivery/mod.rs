//! Delivers events to those who act on them (rule R6).
//!
//! The [`Outbox`] of a sink decides what is delivered next; the [`Sink`] tries
//! once. What has come of it is written down with everything else.

mod envelope;
mod outbox;
mod restore;
mod routing;
mod sink;
pub mod sinks;

pub use envelope::{DeliveryTrace, Envelope, Envelopes};
pub use outbox::{
    Outbox, PendingEvent, Read, RefreshPage, RefreshRead, RefusedEvent, Shares, SinkCondition,
    SinkHealth, Skipped, Start, Untold,
};
pub use restore::restore;
pub use routing::{Announced, Announcement};
pub use sink::{Attempt, Sink, look};
