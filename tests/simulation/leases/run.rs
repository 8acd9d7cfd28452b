//! One run of daemons that share a lease, and the shortest one that breaks a rule.

use super::World;
use super::plan::{Plan, generate, generate_whole};
use crate::run::Run;

/// Runs `seed` with daemons that only share a lease. `told` keeps the trace.
pub fn run(seed: u64, told: bool) -> Run {
    run_plan(generate(seed), told)
}

/// Runs `seed` with whole daemons.
pub fn run_whole(seed: u64, told: bool) -> Run {
    run_plan(generate_whole(seed), told)
}

/// The run with the fewest incidents that still breaks the rule that `seed` breaks.
pub fn shortest(seed: u64) -> Option<Run> {
    shortened(generate(seed))
}

/// The same for whole daemons.
pub fn shortest_whole(seed: u64) -> Option<Run> {
    shortened(generate_whole(seed))
}

fn shortened(mut best: Plan) -> Option<Run> {
    let rule = run_plan(best.clone(), false).outcome.err()?.rule;
    let breaks = |plan: &Plan| {
        let outcome = run_plan(plan.clone(), false).outcome;
        outcome.is_err_and(|violation| violation.rule == rule)
    };
    let mut index = 0;
    while index < best.incidents.len() {
        let mut shorter = best.clone();
        shorter.incidents.remove(index);
        if breaks(&shorter) {
            best = shorter;
        } else {
            index += 1;
        }
    }
    let mut index = 0;
    while best
        .whole
        .as_ref()
        .is_some_and(|whole| index < whole.incidents.len())
    {
        let mut shorter = best.clone();
        if let Some(whole) = &mut shorter.whole {
            whole.incidents.remove(index);
        }
        if breaks(&shorter) {
            best = shorter;
        } else {
            index += 1;
        }
    }
    Some(run_plan(best, true))
}

fn run_plan(plan: Plan, told: bool) -> Run {
    let mut first = vec![format!(
        "seed {}: {} processes, calls end after {:?}, quiet from {:?}",
        plan.seed, plan.processes, plan.call_limit, plan.quiet_from
    )];
    first.extend(plan.whole.iter().map(|whole| format!("{:?}", whole.knobs)));
    let mut world = World::new(plan, told);
    let outcome = world.run();
    world.counts.add("lease: seeds", 1);
    world
        .counts
        .add("lease: take-overs", world.checks.take_overs());
    first.extend(world.trace.into_lines());
    if let Err(violation) = &outcome {
        first.push(format!(
            "{:>9.3} BROKEN: {}: {}",
            violation.at.as_secs_f64(),
            violation.rule,
            violation.detail
        ));
    }
    Run {
        simulated: world.now,
        counts: world.counts,
        trace: if told { first } else { Vec::new() },
        outcome,
    }
}
