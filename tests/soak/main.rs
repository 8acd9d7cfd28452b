//! The real daemon in a bad world, for as long as one likes.
//!
//! `cargo run --release --example soak -- --minutes 20`
//!
//! Upstream, dispatches come, change and go without end. Webhooks are lost,
//! doubled and late, the API fails in every way it can, receivers are down, slow
//! or lie, and the daemon is killed every few seconds. Then everything is well
//! again, and nothing may have been lost: see [`verdict`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is a test: what is not as it must be ends it"
)]

mod catalogue;
mod clock;
mod daemon;
mod figures;
mod options;
mod receiver;
mod run;
mod truth;
mod upstream;
mod verdict;
mod weather;
mod webhooks;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use options::Options;

/// What ends a run early.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How long the daemon keeps what is over.
const RETAIN: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    match runtime.block_on(run::run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("soak: {fault}");
            ExitCode::FAILURE
        }
    }
}
