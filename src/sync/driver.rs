//! Does the I/O of the coordinator, with real sockets and a real disk.

mod first_poll;
mod inbox;
mod traces;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Effect, Input, Timings, Turns, View, WaiterReply};
use crate::clock::Clock;
use crate::delivery::{Attempt, RefreshPage, RefreshRead, Sink, Start, look};
use crate::model::{Asked, Event};
use crate::store::{Batch, StoreError, StoreHandle};
use crate::trace::Span;
use crate::trust::Trust;
use crate::voltus::{Api, ApiError, ApiResponse, Question};

pub use first_poll::FirstPoll;
pub use inbox::{Inbox, Waiter};
use traces::Traces;

/// How many inputs of a kind one step takes in.
const INPUTS_A_STEP: usize = 1024;

/// How long what is under way may take when the driver is told to stop:
/// deliveries, programs, look-ups that somebody waits for, and the commit.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

/// How long what is broken off may take to be gone: programs are ended.
const ABORT_TIMEOUT: Duration = Duration::from_millis(300);

/// How often it is looked whether a sink's receiver is there, and how soon again if
/// it is not.
const PROBE_EVERY: Duration = Duration::from_secs(60);
const PROBE_AGAIN: Duration = Duration::from_secs(10);

/// A first poll that was issued longer ago is not used: the list is too old by then.
const OLDEST_FIRST_POLL: Duration = Duration::from_secs(5);

/// How many events are held for listeners that are behind.
const EVENTS_HELD: usize = 4096;

type Commit = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Why the driver ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store is no longer ours.
    #[error(transparent)]
    Store(StoreError),
    /// A task that talks to the API or the disk died.
    #[error("a task died, so nothing can be relied on: {0}")]
    Task(#[from] JoinError),
}

/// Runs a coordinator.
pub struct Driver<A, C> {
    coordinator: Coordinator<Waiter>,
    api: Arc<A>,
    store: StoreHandle,
    clock: Arc<C>,
    /// How long what it does takes.
    timings: Arc<Timings>,
    inbox: mpsc::UnboundedReceiver<Input<Waiter>>,
    /// Keeps the inbox open when nobody else does.
    sender: Inbox,
    views: watch::Sender<View>,
    events: broadcast::Sender<Event>,
    sinks: Vec<Arc<dyn Sink>>,
    /// Where deliveries run: not on the thread that decides.
    elsewhere: Handle,
    tasks: JoinSet<Input<Waiter>>,
    /// What watches the sinks.
    watches: JoinSet<()>,
    /// The attempts under way, by sink and number: dropped, they are abandoned.
    attempts: HashMap<(usize, u64), oneshot::Sender<()>>,
    /// The commit under way.
    commit: Option<Commit>,
    /// What is traced, if anything is.
    traces: Option<Traces>,
    /// Until when this daemon may act.
    trust: Trust,
    /// Where each turn is noted, if somebody wants to know.
    turns: Option<Arc<Turns>>,
    /// To end at once.
    step_down: CancellationToken,
}

