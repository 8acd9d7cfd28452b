//! What to do next, given what happened and what time it is.
//!
//! The [`Coordinator`] is the single writer. Each part owns its state, and gets what it
//! needs of other parts as arguments:
//!
//! | part | what it decides |
//! |---|---|
//! | [`asking`] | which request goes to the API, and what its response means |
//! | [`writing`] | what a commit holds and when it begins |
//! | [`delivering`] | what each sink is sent next |
//! | [`answering`] | who waits for an answer, and the effects of a step |
//! | [`trusting`] | whether this daemon may act at all |
//!
//! A webhook's dispatch is looked up (`asking`), the response becomes a job of the
//! next batch (`writing`), and when that is on disk ([`after_commit`]) the webhook is
//! answered and its events go to the outboxes (`delivering`).

mod after_commit;
mod answering;
mod asking;
mod causes;
mod delivering;
mod messages;
mod token_waiters;
mod trusting;
mod unwritten;
mod view;
mod writing;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::batch_builder::Job;
use super::counters::Counters;
use super::heals::Heals;
use super::health::RegistrationHealth;
use super::log::LogLimits;
use super::notices;
use super::slowdown::Resource;
use crate::clock::{Mono, Now};
use crate::delivery::Outbox;
use crate::engine::Rules;
use crate::model::{Asked, DispatchId, OverrideOrder, Route};
use crate::store::Stored;

use answering::{Answering, unavailable};
use asking::Asking;
use delivering::Delivering;
use trusting::Trusting;
use writing::{Begun, Writing};

pub use delivering::{PendingRequest, SinkPending, SkipRequest};
pub use messages::{Effect, Input, WaiterReply};

/// How long whoever asks for a poll by hand waits for it. Longer than a list
/// may take.
const POLL_DEADLINE: Duration = Duration::from_secs(65);

/// How long an operator waits until an order is on disk. Shorter than what the command
/// line waits for an answer.
const ORDER_DEADLINE: Duration = Duration::from_secs(8);

/// What an operator hears whose order is in a batch of which nobody knows yet whether it is
/// written.
const UNCERTAIN: &str = "the order may still take effect: it is not known yet whether it is \
    on disk; `dispatchd status` shows what the site does";

/// The wall clock is looked at this often, whatever is due (rule R4).
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// A longer time between two steps means that the daemon stood still, as in a suspend.
const STOOD_STILL: Duration = Duration::from_secs(3);

/// A jump of the wall clock by more than this is worth a line in the log.
const CLOCK_JUMP: TimeDelta = TimeDelta::seconds(5);

/// What the operator decides about the coordinator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time between two polls.
    pub poll_interval: Duration,
    /// The longest that a webhook waits for its answer.
    pub webhook_deadline: Duration,
    /// Requests to the API in a minute, at most.
    pub api_rate: NonZeroU32,
    /// What the engine goes by.
    pub rules: Rules,
}

/// The state machine around the engine. It does no I/O.
#[derive(Debug)]
pub struct Coordinator<W> {
    settings: Settings,
    asking: Asking<W>,
    writing: Writing,
    delivering: Delivering<W>,
    answering: Answering<W>,
    heals: Heals,
    /// How the registration of the webhook stands, if the daemon keeps one.
    registration: Option<RegistrationHealth>,
    /// How many answers came too late.
    outdated: u64,
    /// How many lower numbers were taken over.
    rewinds: u64,
    /// Shared with the readers' views, and copied only while one is held.
    counters: Arc<Counters>,
    /// Limits log lines that repeat.
    log_limits: LogLimits,
    random: SmallRng,
    last_now: Now,
    /// When it began, on a clock that may have run for long: a standby takes over late.
    began: Mono,
    trusting: Trusting,
    stopping: bool,
    /// Its commits are refused for good.
    ended: bool,
}

impl<W> Coordinator<W> {
    /// Goes on from what was stored. The first poll is due at once.
    pub fn new(
        settings: Settings,
        stored: Stored,
        mut outboxes: Vec<Outbox>,
        now: Now,
        seed: u64,
    ) -> Self {
        let rerouted = outboxes.iter_mut().flat_map(Outbox::take_rerouted);
        let asking = Asking::new(&settings, stored.term, now.mono);
        let mut writing = Writing::new(stored, settings.rules, now);
        writing.committed.plan.reroute(rerouted);
        Self {
            asking,
            writing,
            delivering: Delivering::new(outboxes),
            answering: Answering::new(),
            heals: Heals::new(settings.poll_interval),
            registration: None,
            outdated: 0,
            rewinds: 0,
            counters: Arc::default(),
            log_limits: LogLimits::default(),
            random: SmallRng::seed_from_u64(seed),
            last_now: now,
            began: now.mono,
            trusting: Trusting::default(),
            stopping: false,
            ended: false,
            settings,
        }
    }

