//! Decides whether the receiver is down, and when to probe it.

use std::time::Duration;

use crate::clock::Mono;
use crate::retry::backoff;

/// The first pause after no connection could be made.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long an answer proves that the receiver is there.
const PROVEN_FOR: Duration = Duration::from_secs(30);

/// How long others wait for the first attempt after a time without answers: a
/// receiver that is down tells so within this.
const LEAD: Duration = Duration::from_millis(100);

/// A probe that takes longer does not keep the next one waiting: its subject may
/// hang at a receiver that is back.
const PROBE_HANGS_AFTER: Duration = Duration::from_secs(1);

/// No sink takes longer to connect. A probe that has no result by then has a
/// connection, so that the receiver is slow and not down.
const CONNECTED_AFTER: Duration = Duration::from_secs(6);

/// How many attempts may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// None.
    None,
    /// One, with one event.
    One,
    /// As many as there are places.
    All,
}

/// Whether the receiver can be reached. It is *down* from an attempt that found
/// no connection until one that did. While it is down, one attempt at a time
/// probes it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// When an attempt last found a connection.
    answered_at: Option<Mono>,
    /// The newest attempt that did.
    newest_answered: u64,
    down: Option<Down>,
}

#[derive(Debug, Default)]
struct Down {
    /// How many attempts in a row found no connection.
    failures: u32,
    /// The probes under way: a second one only while the first one hangs.
    probes: Vec<u64>,
    /// When the last probe began.
    probed_at: Mono,
    /// When the last attempt that counted ended.
    tried_at: Mono,
    /// When the next probe may begin.
    next: Mono,
}

impl Reach {
    /// Whether the receiver is down.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// When the receiver is tried again, while it is down.
    pub fn probes_at(&self) -> Option<Mono> {
        self.down.as_ref().map(|down| down.next)
    }

    /// How many attempts may begin at `now`, when the oldest one that is under way
    /// began at `oldest`.
    pub fn allowance(&self, now: Mono, oldest: Option<Mono>) -> Allowance {
        if let Some(down) = &self.down {
            let may = match down.probes.len() {
                0 => down.next <= now,
                1 => down.probed_at + PROBE_HANGS_AFTER <= now,
                _ => false,
            };
            return if may { Allowance::One } else { Allowance::None };
        }
        let proven = self
            .answered_at
            .is_some_and(|at| now.saturating_sub(at) < PROVEN_FOR);
        match oldest {
            _ if proven => Allowance::All,
            None => Allowance::One,
            Some(oldest) if oldest + LEAD > now => Allowance::None,
            Some(_) => Allowance::All,
        }
    }

    /// When [`allowance`](Self::allowance) says more, if nothing ends before.
    pub fn more_at(&self, oldest: Option<Mono>) -> Option<Mono> {
        match &self.down {
            Some(down) => Some(match down.probes.len() {
                0 => down.next,
                1 => down.probed_at + PROBE_HANGS_AFTER,
                _ => down.probed_at + CONNECTED_AFTER,
            }),
            None => oldest.map(|oldest| oldest + LEAD),
        }
    }

    /// An attempt begins.
    pub fn begins(&mut self, attempt: u64, now: Mono) {
        if let Some(down) = &mut self.down {
            down.probes.push(attempt);
            down.probed_at = now;
        }
    }

    /// Takes the receiver for there if a probe has a connection, as its time
    /// tells. Tells whether it was down until now.
    pub fn advance(&mut self, now: Mono) -> bool {
        let connected = self
            .down
            .as_ref()
            .is_some_and(|down| !down.probes.is_empty() && down.probed_at + CONNECTED_AFTER <= now);
        if connected {
            self.answered_at = Some(now);
            self.down = None;
        }
        connected
    }

    /// An attempt found a connection: it was delivered, or failed. Tells whether
    /// the receiver was down until now.
    pub fn answered(&mut self, attempt: u64, delivered: bool, now: Mono) -> bool {
        // What failed may have begun on a connection of before.
        let down = self.down.as_ref();
        if !delivered && down.is_some_and(|down| !down.probes.contains(&attempt)) {
            return false;
        }
        self.answered_at = Some(now);
        self.newest_answered = self.newest_answered.max(attempt);
        self.down.take().is_some()
    }

    /// An attempt found no connection.
    pub fn unreachable(&mut self, attempt: u64, now: Mono, random: f64) {
        let mut down = match self.down.take() {
            Some(down) if !down.probes.contains(&attempt) => {
                self.down = Some(down);
                return;
            }
            // It began before one that found a connection.
            None if attempt < self.newest_answered => return,
            Some(down) => down,
            None => Down::default(),
        };
        down.failures = down.failures.saturating_add(1);
        down.probes.retain(|probe| *probe != attempt);
        down.tried_at = now;
        down.next = now + backoff(down.failures, random, FIRST_PAUSE, LONGEST_PAUSE);
        self.down = Some(down);
    }

    /// A probe was abandoned: nobody knows.
    pub fn abandoned(&mut self, attempt: u64) {
        if let Some(down) = &mut self.down {
            down.probes.retain(|probe| *probe != attempt);
        }
    }

    /// The sink made a connection. Tells whether the receiver was down until now.
    pub fn connected(&mut self, now: Mono) -> bool {
        self.answered_at = Some(now);
        self.down.take().is_some()
    }

    /// There is a new command: it does not wait for the whole pause.
    pub fn hurry(&mut self, within: Duration, now: Mono) {
        if let Some(down) = &mut self.down {
            down.next = down.next.min((down.tried_at + within).max(now));
        }
    }
}
