//! The world around the daemon: one clock, one agenda, one thread.

mod effects;
mod ends;
mod incidents;
mod life;
mod trust;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::api::{Prepared, SimulatedApi};
use super::checks::{Checks, Durable};
use super::convergence;
use super::daemon::Daemon;
use super::defects::{Defect, Tamperer};
use super::dice::Dice;
use super::faults::Faults;
use super::receivers::Receiver;
use super::report::Counts;
use super::scenario::{DiskFault, Scenario, Timed, WebhookFault};
use super::trace::Trace;
use super::upstream::{Moment, Upstream};
use super::violation::{Checked, Violation};
use dispatchd::delivery::Attempt;
use dispatchd::model::{Asked, DispatchId, Event};
use dispatchd::store::{Batch, MemoryStore};
use dispatchd::sync::Input;
use dispatchd::voltus::Question;

/// Something that is going to happen.
#[derive(Debug)]
enum Coming {
    Incident(Timed),
    ClockPutRight(TimeDelta),
    Boot,
    TrustEnds,
    TrustReturns,
    Webhook {
        id: DispatchId,
        number: u64,
        attempt: u32,
    },
    Answer {
        term: u64,
        asked: Asked,
        asked_at: Duration,
        prepared: Prepared,
    },
    Written {
        term: u64,
        full: bool,
    },
    Acts {
        sink: usize,
        events: Vec<Event>,
    },
    PendingRead {
        term: u64,
        sink: usize,
        result: Vec<Event>,
    },
    Attempted {
        term: u64,
        sink: usize,
        attempt: u64,
        result: Attempt,
    },
}

/// One run.
pub(super) struct World {
    scenario: Scenario,
    dice: Dice,
    now: Duration,
    begin: DateTime<Utc>,
    jumped: TimeDelta,
    fallen: TimeDelta,
    agenda: BTreeMap<(Duration, u64), Coming>,
    entered: u64,
    upstream: Upstream,
    api: SimulatedApi,
    webhook_faults: Faults<WebhookFault>,
    disk_faults: Faults<DiskFault>,
    storm_until: Duration,
    /// When the daemon's trust ends, and when it returns, if it was told so.
    trust: Option<(Duration, Duration)>,
    crash_at_commit: Vec<(bool, Duration)>,
    receivers: Vec<Receiver>,
    store: MemoryStore,
    /// The last copy of the state, and what the checks know to be in it.
    backup: Option<(MemoryStore, Durable)>,
    /// How many states there were.
    states: u64,
    /// When the last daemon died.
    died_at: Duration,
    /// A sink that the daemon is started without.
    absent: Option<usize>,
    batch: Option<Box<Batch>>,
    commits: u64,
    daemon: Option<Daemon>,
    questions: BTreeMap<Asked, Question>,
    /// Webhooks that wait for an answer, by waiter.
    waiting: BTreeMap<u64, (DispatchId, u64, u32)>,
    waiters: u64,
    idle_steps: (u64, u32),
    checks: Checks,
    tamperer: Tamperer,
    pub counts: Counts,
    trace: Trace,
}

impl World {
    /// The world of `scenario`, with a daemon that has `defect`.
    pub fn new(scenario: &Scenario, defect: Option<Defect>, told: bool) -> Self {
        let knobs = &scenario.knobs;
        let receivers = (0..).zip(&knobs.batches).zip(&knobs.routes);
        let begin = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let mut world = Self {
            dice: Dice::new(scenario.seed),
            now: Duration::ZERO,
            begin,
            jumped: TimeDelta::zero(),
            fallen: TimeDelta::zero(),
            agenda: BTreeMap::new(),
            entered: 0,
            upstream: Upstream::default(),
            api: SimulatedApi::default(),
            webhook_faults: Faults::default(),
            disk_faults: Faults::default(),
            storm_until: Duration::ZERO,
            trust: None,
            crash_at_commit: Vec::new(),
            receivers: receivers
                .map(|((sink, batch), route)| Receiver::new(sink, *batch, *route))
                .collect(),
            store: MemoryStore::new("simulated", begin),
            backup: None,
            states: 1,
            died_at: Duration::ZERO,
            absent: None,
            batch: None,
            commits: 0,
            daemon: None,
            questions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiters: 0,
            idle_steps: (0, 0),
            checks: Checks::new(knobs),
            tamperer: Tamperer::new(defect),
            counts: Counts::default(),
            trace: Trace::new(told),
            scenario: scenario.clone(),
        };
        world.enter(Duration::ZERO, Coming::Boot);
        for timed in &scenario.incidents {
            world.enter(timed.at, Coming::Incident(timed.clone()));
        }
        world
    }

    /// Runs to the end: after the last fault everything must come right.
    pub fn run(&mut self) -> Checked {
        let quiet_from = self.scenario.quiet_from;
        while self.now < quiet_from {
            self.advance(quiet_from)?;
        }
        self.fall_quiet();
        let restart = Duration::from_secs(7);
        let deadline = self.now
            + restart
            + convergence::patience(&self.scenario.knobs)
            + self.checks.paused_for(self.now);
        let mut right_since = None;
        loop {
            let until = self.now + Duration::from_secs(1);
            while self.now < until {
                self.advance(until)?;
            }
            match self.converged() {
                Ok(()) => {
                    let since = *right_since.get_or_insert(self.now);
                    if self.now >= since + Duration::from_secs(3) {
                        return Ok(());
                    }
                }
                Err(violation) if self.now >= deadline => {
                    return Err(violation);
                }
                // An end that comes takes a moment to be told everywhere.
                Err(_) => right_since = None,
            }
        }
    }

