//! Keeps the lease of a shared store with the real clock, and publishes whether this
//! daemon leads (rule R14).
//!
//! [`LeaseKeeper`] has two threads. One makes the calls to the store, each of which may
//! block for as long as it likes. The other runs the machine ([`Lease`]) and publishes
//! [`Leadership`]: when the trust runs out, it says so at that time, also while a call is
//! blocked.

mod log;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::log::{LeaseLog, Still};
use crate::clock::{Clock, Mono, SystemClock};
use crate::status::LeaseHealth;
use crate::store::{Candidate, LeaseStore, StoreError};
use crate::sync::{Leadership, Lease, LeaseAnswer, LeaseCall, NextCall, Turns};

/// A call, and the wall clock when it is made.
type ToMake = (LeaseCall, DateTime<Utc>);
type Answer = Result<LeaseAnswer, StoreError>;

/// What a daemon needs to take part in a lease.
#[derive(Debug, Clone)]
pub struct Participant<C = SystemClock> {
    /// What it says of itself.
    pub candidate: Candidate,
    /// What it would lead with, now and later: a secret may be replaced.
    pub fingerprint: watch::Receiver<Arc<str>>,
    /// The clock by which `turns` are told, too.
    pub clock: C,
    /// When its coordinator last finished a turn.
    pub turns: Arc<Turns>,
    /// Why it could not lead. While it could not, it takes nothing over.
    pub barred: watch::Receiver<Option<Arc<str>>>,
    /// Cancelled when this daemon stops and has ended its last attempt: the lease is
    /// then given back.
    pub give_back: CancellationToken,
}

/// Looks at the lease, takes it over and renews it, until it was given back or this is
/// dropped. Without being given back the lease is free when another daemon has watched
/// it for long enough.
#[derive(Debug)]
pub struct LeaseKeeper {
    leadership: watch::Receiver<Leadership>,
    health: watch::Receiver<LeaseHealth>,
    stand_by: UnboundedSender<()>,
}

impl LeaseKeeper {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<C: Clock>(
        store: impl LeaseStore,
        participant: Participant<C>,
    ) -> std::io::Result<Self> {
        let Participant {
            candidate,
            clock,
            fingerprint,
            turns,
            barred,
            give_back,
        } = participant;
        let (calls, to_make) = mpsc::channel();
        let (answer, answers) = unbounded_channel();
        let (stand_by, told_to_stand_by) = unbounded_channel();
        let state = Leadership::Standby { leader: None };
        let (published, leadership) = watch::channel(state);
        let (told, health) = watch::channel(LeaseHealth::default());
        let holder = Arc::clone(&candidate.holder);
        let lease = Lease::new(candidate.holder.clone());
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let keeping = Keeping {
            lease,
            clock,
            turns,
            barred,
            published,
            told,
            log: LeaseLog::new(fingerprint),
            holder,
            last_leader: None,
            claimed_at: None,
            calls,
            under_way: None,
        };
        thread::Builder::new()
            .name("lease-store".into())
            .spawn(move || make_calls(store, &candidate, &to_make, &answer))?;
        thread::Builder::new().name("lease".into()).spawn(move || {
            runtime.block_on(keeping.run(answers, told_to_stand_by, give_back));
        })?;
        Ok(Self {
            leadership,
            health,
            stand_by,
        })
    }

    /// Whether this daemon leads, now and later. Whoever is about to act compares
    /// `trusted_until` with the clock itself.
    ///
    /// The channel closes when the lease was given back, or could not be: the store did
    /// not answer before this was dropped. If it closes before anybody asked for that,
    /// the keeper has died, and the daemon must end.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// How the calls to the store fare, now and later.
    pub fn health(&self) -> watch::Receiver<LeaseHealth> {
        self.health.clone()
    }

    /// A deposed daemon has let go of everything that the lead gave it. From now on it
    /// watches the lease, and may lead again.
    pub fn stand_by(&self) {
        // Nobody listens any more when the lease was given back.
        let _ = self.stand_by.send(());
    }
}

/// Makes calls until nobody asks for one any more.
fn make_calls(
    mut store: impl LeaseStore,
    candidate: &Candidate,
    to_make: &mpsc::Receiver<ToMake>,
    answers: &UnboundedSender<Answer>,
) {
    for (call, wall) in to_make {
        let answer = call.make(&mut store, candidate, wall);
        if answers.send(answer).is_err() {
            return;
        }
    }
}

