//! The calls of a process to the lease: on their way to the store, there, and back.

use std::time::Duration;

use dispatchd::store::{LeaseRow, LeaseStore, StoreError};
use dispatchd::sync::{Leadership, LeaseAnswer, LeaseCall};
use rand::RngExt;

use super::process::{Request, UnderWay, told};
use super::{Event, World};
use crate::violation::{Checked, Violation};

/// A request that takes longer than this to the store is late.
const LATE: Duration = Duration::from_millis(100);

impl World {
    pub(super) fn send(&mut self, process: usize, call: LeaseCall) {
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

    pub(super) fn arrive(&mut self, request: Request) -> Checked {
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

    pub(super) fn make(&mut self, request: &Request) -> Result<LeaseAnswer, Violation> {
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
            // It trusts itself when it hears of it, unless it ends or stands still before.
            let untrusting = !sender.leads(self.now);
            let in_vain = is_late || is_gone || sender.lossy > 0 || untrusting;
            let rows = (before.as_ref(), &after);
            self.checks
                .changed(&self.processes, in_vain, rows, self.now)?;
        }
        Ok(answer)
    }

    pub(super) fn row(&mut self) -> Option<LeaseRow> {
        self.store.look().ok().flatten()
    }

    /// An answer has come, or the call has taken too long.
    pub(super) fn answer(&mut self, number: usize, call: u64, answer: Option<LeaseAnswer>) {
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

fn kind(leadership: &Leadership) -> &'static str {
    match leadership {
        Leadership::Standby { .. } => "standby",
        Leadership::Leading { .. } => "leading",
        Leadership::Suspended { .. } => "suspended",
        Leadership::Deposed { .. } => "deposed",
    }
}
