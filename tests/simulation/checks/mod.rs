//! What must hold at every step. One file a group of rules.

mod answers;
mod clockwork;
mod deliveries;
mod durable;
mod orders;
mod promises;
mod promptness;
mod requests;
mod trusting;

use std::time::Duration;

use chrono::{DateTime, Utc};

use self::answers::Answers;
use self::clockwork::Clockwork;
pub(super) use self::clockwork::site_is;
pub(super) use self::deliveries::Deliveries;
pub(super) use self::durable::Durable;
use self::orders::Orders;
use self::promises::Promises;
use self::promptness::Promptness;
use self::requests::Requests;
use self::trusting::Trusting;
use super::receivers::Receiver;
use super::routes::SimulatedRoute;
use super::scenario::Knobs;
use super::upstream::Moment;
use super::violation::{Checked, must};
use dispatchd::clock::Mono;
use dispatchd::delivery::{Attempt, Sink, Start};
use dispatchd::model::{Asked, Event, OverrideOrder};
use dispatchd::store::Batch;
use dispatchd::sync::{Input, View, WaiterReply};
use dispatchd::voltus::{ApiError, ApiResponse, Question};

/// The watchers of one run. They see what passes between daemon and world,
/// before any deliberate defect has touched it.
pub(super) struct Checks {
    pub durable: Durable,
    pub deliveries: Deliveries,
    pub promises: Promises,
    promptness: Promptness,
    answers: Answers,
    /// How old a list may be and still be a poll that succeeded.
    trust: Duration,
    requests: Requests,
    clockwork: Clockwork,
    orders: Orders,
    trusting: Trusting,
    /// What the commit that ended last had, to be shown.
    to_show: Vec<Event>,
    writing: Vec<Event>,
}

/// How things stand after a step.
pub(super) struct StepEnd<'a> {
    pub now: Duration,
    pub wall: DateTime<Utc>,
    pub mono: Mono,
    /// When the coordinator wants to be stepped next.
    pub wake: Mono,
    pub writing: bool,
    pub stopping: bool,
    pub view: &'a View,
}

impl Checks {
    /// Watchers of a run with these knobs.
    pub fn new(knobs: &Knobs) -> Self {
        Self {
            durable: Durable::default(),
            deliveries: Deliveries::new(knobs),
            promises: Promises::new(knobs),
            promptness: Promptness::new(knobs),
            answers: Answers::default(),
            trust: knobs.settings.poll_interval.saturating_mul(3),
            requests: Requests::new(knobs),
            clockwork: Clockwork::new(knobs),
            orders: Orders::default(),
            trusting: Trusting::default(),
            to_show: Vec::new(),
            writing: Vec::new(),
        }
    }

    /// A daemon starts, perhaps without one of its sinks.
    pub fn booted(&mut self, absent: Option<usize>, routes: Vec<SimulatedRoute>, now: Duration) {
        self.promptness.booted(absent, routes, now);
        self.answers = Answers::default();
        self.durable.booted();
        self.requests.booted(now);
        self.clockwork.booted(now, self.durable.sync.stale);
    }

    /// The state was lost or replaced while no daemon runs. `durable` is what the
    /// new one holds, `now` what a clock shows that is right.
    pub fn state_replaced(&mut self, durable: Durable, now: DateTime<Utc>) {
        self.durable.replace(durable, now);
        self.deliveries.state_replaced(&self.durable);
        self.promptness.state_replaced();
        self.orders.state_replaced();
    }

    /// The daemon is no more.
    pub fn gone(&mut self) {
        self.to_show.clear();
        self.durable.daemon_gone();
        self.deliveries.daemon_gone(&self.durable);
        self.promises.daemon_gone();
        self.orders.daemon_gone();
        self.promptness.gone();
        self.requests.daemon_gone();
    }

    /// The wall clock shows an earlier time than a moment ago.
    pub fn clock_set_back(&mut self) {
        self.promptness.clock_set_back();
    }

    /// The daemon gets no processor until then.
    pub fn held(&mut self, now: Duration, until: Duration) {
        self.promises.held(now, until);
        self.promptness.held(until);
        self.requests.held(now, until);
        self.clockwork.held_until(until);
    }

    /// There is no trust from now on, until then: what is due may go that much later.
    pub fn trust_ends(&mut self, now: Duration, until: Duration) {
        self.trusting.ends(now);
        self.promptness.held(until);
        self.requests.suspended(now, until);
        self.clockwork.held_until(until);
    }

    /// There is trust again.
    pub fn trust_returns(&mut self) {
        self.trusting.returns();
    }

    /// How long the API may still be left alone.
    pub fn paused_for(&self, now: Duration) -> Duration {
        self.requests.paused_for(now)
    }

    /// A question goes out.
    pub fn asked(&mut self, asked: Asked, question: &Question, now: Duration) -> Checked {
        self.trusting.asks(now)?;
        self.answers.asked(asked, now);
        self.promises.asked(asked, now);
        self.requests.asked(question, now)
    }

    /// An answer comes in.
    pub fn told(
        &mut self,
        asked: Asked,
        question: &Question,
        result: &Result<ApiResponse, ApiError>,
        now: Duration,
    ) {
        self.requests.told(question, result, now);
        if let Ok(told) = result {
            self.durable.clock_known |= told.stamp.clock.is_some();
            let too_old = told.stamp.age > self.trust;
            if too_old && *question == Question::List {
                self.requests.list_ended(now);
            }
            self.answers.told(asked, question, told, too_old);
            self.promises.told(asked, told);
        }
    }

