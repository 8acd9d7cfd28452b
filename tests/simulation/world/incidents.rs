//! What the scenario does to the world.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt;

use super::{Coming, World};
use crate::daemon::Daemon;
use crate::scenario::{Incident, Timed, WebhookFault};
use crate::upstream::{Luck, Upstream};
use crate::violation::Checked;
use dispatchd::model::{DispatchId, Override, OverrideOrder, SiteId, SiteMode};
use dispatchd::sync::Input;

/// How often the upstream sends a webhook again.
const RESENDS: u32 = 5;

impl World {
    pub(super) fn incident(&mut self, timed: Timed) -> Checked {
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
                self.stray_webhook(id, number);
            }
            Incident::Flood { webhooks } => {
                for nth in 0..webhooks {
                    let id = if nth % 3 == 0 {
                        Upstream::id(usize::try_from(nth / 3 % 6).unwrap_or(0))
                    } else {
                        DispatchId::new(&format!("junk{nth}")).ok()
                    };
                    self.stray_webhook(id, number);
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
            Incident::Order { site, order } => self.order(site, order),
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
            Incident::Restart { down, without } => {
                if self
                    .daemon
                    .as_ref()
                    .is_some_and(|daemon| !daemon.is_stopping())
                {
                    self.absent = without;
                    self.restart(down);
                }
            }
            Incident::Reroute { sink, route } => {
                if let Some(receiver) = self.receivers.get_mut(sink) {
                    receiver.next_route = route;
                }
            }
            Incident::BackUp => {
                self.backup = Some((self.store.snapshot(), self.checks.durable.clone()));
            }
            Incident::LoseState { down, restored } => self.lose_state(down, restored)?,
            Incident::JumpAhead { by } => {
                self.jumped += TimeDelta::from_std(by).unwrap_or_default();
            }
            // A lost state and a clock that went back, both together, may make
            // numbers go back (rule R12).
            Incident::FallBack { .. } if self.scenario.loses_state() => {}
            Incident::FallBack { by, lasts } => {
                let by = TimeDelta::from_std(by).unwrap_or_default();
                self.set_back(by);
                self.enter(self.now + lasts, Coming::ClockPutRight(by));
            }
            Incident::RunAhead { by, lasts } => {
                let by = TimeDelta::from_std(by).unwrap_or_default();
                self.set_back(-by);
                self.enter(self.now + lasts, Coming::ClockPutRight(-by));
            }
            // Both clocks count the time of a suspend, as they do a stall's.
            Incident::TrustRunsOut { left, lasts } => self.trust_runs_out(left, lasts),
            Incident::Suspend { lasts } | Incident::Stall { lasts } => self.hold(lasts),
        }
        Ok(())
    }

    /// An operator orders what a site must do, unless there is no daemon to take it.
    fn order(&mut self, site: u8, order: Option<(SiteMode, Duration)>) {
        let since = self.wall();
        let order = order.map(|(state, lasts)| {
            Arc::new(Override {
                state,
                since,
                until: since + TimeDelta::from_std(lasts).unwrap_or_default(),
                reason: format!("order at {:?}", self.now).into(),
            })
        });
        let Some(site) = SiteId::new(&format!("s{site}")) else {
            return;
        };
        let order = OverrideOrder {
            name: String::new(),
            customer_location_id: String::new(),
            site,
            site_override: order,
        };
        if self.daemon.is_some() {
            self.waiters += 1;
            let waiter = self.waiters;
            self.checks.ordered(waiter, order.clone());
            self.tell(Input::Override { order, waiter });
        }
    }

    /// A webhook comes at once that no change of a dispatch has caused. It is not
    /// sent again.
    fn stray_webhook(&mut self, id: Option<DispatchId>, number: u64) {
        if let Some(id) = id {
            let coming = Coming::Webhook {
                id,
                number,
                attempt: RESENDS,
            };
            self.enter(self.now, coming);
        }
    }

    pub(super) fn hold(&mut self, lasts: Duration) {
        let until = self.now + lasts;
        if let Some(daemon) = &mut self.daemon {
            // What is held already is held a while longer, or not at all.
            let from = daemon.not_before.max(self.now);
            if until > from {
                daemon.hold(until);
                self.checks.held(from, until);
            }
        }
    }

    /// The upstream sends a webhook, which may be lost, late or doubled.
    pub(super) fn announce(&mut self, id: &DispatchId, number: u64) {
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

    pub(super) fn webhook(&mut self, id: DispatchId, number: u64, attempt: u32) {
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

    pub(super) fn resend(&mut self, id: DispatchId, number: u64, attempt: u32) {
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
}
