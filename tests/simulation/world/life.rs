//! How the daemon starts, steps and dies.

use std::time::Duration;

use rand::RngExt;

use super::{Coming, World};
use crate::checks::{Durable, StepEnd};
use crate::daemon::Daemon;
use crate::violation::{Checked, must};
use dispatchd::delivery::Sink;
use dispatchd::model::Route;
use dispatchd::store::MemoryStore;
use dispatchd::voltus::Question;

/// Most steps without any input in one simulated second. More is a spin.
const STEPS_A_SECOND: u32 = 200;

impl World {
    pub(super) fn boot(&mut self) -> Checked {
        if let Some(daemon) = &self.daemon {
            // It may have been told to end only just now.
            match daemon.ends_by() {
                Some(by) if by > self.now => self.enter(by, Coming::Boot),
                Some(_) => return Err(self.broken("a daemon that is told to end ends", "it runs")),
                None => {}
            }
            return Ok(());
        }
        self.store = self.store.reopened(self.wall());
        for receiver in &mut self.receivers {
            receiver.take_route();
        }
        let sinks: Vec<(usize, &dyn Sink, Route)> = self
            .receivers
            .iter()
            .enumerate()
            .filter(|(sink, _)| Some(*sink) != self.absent)
            .map(|(sink, receiver)| {
                let route = receiver.route.route();
                (sink, &receiver.stub as &dyn Sink, route)
            })
            .collect();
        let settings = self.tamperer.settings(&self.scenario.knobs.settings);
        let booted = Daemon::boot(
            &self.store,
            &sinks,
            &settings,
            self.now,
            self.wall(),
            self.scenario.seed,
        );
        match booted {
            Ok(daemon) => {
                self.trace
                    .line(self.now, || format!("  term {} starts", daemon.term));
                let routes = self.receivers.iter().map(|receiver| receiver.route);
                self.checks.booted(self.absent, routes.collect(), self.now);
                self.daemon = Some(daemon);
                self.trust_at_boot();
                self.poll_at_boot()
            }
            Err(error) => Err(self.broken("the daemon starts on its store", &error.to_string())),
        }
    }

    /// Every other daemon has asked for the list before it loaded its state, but after the
    /// one before it had died.
    fn poll_at_boot(&mut self) -> Checked {
        let down = self.now - self.died_at;
        let Some(daemon) = self.daemon.as_mut().filter(|_| self.trust.is_none()) else {
            return Ok(());
        };
        let term = daemon.term;
        let mut random = self.dice.roll("first poll", &[self.states, term]);
        if random.random_bool(0.5) {
            return Ok(());
        }
        let load = Duration::from_millis(random.random_range(0..3000)).min(down);
        let asked_at = self.now - load;
        let wall = self.wall_at(asked_at) - self.fallen;
        let Some(daemon) = &mut self.daemon else {
            return Ok(());
        };
        let asked = daemon.polled(wall);
        self.counts.add("poll before the state is loaded", 1);
        self.ask(term, asked, Question::List, asked_at)
    }

    /// The daemon is told to end, and is started again a while later.
    pub(super) fn restart(&mut self, down: Duration) {
        if let Some(daemon) = &mut self.daemon {
            daemon.stop(self.now);
            let ended = self.now + Duration::from_secs(10);
            self.enter(ended + down, Coming::Boot);
        }
    }

    /// The daemon dies. A commit under way is on disk, or not.
    pub(super) fn crash(&mut self, written: bool, down: Duration) -> Checked {
        if self.daemon.is_none() {
            return Ok(());
        }
        self.trace.line(self.now, || {
            format!("  crash, torn after the write: {written}")
        });
        if let Some(batch) = self.batch.take()
            && written
        {
            self.write(&batch)?;
        }
        self.gone();
        self.enter(self.now + down, Coming::Boot);
        Ok(())
    }

    /// The daemon dies, and starts on the last copy of its state, or on none.
    pub(super) fn lose_state(&mut self, down: Duration, restored: bool) -> Checked {
        self.crash(false, down)?;
        let copy = self.backup.as_ref().filter(|_| restored);
        let (store, durable) = match copy {
            Some((store, durable)) => (store.snapshot(), durable.clone()),
            None => {
                self.states += 1;
                let id = format!("simulated{}", self.states);
                (MemoryStore::new(&id, self.wall()), Durable::default())
            }
        };
        self.store = store;
        let right = self.wall_at(self.now);
        self.checks.state_replaced(durable, right);
        Ok(())
    }

    /// The daemon is no more. Whoever waits sees the connection break.
    pub(super) fn gone(&mut self) {
        self.daemon = None;
        self.died_at = self.now;
        self.batch = None;
        self.questions.clear();
        self.checks.gone();
        for (id, number, attempt) in std::mem::take(&mut self.waiting).into_values() {
            self.resend(id, number, attempt);
        }
    }

    pub(super) fn step(&mut self) -> Checked {
        let wall = self.wall();
        let Some(daemon) = &mut self.daemon else {
            return Ok(());
        };
        let idle = daemon.inbox.is_empty();
        let term = daemon.term;
        self.counts.add("step", 1);
        self.checks.stepping(&daemon.inbox, wall, self.now);
        self.tamperer.inputs(&daemon.inbox);
        let effects = daemon.step(self.now, wall);
        let effects = self.tamperer.effects(effects);
        self.count_idle(idle)?;
        for effect in effects {
            self.carry_out(term, effect)?;
            if self.daemon.is_none() {
                return Ok(());
            }
        }
        let Some(daemon) = &self.daemon else {
            return Ok(());
        };
        let view = daemon.coordinator().view();
        self.checks.stepped(&StepEnd {
            now: self.now,
            wall,
            mono: daemon.mono(self.now),
            wake: daemon.coordinator().next_wake(),
            writing: daemon.writing,
            stopping: daemon.is_stopping(),
            view: &view,
        })?;
        if daemon.has_ended(self.now) {
            self.trace
                .line(self.now, || format!("  term {term} has ended"));
            self.gone();
        }
        Ok(())
    }

    pub(super) fn count_idle(&mut self, idle: bool) -> Checked {
        let second = self.now.as_secs();
        if self.idle_steps.0 != second {
            self.idle_steps = (second, 0);
        }
        self.idle_steps.1 += u32::from(idle);
        must(
            self.idle_steps.1 <= STEPS_A_SECOND,
            self.now,
            "the coordinator sleeps while there is nothing to do",
            || format!("{STEPS_A_SECOND} steps without input in one second"),
        )
    }
}
