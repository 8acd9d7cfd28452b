//! What a process has while it leads.

use std::collections::BTreeSet;
use std::time::Duration;

use dispatchd::clock::Mono;
use dispatchd::delivery::{Attempt, Sink};
use dispatchd::model::Route;
use dispatchd::sync::Input;
use rand::RngExt;

use super::writer::Writer;
use super::{Happening, Of, Whole, World};
use crate::daemon::Daemon;
use crate::violation::{Checked, Violation};

/// The pause before a new leader tries again to load.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// A lead: its coordinator, engine and outboxes, and its connection that commits.
#[derive(Debug)]
pub struct Lead {
    pub of: Of,
    pub daemon: Daemon,
    pub writer: Writer,
    /// Until when it may act, on the clock of its process.
    pub trusted_until: Mono,
    /// The attempts under way, by sink and number.
    pub attempts: BTreeSet<(usize, u64)>,
}

impl World {
    /// A new leader loads the state.
    pub(super) fn load(&mut self, of: Of) -> Checked {
        let process = &self.processes[of.process];
        if process.loading != Some(of.term) {
            return Ok(());
        }
        // The coordinator that is to come is not there yet.
        let unreachable = process.cut > 0 || self.away > 0;
        let holder = process.candidate.holder.clone();
        let ours = self.row().is_some_and(|row| row.is_held(of.term, &holder));
        if unreachable || !ours {
            self.later(LOAD_AGAIN, Happening::Load(of));
            return Ok(());
        }
        if self.whole.as_ref().is_some_and(Whole::is_replaced) {
            return self.lead_ended(of);
        }
        self.kept()?;
        self.says_what_was_lost()?;
        let (now, store) = (self.now, self.store.led(of.term));
        let process = &mut self.processes[of.process];
        let Some(whole) = &mut self.whole else {
            return Ok(());
        };
        let sinks: Vec<(usize, &dyn Sink, Route)> = whole
            .receivers
            .iter()
            .enumerate()
            .map(|(sink, receiver)| {
                let route = receiver.route.route();
                (sink, &receiver.stub as &dyn Sink, route)
            })
            .collect();
        let booted = Daemon::boot(
            &store,
            &sinks,
            &whole.plan.knobs.settings,
            process.mono(now),
            process.wall(now),
            self.plan.seed,
        );
        let daemon = booted.map_err(|error| Violation {
            rule: "the daemon starts on its store",
            detail: error.to_string(),
            at: now,
        })?;
        process.loading = None;
        process.lead = Some(Lead {
            of,
            daemon,
            writer: Writer::new(whole.database.connect()),
            trusted_until: Mono::MAX,
            attempts: BTreeSet::new(),
        });
        self.line(|| format!("{}.{} has loaded the state", of.process, of.life));
        self.follow_leads();
        Ok(())
    }

    /// An attempt has ended, unless it was dropped before.
    pub(super) fn attempted(&mut self, of: Of, sink: usize, attempt: u64, result: Attempt) {
        let under_way = self
            .lead(of)
            .is_some_and(|lead| lead.attempts.remove(&(sink, attempt)));
        if under_way {
            self.line(|| format!("  sink{sink} attempt {attempt}: {result:?}"));
            self.tell(
                of,
                Input::Attempted {
                    sink,
                    attempt,
                    waited: Duration::ZERO,
                    result,
                },
            );
        }
    }

    /// The trust may have ended: then the attempts are broken off.
    pub(super) fn trust_ends(&mut self, of: Of) {
        if self.processes[of.process].leads(self.now) {
            return;
        }
        let under_way = self.lead(of).map(|lead| lead.attempts.clone());
        for (sink, attempt) in under_way.into_iter().flatten() {
            self.counts.add("daemons: attempt broken off", 1);
            self.attempted(of, sink, attempt, Attempt::BrokenOff);
        }
    }

    /// The lead has ended by itself. The process lets go of it, and takes part in the lease
    /// anew, under another name, as one that has just started.
    pub(super) fn lead_ended(&mut self, of: Of) -> Checked {
        let holder = self.processes[of.process].candidate.holder.clone();
        let is_held = self.row().is_some_and(|row| row.is_held(of.term, &holder));
        let replaced = self.whole.as_ref().is_some_and(Whole::is_replaced);
        let pause = self.roll("let go", of.process).random_range(0..1000);
        self.end(of.process, Duration::from_millis(pause));
        self.must(
            replaced || !is_held,
            "nobody gives up a lead that nobody else has",
            || format!("{of:?}"),
        )
    }
}
