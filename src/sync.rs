//! The shell around the engine: who asks the API when, and who is told what.
//!
//! [`Machine`] is a state machine without I/O: it is told what happened and
//! what time it is, and says what is to be done. [`Driver`] does that with real
//! sockets and a real disk; a simulation can do it from a seed.

mod announce;
mod budget;
mod driver;
mod fetcher;
mod heals;
mod health;
mod legibility;
mod log;
mod look_again;
mod machine;
mod numbering;
mod poller;
mod request_log;
mod skips;
mod slowdown;
mod tally;
mod timings;
mod waiters;
mod writer;

pub use driver::{Driver, DriverError, Inbox};
pub use health::{Health, SlowedDown, State, View};
pub use machine::{
    Effect, Input, Machine, PendingRequest, Settings, SinkPending, SkipRequest, Verdict,
};
pub use poller::PollReport;
pub use tally::{ByTypeAndSource, Tally};
pub use timings::{Taken, Timings};

#[cfg(test)]
mod tests;
