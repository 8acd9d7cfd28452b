//! From the outbox to those who act on it.

mod sink;

pub use sink::{Attempt, Sink};