    /// The first poll was issued at `issued`, before this coordinator was made, so that the
    /// API answers while the state is loaded. Gives its place in the order. To be called
    /// before the first step.
    pub fn polled_at(&mut self, issued: Now) -> Asked {
        self.asking.polled_at(issued)
    }

    /// Sites that these routes take are told nothing on purpose.
    pub fn leave_out(&mut self, routes: Vec<Route>) {
        self.delivering.nowhere.left_out = routes;
    }

    /// Takes in what happened by `now`, and says what is to be done. After
    /// [`Effect::End`] there is nothing any more: what was built on a commit that was
    /// refused is as unknown as that commit.
    pub fn step(&mut self, now: Now, inputs: impl IntoIterator<Item = Input<W>>) -> Vec<Effect<W>> {
        if self.ended {
            return Vec::new();
        }
        self.look_at_clock(now);
        self.look_at_trust(now);
        self.asking.budget.advance(now.mono);
        let missed = self.heals.advance(now.mono);
        self.log_limits.missed(&missed, now.mono);
        self.log_limits
            .unannounced(self.heals.unannounced, now.mono);
        if self.registration.is_none() {
            self.log_limits
                .polled_only(self.heals.polled_only, now.mono);
        }
        for input in inputs {
            self.take_in(input, now);
            if self.ended {
                return std::mem::take(&mut self.answering.effects);
            }
        }
        self.answer_late(now.mono);
        self.deliver(now);
        let blind = self.look_at_polls(now.mono);
        if self.trusting.suspended {
            self.writing.look_at_due(self.asking.clocks(now), now);
        } else {
            self.write(blind, now);
            if !self.delivering.caught_up && self.writing.is_caught_up(now) {
                self.delivering.caught_up = true;
                self.deliver(now);
            }
            self.writing.watch(self.asking.clocks(now), now);
        }
        if self.stopping {
            self.asking.turn_away(&mut self.answering);
        } else if !self.trusting.suspended {
            let newest = self.writing.newest_schedule();
            self.asking.issue_due(newest, &mut self.answering, now);
        }
        std::mem::take(&mut self.answering.effects)
    }

    /// When to step again if nothing happens before. This is after the last step,
    /// unless a chunk can be prepared: then it is at once. Other overdue work
    /// waits for a token or for the end of a commit, which cause a step
    /// themselves.
    pub fn next_wake(&self) -> Mono {
        let now = self.last_now;
        if self.writing.has_chunk(now) && !self.trusting.suspended {
            return now.mono;
        }
        let mut wake = now.mono.saturating_add(LOOK_AT_CLOCK);
        let mut consider = |at: Option<Mono>| {
            let ahead = at.filter(|at| *at > now.mono);
            wake = wake.min(ahead.unwrap_or(Mono::MAX));
        };
        if self.trusting.suspended {
            consider(self.answering.waiters.first_deadline());
            return wake;
        }
        consider(Some(self.trusting.until));
        let (asking, committed) = (&self.asking, &self.writing.committed);
        consider(self.answering.waiters.first_deadline());
        consider(asking.budget.next_token());
        consider(committed.schedule.next_check());
        consider(asking.look_again.next_due());
        let silent_until = asking.slowdown.silent_until();
        consider(asking.poller.due().map(|due| due.max(silent_until)));
        consider(Some(asking.slowdown.next()));
        consider(self.delivering.next_due(now.mono));
        if !self.writing.is_under_way() {
            let due = committed.next_due().map(|due| {
                let ahead = (due - now.wall).to_std().unwrap_or_default();
                now.mono.saturating_add(ahead)
            });
            let stale = (!committed.sync.stale).then(|| self.stale_at());
            let outboxes = self.delivering.outboxes.iter();
            let deliveries = outboxes.map(Outbox::write_due);
            for at in deliveries.chain([due, stale]) {
                consider(at.map(|at| self.writing.not_before(at)));
            }
        }
        wake
    }

