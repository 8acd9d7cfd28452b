//! Does what the machine says, with real sockets and a real disk.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Effect, Input, Machine, Verdict, View};
use crate::clock::Clock;
use crate::model::{DispatchId, Event};
use crate::store::{SinkRecord, StoreError, StoreHandle};
use crate::voltus::Api;

/// How many inputs one step takes in.
const AT_ONCE: usize = 1024;

type Waiter = oneshot::Sender<Verdict>;

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

/// Where the machine is told what happens outside. Copies lead to the same one.
#[derive(Debug, Clone)]
pub struct Inbox(mpsc::UnboundedSender<Input<Waiter>>);

impl Inbox {
    /// A webhook says: look at this dispatch. Ends when that is settled, or the
    /// deadline has passed.
    pub async fn webhook(&self, id: DispatchId) -> Verdict {
        self.ask(|waiter| Input::Webhook { id, waiter }).await
    }

    /// Asks for a poll, and ends after it.
    pub async fn poll(&self) -> Verdict {
        self.ask(|waiter| Input::Poll { waiter }).await
    }

    /// Deliveries have come so far.
    pub fn delivered(&self, records: Vec<SinkRecord>) {
        // After the end there is nobody who could write it down: it is
        // delivered again after the next start.
        let _ = self.0.send(Input::Delivered(records));
    }

    async fn ask(&self, input: impl FnOnce(Waiter) -> Input<Waiter>) -> Verdict {
        let (waiter, verdict) = oneshot::channel();
        if self.0.send(input(waiter)).is_ok()
            && let Ok(verdict) = verdict.await
        {
            return verdict;
        }
        Verdict::Unavailable {
            reason: "dispatchd is stopping".into(),
            retry_after: std::time::Duration::from_secs(5),
        }
    }
}

/// Runs a machine.
#[derive(Debug)]
pub struct Driver<A, C> {
    machine: Machine<Waiter>,
    api: std::sync::Arc<A>,
    store: StoreHandle,
    clock: C,
    inbox: mpsc::UnboundedReceiver<Input<Waiter>>,
    /// Keeps the inbox open when nobody else does.
    _sender: Inbox,
    views: watch::Sender<View>,
    events: mpsc::UnboundedSender<Vec<Event>>,
    tasks: JoinSet<Input<Waiter>>,
}

impl<A: Api, C: Clock> Driver<A, C> {
    /// A driver of `machine`, where to tell it things, where to see how it
    /// stands, and the events that are to be delivered.
    pub fn new(
        machine: Machine<Waiter>,
        api: A,
        store: StoreHandle,
        clock: C,
    ) -> (
        Self,
        Inbox,
        watch::Receiver<View>,
        mpsc::UnboundedReceiver<Vec<Event>>,
    ) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (views, view) = watch::channel(machine.view());
        let (events, to_deliver) = mpsc::unbounded_channel();
        let driver = Self {
            machine,
            api: std::sync::Arc::new(api),
            store,
            clock,
            inbox,
            _sender: Inbox(sender.clone()),
            views,
            events,
            tasks: JoinSet::new(),
        };
        (driver, Inbox(sender), view, to_deliver)
    }

    /// Runs until `stop`; a commit that is under way then is waited for.
    ///
    /// # Errors
    /// When the store has been taken over, or a task died.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        let mut inputs = Vec::new();
        loop {
            let now = self.clock.now();
            let effects = self.machine.step(now, inputs.drain(..));
            // Whoever is answered must see what it was answered for.
            self.views.send_replace(self.machine.view());
            for effect in effects {
                self.carry_out(effect)?;
            }
            if stop.is_cancelled() && !self.machine.is_writing() {
                return Ok(());
            }
            let wake = self.machine.next_wake();
            tokio::select! {
                _ = self.inbox.recv_many(&mut inputs, AT_ONCE) => {}
                Some(ended) = self.tasks.join_next() => {
                    inputs.push(ended?);
                    while let Some(ended) = self.tasks.try_join_next() {
                        inputs.push(ended?);
                    }
                }
                () = self.clock.sleep_until(wake) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn carry_out(&mut self, effect: Effect<Waiter>) -> Result<(), DriverError> {
        match effect {
            Effect::Ask { asked, question } => {
                let api = std::sync::Arc::clone(&self.api);
                self.tasks.spawn(async move {
                    let result = api.ask(question).await;
                    Input::Told { asked, result }
                });
            }
            Effect::Commit(batch) => {
                let store = self.store.clone();
                self.tasks
                    .spawn(async move { Input::Committed(store.commit(batch).await) });
            }
            Effect::Reply { waiter, verdict } => {
                // A caller that has hung up is told nothing.
                let _ = waiter.send(verdict);
            }
            Effect::Deliver(events) => {
                // Without sinks nobody takes them.
                let _ = self.events.send(events);
            }
            Effect::End(error) => return Err(DriverError::Store(error)),
        }
        Ok(())
    }
}
