//! The upstream, its webhooks and its API, and what receivers do.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::clock::Now;
use dispatchd::model::{Asked, DispatchId, Event as Told};
use dispatchd::sync::Input;
use dispatchd::voltus::ApiClock;
use rand::RngExt;

use super::{Happening, Of, WEBHOOK_LIMIT, Webhook, World};
use crate::api::Prepared;
use crate::scenario::Incident;
use crate::upstream::{Luck, Moment, Upstream};

/// How often the upstream sends a webhook again.
const RESENDS: u32 = 5;

/// The time of the upstream and its API, which is right.
pub(super) fn wall(at: Duration) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
        + TimeDelta::days(20_000)
        + TimeDelta::from_std(at).unwrap_or(TimeDelta::MAX)
}

impl World {
    /// The upstream does something, or something is wrong with API or receivers.
    pub(super) fn upstream_incident(&mut self, number: usize) {
        let (at, dice, quiet_from) = (self.now, self.dice, self.plan.quiet_from);
        let now = Moment { at, wall: wall(at) };
        let Some(whole) = &mut self.whole else {
            return;
        };
        let timed = whole.plan.incidents[number].clone();
        let luck = Luck {
            dice,
            number: timed.number,
            numbered: whole.plan.knobs.numbered,
        };
        let until = |lasts: Duration| (at + lasts).min(quiet_from);
        let mut changed = None;
        match &timed.what {
            Incident::Create { dispatch, plan } => {
                let id = Upstream::id(*dispatch);
                changed = id.filter(|id| whole.upstream.create(id, plan, now, luck));
            }
            Incident::Change { dispatch, edit } => {
                let id = Upstream::id(*dispatch);
                changed = id.filter(|id| whole.upstream.change(id, edit, now, luck));
            }
            Incident::Api { fault, lasts } => {
                let until = until(*lasts);
                whole.api.faults.begin(until, timed.number, fault.clone());
            }
            Incident::Sink { sink, fault, lasts } => {
                let until = until(*lasts);
                if let Some(receiver) = whole.receivers.get_mut(*sink) {
                    receiver.faults.begin(until, timed.number, *fault);
                }
            }
            _ => {}
        }
        self.counts.add(timed.what.kind(), 1);
        self.line(|| format!("! {:?}", timed.what));
        if let Some(id) = changed {
            self.announce(id, timed.number);
        }
    }

    /// The upstream sends a webhook, which may be lost or doubled.
    fn announce(&mut self, id: DispatchId, number: u64) {
        let Some(whole) = &self.whole else {
            return;
        };
        let mut roll = self.dice.roll("webhook", &[number]);
        if roll.random_bool(whole.plan.knobs.lost) {
            return;
        }
        let delay = Duration::from_millis(roll.random_range(1..1500));
        let copy = roll.random_bool(0.1).then_some(delay * 3);
        for delay in [Some(delay), copy].into_iter().flatten() {
            let webhook = Webhook {
                id: id.clone(),
                told: self.now,
                number,
                attempt: 0,
            };
            self.send_webhook(webhook, delay);
        }
    }

    /// Whatever stands before the daemons gives it to any of them.
    fn send_webhook(&mut self, webhook: Webhook, delay: Duration) {
        let keys = [webhook.number, u64::from(webhook.attempt)];
        let to = self
            .dice
            .roll("listener", &keys)
            .random_range(0..self.processes.len());
        self.later(delay, Happening::Webhook { to, webhook });
    }

    pub(super) fn resend(&mut self, mut webhook: Webhook) {
        if webhook.attempt < RESENDS {
            webhook.attempt += 1;
            let pause = Duration::from_millis(500 << webhook.attempt);
            self.send_webhook(webhook, pause);
        }
    }

    /// A process stands still: the sender of a webhook does not know that.
    pub fn unheard(&mut self, happening: &Happening) {
        if let Happening::Webhook { webhook, .. } = happening
            && webhook.attempt < RESENDS
        {
            let mut again = webhook.clone();
            again.attempt += 1;
            self.send_webhook(again, WEBHOOK_LIMIT);
        }
    }

    /// A webhook reaches a process. A standby passes it on to the leader that it knows.
    pub(super) fn webhook(&mut self, to: usize, webhook: Webhook) {
        let now = self.now;
        let leads = |number: &usize| {
            let process = &self.processes[*number];
            let running = process
                .lead
                .as_ref()
                .filter(|lead| !lead.daemon.is_stopping());
            let reached = process.up && process.paused == 0;
            (reached && process.leads(now)).then_some(running?.of)
        };
        let of = match leads(&to) {
            Some(of) => Some(of),
            None if self.processes[to].up => {
                let known = self.processes[to].known_leader(now);
                let mut all = 0..self.processes.len();
                let leader = all.find(|number| {
                    Some(&*self.processes[*number].candidate.holder) == known.as_deref()
                });
                leader.as_ref().and_then(leads)
            }
            None => None,
        };
        let Some(of) = of else {
            return self.resend(webhook);
        };
        if of.process != to {
            self.counts.add("daemons: webhook passed on", 1);
        }
        let id = webhook.id.clone();
        let Some(whole) = &mut self.whole else {
            return;
        };
        whole.waiters += 1;
        let waiter = whole.waiters;
        whole.waiting.insert(waiter, (of, webhook));
        self.line(|| format!("  webhook {waiter} for {id} reaches {}", of.process));
        self.tell(of, Input::Webhook { id, waiter });
    }

    pub(super) fn response(
        &mut self,
        of: Of,
        asked: Asked,
        asked_at: Duration,
        prepared: Prepared,
    ) {
        let process = &self.processes[of.process];
        let lead = process.lead.as_ref();
        let clock = lead.map(|lead| ApiClock {
            showed: wall(self.now),
            came: Now {
                wall: process.wall(self.now),
                mono: lead.daemon.mono(process.mono(self.now)),
            },
        });
        let Some(whole) = &self.whole else {
            return;
        };
        let last = &whole.api.last_list;
        let knobs = &whole.plan.knobs;
        let mut result = prepared.answer(&whole.upstream, asked_at, wall, knobs, last);
        if let Ok(response) = &mut result {
            response.stamp.clock = clock;
        }
        self.tell(of, Input::Response { asked, result });
    }

    pub(super) fn acts(&mut self, sink: usize, events: &[Told]) {
        if let Some(whole) = &mut self.whole
            && let Some(receiver) = whole.receivers.get_mut(sink)
        {
            for event in events {
                receiver.act(event);
            }
        }
    }
}
