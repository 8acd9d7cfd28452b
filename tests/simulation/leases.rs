//! A world of its own: two or three daemons around the lease of one store.
//!
//! Only the machine that decides about the lease runs here, with the store in memory.
//! Requests and answers take time and get lost, processes die, stand still and are cut
//! off, their coordinators hang, and the store goes away. No clock agrees with another.

mod checks;
mod incidents;
mod plan;
mod process;
mod run;
mod whole;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use dispatchd::store::{LeaseRow, LeaseStore, MemoryStore, StoreError};
use dispatchd::sync::{Leadership, LeaseAnswer, LeaseCall, NextCall};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::dice::Dice;
use crate::report::Counts;
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use checks::{Before, Checks};
use plan::{Incident, Plan, QUIET};
use process::{Process, Request, UnderWay, told};
use whole::{Happening, Whole};

pub use run::{run, run_whole, shortest, shortest_whole};

/// A request that takes longer than this to the store is late.
const LATE: Duration = Duration::from_millis(100);

/// Something that comes due.
#[derive(Debug)]
enum Event {
    /// A process starts on this machine.
    Start(usize),
    /// The process wants to do something, if it has not asked for another time since.
    Wake {
        process: usize,
        life: u64,
        wake: u64,
    },
    /// The coordinator finishes a turn.
    Turn { process: usize, life: u64 },
    /// A request reaches the store.
    Arrive(Request),
    /// An answer reaches the process, or it gives up waiting.
    Answer {
        process: usize,
        life: u64,
        number: u64,
        answer: Option<LeaseAnswer>,
    },
    /// A deposed process has let go of what it had.
    StandBy { process: usize, life: u64 },
    /// The process has waited long enough for its lease to be given back.
    Exit {
        process: usize,
        life: u64,
        down: Duration,
    },
    /// The incident of this number begins.
    Begin(usize),
    /// An incident of this process is over.
    Over {
        process: usize,
        life: u64,
        what: Incident,
        since: Duration,
    },
    /// The store is back.
    StoreBack,
    /// The store has been back for some time.
    Settled(Before),
    /// What befalls whole daemons.
    Whole(Happening),
}

struct World {
    plan: Plan,
    dice: Dice,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: Vec<Option<Event>>,
    processes: Vec<Process>,
    store: MemoryStore,
    /// How many incidents keep the store away, and how many of these refuse.
    away: u32,
    refuses: u32,
    /// What is around the daemons, if they are whole ones.
    whole: Option<Whole>,
    checks: Checks,
    counts: Counts,
    trace: Trace,
}

impl World {
    fn new(plan: Plan, told: bool) -> Self {
        let dice = Dice::new(plan.seed);
        let wall_off = wall_off(&plan);
        let processes = (0..plan.processes).map(|number| Process::new(number, 0, dice, wall_off));
        let mut world = Self {
            dice,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            processes: processes.collect(),
            store: MemoryStore::new("shared", DateTime::UNIX_EPOCH + TimeDelta::days(20_000)),
            away: 0,
            refuses: 0,
            whole: plan.whole.clone().map(Whole::new),
            checks: Checks::new(),
            counts: Counts::default(),
            trace: Trace::new(told),
            plan,
        };
        for number in 0..world.processes.len() {
            let within = world
                .dice
                .roll("start", &[number as u64])
                .random_range(0..2000);
            world.after(Duration::from_millis(within), Event::Start(number));
        }
        for number in 0..world.plan.incidents.len() {
            world.after(world.plan.incidents[number].at, Event::Begin(number));
        }
        world.begin_whole();
        world
    }

    /// `event` comes in so long.
    fn after(&mut self, pause: Duration, event: Event) {
        let number = self.events.len() as u64;
        self.queue.push(Reverse((self.now + pause, number)));
        self.events.push(Some(event));
    }

    fn run(&mut self) -> Checked {
        let end = self.plan.quiet_from + QUIET;
        while self.advance(end)? {}
        Checks::end(&self.processes, self.now)?;
        self.comes_right()
    }

    /// Goes on to what is next, if that is not after `until`.
    fn advance(&mut self, until: Duration) -> Result<bool, Violation> {
        let next = self.queue.peek().map(|Reverse((at, _))| *at);
        let step = self.next_step();
        if let Some((at, process)) = step.filter(|(at, _)| next.is_none_or(|next| *at <= next)) {
            if at > until {
                return Ok(false);
            }
            self.now = at;
            self.step_lead(process)?;
        } else {
            if next.is_none_or(|at| at > until) {
                return Ok(false);
            }
            let Some(Reverse((at, number))) = self.queue.pop() else {
                return Ok(false);
            };
            self.now = at;
            if let Some(event) = self.events[number as usize].take() {
                self.handle(event)?;
            }
        }
        self.follow_leads();
        self.checks.step(&mut self.processes, self.now)?;
        Ok(true)
    }

    /// Whether this life of the process goes on.
    fn lives(&self, process: usize, life: u64) -> bool {
        let process = &self.processes[process];
        process.up && process.life == life
    }

