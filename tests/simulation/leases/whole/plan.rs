//! What happens around whole daemons, from a seed.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::super::plan::{Incident as Trouble, Timed as TimedTrouble, Whom};
use crate::dice::Dice;
use crate::generate::{knobs, life, number};
use crate::scenario::{ApiFault, Incident, Knobs, SinkFault, Timed};

/// What happens around whole daemons.
#[derive(Debug, Clone)]
pub struct WholePlan {
    pub knobs: Knobs,
    /// In order of time.
    pub incidents: Vec<Timed>,
    /// Whether a standby of the database is ever promoted.
    pub promotes: bool,
}

/// A plan for a run whose troubles go on for so long, and what befalls processes and
/// database beside what befalls those that only share a lease.
pub fn generate(dice: Dice, lasts: Duration) -> (WholePlan, Vec<TimedTrouble>) {
    let roll = &mut dice.roll("whole", &[]);
    let mut knobs = knobs(&mut dice.roll("knobs", &[]));
    // Nothing is forgotten within a run, so that promises can be looked at in the end.
    knobs.settings.rules.retain = Duration::from_secs(86_400);
    let dispatches = roll.random_range(1..=4);
    let mut incidents = Vec::new();
    for dispatch in 0..dispatches {
        life(dispatch, lasts, roll, &mut incidents);
    }
    // An upstream that takes dispatches away is the world of one daemon.
    incidents.retain(|(_, what)| matches!(what, Incident::Create { .. } | Incident::Change { .. }));
    for _ in 0..roll.random_range(0..=4) {
        let at = lasts.mul_f64(roll.random());
        incidents.push((at, fault(knobs.batches.len(), roll)));
    }
    let troubles: Vec<TimedTrouble> = (0..roll.random_range(0..=4))
        .map(|_| TimedTrouble {
            at: lasts.mul_f64(roll.random()),
            whom: if roll.random_bool(0.6) {
                Whom::Leader
            } else {
                Whom::Process(roll.random_range(0..2))
            },
            what: trouble(roll),
        })
        .collect();
    let promotes = |timed: &TimedTrouble| matches!(timed.what, Trouble::Promote { .. });
    let plan = WholePlan {
        promotes: troubles.iter().any(promotes),
        incidents: number(incidents),
        knobs,
    };
    (plan, troubles)
}

fn fault(sinks: usize, roll: &mut SmallRng) -> Incident {
    let lasts = Duration::from_millis(roll.random_range(500..30_000));
    if roll.random_bool(0.4) {
        let faults = [ApiFault::Down, ApiFault::Errors, ApiFault::Slow];
        let fault = faults[roll.random_range(0..faults.len())].clone();
        return Incident::Api { fault, lasts };
    }
    let faults = [
        SinkFault::Down,
        SinkFault::Unknown,
        SinkFault::Late,
        SinkFault::Slow,
        SinkFault::HangsForSome,
    ];
    Incident::Sink {
        sink: roll.random_range(0..sinks),
        fault: faults[roll.random_range(0..faults.len())],
        lasts,
    }
}

fn trouble(roll: &mut SmallRng) -> Trouble {
    let lasts = Duration::from_millis(roll.random_range(500..30_000));
    match roll.random_range(0..4) {
        0 => Trouble::CutFromApi { lasts },
        1 => Trouble::CutFromReceivers { lasts },
        _ => Trouble::Promote {
            lag: Duration::from_millis(roll.random_range(0..6_000)),
        },
    }
}
