//! What the coordinator of a leader wants done, done.

use std::time::Duration;

use dispatchd::delivery::{Attempt, Start};
use dispatchd::model::Asked;
use dispatchd::store::{StoreError, StoreReader};
use dispatchd::sync::{Effect, Input, WaiterReply};
use dispatchd::voltus::{ApiError, Question};
use rand::RngExt;

use super::{Happening, Of, World};
use crate::receivers::Handling;
use crate::violation::Checked;

/// How long a read takes that fails.
const READ_FAILS: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn carry_out(&mut self, of: Of, effect: Effect<u64>) -> Checked {
        match effect {
            Effect::Ask { asked, question } => {
                self.ask(of, asked, &question);
                Ok(())
            }
            Effect::Commit(batch) => self.commit(of, batch),
            Effect::Reply { waiter, outcome } => self.reply_to(of, waiter, &outcome),
            Effect::Show(_) => Ok(()),
            Effect::Attempt { sink, start } => self.attempt(of, sink, start),
            Effect::Abandon { sink, attempt } => {
                if let Some(lead) = self.lead(of) {
                    lead.attempts.remove(&(sink, attempt));
                }
                Ok(())
            }
            Effect::ReadPending { sink, read } => {
                let reached = self.processes[of.process].cut == 0 && self.away == 0;
                let (pause, result) = if reached {
                    let events = self.store.clone().events(read.after, read.limit);
                    (Duration::from_millis(2), events)
                } else {
                    let failed = StoreError::Database {
                        doing: "be read",
                        source: "it does not answer".into(),
                    };
                    (READ_FAILS, Err(failed))
                };
                let input = Box::new(Input::PendingRead { sink, result });
                self.later(pause, Happening::Told(of, input));
                Ok(())
            }
            Effect::ReadRefresh { .. } => {
                self.must(false, "no simulated sink keeps a connection", String::new)
            }
            Effect::End(error) => {
                self.line(|| format!("the lead of {} ends: {error}", of.process));
                self.counts.add("daemons: lead ended by itself", 1);
                self.lead_ended(of)
            }
        }
    }

    fn ask(&mut self, of: Of, asked: Asked, question: &Question) {
        let mut roll = self.roll("cut off from the API", of.process);
        let (now, dice) = (self.now, self.dice);
        let cut_off = self.processes[of.process].cut_from_api > 0;
        self.line(|| format!("  {} asks {asked}: {question:?}", of.process));
        if cut_off {
            let pause = Duration::from_millis(roll.random_range(1..10_000));
            let result = Err(ApiError::Unreachable("simulated".into()));
            let input = Box::new(Input::Response { asked, result });
            return self.later(pause, Happening::Told(of, input));
        }
        let Some(whole) = &mut self.whole else {
            return;
        };
        let prepared = whole.api.prepare(question, now, dice, &whole.plan.knobs);
        let response = Happening::Response {
            of,
            asked,
            asked_at: now,
            prepared,
        };
        let Happening::Response { prepared, .. } = &response else {
            return;
        };
        self.later(prepared.delay, response);
    }

    fn reply_to(&mut self, of: Of, waiter: u64, outcome: &WaiterReply) -> Checked {
        self.line(|| format!("  {} replies to {waiter}: {outcome:?}", of.process));
        let leads = self.processes[of.process].leads(self.now);
        self.must(
            leads || !outcome.is_promise(),
            "only a daemon that trusts itself promises",
            || format!("{of:?}: {outcome:?}"),
        )?;
        let stored = self.stored()?;
        let (now, lead) = (self.now, self.processes[of.process].lead.as_ref());
        let Some(whole) = &mut self.whole else {
            return Ok(());
        };
        let Some((_, webhook)) = whole.waiting.remove(&waiter) else {
            return Ok(());
        };
        if *outcome == WaiterReply::Applied {
            // What it knows to be written the database may have lost a moment ago.
            if lead.is_some_and(|lead| whole.database.may_lack(lead.writer.led_on())) {
                self.counts
                    .add("daemons: webhook applied on a replaced database", 1);
                return Ok(());
            }
            self.counts.add("daemons: webhook applied", 1);
            return whole
                .checks
                .promised(&webhook, &stored, &whole.upstream, now);
        }
        self.resend(webhook);
        Ok(())
    }

    fn attempt(&mut self, of: Of, sink: usize, start: Start) -> Checked {
        self.counts.add("daemons: attempt", 1);
        self.line(|| {
            let events = start.events.iter();
            let told: Vec<_> = events
                .map(|event| format!("{} {} {}", event.sequence, event.event_type, event.subject))
                .collect();
            let attempt = start.attempt;
            format!(
                "  {} starts attempt {attempt} at sink{sink}: {}",
                of.process,
                told.join(", ")
            )
        });
        let leads = self.processes[of.process].leads(self.now);
        self.must(
            leads,
            "an attempt is preceded by a check of the trust",
            || format!("{of:?}"),
        )?;
        let (now, dice) = (self.now, self.dice);
        let cut_off = self.processes[of.process].cut_from_receivers > 0;
        let hangs = self
            .roll("cut off from receivers", of.process)
            .random_range(1..10_000);
        let Some(whole) = &mut self.whole else {
            return Ok(());
        };
        whole.checks.starts(of, &start.events, now)?;
        let Some(receiver) = whole.receivers.get_mut(sink) else {
            return self.must(false, "only known sinks are served", || sink.to_string());
        };
        let handling = if cut_off {
            Handling {
                acts_after: None,
                ends_after: Duration::from_millis(hangs),
                result: Attempt::unreachable("simulated"),
            }
        } else {
            receiver.handling(&start.events, now, dice)
        };
        if let Some(lead) = self.lead(of) {
            lead.attempts.insert((sink, start.attempt));
        }
        if let Some(after) = handling.acts_after {
            let events = start.events;
            self.later(after, Happening::Acts { sink, events });
        }
        let ended = Happening::Attempted {
            of,
            sink,
            attempt: start.attempt,
            result: handling.result,
        };
        self.later(handling.ends_after, ended);
        Ok(())
    }
}
