//! One run: a scenario from its seed, until it ends or breaks a rule.

use std::time::Duration;

use crate::defects::Defect;
use crate::report::Counts;
use crate::scenario::Scenario;
use crate::violation::Violation;
use crate::world::World;
use crate::{generate, shrink};

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

pub fn run_scenario(scenario: &Scenario, defect: Option<Defect>, told: bool) -> Run {
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