impl<A: Api, C: Clock> Driver<A, C> {
    /// A driver of `coordinator`, which knows the list when `first_poll` is answered, and
    /// whose outboxes deliver to `sinks`, in the same order. They deliver in the runtime in
    /// which this is called.
    pub fn new(
        mut coordinator: Coordinator<Waiter>,
        first_poll: FirstPoll<A, C>,
        store: StoreHandle,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Self {
        let FirstPoll {
            issued,
            trace,
            mut traces,
            answer,
            api,
            clock,
            timings,
            sender,
            inbox,
        } = first_poll;
        let mut tasks = JoinSet::new();
        let elsewhere = Handle::current();
        let age = clock.now().mono.saturating_sub(issued.mono);
        // After a long load the coordinator asks anew.
        if age < OLDEST_FIRST_POLL {
            let asked = coordinator.polled_at(issued);
            if let Some((traces, trace)) = traces.as_mut().zip(trace) {
                traces.requested(asked, trace);
            }
            let answered = async move {
                let result = answer.get().await;
                Input::Response { asked, result }
            };
            tasks.spawn_on(answered, &elsewhere);
        }
        let (views, _) = watch::channel(coordinator.view());
        let (events, _) = broadcast::channel(EVENTS_HELD);
        Self {
            coordinator,
            api,
            store,
            clock,
            timings,
            inbox,
            sender,
            views,
            events,
            sinks,
            elsewhere,
            tasks,
            watches: JoinSet::new(),
            attempts: HashMap::new(),
            commit: None,
            traces,
            trust: Trust::endless(),
            turns: None,
            step_down: CancellationToken::new(),
        }
    }

    /// Acts while there is `trust` only (rule R15): an attempt is broken off when the trust,
    /// as renewed meanwhile, runs out. At first it is endless.
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Notes each turn in `turns`, for whoever renews the lease.
    pub fn with_turns(mut self, turns: Arc<Turns>) -> Self {
        self.turns = Some(turns);
        self
    }

    /// To be cancelled when another daemon leads: the driver then ends at once. All that it
    /// does for the coordinator is broken off, programs with their process groups. Nothing
    /// of it runs when [`run`](Self::run) returns but the sinks' own tasks, and the commit
    /// under way, which the store refuses if another daemon leads.
    pub fn step_down(&self) -> CancellationToken {
        self.step_down.clone()
    }

    /// Where to tell the coordinator what happens.
    pub fn inbox(&self) -> Inbox {
        self.sender.clone()
    }

    /// Where to see how it stands.
    pub fn view(&self) -> watch::Receiver<View> {
        self.views.subscribe()
    }

    /// Where to see how long the API and the disk take.
    pub fn timings(&self) -> Arc<Timings> {
        Arc::clone(&self.timings)
    }

    /// Broadcasts committed events. A receiver that lags more than 4,096 events behind
    /// loses the oldest.
    pub fn events(&self) -> broadcast::Sender<Event> {
        self.events.clone()
    }

    /// Runs until `stop`. Then begins nothing new, and runs until what is under
    /// way has ended and is written down, for nine seconds at most. Ends at once when it
    /// is to [step down](Self::step_down).
    ///
    /// # Errors
    /// When the store has been taken over, or a task died.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        self.watch_connections();
        self.probe_sinks();
        let mut inputs = Vec::new();
        let mut give_up = None;
        loop {
            if self.step_down.is_cancelled() {
                self.break_off().await;
                return Ok(());
            }
            let now = self.clock.now();
            self.coordinator.trust_until(self.trust.until());
            // Looked at in every turn: however much else is ready, it is seen.
            if give_up.is_none() && stop.is_cancelled() {
                give_up = Some(now.mono.saturating_add(STOP_TIMEOUT));
                self.coordinator.stop();
            }
            let effects = self.coordinator.step(now, inputs.drain(..));
            // Whoever is answered must see what it was answered for.
            self.views.send_replace(self.coordinator.view());
            for effect in effects {
                self.carry_out(effect)?;
            }
            if let Some(turns) = &self.turns {
                turns.finished(now.mono);
            }
            if let Some(give_up) = give_up {
                if self.coordinator.is_at_rest() {
                    return Ok(());
                }
                if now.mono >= give_up {
                    tracing::warn!("what is under way did not end in time and is broken off");
                    self.break_off().await;
                    return Ok(());
                }
            }
            let wake = self.coordinator.next_wake();
            let wake = give_up.map_or(wake, |give_up| wake.min(give_up));
            tokio::select! {
                biased;
                () = self.step_down.cancelled() => {}
                () = stop.cancelled(), if give_up.is_none() => {}
                () = self.trust.changed() => {}
                result = ended(&mut self.commit) => {
                    self.commit = None;
                    inputs.push(Input::Committed(result));
                    // The disk waits for what is gathered already.
                    continue;
                }
                _ = self.inbox.recv_many(&mut inputs, INPUTS_A_STEP) => {}
                Some(ended) = self.tasks.join_next() => inputs.push(self.task_ended(ended)?),
                () = self.clock.sleep_until(wake) => {}
            }
            // Drain other ready inputs first, so that they share this step and its
            // commit.
            while inputs.len() < INPUTS_A_STEP
                && let Ok(input) = self.inbox.try_recv()
            {
                inputs.push(input);
            }
            // In every turn: a full inbox keeps no answer waiting.
            for _ in 0..INPUTS_A_STEP {
                match self.tasks.try_join_next() {
                    Some(ended) => inputs.push(self.task_ended(ended)?),
                    None => break,
                }
            }
        }
    }

