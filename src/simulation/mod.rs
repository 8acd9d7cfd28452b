//! The whole core of the daemon, simulated from a seed in one thread.
//!
//! The [`Machine`](crate::sync::Machine), its engine, its outboxes and a store
//! in memory run as in production. Around them everything is simulated: clocks,
//! the upstream and its API, webhooks, receivers, the disk, crashes. A seed
//! gives a `scenario`: a list of incidents. At every step what passes between
//! daemon and world is held against `checks`, and after the last fault
//! everything must come right (`convergence`), by the word of an `oracle`
//! that shares no code with the engine.
//!
//! All chances are a function of the seed and of what they are for (`dice`),
//! so that incidents can be taken out of a failing run one by one (`shrink`).

mod api;
mod checks;
mod convergence;
mod daemon;
pub(crate) mod defects;
mod dice;
mod faults;
mod generate;
mod oracle;
mod receivers;
mod report;
mod scenario;
mod shrink;
mod trace;
mod upstream;
mod violation;
mod world;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use defects::Defect;
pub use report::Counts;
use scenario::Scenario;
pub use violation::Violation;
use world::World;

/// What came of one run.
#[derive(Debug)]
pub struct Run {
    /// How much time passed in it.
    pub simulated: Duration,
    /// What it went through.
    pub counts: Counts,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
    /// Whether every rule held.
    pub outcome: Result<(), Violation>,
}

/// Runs `seed`, with a deliberate defect or without. `told` keeps the trace.
pub fn run(seed: u64, defect: Option<Defect>, told: bool) -> Run {
    run_scenario(&generate::generate(seed), defect, told)
}

/// The shortest run that still breaks the rule that `seed` breaks. `None` if it
/// breaks none.
pub fn shortest(seed: u64, defect: Option<Defect>) -> Option<Run> {
    let scenario = generate::generate(seed);
    let violation = run_scenario(&scenario, defect, false).outcome.err()?;
    let shortest = shrink::shrink(&scenario, &violation, defect);
    Some(run_scenario(&shortest, defect, true))
}

fn run_scenario(scenario: &Scenario, defect: Option<Defect>, told: bool) -> Run {
    let mut world = World::new(scenario, defect, told);
    let outcome = world.run();
    let mut trace = vec![format!("seed {}: {:?}", scenario.seed, scenario.knobs)];
    let simulated = world.now();
    let counts = std::mem::take(&mut world.counts);
    trace.extend(world.into_trace());
    if let Err(violation) = &outcome {
        trace.push(format!(
            "{:>9.3} BROKEN: {}: {}",
            violation.at.as_secs_f64(),
            violation.rule,
            violation.detail
        ));
    }
    Run {
        simulated,
        counts,
        trace: if told { trace } else { Vec::new() },
        outcome,
    }
}
