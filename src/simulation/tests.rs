//! Thousands of seeds, and the proof that a broken rule is found.

use std::collections::BTreeMap;
use std::ops::Range;

use super::*;

/// The seeds that every test run goes through.
const SEEDS: Range<u64> = 0..2500;

/// The first seed among `seeds` that breaks a rule, tried on two threads.
fn first_broken(seeds: Range<u64>, defect: Option<Defect>) -> Option<u64> {
    let breaks = |seed: &u64| run(*seed, defect, false).outcome.is_err();
    std::thread::scope(|scope| {
        let odd = seeds.clone().filter(|seed| seed % 2 == 1);
        let odd = scope.spawn(move || odd.into_iter().find(breaks));
        let even = seeds.clone().filter(|seed| seed % 2 == 0).find(breaks);
        even.into_iter().chain(odd.join().unwrap()).min()
    })
}

fn story(seed: u64, defect: Option<Defect>) -> String {
    shortest(seed, defect).map_or_else(String::new, |run| run.trace.join("\n"))
}

#[test]
fn no_seed_breaks_a_rule() {
    if let Some(seed) = first_broken(SEEDS, None) {
        panic!("seed {seed}; shortest:\n{}", story(seed, None));
    }
}

#[test]
fn every_defect_is_found() {
    let mut needed = BTreeMap::new();
    for defect in Defect::ALL {
        // Few at a time, so that the second thread does not run on for nothing.
        let found = (0..SEEDS.end)
            .step_by(20)
            .find_map(|from| first_broken(from..from + 20, Some(defect)));
        let seed = found.unwrap_or_else(|| panic!("{defect:?} was not found"));
        let rule = run(seed, Some(defect), false).outcome.unwrap_err().rule;
        println!("{defect:?}: {} seeds, by: {rule}", seed + 1);
        needed.insert(format!("{defect:?}"), seed + 1);
    }
    assert_eq!(needed.len(), Defect::ALL.len());
}

#[test]
fn a_crash_at_any_write_breaks_no_rule() {
    for seed in 0..4 {
        let mut scenario = generate::generate(seed);
        let run = run_scenario(&scenario, None, false);
        let commits = run.counts.iter().find(|(what, _)| *what == "commit");
        for write in 1..=commits.map_or(0, |(_, times)| times) {
            for written in [false, true] {
                scenario.crash_at_write = Some((write, written));
                let outcome = run_scenario(&scenario, None, false).outcome;
                assert!(outcome.is_ok(), "seed {seed}, write {write}: {outcome:?}");
            }
        }
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, true).trace, run(seed, None, true).trace);
    }
}

#[test]
fn the_shortest_run_breaks_the_same_rule_with_fewer_incidents() {
    let defect = Some(Defect::OkOnFailure);
    let seed = first_broken(SEEDS, defect).unwrap();
    let whole = run(seed, defect, true);
    let short = shortest(seed, defect).unwrap();
    assert_eq!(
        whole.outcome.unwrap_err().rule,
        short.outcome.unwrap_err().rule
    );
    assert!(short.trace.len() <= whole.trace.len());
}