    /// Begins nothing new from now on: no request, no attempt to deliver.
    /// Whoever waits for something that has not begun is told to come back.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing is under way for which somebody waits, and all that was
    /// done is written down.
    pub fn is_at_rest(&self) -> bool {
        self.answering.waiters.is_empty()
            && self.writing.is_at_rest()
            && self.delivering.outboxes.iter().all(Outbox::is_at_rest)
    }

    /// The requests whose responses wait until all due starts and ends are
    /// applied.
    pub fn waiting_requests(&self) -> impl Iterator<Item = Asked> {
        self.writing.waiting_requests()
    }

    fn look_at_clock(&mut self, now: Now) {
        let passed = now.mono.saturating_sub(self.last_now.mono);
        if passed > STOOD_STILL {
            self.delivering.caught_up = false;
        }
        let passed = TimeDelta::from_std(passed);
        let jump = (now.wall - self.last_now.wall) - passed.unwrap_or_default();
        if jump.abs() > CLOCK_JUMP {
            self.log_limits.clock_jump(jump, now.mono);
            self.asking.poller.for_news(now.mono);
        }
        self.last_now = now;
    }

    fn take_in(&mut self, input: Input<W>, now: Now) {
        match input {
            Input::Webhook { id, waiter } => self.webhook(&id, waiter, now.mono),
            Input::Poll { waiter } => self.poll_by_hand(waiter, now.mono),
            Input::Token { waiter } => self.asking.token_waiters.registration.push_back(waiter),
            Input::SpareToken { waiter } => self.asking.token_waiters.spare.push_back(waiter),
            Input::Redirect { waiter } => self.asking.token_waiters.redirects.push_back(waiter),
            Input::Response { asked, result } => {
                let (answering, random) = (&mut self.answering, &mut self.random);
                let taken = self
                    .asking
                    .take_response(asked, result, answering, random, now);
                if taken.poll_failed {
                    self.count_poll(false);
                }
                if let Some(job) = taken.job {
                    self.writing.push(Job::Answer(job));
                }
            }
            Input::Registered { issued, result } => {
                let error = result.as_ref().err();
                self.asking.adjust_pace(
                    Resource::Registration,
                    issued,
                    error,
                    &mut self.random,
                    now,
                );
            }
            Input::Registration(health) => {
                self.heals.registration(health.registered, now.mono);
                self.registration = Some(health);
            }
            Input::InventoryFailed { issued, error } => {
                self.asking.adjust_pace(
                    Resource::Inventory,
                    issued,
                    Some(&error),
                    &mut self.random,
                    now,
                );
            }
            Input::Committed(result) => self.commit_ended(result, now),
            Input::Attempted {
                sink,
                attempt,
                result,
                waited,
            } => {
                let random = self.random.random();
                if let Some(outbox) = self.delivering.outboxes.get_mut(sink) {
                    outbox.waited(attempt, waited, now.mono);
                    outbox.ended(attempt, &result, now, random);
                }
            }
            Input::PendingRead { sink, result } => {
                if let Some(outbox) = self.delivering.outboxes.get_mut(sink) {
                    outbox.take_read(result, now);
                }
            }
            Input::Connected { sink } => {
                if let Some(outbox) = self.delivering.outboxes.get_mut(sink) {
                    outbox.connected(now);
                }
            }
            Input::Probed { sink, result } => {
                if let Some(outbox) = self.delivering.outboxes.get_mut(sink) {
                    outbox.probed(result, now);
                }
            }
            Input::RefreshRead { sink, result } => {
                if let Some(outbox) = self.delivering.outboxes.get_mut(sink) {
                    outbox.take_refresh(result, now);
                }
            }
            Input::ListPending { request, waiter } => {
                let outcome = self.delivering.list_pending(&request, now);
                self.answering.reply(waiter, outcome);
            }
            Input::Override { order, waiter } => self.override_site(order, waiter, now.mono),
            Input::Skip { waiter, .. } if self.trusting.suspended => {
                self.answering.reply(waiter, WaiterReply::suspended());
            }
            Input::Skip { request, waiter } => {
                let answering = &mut self.answering;
                self.delivering.skip(&request, waiter, answering, now);
            }
        }
    }

    /// A webhook waits until its dispatch is looked up and what that changes is on
    /// disk.
    fn webhook(&mut self, id: &DispatchId, waiter: W, now: Mono) {
        self.heals.webhook(id, now);
        let deadline = now.saturating_add(self.settings.webhook_deadline);
        if self.answering.is_full() {
            self.answering.reply(waiter, WaiterReply::Busy);
        } else if self.asking.slowdown.next() >= deadline {
            self.asking.poller.soon(now);
            self.answering.reply(waiter, self.asking.slowed_down(now));
        } else {
            let ticket = self.answering.waiters.add(waiter, deadline);
            self.asking.look_ups.want(id, ticket);
        }
    }

