//! `dispatchd sandbox`

use std::net::SocketAddr;

use clap::Args;
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::{Failure, logging, runtime, stop};
use crate::config::{LogFormat, address, whole_number};
use crate::daemon::cannot_listen;
use crate::http::listen;
use crate::sandbox::{Options, Sandbox};

/// The options of `dispatchd sandbox`.
#[derive(Debug, Args)]
pub(super) struct SandboxOptions {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5050", value_parser = address)]
    listen: SocketAddr,

    /// API key that clients must send
    #[arg(
        long,
        value_name = "KEY",
        default_value = "secret",
        hide_default_value = false
    )]
    api_key: SecretString,

    /// Share of webhooks to lose, 0 to 1
    #[arg(long, value_name = "RATIO", default_value = "0", value_parser = ratio, allow_hyphen_values = true)]
    drop_webhooks: f64,

    /// Seed of all random choices, to repeat a run
    #[arg(long, value_name = "N", value_parser = whole_number(0..=u64::MAX), allow_hyphen_values = true)]
    seed: Option<u64>,

    /// Answer by id with a list of one, as Voltus's tutorial shows, instead of
    /// the bare dispatch, as its reference says
    #[arg(long)]
    wrapped: bool,

    /// Move the times of the first dispatch with every request, as Voltus's
    /// public sandbox does
    #[arg(long)]
    moving_fixture: bool,
}

/// Runs the sandbox until it is told to end.
pub(super) fn run(options: &SandboxOptions) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "info")?;
    runtime()?.block_on(serve(options))
}

async fn serve(options: &SandboxOptions) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    let stop = stop::on_signal(&tasks)?;
    let listener = listen(options.listen)
        .map_err(|error| Failure::Runtime(cannot_listen("--listen", options.listen, &error)))?;
    let sandbox = Sandbox::start(
        Options {
            api_key: options.api_key.clone(),
            drop_webhooks: options.drop_webhooks,
            seed: options.seed,
            wrap_by_id: options.wrapped,
            moving_fixture: options.moving_fixture,
            ..Options::default()
        },
        listener,
        stop.clone(),
    )
    .map_err(|error| Failure::Runtime(format!("the sandbox cannot start: {error}")))?;
    tracing::info!("the sandbox answers at {}", sandbox.url());
    tracing::info!(
        "faults: PUT {0}/control/faults; deliveries: GET {0}/control/log",
        sandbox.url()
    );
    sandbox.stopped().await;
    if stop.is_cancelled() {
        Ok(())
    } else {
        Err(Failure::Runtime("the sandbox ended by itself".into()))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "it must be a number from 0 to 1, such as 0.5".to_owned())
}
