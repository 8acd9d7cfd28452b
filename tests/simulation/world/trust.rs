//! The daemon's trust that it leads runs out and returns (rule R15).

use std::time::Duration;

use super::{Coming, World};
use dispatchd::delivery::Attempt;

impl World {
    /// Nobody renews the trust any more: it is there for `left`, and then not for `lasts`.
    pub(super) fn trust_runs_out(&mut self, left: Duration, lasts: Duration) {
        if self.trust.is_some() {
            return;
        }
        let ends = self.now + left;
        self.trust = Some((ends, ends + lasts));
        if let Some(daemon) = &mut self.daemon {
            daemon.trust_until(ends);
            daemon.wake();
        }
        self.enter(ends, Coming::TrustEnds);
        self.enter(ends + lasts, Coming::TrustReturns);
    }

    /// The driver breaks off what is under way. What is on its way to a receiver may
    /// arrive all the same.
    pub(super) fn trust_ends(&mut self) {
        let Some((ends, returns)) = self.trust.filter(|(ends, _)| *ends <= self.now) else {
            return;
        };
        self.trace.line(self.now, || "  the trust has ended".into());
        self.checks.trust_ends(ends, returns);
        let attempts = self
            .agenda
            .extract_if(.., |_, coming| matches!(coming, Coming::Attempted { .. }));
        let broken_off: Vec<Coming> = attempts.map(|(_, coming)| coming).collect();
        for mut coming in broken_off {
            if let Coming::Attempted { result, .. } = &mut coming {
                *result = Attempt::BrokenOff;
                self.counts.add("attempt broken off", 1);
            }
            self.enter(self.now, coming);
        }
    }

    /// There is trust again, if there was none.
    pub(super) fn trust_returns(&mut self) {
        if self.trust.take().is_none() {
            return;
        }
        self.trace
            .line(self.now, || "  there is trust again".into());
        self.agenda
            .retain(|_, coming| !matches!(coming, Coming::TrustReturns));
        self.checks.trust_returns();
        if let Some(daemon) = &mut self.daemon {
            daemon.trust_until(Duration::MAX);
            daemon.wake();
        }
    }

    /// A daemon has started while there is no trust, or not for long.
    pub(super) fn trust_at_boot(&mut self) {
        let Some((ends, _)) = self.trust else {
            return;
        };
        if let Some(daemon) = &mut self.daemon {
            daemon.trust_until(ends);
        }
        self.trust_ends();
    }
}
