//! What the tests stand on: a [`World`] with a sandbox in it, and a [`Daemon`]
//! that lives in it.

#[macro_use]
mod runner;

mod broker;
mod collector;
mod daemon;
mod process;
mod raw;
mod receiver;
mod setup;
mod stand_in;
mod terminal;
mod upstream;
mod wait;
mod world;

pub use broker::{Broker, Message, Subscriber};
pub use collector::{Collector, Span, Taking};
pub use daemon::{Answer, Daemon, ask, hint};
pub use process::{Heard, Process};
pub use raw::Raw;
pub use receiver::{Manner, Receiver, Signed};
pub use runner::{Test, block_on, main, need};
pub use setup::Setup;
pub use stand_in::StandIn;
pub use terminal::{COLUMNS, open_terminal};
pub use upstream::{Upstream, raw_answer};
pub use wait::{wait_for, wait_until};
pub use world::{World, dispatch, in_ms, now, site_of};
