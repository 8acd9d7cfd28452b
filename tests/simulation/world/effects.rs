//! What the daemon wants done, done.

use std::time::Duration;

use rand::RngExt;

use super::{Coming, World};
use crate::scenario::DiskFault;
use crate::violation::{Checked, must};
use dispatchd::delivery::{Attempt, Start};
use dispatchd::model::Asked;
use dispatchd::store::{Batch, StoreReader};
use dispatchd::sync::{Effect, WaiterReply};
use dispatchd::voltus::Question;

impl World {
    /// A request has gone to the API at `asked_at`.
    pub(super) fn ask(
        &mut self,
        term: u64,
        asked: Asked,
        question: Question,
        asked_at: Duration,
    ) -> Checked {
        self.trace
            .line(asked_at, || format!("  asks {asked}: {question:?}"));
        self.checks.asked(asked, &question, asked_at)?;
        let prepared = self
            .api
            .prepare(&question, asked_at, self.dice, &self.scenario.knobs);
        self.questions.insert(asked, question);
        self.enter(
            self.now.max(asked_at + prepared.delay),
            Coming::Answer {
                term,
                asked,
                asked_at,
                prepared,
            },
        );
        Ok(())
    }

    pub(super) fn carry_out(&mut self, term: u64, effect: Effect<u64>) -> Checked {
        match effect {
            Effect::Ask { asked, question } => self.ask(term, asked, question, self.now),
            Effect::Commit(batch) => self.commit(term, batch),
            Effect::Reply { waiter, outcome } => self.reply(waiter, &outcome),
            Effect::Show(events) => self.checks.shown(&events, self.now),
            Effect::Attempt { sink, start } => {
                let sinks = self.daemon.as_ref().map(|daemon| &daemon.sinks);
                match sinks.and_then(|sinks| sinks.get(sink)).copied() {
                    Some(sink) => self.attempt(term, sink, start),
                    None => Err(self.broken("only known sinks are served", &sink.to_string())),
                }
            }
            Effect::Abandon { sink, attempt } => {
                let sinks = self.daemon.as_ref().map(|daemon| &daemon.sinks);
                if let Some(sink) = sinks.and_then(|sinks| sinks.get(sink)).copied() {
                    self.abandon(term, sink, attempt);
                }
                Ok(())
            }
            Effect::ReadPending { sink, read } => {
                let mut reader = self.store.clone();
                let result = reader
                    .events(read.after, read.limit)
                    .map_err(|error| self.broken("the store can be read", &error.to_string()))?;
                let took = Duration::from_millis(2);
                self.enter(self.now + took, Coming::PendingRead { term, sink, result });
                Ok(())
            }
            Effect::ReadRefresh { .. } => {
                Err(self.broken("no simulated sink keeps a connection", "a refresh"))
            }
            Effect::End(error) => {
                Err(self.broken("only one that is replaced ends", &error.to_string()))
            }
        }
    }

    pub(super) fn commit(&mut self, term: u64, batch: Box<Batch>) -> Checked {
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
        let daemon = self.daemon.iter();
        let waiting_requests: Vec<_> = daemon
            .flat_map(|daemon| daemon.coordinator().waiting_requests())
            .collect();
        self.checks
            .commit_begun(&batch, &waiting_requests, self.now)?;
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
        if let Some((at, written)) = self.scenario.crash_at_write
            && at == self.commits
        {
            self.counts.add("crash at a write", 1);
            return self.crash(written, Duration::from_millis(100));
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

    /// The daemon drops an attempt. What is on its way may arrive all the same.
    fn abandon(&mut self, term: u64, sink: usize, attempt: u64) {
        self.trace.line(self.now, || {
            format!("  sink{sink} attempt {attempt} is abandoned")
        });
        self.checks.abandoned(sink, attempt, self.now);
        self.agenda.retain(|_, coming| {
            !matches!(coming, Coming::Attempted { term: of, sink: at, attempt: number, .. }
                if *of == term && *at == sink && *number == attempt)
        });
    }

    pub(super) fn reply(&mut self, waiter: u64, outcome: &WaiterReply) -> Checked {
        self.trace
            .line(self.now, || format!("  replies to {waiter}: {outcome:?}"));
        let wall = self.wall();
        self.checks.replied(waiter, outcome, wall, self.now)?;
        if let Some((id, number, attempt)) = self.waiting.remove(&waiter)
            && *outcome != WaiterReply::Applied
        {
            self.resend(id, number, attempt);
        }
        Ok(())
    }

    pub(super) fn attempt(&mut self, term: u64, sink: usize, start: Start) -> Checked {
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
        let handling = receiver.handling(&start.events, self.now, self.dice);
        let handling = self.tamperer.handling(&start, handling);
        if let Some(after) = handling.acts_after {
            let events = start.events;
            self.enter(self.now + after, Coming::Acts { sink, events });
        }
        self.enter(
            self.now + handling.ends_after,
            Coming::Attempted {
                term,
                sink,
                attempt,
                result: handling.result,
            },
        );
        Ok(())
    }
}
