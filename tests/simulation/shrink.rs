//! From a run that fails to the shortest that still does.

use super::defects::Defect;
use super::scenario::{Scenario, Timed};
use super::violation::Violation;
use crate::run::{Run, run_scenario};

/// Takes incidents out while the same rule stays broken: first halves, then
/// ever smaller parts, then one by one until none can go.
pub(super) fn shrink(
    scenario: &Scenario,
    violation: &Violation,
    defect: Option<Defect>,
) -> Scenario {
    let fails = |candidate: &Scenario| {
        let Run { outcome, .. } = run_scenario(candidate, defect, false);
        outcome.err().filter(|found| found.rule == violation.rule)
    };
    let mut best = scenario.clone();
    // What comes after the break has no part in it.
    let cut = with(&best, |timed| timed.at <= violation.at);
    if fails(&cut).is_some() {
        best = cut;
    }
    let mut part = best.incidents.len().div_ceil(2).max(1);
    loop {
        let mut removed = false;
        let mut from = 0;
        while from < best.incidents.len() {
            let mut index = 0;
            let candidate = with(&best, |_| {
                index += 1;
                !(from..from + part).contains(&(index - 1))
            });
            if fails(&candidate).is_some() {
                best = candidate;
                removed = true;
            } else {
                from += part;
            }
        }
        if part == 1 && !removed {
            break;
        }
        part = part.div_ceil(2).max(1);
    }
    // The sooner all is quiet, the shorter the story.
    if let Some(last) = best.incidents.last() {
        let mut candidate = best.clone();
        candidate.quiet_from = last.at + std::time::Duration::from_millis(1);
        if fails(&candidate).is_some() {
            best = candidate;
        }
    }
    best
}

fn with(scenario: &Scenario, mut keep: impl FnMut(&Timed) -> bool) -> Scenario {
    let mut shorter = scenario.clone();
    shorter.incidents.retain(|timed| keep(timed));
    shorter
}
