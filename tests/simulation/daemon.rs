//! The daemon under simulation: one start of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use dispatchd::clock::{Mono, Now};
use dispatchd::delivery::{Sink, restore};
use dispatchd::model::{Asked, Route};
use dispatchd::store::{MemoryStore, Store, StoreError};
use dispatchd::sync::{Coordinator, Effect, Input, Settings};

/// How long a driver that is told to end waits for what is under way.
pub(super) const PATIENCE: Duration = Duration::from_secs(9);

/// One start of the daemon, from boot to end or crash.
#[derive(Debug)]
pub(super) struct Daemon {
    coordinator: Coordinator<u64>,
    /// The receivers that its outboxes are for.
    pub sinks: Vec<usize>,
    /// Which start it is.
    pub term: u64,
    /// When it started, on the run's clock.
    born: Duration,
    /// What it has not been told yet.
    pub inbox: Vec<Input<u64>>,
    /// It gets no processor before.
    pub not_before: Duration,
    /// Whether a commit is under way.
    pub writing: bool,
    stopping_since: Option<Duration>,
    stepped: bool,
}

impl Daemon {
    /// Starts on what the store holds.
    pub fn boot(
        store: &MemoryStore,
        sinks: &[(usize, &dyn Sink, Route)],
        settings: &Settings,
        now: Duration,
        wall: DateTime<Utc>,
        seed: u64,
    ) -> Result<Self, StoreError> {
        let stored = store.clone().load()?;
        let clocks = Now {
            wall,
            mono: Mono::ZERO,
        };
        let mut reader = store.clone();
        let outboxes = restore(
            sinks.iter().map(|(_, sink, route)| (*sink, route)),
            &stored,
            &mut reader,
            clocks,
        )?;
        let term = stored.term;
        Ok(Self {
            coordinator: Coordinator::new(settings.clone(), stored, outboxes, clocks, seed ^ term),
            sinks: sinks.iter().map(|(sink, ..)| *sink).collect(),
            term,
            born: now,
            inbox: Vec::new(),
            not_before: now,
            writing: false,
            stopping_since: None,
            stepped: false,
        })
    }

    /// The API was asked for the list when it started, before it has loaded its state.
    pub fn polled(&mut self, wall: DateTime<Utc>) -> Asked {
        self.coordinator.polled_at(Now {
            wall,
            mono: Mono::ZERO,
        })
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Coordinator<u64> {
        &self.coordinator
    }

    /// Its clock that never jumps and counts suspend.
    pub fn mono(&self, now: Duration) -> Mono {
        now.saturating_sub(self.born)
    }

    /// When it is to be stepped next, on the run's clock.
    pub fn next_step(&self, now: Duration) -> Duration {
        let due = if self.inbox.is_empty() && self.stepped {
            self.born.saturating_add(self.coordinator.next_wake())
        } else {
            now
        };
        due.max(self.not_before).max(now)
    }

    /// Lets it do what is to be done.
    pub fn step(&mut self, now: Duration, wall: DateTime<Utc>) -> Vec<Effect<u64>> {
        let clocks = Now {
            wall,
            mono: self.mono(now),
        };
        let inputs = std::mem::take(&mut self.inbox);
        self.stepped = true;
        self.coordinator.step(clocks, inputs)
    }

    /// It trusts that it leads until then, on the run's clock.
    pub fn trust_until(&mut self, until: Duration) {
        self.coordinator.trust_until(self.mono(until));
    }

    /// Its driver has something new for it, and steps it.
    pub fn wake(&mut self) {
        self.stepped = false;
    }

    /// It gets no processor before `until`.
    pub fn hold(&mut self, until: Duration) {
        self.not_before = until;
    }

    /// It is told to end.
    pub fn stop(&mut self, now: Duration) {
        self.coordinator.stop();
        self.stopping_since.get_or_insert(now);
    }

    /// Whether it was told to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// When it must have ended. `None` if it was not told to.
    pub fn ends_by(&self) -> Option<Duration> {
        let since = self.stopping_since?;
        // It looks at the clock every second, once it gets to run.
        Some(since.max(self.not_before) + PATIENCE + Duration::from_secs(1))
    }

    /// Whether it has ended, as it was told to.
    pub fn has_ended(&self, now: Duration) -> bool {
        self.stopping_since
            .is_some_and(|since| self.coordinator.is_at_rest() || now >= since + PATIENCE)
    }
}
