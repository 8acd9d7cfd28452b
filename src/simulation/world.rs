//! The world around the daemon: one clock, one agenda, one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;

use super::api::{Prepared, SimulatedApi};
use super::checks::{Checks, StepEnd};
use super::convergence;
use super::daemon::Daemon;
use super::defects::{Defect, Tamperer};
use super::dice::Dice;
use super::faults::Faults;
use super::receivers::Receiver;
use super::report::Counts;
use super::scenario::{DiskFault, Incident, Scenario, Timed, WebhookFault};
use super::trace::Trace;
use super::upstream::{Luck, Moment, Upstream};
use super::violation::{Checked, Violation, must};
use crate::delivery::{Attempt, Sink, Start};
use crate::model::{Asked, DispatchId, Event};
use crate::store::{Batch, MemoryStore, Store, StoreError};
use crate::sync::{Effect, Input, Verdict};
use crate::voltus::Question;

/// How often the upstream sends a webhook again.
const RESENDS: u32 = 5;

/// Most steps without any input in one simulated second. More is a spin.
const STEPS_A_SECOND: u32 = 200;

/// Something that is going to happen.
#[derive(Debug)]
enum Coming {
    Incident(Timed),
    ClockPutRight(TimeDelta),
    Boot,
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
    crash_at_commit: Vec<(bool, Duration)>,
    receivers: Vec<Receiver>,
    store: MemoryStore,
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
        let receivers = (0..).zip(&knobs.batches);
        let mut world = Self {
            dice: Dice::new(scenario.seed),
            now: Duration::ZERO,
            begin: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            jumped: TimeDelta::zero(),
            fallen: TimeDelta::zero(),
            agenda: BTreeMap::new(),
            entered: 0,
            upstream: Upstream::default(),
            api: SimulatedApi::default(),
            webhook_faults: Faults::default(),
            disk_faults: Faults::default(),
            storm_until: Duration::ZERO,
            crash_at_commit: Vec::new(),
            receivers: receivers
                .map(|(sink, batch)| Receiver::new(sink, *batch))
                .collect(),
            store: MemoryStore::new("simulated"),
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
        let deadline = self.now
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
                self.fallen -= by;
                Ok(())
            }
            Coming::Boot => self.boot(),
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
            Coming::Attempted {
                term,
                sink,
                attempt,
                result,
            } => {
                if self
                    .daemon
                    .as_ref()
                    .is_some_and(|daemon| daemon.term == term)
                {
                    self.trace.line(self.now, || {
                        format!("  sink{sink} attempt {attempt}: {result:?}")
                    });
                    self.checks.attempted(sink, attempt, &result);
                    let result = self.tamperer.attempted(sink, attempt, result);
                    self.tell(Input::Attempted {
                        sink,
                        attempt,
                        result,
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

    fn incident(&mut self, timed: Timed) -> Checked {
        self.trace.line(self.now, || format!("! {:?}", timed.what));
        self.counts.add(timed.what.kind(), 1);
        let Timed { number, what, .. } = timed;
        let now = self.moment();
        let luck = Luck {
            dice: self.dice,
            number,
            numbered: self.scenario.knobs.numbered,
        };
        match what {
            Incident::Create { dispatch, plan } => {
                if let Some(id) = Upstream::id(dispatch)
                    && self.upstream.create(&id, &plan, now, luck)
                {
                    self.announce(&id, number);
                }
            }
            Incident::Change { dispatch, edit } => {
                if let Some(id) = Upstream::id(dispatch)
                    && self.upstream.change(&id, &edit, now, luck)
                {
                    self.announce(&id, number);
                }
            }
            Incident::Remove { dispatch } => {
                if let Some(id) = Upstream::id(dispatch) {
                    self.upstream.remove(&id, now);
                }
            }
            Incident::PutBack { dispatch } => {
                if let Some(id) = Upstream::id(dispatch)
                    && self.upstream.put_back(&id, now)
                {
                    self.announce(&id, number);
                }
            }
            Incident::RestoreAll { back } => self.upstream.restore_all(back, now),
            Incident::Junk { dispatch } => {
                let id = dispatch.map_or_else(|| DispatchId::new("junk").ok(), Upstream::id);
                if let Some(id) = id {
                    let attempt = RESENDS;
                    self.enter(
                        self.now,
                        Coming::Webhook {
                            id,
                            number,
                            attempt,
                        },
                    );
                }
            }
            Incident::PollByHand => {
                self.waiters += 1;
                let waiter = self.waiters;
                if self.daemon.is_some() {
                    self.checks.promises.waits(waiter, None);
                    self.tell(Input::Poll { waiter });
                }
            }
            Incident::Api { fault, lasts } => {
                self.api.faults.begin(self.now + lasts, number, fault)
            }
            Incident::Webhooks { fault, lasts } => {
                self.webhook_faults.begin(self.now + lasts, number, fault);
            }
            Incident::Sink { sink, fault, lasts } => {
                if let Some(receiver) = self.receivers.get_mut(sink) {
                    receiver.faults.begin(self.now + lasts, number, fault);
                }
            }
            Incident::Disk { fault, lasts } => {
                self.disk_faults.begin(self.now + lasts, number, fault);
            }
            Incident::Crash { down } => {
                let written = self.dice.roll("torn", &[number]).random_bool(0.5);
                self.crash(written, down)?;
            }
            Incident::CrashAtCommit { written, down } => {
                self.crash_at_commit.push((written, down));
            }
            Incident::CrashStorm { lasts } => {
                self.storm_until = self.storm_until.max(self.now + lasts);
            }
            Incident::Restart { down } => {
                if let Some(daemon) = &mut self.daemon
                    && !daemon.is_stopping()
                {
                    daemon.stop(self.now);
                    self.enter(self.now + Duration::from_secs(6) + down, Coming::Boot);
                }
            }
            Incident::JumpAhead { by } => {
                self.jumped += TimeDelta::from_std(by).unwrap_or_default();
            }
            Incident::FallBack { by, lasts } => {
                let by = TimeDelta::from_std(by).unwrap_or_default();
                self.fallen += by;
                self.enter(self.now + lasts, Coming::ClockPutRight(by));
            }
            Incident::Suspend { lasts } => self.hold(lasts, true),
            Incident::Stall { lasts } => self.hold(lasts, false),
        }
        Ok(())
    }

    fn hold(&mut self, lasts: Duration, sleeps: bool) {
        let until = self.now + lasts;
        if let Some(daemon) = &mut self.daemon {
            daemon.hold(self.now, until, sleeps);
            self.checks.held(self.now, until);
        }
    }

    /// The upstream sends a webhook, which may be lost, late or doubled.
    fn announce(&mut self, id: &DispatchId, number: u64) {
        let mut random = self.dice.roll("webhook", &[number]);
        let mut lost = random.random_bool(self.scenario.knobs.lost);
        let mut delay = Duration::from_millis(random.random_range(1..1500));
        let mut copy = random.random_bool(0.1).then(|| delay * 3);
        let late = Duration::from_secs_f64(random.random_range(1.0..60.0));
        for (_, fault) in self.webhook_faults.at(self.now) {
            match fault {
                WebhookFault::Lost => lost = true,
                WebhookFault::Late => delay = late,
                WebhookFault::Doubled => copy = Some(late),
            }
        }
        if lost {
            self.counts.add("webhook lost", 1);
            return;
        }
        for delay in [Some(delay), copy].into_iter().flatten() {
            let id = id.clone();
            let attempt = 0;
            self.enter(
                self.now + delay,
                Coming::Webhook {
                    id,
                    number,
                    attempt,
                },
            );
        }
    }

    fn webhook(&mut self, id: DispatchId, number: u64, attempt: u32) {
        if self.daemon.as_ref().is_none_or(Daemon::is_stopping) {
            self.resend(id, number, attempt);
            return;
        }
        self.counts.add("webhook delivered", 1);
        self.waiters += 1;
        let waiter = self.waiters;
        self.trace
            .line(self.now, || format!("  webhook {waiter} for {id}"));
        self.checks.promises.waits(waiter, Some(id.clone()));
        self.waiting.insert(waiter, (id.clone(), number, attempt));
        self.tell(Input::Webhook { id, waiter });
    }

    fn resend(&mut self, id: DispatchId, number: u64, attempt: u32) {
        if attempt < RESENDS {
            let attempt = attempt + 1;
            let pause = Duration::from_millis(500 << attempt);
            self.enter(
                self.now + pause,
                Coming::Webhook {
                    id,
                    number,
                    attempt,
                },
            );
        }
    }

    fn boot(&mut self) -> Checked {
        if let Some(daemon) = &self.daemon {
            let stopping = daemon.is_stopping();
            let held_until = daemon.not_before;
            if stopping && held_until > self.now {
                self.enter(held_until + Duration::from_secs(6), Coming::Boot);
                return Ok(());
            }
            return must(
                !stopping,
                self.now,
                "a daemon that is told to end ends",
                || format!("term {} still runs", daemon.term),
            );
        }
        self.store = self.store.reopened();
        let sinks: Vec<&dyn Sink> = self
            .receivers
            .iter()
            .map(|receiver| &receiver.stub as &dyn Sink)
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
                self.checks.booted(self.now);
                self.daemon = Some(daemon);
                Ok(())
            }
            Err(error) => Err(self.broken("the daemon starts on its store", &error.to_string())),
        }
    }

    fn broken(&self, rule: &'static str, detail: &str) -> Violation {
        Violation {
            rule,
            detail: detail.to_owned(),
            at: self.now,
        }
    }

    /// The daemon dies. A commit under way is on disk, or not.
    fn crash(&mut self, written: bool, down: Duration) -> Checked {
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

    /// The daemon is no more. Whoever waits sees the connection break.
    fn gone(&mut self) {
        self.daemon = None;
        self.batch = None;
        self.questions.clear();
        self.checks.gone();
        for (id, number, attempt) in std::mem::take(&mut self.waiting).into_values() {
            self.resend(id, number, attempt);
        }
    }

    /// Puts a batch on the disk.
    fn write(&mut self, batch: &Batch) -> Checked {
        let stored = self.tamperer.stored(batch);
        if let Err(error) = self.store.commit(&stored) {
            return Err(self.broken("the store takes every commit", &error.to_string()));
        }
        self.checks.written(batch, &stored, self.now)
    }

    fn written(&mut self, term: u64, full: bool) -> Checked {
        let current = self
            .daemon
            .as_ref()
            .is_some_and(|daemon| daemon.term == term);
        let Some(batch) = self.batch.take_if(|_| current) else {
            return Ok(());
        };
        let result = if full {
            Err(StoreError::Database {
                doing: "be written",
                source: rusqlite::Error::InvalidQuery,
            })
        } else {
            self.write(&batch)?;
            Ok(())
        };
        self.trace
            .line(self.now, || format!("  commit ended: {}", result.is_ok()));
        self.checks.commit_ended(result.is_ok(), self.now);
        let result = self.tamperer.commit_ended(result);
        if let Some(daemon) = &mut self.daemon {
            daemon.writing = false;
        }
        self.tell(Input::Committed(result));
        Ok(())
    }

    fn answer(
        &mut self,
        term: u64,
        asked: Asked,
        asked_at: Duration,
        prepared: Prepared,
    ) -> Checked {
        if self
            .daemon
            .as_ref()
            .is_none_or(|daemon| daemon.term != term)
        {
            return Ok(());
        }
        let knobs = &self.scenario.knobs;
        let result = prepared.answer(&self.upstream, asked_at, |at| self.wall_at(at), knobs);
        self.trace
            .line(self.now, || format!("  told {asked}: {}", brief(&result)));
        let Some(question) = self.questions.remove(&asked) else {
            return Ok(());
        };
        self.checks.told(asked, &question, &result, self.now);
        let result = self.tamperer.told(&question, result);
        self.tell(Input::Told { asked, result });
        Ok(())
    }

    fn acts(&mut self, sink: usize, events: &[Event]) -> Checked {
        let Some(receiver) = self.receivers.get_mut(sink) else {
            return Ok(());
        };
        for event in events {
            self.trace.line(self.now, || {
                format!(
                    "  sink{sink} acts: {} {} {}",
                    event.sequence, event.event_type, event.subject
                )
            });
            self.checks.arrives(sink, receiver, event, self.now)?;
            receiver.act(event);
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        let wall = self.wall();
        let Some(daemon) = &mut self.daemon else {
            return Ok(());
        };
        let idle = daemon.inbox.is_empty();
        let term = daemon.term;
        self.counts.add("step", 1);
        self.checks.stepping(&daemon.inbox, self.now);
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
        let view = daemon.machine().view();
        self.checks.stepped(&StepEnd {
            now: self.now,
            wall,
            mono: daemon.mono(self.now),
            wake: daemon.machine().next_wake(),
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

    fn count_idle(&mut self, idle: bool) -> Checked {
        let second = self.now.as_secs();
        if self.idle_steps.0 != second {
            self.idle_steps = (second, 0);
        }
        self.idle_steps.1 += u32::from(idle);
        must(
            self.idle_steps.1 <= STEPS_A_SECOND,
            self.now,
            "the machine sleeps while there is nothing to do",
            || format!("{STEPS_A_SECOND} steps without input in one second"),
        )
    }

    fn carry_out(&mut self, term: u64, effect: Effect<u64>) -> Checked {
        match effect {
            Effect::Ask { asked, question } => {
                self.trace
                    .line(self.now, || format!("  asks {asked}: {question:?}"));
                self.checks.asked(asked, &question, self.now)?;
                let prepared =
                    self.api
                        .prepare(&question, self.now, self.dice, &self.scenario.knobs);
                self.questions.insert(asked, question);
                let asked_at = self.now;
                self.enter(
                    self.now + prepared.delay,
                    Coming::Answer {
                        term,
                        asked,
                        asked_at,
                        prepared,
                    },
                );
                Ok(())
            }
            Effect::Commit(batch) => self.commit(term, batch),
            Effect::Reply { waiter, verdict } => self.reply(waiter, &verdict),
            Effect::Show(events) => self.checks.shown(&events, self.now),
            Effect::Attempt { sink, start } => self.attempt(term, sink, start),
            Effect::End(error) => {
                Err(self.broken("only one that is replaced ends", &error.to_string()))
            }
        }
    }

    fn commit(&mut self, term: u64, batch: Box<Batch>) -> Checked {
        self.commits += 1;
        self.counts.add("commit", 1);
        self.trace.line(self.now, || {
            let events: Vec<String> = batch
                .events
                .iter()
                .map(|event| format!("{} {} {}", event.sequence, event.event_type, event.subject))
                .collect();
            format!(
                "  commits revision {}: {}",
                batch.revision,
                events.join(", ")
            )
        });
        must(
            self.batch.is_none(),
            self.now,
            "one commit at a time",
            || "a second commit was begun".into(),
        )?;
        self.checks.commit_begun(&batch, self.now)?;
        self.batch = Some(batch);
        if let Some(daemon) = &mut self.daemon {
            daemon.writing = true;
        }
        let mut random = self.dice.roll("disk", &[self.commits]);
        if self.now < self.storm_until && random.random_bool(0.7) {
            self.counts.add("crash at a write", 1);
            let down = Duration::from_millis(random.random_range(0..800));
            return self.crash(random.random_bool(0.6), down);
        }
        if let Some((written, down)) = self.crash_at_commit.pop() {
            self.counts.add("crash at a write", 1);
            return self.crash(written, down);
        }
        let mut takes = Duration::from_millis(random.random_range(1..20));
        let mut full = false;
        for (_, fault) in self.disk_faults.at(self.now) {
            match fault {
                DiskFault::Full => full = true,
                DiskFault::Slow => takes = Duration::from_secs_f64(random.random_range(0.3..4.0)),
            }
        }
        self.enter(self.now + takes, Coming::Written { term, full });
        Ok(())
    }

    fn reply(&mut self, waiter: u64, verdict: &Verdict) -> Checked {
        self.trace
            .line(self.now, || format!("  replies to {waiter}: {verdict:?}"));
        let wall = self.wall();
        self.checks.replied(waiter, verdict, wall, self.now)?;
        if let Some((id, number, attempt)) = self.waiting.remove(&waiter)
            && *verdict != Verdict::Settled
        {
            self.resend(id, number, attempt);
        }
        Ok(())
    }

    fn attempt(&mut self, term: u64, sink: usize, start: Start) -> Checked {
        let attempt = start.attempt;
        let Some(receiver) = self.receivers.get_mut(sink) else {
            return Ok(());
        };
        self.trace.line(self.now, || {
            let events: Vec<String> = start
                .events
                .iter()
                .map(|event| format!("{} {} {}", event.sequence, event.event_type, event.subject))
                .collect();
            format!(
                "  sink{sink} attempt {attempt} starts: {}",
                events.join(", ")
            )
        });
        if self.tamperer.swallows(sink, &start) {
            let result = Attempt::Delivered;
            let ended = Coming::Attempted {
                term,
                sink,
                attempt,
                result,
            };
            self.enter(self.now, ended);
            return Ok(());
        }
        self.checks.starts(sink, receiver, &start, self.now)?;
        let fate = receiver.fate(&start.events, self.now, self.dice);
        let fate = self.tamperer.fate(&start, fate);
        if let Some(after) = fate.acts_after {
            let events = start.events;
            self.enter(self.now + after, Coming::Acts { sink, events });
        }
        self.enter(
            self.now + fate.ends_after,
            Coming::Attempted {
                term,
                sink,
                attempt,
                result: fate.result,
            },
        );
        Ok(())
    }

    /// From now on nothing goes wrong.
    fn fall_quiet(&mut self) {
        self.trace.line(self.now, || "! all faults end".into());
        self.api.faults.clear();
        self.webhook_faults.clear();
        self.disk_faults.clear();
        self.crash_at_commit.clear();
        self.storm_until = Duration::ZERO;
        for receiver in &mut self.receivers {
            receiver.faults.clear();
        }
        // A clock that fell back is put right, as it would be in the end.
        self.fallen = TimeDelta::zero();
        self.agenda
            .retain(|_, coming| !matches!(coming, Coming::ClockPutRight(_)));
    }

    fn converged(&self) -> Checked {
        let Some(daemon) = &self.daemon else {
            return Err(self.broken("the daemon runs", "it is down"));
        };
        let refused: BTreeSet<usize> = self.checks.deliveries.refused();
        convergence::check(&convergence::Situation {
            now: self.now,
            wall: self.wall(),
            knobs: &self.scenario.knobs,
            upstream: &self.upstream,
            view: &daemon.machine().view(),
            receivers: &self.receivers,
            refused: &refused,
        })?;
        self.checks.settled(&self.receivers, self.now)
    }
}

fn brief(result: &Result<crate::voltus::Told, crate::voltus::ApiError>) -> String {
    use crate::engine::{Answer, Reading};
    let reading = |reading: &Reading| match reading {
        Reading::Dispatch(dispatch) => format!(
            "{}#{} {}..{}{}",
            dispatch.id,
            dispatch.modification_number.unwrap_or(-1),
            dispatch.start_time.format("%T"),
            dispatch
                .end_time
                .map_or("open".into(), |end| end.format("%T").to_string()),
            if dispatch.authorized { "" } else { " off" },
        ),
        Reading::Unreadable { id, .. } => format!("{id} unreadable"),
    };
    match result {
        Err(error) => error.to_string(),
        Ok(told) => match &told.answer {
            Answer::List(list) => {
                let all: Vec<String> = list.readings.iter().map(reading).collect();
                format!("[{}], {} nameless", all.join(", "), list.nameless)
            }
            Answer::Found(found) => reading(found),
            Answer::Gone(id) => format!("{id} is gone"),
        },
    }
}