    fn poll_by_hand(&mut self, waiter: W, now: Mono) {
        if self.answering.is_full_by_hand() {
            self.answering.reply(waiter, WaiterReply::Busy);
        } else if self.asking.slowdown.silent_until() > now {
            self.answering.reply(waiter, self.asking.slowed_down(now));
        } else {
            let deadline = now.saturating_add(POLL_DEADLINE);
            let ticket = self.answering.waiters.add(waiter, deadline);
            self.asking.poller.ask(ticket);
        }
    }

    /// An operator waits until an order for a site is on disk.
    fn override_site(&mut self, order: OverrideOrder, waiter: W, now: Mono) {
        if self.stopping {
            let stopping = unavailable("dispatchd is stopping");
            self.answering.reply(waiter, stopping);
        } else if self.answering.is_full_by_hand() {
            self.answering.reply(waiter, WaiterReply::Busy);
        } else {
            let deadline = now.saturating_add(ORDER_DEADLINE);
            let ticket = self.answering.waiters.add(waiter, deadline);
            self.writing.push(Job::Order(order, ticket));
        }
    }

    /// Answers those whose deadline has passed. What a webhook waits for goes on; an order
    /// that no batch holds yet is dropped, since its operator hears that it failed.
    fn answer_late(&mut self, now: Mono) {
        let late = self.answering.waiters.take_late(now);
        if !late.is_empty() {
            self.asking.poller.soon(now);
            if self.trusting.suspended {
                // Nothing is asked now, which would sort them out.
                let waiters = &self.answering.waiters;
                self.asking
                    .look_ups
                    .forget_abandoned(|ticket| waiters.waits(ticket));
            }
            self.writing
                .drop_orders(|ticket| late.iter().any(|(late, _)| *late == ticket));
        }
        for (ticket, waiter) in late {
            let outcome = if self.writing.holds_order(ticket) {
                unavailable(UNCERTAIN)
            } else if self.trusting.suspended {
                WaiterReply::suspended()
            } else if self.asking.slowdown.next() > now {
                self.asking.slowed_down(now)
            } else {
                unavailable("it took too long")
            };
            self.answering.reply(waiter, outcome);
        }
    }

    fn deliver(&mut self, now: Now) {
        let effects = &mut self.answering.effects;
        let nothing_new = self.stopping || self.trusting.suspended;
        self.delivering.start(effects, nothing_new, now);
    }

    /// Tells whether no poll has succeeded for too long, and has the log say so.
    fn look_at_polls(&mut self, now: Mono) -> bool {
        // While it stops, nothing is asked.
        let blind = now >= self.stale_at() && !self.stopping;
        if blind && self.asking.notices.is_news_of_stale(now) {
            let pause = self.asking.next_poll_in(now);
            let health = self.view().health;
            let error = match self.trusting.suspended {
                true => "no list is taken in until the lease is renewed".into(),
                false => health.why_no_poll(),
            };
            let trust = self.trust();
            notices::stale(trust, &error, pause);
        }
        blind
    }

    fn write(&mut self, blind: bool, now: Now) {
        let clocks = self.asking.clocks(now);
        loop {
            let delivering = &mut self.delivering;
            let begun = self
                .writing
                .begin(delivering, blind, self.stopping, clocks, now);
            match begun {
                Begun::Nothing => return,
                // First: the disk is at work while the rest is seen to.
                Begun::Commit(batch) => {
                    self.answering.effects.insert(0, Effect::Commit(batch));
                    return;
                }
                Begun::Empty(done) => self.commit_written(*done, now),
            }
            // What was empty may be a chunk: the next one has waited for it.
            if self.writing.is_caught_up(now) {
                return;
            }
        }
    }

    /// When the schedule is stale unless a poll succeeds before.
    fn stale_at(&self) -> Mono {
        self.last_success().saturating_add(self.trust())
    }

    /// When a poll last succeeded, or the start.
    fn last_success(&self) -> Mono {
        let last = self.asking.poller.last_success;
        last.map_or(self.began, |at| at.mono)
    }

    /// How long after a poll the schedule can be trusted.
    fn trust(&self) -> Duration {
        self.settings.poll_interval.saturating_mul(3)
    }
}

#[cfg(test)]
mod tests;
