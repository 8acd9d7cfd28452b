//! What happens to daemons that share a lease, from a seed.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::whole::{self, WholePlan};
use crate::dice::Dice;

/// All that makes one run: the seed, and what happens.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub processes: usize,
    /// After so long without an answer a daemon gives a call up.
    pub call_limit: Duration,
    /// In order of time.
    pub incidents: Vec<Timed>,
    /// Nothing goes wrong any more from then on.
    pub quiet_from: Duration,
    /// What is around the daemons, if they are whole ones.
    pub whole: Option<WholePlan>,
}

/// An incident and when it begins.
#[derive(Debug, Clone)]
pub struct Timed {
    pub at: Duration,
    pub whom: Whom,
    pub what: Incident,
}

/// Whom an incident befalls.
#[derive(Debug, Clone, Copy)]
pub enum Whom {
    /// The process that trusts itself to lead, or the first.
    Leader,
    Process(usize),
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Incident {
    /// The process dies, and starts anew after this time.
    Crash { down: Duration },
    /// The process is told to stop, has ended its last attempt, and starts anew after
    /// this time.
    Stop { down: Duration },
    /// The process does nothing. Its clocks go on.
    Pause { lasts: Duration },
    /// The coordinator finishes no turn.
    Hang { lasts: Duration },
    /// Nothing passes between the process and the store. What is sent meanwhile gets
    /// lost, or arrives afterwards.
    Cut { lasts: Duration, late: bool },
    /// Requests and answers of the process take long, or get lost.
    Lossy { lasts: Duration },
    /// The store is away. It refuses connections, or says nothing.
    StoreAway { lasts: Duration, refuses: bool },
    /// A whole daemon does not reach the API.
    CutFromApi { lasts: Duration },
    /// A whole daemon does not reach its receivers.
    CutFromReceivers { lasts: Duration },
    /// A standby of the database that has lagged by this much takes its place.
    Promote { lag: Duration },
}

/// How long all is well at the end.
pub const QUIET: Duration = Duration::from_secs(30);

/// For how long at least something happens around whole daemons.
const WHOLE_LASTS: Duration = Duration::from_secs(60);

/// The plan of `seed` for whole daemons.
pub fn generate_whole(seed: u64) -> Plan {
    let mut plan = generate(seed);
    plan.quiet_from = plan.quiet_from.max(WHOLE_LASTS);
    let (whole, troubles) = whole::generate(Dice::new(seed), plan.quiet_from);
    plan.incidents.extend(troubles);
    plan.incidents.sort_by_key(|timed| timed.at);
    for timed in &plan.incidents {
        if let Incident::CutFromApi { lasts } | Incident::CutFromReceivers { lasts } = timed.what {
            plan.quiet_from = plan.quiet_from.max(timed.at + lasts);
        }
    }
    plan.whole = Some(whole);
    plan
}

/// The plan of `seed` for daemons that only share a lease.
pub fn generate(seed: u64) -> Plan {
    let dice = Dice::new(seed);
    let mut roll = dice.roll("leases", &[]);
    let processes = roll.random_range(2..=3);
    let call_limit = Duration::from_millis(roll.random_range(500..2000));
    // In some worlds there is time between two incidents, in others there is none.
    let apart = [2_000, 12_000, 40_000][roll.random_range(0..3)];
    let mut at = roll.random_range(0..10_000);
    let mut quiet_from = Duration::ZERO;
    let mut incidents = Vec::new();
    for number in 0..roll.random_range(2..=12) {
        let mut roll = dice.roll("incident", &[number]);
        let whom = if roll.random_bool(0.6) {
            Whom::Leader
        } else {
            Whom::Process(roll.random_range(0..processes))
        };
        let (what, lasts) = incident(&mut roll);
        let begins = Duration::from_millis(at);
        quiet_from = quiet_from.max(begins + lasts);
        incidents.push(Timed {
            at: begins,
            whom,
            what,
        });
        at += roll.random_range(0..apart);
    }
    Plan {
        seed,
        processes,
        call_limit,
        incidents,
        quiet_from,
        whole: None,
    }
}

/// An incident, and how long it lasts.
fn incident(roll: &mut SmallRng) -> (Incident, Duration) {
    let longest = [1_000, 6_000, 25_000][roll.random_range(0..3)];
    let lasts = Duration::from_millis(roll.random_range(50..longest));
    let what = match roll.random_range(0..16) {
        0 | 1 => Incident::Crash { down: lasts },
        2 | 3 => Incident::Stop { down: lasts },
        4..=6 => Incident::Pause { lasts },
        7 | 8 => Incident::Hang { lasts },
        9..=11 => Incident::Cut {
            lasts,
            late: roll.random_bool(0.5),
        },
        12 | 13 => Incident::Lossy { lasts },
        _ => {
            let refuses = roll.random_bool(0.5);
            let lasts = if roll.random_bool(0.5) {
                Duration::from_millis(roll.random_range(50_000..70_000))
            } else {
                lasts
            };
            return (Incident::StoreAway { lasts, refuses }, lasts);
        }
    };
    (what, lasts)
}
