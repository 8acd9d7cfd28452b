//! The real daemon in a bad world, for as long as one likes.
//!
//! `cargo run --release --example soak -- --minutes 20`
//!
//! Upstream, dispatches come, change and go without end. Webhooks are lost,
//! doubled and late, and the API fails in every way it can; some of its answers
//! come from a replica that lags by up to 3 s ([`replica`]). Receivers are down, slow
//! or lie; they hang for some subjects, answer 410 for some, and ask to be left
//! alone for up to 300 s ([`receiver`]). A broker is restarted and loses what it
//! retained ([`broker`]). The daemon is killed every few seconds. Then everything
//! is well again, and nothing may have been lost: see [`verdict`].
//!
//! With `--daemons 2` two of them share a PostgreSQL database: see [`pair`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is a test: what is not as it must be ends it"
)]

mod broker;
mod catalogue;
mod clock;
#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod cluster;
mod daemon;
mod figures;
mod heard;
mod lateness;
mod options;
mod pair;
#[path = "../postgres/proxy.rs"]
mod proxy;
mod receiver;
mod replica;
mod run;
mod senders;
mod spans;
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
