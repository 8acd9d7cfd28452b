//! From the outbox to those who act on it.

mod sink;
pub mod sinks;

pub use sink::{Attempt, Sink};