    fn handle(&mut self, event: Event) -> Checked {
        // What comes for a process that stands still waits until it goes on.
        if let Event::Wake { process, life, .. }
        | Event::Turn { process, life }
        | Event::Answer { process, life, .. }
        | Event::StandBy { process, life } = event
        {
            if !self.lives(process, life) {
                return Ok(());
            }
            if self.processes[process].paused > 0 {
                self.processes[process].held.push(event);
                return Ok(());
            }
        }
        if let Event::Whole(happening) = &event
            && let Some((process, life)) = happening.listener()
        {
            let it = &self.processes[process];
            if life.is_some_and(|life| !it.up || it.life != life) {
                return Ok(());
            }
            if it.up && it.paused > 0 {
                let Event::Whole(happening) = event else {
                    return Ok(());
                };
                self.unheard(&happening);
                self.processes[process].held.push(Event::Whole(happening));
                return Ok(());
            }
        }
        match event {
            Event::Whole(happening) => return self.happens(happening),
            Event::Start(number) => self.start(number),
            Event::Wake { process, wake, .. } => {
                if self.processes[process].wake == wake {
                    self.act(process);
                }
            }
            Event::Turn { process, life } => {
                let whole = self.whole.is_some();
                let it = &mut self.processes[process];
                // A whole daemon's coordinator says so itself, once it is there.
                if it.hung == 0 && (!whole || it.loading.is_some()) {
                    let shown = it.mono(self.now);
                    it.lease.turned(shown);
                }
                let pause = self.roll("turn", process).random_range(100..600);
                self.after(Duration::from_millis(pause), Event::Turn { process, life });
            }
            Event::Arrive(request) => return self.arrive(request),
            Event::Answer {
                process,
                number,
                answer,
                ..
            } => self.answer(process, number, answer),
            Event::StandBy { process, .. } => {
                self.drop_lead(process);
                self.processes[process].lease.stand_by();
                self.act(process);
            }
            Event::Exit {
                process,
                life,
                down,
            } if self.lives(process, life) => self.end(process, down),
            Event::Exit { .. } => {}
            Event::Begin(number) => self.begin(number),
            Event::Over {
                process,
                life,
                what,
                since,
            } => return self.over(process, life, &what, since),
            Event::StoreBack => {
                self.away -= 1;
                if self.away == 0 {
                    self.checks.store(Some(self.now));
                    self.line(|| "the store is back".into());
                }
            }
            Event::Settled(before) => {
                return self.checks.settled(before, &self.processes, self.now);
            }
        }
        Ok(())
    }

    fn line(&mut self, line: impl FnOnce() -> String) {
        self.trace.line(self.now, line);
    }

    /// Chances for a process, now.
    fn roll(&self, purpose: &str, process: usize) -> SmallRng {
        let now = u64::try_from(self.now.as_micros()).unwrap_or_default();
        self.dice.roll(purpose, &[process as u64, now])
    }

    fn start(&mut self, number: usize) {
        let life = self.processes[number].life + 1;
        let before = std::mem::replace(
            &mut self.processes[number],
            Process::new(number, life, self.dice, wall_off(&self.plan)),
        );
        let process = &mut self.processes[number];
        // The machine stays cut off although the process is another one.
        (process.cut, process.lossy) = (before.cut, before.lossy);
        process.cut_from_api = before.cut_from_api;
        process.cut_from_receivers = before.cut_from_receivers;
        process.stuck = before.stuck;
        process.up = true;
        process.well_since = process.is_well().then_some(self.now);
        self.line(|| format!("{number}.{life} starts"));
        self.after(
            Duration::ZERO,
            Event::Turn {
                process: number,
                life,
            },
        );
        self.act(number);
    }

    /// The process ends, and starts anew after `down`.
    fn end(&mut self, process: usize, down: Duration) {
        self.drop_lead(process);
        self.processes[process].up = false;
        self.processes[process].well_since = None;
        self.line(|| format!("{process} ends"));
        self.after(down, Event::Start(process));
    }

    /// Does what is next, if no call is under way.
    fn act(&mut self, number: usize) {
        let now = self.now;
        let process = &mut self.processes[number];
        if process.under_way.is_some() {
            return;
        }
        let shown = process.mono(now);
        let life = process.life;
        match process.lease.next(shown) {
            NextCall::Now(call) => self.send(number, call),
            NextCall::At(at) => {
                process.wake += 1;
                let wake = process.wake;
                let pause = process.world(at).saturating_sub(now);
                let event = Event::Wake {
                    process: number,
                    life,
                    wake,
                };
                self.after(pause, event);
            }
            NextCall::Never => {}
        }
    }