    /// Ends all that is under way, programs with their process groups.
    async fn break_off(&mut self) {
        let all = async { tokio::join!(self.tasks.shutdown(), self.watches.shutdown()) };
        if timeout(ABORT_TIMEOUT, all).await.is_err() {
            tracing::warn!("something that is broken off takes long to end");
        }
    }

    /// Tells the coordinator of each connection that a sink makes anew.
    fn watch_connections(&mut self) {
        for (sink, to) in self.sinks.iter().enumerate() {
            let Some(mut connections) = to.connections() else {
                continue;
            };
            let inbox = self.sender.clone();
            let watch = async move {
                loop {
                    let made = *connections.borrow_and_update();
                    if made > 0 && inbox.0.send(Input::Connected { sink }).is_err() {
                        return;
                    }
                    if connections.changed().await.is_err() {
                        return;
                    }
                }
            };
            self.watches.spawn_on(watch, &self.elsewhere);
        }
    }

    /// Looks every minute whether the sinks' receivers are there, so that one that is
    /// not is known before there is something to deliver.
    fn probe_sinks(&mut self) {
        for (sink, to) in self.sinks.iter().enumerate() {
            let (to, inbox) = (Arc::clone(to), self.sender.0.clone());
            let probe = async move {
                loop {
                    let result = look(to.probe()).await;
                    let pause = match result {
                        Ok(()) => PROBE_EVERY,
                        Err(_) => PROBE_AGAIN,
                    };
                    if inbox.send(Input::Probed { sink, result }).is_err() {
                        return;
                    }
                    tokio::select! {
                        () = inbox.closed() => return,
                        () = sleep(pause) => {}
                    }
                }
            };
            self.watches.spawn_on(probe, &self.elsewhere);
        }
    }

    /// Gives what a task that has ended tells the coordinator.
    fn task_ended(
        &mut self,
        ended: Result<Input<Waiter>, JoinError>,
    ) -> Result<Input<Waiter>, JoinError> {
        if let Ok(Input::Attempted { sink, attempt, .. }) = &ended {
            self.attempts.remove(&(*sink, *attempt));
        }
        ended
    }

    fn carry_out(&mut self, effect: Effect<Waiter>) -> Result<(), DriverError> {
        match effect {
            Effect::Ask { asked, question } => self.ask(asked, question),
            Effect::Commit(batch) => self.commit(batch),
            Effect::Reply { waiter, outcome } => {
                // The process may have been stopped since the step.
                let outcome = match outcome.is_promise() && self.trust.is_over() {
                    true => WaiterReply::suspended(),
                    false => outcome,
                };
                // A caller that has hung up is told nothing.
                let _ = waiter.reply.send(outcome);
            }
            Effect::Show(events) => {
                for event in events {
                    // Perhaps nobody listens.
                    let _ = self.events.send(event);
                }
            }
            Effect::Attempt { sink, start } => self.attempt(sink, start),
            Effect::Abandon { sink, attempt } => {
                self.attempts.remove(&(sink, attempt));
            }
            Effect::ReadPending { sink, read } => {
                let store = self.store.clone();
                self.tasks.spawn(async move {
                    let result = store.events(read.after, read.limit).await;
                    Input::PendingRead { sink, result }
                });
            }
            Effect::ReadRefresh { sink, read } => {
                let store = self.store.clone();
                self.tasks.spawn(async move {
                    let result = match read {
                        RefreshRead::Positions => {
                            let positions = store.newest_site_positions().await;
                            positions.map(RefreshPage::Positions)
                        }
                        RefreshRead::Events(positions) => {
                            store.events_at(positions).await.map(RefreshPage::Events)
                        }
                    };
                    Input::RefreshRead { sink, result }
                });
            }
            Effect::End(error) => return Err(DriverError::Store(error)),
        }
        Ok(())
    }

