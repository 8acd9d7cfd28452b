//! The daemon from outside: the real program, started on ports of its own and
//! told about the world by a sandbox in this process.
//!
//! Nothing here sleeps and hopes: whatever takes time is waited for (see
//! [`harness::wait_for`]), so a busy machine makes these tests slower, not wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is tests: what is not as it must be ends one"
)]

#[macro_use]
extern crate macro_rules_attribute;

// First, for its macro.
#[macro_use]
mod harness;

mod acceptance;
mod api_client;
mod attacks;
mod bad_api;
mod bounds;
mod certificates;
mod check;
mod clients;
mod clocks;
mod commands;
mod config_file;
mod crashes;
mod cut_off;
mod databases;
mod delivery;
mod deploy;
mod disk;
mod doubt;
mod failures;
mod files;
mod footprint;
mod healing;
mod inventory;
mod lagging;
mod life;
mod listener;
mod log;
mod lost_commits;
mod messages;
mod metrics;
mod mqtt;
mod numbers;
mod outbox;
mod overrides;
mod poolers;
mod programs;
mod readme;
mod report;
mod routing;
mod secrets;
mod siege;
mod sites;
mod skipping;
mod standbys;
mod state_copy;
mod states;
mod status;
mod terminal;
mod tracing;
mod two_machines;
mod unknown_fields;
mod untold;
mod usage;

fn main() -> std::process::ExitCode {
    harness::main()
}
