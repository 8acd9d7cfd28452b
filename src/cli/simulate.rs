//! `dispatchd simulate`: for those who change the daemon, not for operators.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::clock::{Clock, SystemClock};
use crate::simulation::{Counts, run, shortest};

/// The options of `dispatchd simulate`.
#[derive(Debug, Args)]
pub(super) struct SimulateOptions {
    /// The seeds to run, the last one excluded
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = range)]
    seeds: (u64, u64),

    /// Runs this seed alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Prints what happens, line by line
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let bounds = text.split_once("..").and_then(|(from, to)| {
        let bounds = (from.parse().ok()?, to.parse().ok()?);
        (bounds.0 < bounds.1).then_some(bounds)
    });
    bounds.ok_or_else(|| "is a range of seeds, such as 0..1000".into())
}

/// What one thread has gone through.
#[derive(Debug, Default)]
struct Gone {
    simulated: Duration,
    counts: Counts,
    runs: u64,
}

/// Runs seeds on all cores until one breaks a rule.
pub(super) fn simulate(options: &SimulateOptions) -> Result<(), Failure> {
    let (from, to) = match options.seed {
        Some(seed) => (seed, seed.saturating_add(1)),
        None => options.seeds,
    };
    if let Some(seed) = options.seed.filter(|_| options.trace) {
        say(&run(seed, None, true).trace.join("\n"))?;
    }
    let clock = SystemClock::new();
    let next = AtomicU64::new(from);
    let broken = AtomicU64::new(to);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut gone = Gone::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= broken.load(Ordering::Relaxed) {
                return gone;
            }
            let run = run(seed, None, false);
            gone.simulated += run.simulated;
            gone.counts.take_in(&run.counts);
            gone.runs += 1;
            if run.outcome.is_err() {
                broken.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let mut all = Gone::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A panic is told by the thread itself.
            if let Ok(gone) = worker.join() {
                all.simulated += gone.simulated;
                all.counts.take_in(&gone.counts);
                all.runs += gone.runs;
            } else {
                broken.store(from, Ordering::Relaxed);
            }
        }
    });
    let took = clock.now().mono.as_secs_f64();
    let hours = all.simulated.as_secs_f64() / 3600.0;
    for (what, times) in all.counts.iter() {
        say(&format!("{times:>12} {what}"))?;
    }
    say(&format!(
        "{} seeds, {hours:.0} simulated hours in {took:.1} s: {:.0} seeds and {:.1} simulated hours a second",
        all.runs,
        all.runs as f64 / took,
        hours / took
    ))?;
    let seed = broken.load(Ordering::Relaxed);
    if seed >= to {
        return Ok(());
    }
    if let Some(run) = shortest(seed, None) {
        say(&run.trace.join("\n"))?;
    }
    Err(Failure::Runtime(format!(
        "seed {seed} breaks a rule; its shortest trace is above"
    )))
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Failure::Runtime(format!("standard output: {error}")))
}
