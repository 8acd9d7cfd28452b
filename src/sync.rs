//! Decides when to ask the API, and what to write and to deliver.
//!
//! [`Coordinator`] is a state machine without I/O: it is told what happened and
//! what time it is, and says what is to be done. [`Driver`] does that with real
//! sockets and a real disk; a simulation can do it from a seed. [`Lease`] is such a
//! machine too: it says whether this daemon or another one leads.

mod announce;
mod batch_builder;
mod budget;
mod coordinator;
mod counters;
mod driver;
mod heals;
mod health;
mod lease;
mod legibility;
mod log;
mod look_again;
mod look_ups;
mod notices;
mod numbering;
mod poller;
mod recording;
mod request_log;
mod skips;
mod slowdown;
mod timings;
mod waiters;

pub use coordinator::{
    Coordinator, Effect, Input, PendingRequest, Settings, SinkPending, SkipRequest, WaiterReply,
};
pub use counters::{ByTypeAndSource, Counters};
pub use driver::{Driver, DriverError, FirstPoll, Inbox};
pub use health::{Health, RegistrationHealth, SlowedDown, State, View};
pub use lease::{Leadership, Lease, LeaseAnswer, LeaseCall, NextCall, TRUST, Turns, WATCHED_FOR};
pub use poller::PollReport;
pub use timings::{Taken, Timings};

#[cfg(test)]
mod tests;