    /// What happened.
    pub fn into_trace(self) -> Vec<String> {
        self.trace.into_lines()
    }

    /// How far the run has come.
    pub fn now(&self) -> Duration {
        self.now
    }

    fn enter(&mut self, at: Duration, coming: Coming) {
        self.entered += 1;
        self.agenda.insert((at, self.entered), coming);
    }

    fn wall(&self) -> DateTime<Utc> {
        self.wall_at(self.now) - self.fallen
    }

    /// Sets the clock back, or ahead if `by` is below zero.
    fn set_back(&mut self, by: TimeDelta) {
        self.fallen += by;
        if by > TimeDelta::zero() {
            self.checks.clock_set_back();
        }
    }

    /// What a clock that is right shows. Jumps ahead are corrections.
    fn wall_at(&self, at: Duration) -> DateTime<Utc> {
        self.begin + TimeDelta::from_std(at).unwrap_or_default() + self.jumped
    }

    fn moment(&self) -> Moment {
        Moment {
            at: self.now,
            wall: self.wall_at(self.now),
        }
    }

    /// Goes on to what happens next, or to `until` if that is sooner.
    fn advance(&mut self, until: Duration) -> Checked {
        let coming = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let step = self
            .daemon
            .as_ref()
            .map(|daemon| daemon.next_step(self.now));
        let next = [coming, step].into_iter().flatten().min().unwrap_or(until);
        self.now = self.now.max(next.min(until));
        while let Some(((at, _), _)) = self.agenda.first_key_value()
            && *at <= self.now
            && let Some((_, coming)) = self.agenda.pop_first()
        {
            self.happens(coming)?;
        }
        let due = |daemon: &Daemon| daemon.next_step(self.now) <= self.now;
        if self.daemon.as_ref().is_some_and(due) {
            self.step()?;
        }
        Ok(())
    }

    fn happens(&mut self, coming: Coming) -> Checked {
        match coming {
            Coming::Incident(timed) => self.incident(timed),
            Coming::ClockPutRight(by) => {
                self.set_back(-by);
                Ok(())
            }
            Coming::Boot => self.boot(),
            Coming::TrustEnds => {
                self.trust_ends();
                Ok(())
            }
            Coming::TrustReturns => {
                self.trust_returns();
                Ok(())
            }
            Coming::Webhook {
                id,
                number,
                attempt,
            } => {
                self.webhook(id, number, attempt);
                Ok(())
            }
            Coming::Answer {
                term,
                asked,
                asked_at,
                prepared,
            } => self.answer(term, asked, asked_at, prepared),
            Coming::Written { term, full } => self.written(term, full),
            Coming::Acts { sink, events } => self.acts(sink, &events),
            Coming::PendingRead { term, sink, result } => {
                if self
                    .daemon
                    .as_ref()
                    .is_some_and(|daemon| daemon.term == term)
                {
                    self.tell(Input::PendingRead {
                        sink,
                        result: Ok(result),
                    });
                }
                Ok(())
            }
            Coming::Attempted {
                term,
                sink,
                attempt,
                result,
            } => {
                let outbox = self
                    .daemon
                    .as_ref()
                    .filter(|daemon| daemon.term == term)
                    .and_then(|daemon| daemon.sinks.iter().position(|has| *has == sink));
                if let Some(outbox) = outbox {
                    self.trace.line(self.now, || {
                        format!("  sink{sink} attempt {attempt}: {result:?}")
                    });
                    self.checks.attempted(sink, attempt, &result, self.now);
                    let result = self.tamperer.attempted(sink, attempt, result);
                    self.tell(Input::Attempted {
                        sink: outbox,
                        attempt,
                        result,
                        waited: Duration::ZERO,
                    });
                }
                Ok(())
            }
        }
    }

    fn tell(&mut self, input: Input<u64>) {
        if let Some(daemon) = &mut self.daemon {
            daemon.inbox.push(input);
        }
    }

    fn broken(&self, rule: &'static str, detail: &str) -> Violation {
        Violation {
            rule,
            detail: detail.to_owned(),
            at: self.now,
        }
    }

    /// From now on nothing goes wrong.
    fn fall_quiet(&mut self) {
        self.trace.line(self.now, || "! all faults end".into());
        self.api.faults.clear();
        self.webhook_faults.clear();
        self.disk_faults.clear();
        self.crash_at_commit.clear();
        self.storm_until = Duration::ZERO;
        self.trust_returns();
        for receiver in &mut self.receivers {
            receiver.faults.clear();
        }
        if self.absent.take().is_some() {
            self.restart(Duration::ZERO);
        }
        // A clock that fell back is put right, as it would be in the end.
        self.set_back(-self.fallen);
        self.agenda
            .retain(|_, coming| !matches!(coming, Coming::ClockPutRight(_) | Coming::TrustEnds));
    }

    fn converged(&self) -> Checked {
        let Some(daemon) = &self.daemon else {
            return Err(self.broken("the daemon runs", "it is down"));
        };
        convergence::check(&convergence::Situation {
            now: self.now,
            wall: self.wall(),
            knobs: &self.scenario.knobs,
            upstream: &self.upstream,
            view: &daemon.coordinator().view(),
            receivers: &self.receivers,
            durable: &self.checks.durable,
        })?;
        self.checks.settled(&self.receivers, self.now)
    }
}
