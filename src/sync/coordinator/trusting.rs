//! Whether this daemon may act: without trust nothing begins and nothing is promised
//! (rule R15).

use super::Coordinator;
use crate::clock::{Mono, Now};
use crate::seldom::{Trouble, spoken};

/// Why nobody is answered well while there is no trust.
pub(super) const SUSPENDED: &str = "suspended: this daemon does not know whether it still leads";

/// The trust of this daemon that it leads.
#[derive(Debug)]
pub(super) struct Trusting {
    /// From this time on there is none, unless it is renewed.
    pub until: Mono,
    /// Whether there was none at the last step.
    pub suspended: bool,
    /// The same, for the log.
    trouble: Trouble,
}

impl Default for Trusting {
    /// Endless: no other daemon can lead.
    fn default() -> Self {
        Self {
            until: Mono::MAX,
            suspended: false,
            trouble: Trouble::default(),
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
    /// have waited for it.
    pub(super) fn look_at_trust(&mut self, now: Now) {
        let suspended = now.mono >= self.trusting.until;
        let was_suspended = std::mem::replace(&mut self.trusting.suspended, suspended);
        self.answering.suspended = suspended;
        if suspended {
            if self.trusting.trouble.lasts(now.mono).is_some() {
                tracing::warn!(
                    "{SUSPENDED}; it sends nothing and answers webhooks 503 until it does"
                );
            }
        } else if was_suspended {
            // Starts and ends may have come due: commands wait until they are applied.
            self.delivering.caught_up = false;
            self.answering.resume();
            if let Some(lasted) = self.trusting.trouble.over(now.mono) {
                tracing::info!(lasted = %spoken(lasted), "this daemon leads, and acts again");
            }
        }
    }
}
