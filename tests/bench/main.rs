//! What the daemon costs, beside what its users would otherwise run and beside
//! the limit.
//!
//! `tests/bench/run --help`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is a measurement: what is not as it must be ends it"
)]

mod api;
mod bounds;
mod clock;
#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod cluster;
mod figures;
mod limit;
mod load;
mod machine;
mod measure;
mod message;
mod options;
mod past;
mod process;
mod receiver;
mod relay;
mod stage;
mod world;

use std::process::ExitCode;

use clap::Parser;

use figures::Figures;
use options::{Options, Part};
use stage::Stage;

/// What ends a run early.
type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match (options.limit, &options.api) {
        // As many threads as the daemon has.
        (Some(listen), Some(api)) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Fault::from)
            .and_then(|runtime| {
                runtime.block_on(async {
                    let (receiver, journal) =
                        (options.receiver.as_ref(), options.journal.as_deref());
                    if receiver.is_none() && journal.is_none() {
                        limit::run(listen, api).await
                    } else {
                        relay::run(listen, api, receiver, journal).await
                    }
                })
            })
            .map(|()| true),
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Fault::from)
            .and_then(|runtime| runtime.block_on(bench(&options))),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::from(2)
        }
    }
}

async fn bench(options: &Options) -> Result<bool, Fault> {
    let folder = options.folder()?;
    let stage = Stage::new(options.daemon()?, options.python.clone(), &folder)?;
    let mut figures = Figures::default();
    let measured = measure(&stage, options, &mut figures).await;
    if measured.is_err() {
        let log = std::fs::read_to_string(stage.log()).unwrap_or_default();
        eprint!("{log}");
    }
    measured?;
    let verdict = bounds::judge(&figures, options.short, options.is_all())?;
    println!("{}\n", machine::describe(stage.folder())?);
    println!("{}\n{}", verdict.table, figures.table());
    Ok(verdict.held)
}

async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    if options.wants(Part::Webhooks) {
        measure::webhooks::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Chain) {
        measure::chain::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Database) {
        measure::database::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Polls) {
        measure::polls::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Memory) {
        measure::polls::pairs(stage, options, figures).await?;
    }
    if options.wants(Part::Starts) {
        measure::starts::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Status) {
        measure::status::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Growth) {
        measure::growth::measure(stage, options, figures).await?;
    }
    if options.wants(Part::Idle) {
        measure::idle::measure(stage, options, figures).await?;
    }
    Ok(())
}
