//! A world of its own: two or three daemons around the lease of one store.
//!
//! Only the machine that decides about the lease runs here, with the store in memory.
//! Requests and answers take time and get lost, processes die, stand still and are cut
//! off, their coordinators hang, and the store goes away. No clock agrees with another.

mod calls;
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
use dispatchd::store::MemoryStore;
use dispatchd::sync::{LeaseAnswer, NextCall};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::dice::Dice;
use crate::report::Counts;
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use checks::{Before, Checks};
use plan::{Incident, Plan, QUIET};
use process::{Process, Request};
use whole::{Happening, Whole};

pub use run::{run, run_whole, shortest, shortest_whole};

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
}

/// By how many milliseconds wall clocks may be wrong. Those of whole daemons are set by
/// their machines' time service: when something is due is not what is looked at here.
fn wall_off(plan: &Plan) -> i64 {
    if plan.whole.is_some() { 200 } else { 30_000 }
}