    fn send(&mut self, process: usize, call: LeaseCall) {
        let mut roll = self.roll("call", process);
        let (now, limit) = (self.now, self.plan.call_limit);
        let it = &mut self.processes[process];
        it.calls += 1;
        let (number, life, lossy) = (it.calls, it.life, it.lossy > 0);
        it.under_way = Some(UnderWay {
            number,
            call: call.clone(),
            sent: it.mono(now),
        });
        let request = Request {
            process,
            life,
            number,
            call,
            candidate: it.candidate.clone(),
            sent: now,
            wall: it.wall(now),
        };
        // It gives up in the end.
        let answer = Event::Answer {
            process,
            life,
            number,
            answer: None,
        };
        self.after(limit, answer);
        if lossy && roll.random_bool(0.15) {
            return self.line(|| format!("{process}.{life} sends into the void"));
        }
        let longest = if lossy && roll.random_bool(0.4) {
            4000
        } else {
            60
        };
        let there = Duration::from_millis(roll.random_range(1..longest));
        self.after(there, Event::Arrive(request));
    }

    fn arrive(&mut self, request: Request) -> Checked {
        let Request {
            process,
            life,
            number,
            ref call,
            ..
        } = request;
        let mut roll = self.roll("arrive", process);
        let it = &mut self.processes[process];
        if it.cut > 0 {
            it.stuck.push(Event::Arrive(request));
            return Ok(());
        }
        let longest = if it.lossy > 0 && roll.random_bool(0.4) {
            4000
        } else {
            60
        };
        let back = Duration::from_millis(roll.random_range(1..longest));
        let lost = it.lossy > 0 && roll.random_bool(0.2);
        let answer = if self.away > 0 {
            if self.refuses == 0 {
                return Ok(());
            }
            None
        } else {
            Some(self.make(&request)?)
        };
        self.line(|| {
            let got = if lost {
                "an answer that gets lost"
            } else {
                "an answer"
            };
            format!("{process}.{life} {}: {answer:?} ({got})", told(call))
        });
        if !lost {
            let event = Event::Answer {
                process,
                life,
                number,
                answer,
            };
            self.after(back, event);
        }
        Ok(())
    }

    fn make(&mut self, request: &Request) -> Result<LeaseAnswer, Violation> {
        let before = self.row();
        let made = match &self.whole {
            Some(whole) => whole.make(&mut self.store, request),
            None => request
                .call
                .make(&mut self.store, &request.candidate, request.wall),
        };
        let answer = made.map_err(|error| Violation {
            rule: "the store in memory does not fail",
            detail: error.to_string(),
            at: self.now,
        })?;
        if let Some(after) = self.row().filter(|after| before.as_ref() != Some(after)) {
            if before.as_ref().is_none_or(|row| row.term != after.term)
                && let Some(whole) = &mut self.whole
            {
                whole.taken_over();
            }
            self.database_changed();
            let sender = &self.processes[request.process];
            let is_late = self.now - request.sent > LATE;
            let is_gone = !sender.up || sender.life != request.life;
            // It leads again when it hears of it, unless it ends before.
            let may_end = sender.is_undisturbed() && !sender.leads(self.now);
            let in_vain = is_late || is_gone || sender.lossy > 0 || may_end;
            let rows = (before.as_ref(), &after);
            self.checks
                .changed(&self.processes, in_vain, rows, self.now)?;
        }
        Ok(answer)
    }

    fn row(&mut self) -> Option<LeaseRow> {
        self.store.look().ok().flatten()
    }

    /// An answer has come, or the call has taken too long.
    fn answer(&mut self, number: usize, call: u64, answer: Option<LeaseAnswer>) {
        let now = self.now;
        let cut_off = self.processes[number].cut > 0 && answer.is_some();
        let process = &mut self.processes[number];
        let is_waited_for = |under_way: &mut UnderWay| under_way.number == call && !cut_off;
        let Some(under_way) = process.under_way.take_if(is_waited_for) else {
            return;
        };
        let (ended, life) = (process.mono(now), process.life);
        let was = kind(&process.leadership(now));
        let answer = answer.ok_or(StoreError::Closed);
        process
            .lease
            .ended(&under_way.call, under_way.sent, ended, answer);
        let leadership = process.leadership(now);
        if kind(&leadership) != was {
            self.line(|| format!("{number}.{life} is now {leadership:?}"));
        }
        if let Leadership::Deposed { .. } = leadership
            && was != "deposed"
        {
            let lets_go = self.roll("let go", number).random_range(0..1000);
            let event = Event::StandBy {
                process: number,
                life,
            };
            self.after(Duration::from_millis(lets_go), event);
        }
        self.act(number);
    }
}

/// By how many milliseconds wall clocks may be wrong. Those of whole daemons are set by
/// their machines' time service: when something is due is not what is looked at here.
fn wall_off(plan: &Plan) -> i64 {
    if plan.whole.is_some() { 200 } else { 30_000 }
}

fn kind(leadership: &Leadership) -> &'static str {
    match leadership {
        Leadership::Standby { .. } => "standby",
        Leadership::Leading { .. } => "leading",
        Leadership::Suspended { .. } => "suspended",
        Leadership::Deposed { .. } => "deposed",
    }
}