    /// An attempt starts.
    pub fn starts(
        &mut self,
        sink: usize,
        receiver: &Receiver,
        start: &Start,
        now: Duration,
    ) -> Checked {
        self.trusting.starts(now)?;
        self.promptness.starts(sink, start);
        for event in start.events.iter().filter(|event| event.family() == "site") {
            self.durable.told(receiver.stub.name(), &event.subject);
        }
        self.deliveries
            .starts(sink, receiver, start, &self.durable, now)
    }

    /// An event reaches a receiver.
    pub fn arrives(
        &mut self,
        sink: usize,
        receiver: &Receiver,
        event: &Event,
        now: Duration,
    ) -> Checked {
        if !receiver.was_routed {
            self.deliveries.in_order(sink, event, &self.durable, now)?;
        }
        self.deliveries.arrives(sink, receiver, event, now)
    }

    /// What an attempt came to.
    pub fn attempted(&mut self, sink: usize, attempt: u64, result: &Attempt, now: Duration) {
        self.deliveries.attempted(sink, attempt, result);
        self.promptness
            .ended(sink, attempt, Some(result), &self.durable, now);
    }

    /// The daemon drops an attempt.
    pub fn abandoned(&mut self, sink: usize, attempt: u64, now: Duration) {
        self.deliveries.abandoned(sink, attempt);
        self.promptness
            .ended(sink, attempt, None, &self.durable, now);
    }

    /// The coordinator is about to be stepped with these inputs.
    pub fn stepping(&mut self, inputs: &[Input<u64>], wall: DateTime<Utc>, now: Duration) {
        self.clockwork.stepping(wall);
        self.promises.stepping(wall);
        self.orders.stepping(wall);
        let answer = |input: &Input<u64>| matches!(input, Input::Response { result: Ok(_), .. });
        if inputs.iter().any(answer) {
            self.durable.answered(wall);
        }
        if inputs
            .iter()
            .any(|input| matches!(input, Input::Committed(_)))
        {
            self.durable.commit_ended();
        }
        self.promises.taken_in(inputs, now);
    }

    /// A commit begins, without the answers that are put off to the next.
    pub fn commit_begun(
        &mut self,
        batch: &Batch,
        waiting_requests: &[Asked],
        now: Duration,
    ) -> Checked {
        self.trusting.commits(now)?;
        self.answers.commit_begun(waiting_requests);
        self.writing.clone_from(&batch.events);
        self.durable.numbered();
        self.durable.begun(batch);
        self.durable.may_follow(batch, now)
    }

    /// A batch is on disk, whether or not anybody will be told. `stored` is
    /// what a defect has made of it, `absent` are the sinks that the daemon runs
    /// without.
    pub fn written(
        &mut self,
        batch: &Batch,
        stored: &Batch,
        absent: &[usize],
        now: Moment,
    ) -> Checked {
        self.answers.may_write(batch, &self.durable, now.at)?;
        self.durable.lose(batch, absent);
        self.durable.written(batch, stored, now)
    }

    /// The coordinator will be told how the commit ended.
    pub fn commit_ended(&mut self, ok: bool, now: Duration) {
        let list = self.answers.commit_ended(ok);
        if ok {
            self.to_show.append(&mut self.writing);
        }
        self.list_ended(list, ok, now);
        self.clockwork.commit_ended(ok, now);
    }

    fn list_ended(&mut self, was_there: bool, ok: bool, now: Duration) {
        if was_there {
            self.requests.list_ended(now);
            if ok {
                self.clockwork.poll_succeeded(now);
            }
        }
    }

    /// Events are shown to those who listen.
    pub fn shown(&mut self, events: &[Event], now: Duration) -> Checked {
        let expected: Vec<u64> = self.to_show.drain(..).map(|event| event.position).collect();
        self.promptness.shown(events, &self.durable, now);
        let shown: Vec<u64> = events.iter().map(|event| event.position).collect();
        must(
            expected == shown,
            now,
            "what is shown was committed, once and in order",
            || format!("shown {shown:?}, committed {expected:?}"),
        )
    }

    /// An operator orders something, and waits.
    pub fn ordered(&mut self, waiter: u64, order: OverrideOrder) {
        self.orders.ordered(waiter, order);
    }

    /// Somebody is answered.
    pub fn replied(
        &mut self,
        waiter: u64,
        outcome: &WaiterReply,
        wall: DateTime<Utc>,
        now: Duration,
    ) -> Checked {
        self.trusting.replies(outcome, now)?;
        if let Some(checked) = self.orders.replied(waiter, outcome, now) {
            return checked;
        }
        self.promises
            .replied(waiter, outcome, &self.durable, wall, now)
    }

    /// The coordinator has been stepped.
    pub fn stepped(&mut self, end: &StepEnd<'_>) -> Checked {
        self.promptness.stepped(end)?;
        if !end.writing && self.trusting.is_there() {
            let list = self.answers.settled();
            self.list_ended(list, true, end.now);
        }
        must(
            self.to_show.is_empty(),
            end.now,
            "what is committed is shown",
            || format!("{} events were not", self.to_show.len()),
        )?;
        self.durable.seen(end)?;
        self.promises.stepped(end.now)?;
        if !end.stopping {
            self.requests.stepped(end.now)?;
        }
        self.orders.stepped(end)?;
        let trusted = self.trusting.is_there();
        self.clockwork.stepped(end, &self.durable, trusted)
    }

    /// All that was to be delivered was.
    pub fn settled(&self, receivers: &[Receiver], now: Duration) -> Checked {
        self.deliveries.settled(receivers, &self.durable, now)
    }
}
