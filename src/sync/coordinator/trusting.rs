//! Whether this daemon may act: without trust nothing begins and nothing is promised
//! (rule R15).

use super::Coordinator;
use crate::clock::{Mono, Now};

/// Why nobody is answered well while there is no trust.
pub(super) const SUSPENDED: &str = "suspended: this daemon does not know whether it still leads";

/// The trust of this daemon that it leads.
#[derive(Debug)]
pub(super) struct Trusting {
    /// From this time on there is none, unless it is renewed.
    pub until: Mono,
    /// Whether there was none at the last step.
    pub suspended: bool,
}

impl Default for Trusting {
    /// Endless: no other daemon can lead.
    fn default() -> Self {
        Self {
            until: Mono::MAX,
            suspended: false,
        }
    }
}

impl<W> Coordinator<W> {
    /// This daemon knows that it leads until then. At first that is for ever, as it is
    /// where no other daemon can lead.
    ///
    /// While there is no trust, no attempt starts, nothing is asked, nothing that the API
    /// or an operator says is taken in, no commit begins, and nobody is told that
    /// something is on disk. What is under way may end. Whoever waits is answered when
    /// there is trust again, or told to come back when the deadline passes.
    pub fn trust_until(&mut self, until: Mono) {
        self.trusting.until = until;
    }

    /// Notes whether there is trust at `now`. If there is trust again, answers those who
    /// have waited for it. The log is told by whoever keeps the lease, who knows the reason,
    /// and whether another daemon leads meanwhile.
    pub(super) fn look_at_trust(&mut self, now: Now) {
        let suspended = now.mono >= self.trusting.until;
        let was_suspended = std::mem::replace(&mut self.trusting.suspended, suspended);
        self.answering.suspended = suspended;
        if was_suspended && !suspended {
            // Starts and ends may have come due: commands wait until they are applied.
            self.delivering.caught_up = false;
            self.answering.resume();
        }
    }
}
