//! Thousands of seeds, and the proof that a broken rule is found.

use super::*;

#[test]
fn seeds() {
    let from: u64 = std::env::var("SEED_FROM")
        .ok()
        .map_or(0, |v| v.parse().unwrap());
    let count: u64 = std::env::var("SEEDS")
        .ok()
        .map_or(200, |v| v.parse().unwrap());
    let mut simulated = Duration::ZERO;
    let mut steps = 0;
    let mut rules = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for seed in from..from + count {
        let run = run(seed, None, false);
        simulated += run.simulated;
        steps += run
            .counts
            .iter()
            .find(|(k, _)| *k == "step")
            .map_or(0, |(_, v)| v);
        if let Err(v) = run.outcome {
            rules.entry(v.rule).or_default().push(seed);
        }
    }
    println!("simulated {simulated:?} steps {steps}");
    for (r, s) in &rules {
        println!("{r}: {} {:?}", s.len(), &s[..s.len().min(8)]);
    }
    assert!(rules.is_empty());
}

#[test]
fn one() {
    let Ok(seed) = std::env::var("SEED") else {
        return;
    };
    if let Some(run) = shortest(seed.parse().unwrap(), None) {
        for line in run.trace {
            println!("{line}");
        }
    }
}
