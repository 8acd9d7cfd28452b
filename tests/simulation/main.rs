//! The whole core of the daemon, simulated from a seed in one thread.
//!
//! The [`Coordinator`](dispatchd::sync::Coordinator), its engine, its outboxes and a store
//! in memory run as in production. Around them everything is simulated: clocks,
//! the upstream and its API, webhooks, receivers, the disk, crashes. A seed
//! gives a `scenario`: a list of incidents. At every step what passes between
//! daemon and world is held against `checks`, and after the last fault
//! everything must come right (`convergence`), by the word of an `oracle`
//! that shares no code with the engine.
//!
//! `leases` is another kind of world: several daemons around the lease of one store, alone
//! or with all that a leader does (`leases::whole`).
//!
//! All chances are a function of the seed and of what they are for (`dice`),
//! so that incidents can be taken out of a failing run one by one (`shrink`).

mod api;
mod checks;
mod convergence;
mod daemon;
mod defects;
mod dice;
mod faults;
mod generate;
mod leases;
mod oracle;
mod receivers;
mod report;
mod routes;
mod run;
mod scenario;
mod shrink;
mod trace;
mod upstream;
mod violation;
mod world;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use dispatchd::clock::{Clock, SystemClock};

use report::Counts;
use run::{Run, run, shortest};

/// Runs the core of dispatchd in simulated worlds full of faults, one for each seed
#[derive(Debug, Parser)]
struct Options {
    /// The seeds to run, the last one excluded
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = range)]
    seeds: (u64, u64),

    /// Which worlds: the core of one daemon, several daemons around one lease, or several
    /// whole daemons around one database
    #[arg(long, value_enum, default_value_t = Worlds::Core)]
    world: Worlds,

    /// Runs this seed alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Prints what happens, line by line
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// The kinds of worlds that seeds give.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Worlds {
    Core,
    Leases,
    Daemons,
}

impl Worlds {
    fn run(self, seed: u64, told: bool) -> Run {
        match self {
            Self::Core => run(seed, None, told),
            Self::Leases => leases::run(seed, told),
            Self::Daemons => leases::run_whole(seed, told),
        }
    }

    fn shortest(self, seed: u64) -> Option<Run> {
        match self {
            Self::Core => shortest(seed, None),
            Self::Leases => leases::shortest(seed),
            Self::Daemons => leases::shortest_whole(seed),
        }
    }
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

fn main() -> ExitCode {
    match simulate(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs seeds on all cores until one breaks a rule.
fn simulate(options: &Options) -> Result<(), String> {
    let (from, to) = match options.seed {
        Some(seed) => (seed, seed.saturating_add(1)),
        None => options.seeds,
    };
    if let Some(seed) = options.seed.filter(|_| options.trace) {
        say(&options.world.run(seed, true).trace.join("\n"))?;
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
            let run = options.world.run(seed, false);
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
    if let Some(run) = options.world.shortest(seed) {
        say(&run.trace.join("\n"))?;
    }
    Err(format!(
        "seed {seed} breaks a rule; its shortest trace is above"
    ))
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("standard output: {error}"))
}