struct Keeping<C> {
    lease: Lease,
    clock: C,
    turns: Arc<Turns>,
    barred: watch::Receiver<Option<Arc<str>>>,
    published: watch::Sender<Leadership>,
    told: watch::Sender<LeaseHealth>,
    /// This process.
    holder: Arc<str>,
    /// The process that was last seen to lead.
    last_leader: Option<Arc<str>>,
    /// What the newest take-over said of when it was, by the wall clock.
    claimed_at: Option<DateTime<Utc>>,
    log: LeaseLog,
    calls: mpsc::Sender<ToMake>,
    /// The call under way, and a time before it was sent.
    under_way: Option<(LeaseCall, Mono)>,
}

impl<C: Clock> Keeping<C> {
    async fn run(
        mut self,
        mut answers: UnboundedReceiver<Answer>,
        mut stand_by: UnboundedReceiver<()>,
        give_back: CancellationToken,
    ) {
        let mut leaves = false;
        // When this was to go on at the latest.
        let mut awaited = None;
        loop {
            self.lease.turned(self.turns.last());
            self.lease.bar(self.barred.borrow_and_update().is_some());
            let now = self.clock.now();
            let late = awaited.map_or(Duration::ZERO, |awaited| now.mono.saturating_sub(awaited));
            let trusted_until = self.publish(now.mono, late);
            let next = match self.under_way {
                Some(_) => None,
                None => match self.lease.next(now.mono) {
                    NextCall::Now(call) => {
                        if let LeaseCall::TakeOver { .. } = call {
                            self.claimed_at = Some(now.wall);
                        }
                        // The answers end with the thread that makes the calls.
                        let _ = self.calls.send((call.clone(), now.wall));
                        self.under_way = Some((call, now.mono));
                        None
                    }
                    NextCall::At(at) => Some(at),
                    NextCall::Never => return,
                },
            };
            let wake = next.into_iter().chain(trusted_until).min();
            awaited = wake;
            tokio::select! {
                biased;
                () = give_back.cancelled(), if !leaves => {
                    leaves = true;
                    self.log.leaves();
                    self.lease.give_back();
                }
                answer = answers.recv() => match answer {
                    Some(answer) => self.take(answer),
                    // The thread that makes the calls has died.
                    None => return,
                },
                told = stand_by.recv() => match told {
                    Some(()) => self.lease.stand_by(),
                    // The keeper was dropped.
                    None => return,
                },
                Ok(()) = self.barred.changed() => {}
                () = self.clock.sleep_until(wake.unwrap_or(Mono::MAX)), if wake.is_some() => {}
            }
        }
    }

    fn take(&mut self, answer: Answer) {
        let now = self.clock.now().mono;
        if let Some((call, sent)) = self.under_way.take() {
            self.log.answered(&answer, now);
            self.told.send_modify(|health| match &answer {
                Ok(_) => {
                    health.seen = Some(now);
                    health.error = None;
                }
                Err(error) => health.error = Some(error.to_string().into()),
            });
            self.lease.ended(&call, sent, now, answer);
        }
    }

    /// Counts another leader than before.
    fn note_leader(&mut self, leadership: &Leadership) {
        let leader = match leadership {
            Leadership::Leading { .. } => Some(&self.holder),
            Leadership::Standby { leader: Some(row) } if !row.given_back => Some(&row.holder),
            _ => None,
        };
        let Some(leader) = leader.filter(|leader| self.last_leader.as_ref() != Some(leader)) else {
            return;
        };
        let is_ours = *leader == self.holder;
        let counts = self.last_leader.replace(Arc::clone(leader)).is_some();
        // What others read in the lease.
        let since = self.claimed_at.unwrap_or_else(|| self.clock.now().wall);
        self.told.send_modify(|health| {
            health.changes += u64::from(counts);
            if is_ours {
                health.led_since = Some(since);
            }
        });
    }

    /// Publishes and logs what has changed. `late` is how much later this goes on than it
    /// was to. Returns until when this daemon may act, if it may.
    fn publish(&mut self, now: Mono, late: Duration) -> Option<Mono> {
        let leadership = self.lease.leadership(now);
        let trusted_until = match &leadership {
            Leadership::Leading { trusted_until, .. } => Some(*trusted_until),
            _ => None,
        };
        self.note_leader(&leadership);
        let vacant = self.lease.is_vacant();
        self.log.vacant(vacant, self.barred.borrow().as_deref());
        self.told.send_if_modified(|health| {
            let changed = health.vacant != vacant;
            health.vacant = vacant;
            changed
        });
        self.published.send_if_modified(|published| {
            let changed = *published != leadership;
            if changed {
                published.clone_from(&leadership);
            }
            changed
        });
        let still = Still {
            process: late,
            coordinator: now.saturating_sub(self.turns.last()),
        };
        self.log.state(&leadership, still);
        trusted_until
    }
}

#[cfg(test)]
mod tests;