    /// Sends a look-up or a poll to the API.
    fn ask(&mut self, asked: Asked, question: Question) {
        let span = self.traces.as_mut().map_or_else(Span::default, |traces| {
            let waiters = self.coordinator.waiting_for(asked);
            traces.request(asked, &question, waiters)
        });
        let request = Request {
            api: Arc::clone(&self.api),
            clock: Arc::clone(&self.clock),
            timings: self.timings(),
            span,
        };
        self.tasks.spawn(async move {
            let result = request.send(question).await;
            Input::Response { asked, result }
        });
    }

    /// Writes a batch.
    fn commit(&mut self, batch: Box<Batch>) {
        let mut spans = Vec::new();
        if let Some(traces) = &mut self.traces {
            spans = traces.commit(&batch, self.coordinator.responses_in_commit());
        }
        let commit = self.store.commit(batch);
        let (clock, timings) = (Arc::clone(&self.clock), self.timings());
        self.commit = Some(Box::pin(async move {
            let begun = clock.now().mono;
            let result = commit.await;
            timings.committed(&result, clock.now().mono.saturating_sub(begun));
            if let Err(error) = &result {
                spans.iter_mut().for_each(|span| span.failed(error));
            }
            result
        }));
    }

    /// Makes an attempt at a sink.
    fn attempt(&mut self, sink: usize, start: Start) {
        let Some(to) = self.sinks.get(sink).cloned() else {
            return;
        };
        let attempt = start.attempt;
        let traces = self.traces.as_ref();
        let traced = traces.and_then(|it| it.delivery(to.name(), &start.events));
        let (mut span, trace) = traced.unzip();
        let (keep, dropped) = oneshot::channel::<()>();
        self.attempts.insert((sink, attempt), keep);
        let trust = self.trust.clone();
        let clock = Arc::clone(&self.clock);
        let started = clock.now().mono;
        let delivery = async move {
            let waited = clock.now().mono.saturating_sub(started);
            let delivered = async {
                tokio::select! {
                    result = to.deliver(&start.events, trace.as_ref()) => result,
                    // The coordinator does not wait for this result any more.
                    _ = dropped => Attempt::failed("abandoned"),
                }
            };
            let result = trust.lets(delivered).await;
            let result = result.unwrap_or(Attempt::BrokenOff);
            if let Some((span, reason)) = span.as_mut().zip(result.reason()) {
                span.failed(&reason);
            }
            Input::Attempted {
                sink,
                attempt,
                result,
                waited,
            }
        };
        self.tasks.spawn_on(delivery, &self.elsewhere);
    }
}

/// A look-up or a poll that is to be sent.
struct Request<A, C> {
    api: Arc<A>,
    clock: Arc<C>,
    timings: Arc<Timings>,
    span: Span,
}

impl<A: Api, C: Clock> Request<A, C> {
    async fn send(mut self, question: Question) -> Result<ApiResponse, ApiError> {
        let kind = question.kind();
        let begun = self.clock.now().mono;
        let result = self.api.ask(question).await;
        let took = self.clock.now().mono.saturating_sub(begun);
        self.timings.asked(kind, &result, took);
        if let Err(error) = &result {
            self.span.failed(error);
        }
        result
    }
}

/// Waits for the commit under way, for ever if there is none.
async fn ended(commit: &mut Option<Commit>) -> Result<(), StoreError> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
