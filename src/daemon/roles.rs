//! Takes turns with the other daemons of a shared store: this one stands by until the
//! lease says that it leads, and lets go of everything when another one does (rules R14
//! and R16).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::base::Base;
use super::candidacy::Candidacy;
use super::error::GoneSinks;
use super::kept::{Kept, stored_error};
use super::lead::{Lead, Routes, Sharing, identity};
use super::{DaemonError, Fronts, LeaseKeeper, Participant};
use crate::clock::{Clock, Mono};
use crate::listener::Forward;
use crate::status::{LeaseHealth, LeaseView, Losses, Standby};
use crate::store::{Candidate, LeaseRow, Postgres, StoreError};
use crate::sync::{DriverError, Leadership, Turns};
use crate::trust::Trust;

/// While a new leader loads, somebody must say that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_millis(250);

/// How long loading may take before the lead is let go of.
const LOADING: Duration = Duration::from_secs(60);

/// The pause before it is tried again to load.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// How long a daemon whose commits are refused waits to see who leads instead.
const DEPOSED_WITHIN: Duration = Duration::from_secs(10);

/// How long giving the lease back may take.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The part of a daemon in a shared store.
pub(super) struct Shared {
    database: Postgres,
    /// What it takes part in the lease with.
    participant: Participant,
    keeper: LeaseKeeper,
    leadership: watch::Receiver<Leadership>,
    health: watch::Receiver<LeaseHealth>,
    /// Whether it could lead.
    candidacy: Candidacy,
    /// It has neither led nor seen another daemon lead.
    starting: bool,
    /// Until when this daemon may act, as the lease says.
    trusted: watch::Receiver<Mono>,
    losses: watch::Sender<Losses>,
    /// A lead that is being built, or taken apart. When this daemon stops meanwhile, that
    /// is seen to its end.
    building: Option<JoinHandle<Result<Lead, DaemonError>>>,
    stepping_down: Option<JoinHandle<()>>,
}

impl Shared {
    /// Begins to watch the lease. `listen` is where webhooks come in.
    pub fn join(
        base: &Base,
        database: Postgres,
        candidacy: Candidacy,
        listen: SocketAddr,
    ) -> Result<Self, DaemonError> {
        let config = &base.config;
        let advertise = match &config.advertise {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{listen}"),
        };
        let fingerprint = candidacy.fingerprint();
        let written = Arc::clone(&fingerprint.borrow());
        let participant = Participant {
            candidate: Candidate {
                holder: candidacy.holder(),
                node: config.node.as_str().into(),
                advertise: Some(advertise.into()),
                fingerprint: written,
            },
            fingerprint,
            clock: base.clock,
            turns: Arc::new(Turns::default()),
            barred: candidacy.barred(),
            give_back: CancellationToken::new(),
        };
        let keeper = keep(&database, &participant)?;
        let leadership = keeper.leadership();
        Ok(Self {
            trusted: trusted(leadership.clone()),
            database,
            participant,
            health: keeper.health(),
            keeper,
            leadership,
            candidacy,
            starting: true,
            losses: watch::Sender::new(Losses::default()),
            building: None,
            stepping_down: None,
        })
    }

    /// What the listeners answer while this daemon stands by.
    pub fn standing_by(&self, base: &Base) -> Routes {
        let webhooks = Forward {
            leader: self.leadership.clone(),
            holder: Arc::clone(&self.participant.candidate.holder),
            secret: base.config.webhook_secret.clone(),
            store_secret: Arc::clone(self.database.secret()),
            peers: Arc::clone(&base.peers),
            traffic: Arc::clone(&base.traffic),
            deadline: base.config.webhook_deadline,
            tracer: base.tracer.clone(),
            clock: base.clock,
        };
        let status = Standby {
            lease: self.lease_view(),
            fingerprint: self.candidacy.fingerprint(),
            traffic: Arc::clone(&base.traffic),
            listeners: base.places.clone(),
            identity: identity(&base.config),
            poll_interval: base.config.poll_interval,
            tracer: base.tracer.clone(),
            started_at: base.started_at,
            clock: base.clock,
        };
        Routes {
            webhooks: webhooks.routes(),
            status: status.routes(base.guard.clone()),
        }
    }

    fn lease_view(&self) -> LeaseView {
        LeaseView {
            leadership: self.leadership.clone(),
            health: self.keeper.health(),
            losses: self.losses.subscribe(),
            barred: self.candidacy.barred(),
        }
    }

    /// Leads and stands by as the lease says, until something ends by itself that must not.
    pub async fn take_turns(
        &mut self,
        base: &Arc<Base>,
        fronts: &Fronts,
        lead: &mut Option<Lead>,
    ) -> DaemonError {
        let mut loading_since = None;
        let mut first_seen = None;
        loop {
            let leadership = self.leadership.borrow_and_update().clone();
            if self.starting {
                self.starting = !another_leads(&leadership, &mut first_seen);
                if let Some(reason) = self.ends_its_start() {
                    return DaemonError::Barred(reason);
                }
            }
            match leadership {
                Leadership::Leading { term, .. } if lead.is_none() && self.building.is_none() => {
                    let loads_again = loading_since.is_some();
                    loading_since.get_or_insert(base.clock.now().mono);
                    self.build(base, term, loads_again);
                }
                Leadership::Deposed { .. } => {
                    loading_since = None;
                    self.step_down(base, fronts, lead).await;
                    self.keeper.stand_by();
                }
                _ => {}
            }
            let loads =
                |now: Mono| loading_since.is_some_and(|since| now.saturating_sub(since) < LOADING);
            tokio::select! {
                changed = self.leadership.changed() => if changed.is_err() {
                    return DaemonError::Task("the lease");
                },
                // The channel closes with that of the leadership.
                Ok(()) = self.health.changed(), if self.starting => {}
                built = built(&mut self.building) => match built {
                    Ok(mut built) => {
                        loading_since = None;
                        self.starting = false;
                        if let Some(routes) = built.take_routes() {
                            fronts.set(routes);
                        }
                        base.leads.send_replace(Some(built.leads()));
                        let loaded = built.loaded;
                        tracing::info!(
                            curtailed_sites = loaded.curtailed,
                            "this daemon leads from now on: {loaded}"
                        );
                        if loaded.commits_lost {
                            self.note_loss(base);
                        }
                        *lead = Some(built);
                    }
                    Err(DaemonError::Stored { source, .. }) if may_pass(&source) => {
                        tracing::warn!(error = %source, "this daemon leads, and cannot load the state yet; it tries again");
                        sleep(LOAD_AGAIN).await;
                    }
                    Err(DaemonError::Stored { source: source @ StoreError::Replaced(_), .. }) => {
                        loading_since = None;
                        if let Err(error) = self.let_go(&source, base, fronts, lead).await {
                            return error;
                        }
                    }
                    // Since it was last looked.
                    Err(DaemonError::SinksGone(gone)) => {
                        loading_since = None;
                        if let Err(error) = self.decline(&gone, base, fronts, lead).await {
                            return error;
                        }
                    }
                    Err(error) => return error,
                },
                error = ended(lead) => match error {
                    DaemonError::Driver(DriverError::Store(
                        error @ (StoreError::Fenced | StoreError::Replaced(_)),
                    )) => {
                        if let Err(error) = self.let_go(&error, base, fronts, lead).await {
                            return error;
                        }
                    }
                    DaemonError::Driver(DriverError::Store(error)) => {
                        tracing::warn!(%error, "this daemon lets go of the lead");
                        if !self.is_deposed().await {
                            return DaemonError::Driver(DriverError::Store(error));
                        }
                    }
                    error => return error,
                },
                () = sleep(SIGN_OF_LIFE), if loading_since.is_some() => {
                    let now = base.clock.now().mono;
                    if loads(now) {
                        self.participant.turns.finished(now);
                    }
                }
            }
        }
    }

    /// Why a daemon that has just started, and could not lead, ends: nobody leads, and it
    /// would have to.
    fn ends_its_start(&mut self) -> Option<Arc<str>> {
        if !self.health.borrow_and_update().vacant {
            return None;
        }
        self.participant.barred.borrow().clone()
    }

    /// This daemon leads, and the last commits of an earlier leader may be missing.
    fn note_loss(&self, base: &Base) {
        tracing::error!(
            "commits may have been lost: the database is another server than the former leader wrote to, or \
             has fewer commits than were seen; when the next poll has succeeded, each site of the schedule \
             is told once more whether to curtail"
        );
        let now = base.clock.now().wall;
        self.losses.send_modify(|losses| {
            losses.count += 1;
            losses.last = Some(now);
        });
    }

    /// Begins to build a lead. It blocks, so it has a thread of its own.
    fn build(&mut self, base: &Arc<Base>, term: u64, loads_again: bool) {
        let (base, database) = (Arc::clone(base), self.database.clone());
        let holder = Arc::clone(&self.participant.candidate.holder);
        let sharing = Sharing {
            trust: Trust::renewed(self.trusted.clone(), base.clock),
            turns: Arc::clone(&self.participant.turns),
            lease: self.lease_view(),
            loads_again,
        };
        self.building = Some(spawn_blocking(move || {
            let store = database
                .store(term, &holder)
                .map_err(|source| stored_error(&base.config, source))?;
            let kept = Kept::Database(Box::new(store), database);
            Lead::start(&base, kept, Some(sharing))
        }));
    }

    /// Lets go of everything that the lead has given.
    async fn step_down(&mut self, base: &Base, fronts: &Fronts, lead: &mut Option<Lead>) {
        fronts.set(self.standing_by(base));
        base.leads.send_replace(None);
        let built = match self.building.as_mut() {
            Some(building) => building.await.ok().and_then(Result::ok),
            None => None,
        };
        self.building = None;
        for lead in [lead.take(), built].into_iter().flatten() {
            // Seen to its end also if this daemon stops meanwhile.
            self.stepping_down = Some(TaskTracker::new().spawn(lead.step_down()));
            self.stepped_down().await;
        }
    }

    /// Lets go of everything, also of a lease that this daemon may still have, and takes part
    /// anew under another name, like a process that has just started. So nobody waits for a
    /// leader that cannot commit.
    async fn join_anew(
        &mut self,
        base: &Base,
        fronts: &Fronts,
        lead: &mut Option<Lead>,
    ) -> Result<(), DaemonError> {
        self.participant.candidate.holder = self.candidacy.new_holder();
        self.participant.candidate.fingerprint = self.candidacy.fingerprint().borrow().clone();
        self.keeper = keep(&self.database, &self.participant)?;
        self.leadership = self.keeper.leadership();
        self.health = self.keeper.health();
        // The former keeper is gone, and with it the trust of what it has let lead.
        self.trusted = trusted(self.leadership.clone());
        self.step_down(base, fronts, lead).await;
        Ok(())
    }

    /// Lets go of a lead with which nothing can be committed any more, and stands by.
    async fn let_go(
        &mut self,
        error: &StoreError,
        base: &Base,
        fronts: &Fronts,
        lead: &mut Option<Lead>,
    ) -> Result<(), DaemonError> {
        tracing::warn!(%error, "this daemon lets go of the lead, and stands by");
        self.join_anew(base, fronts, lead).await
    }

    /// Gives a lease back that this daemon has just taken and with which it cannot lead, and
    /// stands by.
    async fn decline(
        &mut self,
        gone: &GoneSinks,
        base: &Base,
        fronts: &Fronts,
        lead: &mut Option<Lead>,
    ) -> Result<(), DaemonError> {
        self.candidacy.cannot_lead(gone);
        tracing::warn!("this daemon gives the lead back at once, since it cannot lead");
        self.give_lease_back().await;
        self.participant.give_back = CancellationToken::new();
        self.join_anew(base, fronts, lead).await
    }

    async fn stepped_down(&mut self) {
        if let Some(task) = self.stepping_down.as_mut() {
            // Nothing of it is left, also if it panicked.
            let _ = task.await;
        }
        self.stepping_down = None;
    }

    /// Waits to see that another daemon leads. `false` if that takes too long.
    async fn is_deposed(&mut self) -> bool {
        let deposed = self
            .leadership
            .wait_for(|leadership| matches!(leadership, Leadership::Deposed { .. }));
        matches!(timeout(DEPOSED_WITHIN, deposed).await, Ok(Ok(_)))
    }

    /// Gives the lease back, now that the last attempt has ended.
    pub async fn give_back(mut self) {
        self.stepped_down().await;
        if let Some(building) = self.building.take()
            && let Ok(Ok(lead)) = building.await
        {
            lead.step_down().await;
        }
        self.give_lease_back().await;
    }

    async fn give_lease_back(&mut self) {
        self.participant.give_back.cancel();
        let given = async { while self.leadership.changed().await.is_ok() {} };
        if timeout(GIVE_BACK, given).await.is_err() {
            let error = self.health.borrow().error.clone();
            let reason = error.as_deref().unwrap_or("the database has not answered");
            tracing::warn!(
                reason,
                "the lease was not given back: another daemon that reaches the database takes over once it has watched it for five seconds"
            );
        }
    }
}

/// Begins to look at the lease.
fn keep(database: &Postgres, participant: &Participant) -> Result<LeaseKeeper, DaemonError> {
    let keeper = LeaseKeeper::start(database.lease(), participant.clone());
    keeper.map_err(|source| DaemonError::System {
        what: "thread",
        source,
    })
}

/// Whether `leadership` shows that another daemon leads: one whose lease has been renewed
/// since it was `first_seen`.
fn another_leads(leadership: &Leadership, first_seen: &mut Option<LeaseRow>) -> bool {
    let Leadership::Standby { leader: Some(row) } = leadership else {
        return false;
    };
    let first_seen = first_seen.get_or_insert_with(|| row.clone());
    !row.given_back && !row.is_still(first_seen)
}

/// Whether a new leader tries again after this error.
fn may_pass(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Database { .. } | StoreError::Unknown(_) | StoreError::Fenced
    )
}

/// Returns when a lead has been built, or could not be, and never if none is built.
async fn built(
    building: &mut Option<JoinHandle<Result<Lead, DaemonError>>>,
) -> Result<Lead, DaemonError> {
    let built = match building {
        Some(building) => building.await,
        None => std::future::pending().await,
    };
    *building = None;
    built.unwrap_or(Err(DaemonError::Task("the store")))
}

/// Returns when a part of the lead has ended, and never if there is none.
async fn ended(lead: &mut Option<Lead>) -> DaemonError {
    match lead {
        Some(lead) => lead.ended().await,
        None => std::future::pending().await,
    }
}

/// Until when this daemon may act. While it does not lead: not at all. While it is
/// suspended: until when it might, which has passed.
fn trusted(mut leadership: watch::Receiver<Leadership>) -> watch::Receiver<Mono> {
    let until = |leadership: &Leadership| match leadership {
        Leadership::Leading { trusted_until, .. } => Some(*trusted_until),
        Leadership::Suspended { .. } => None,
        Leadership::Standby { .. } | Leadership::Deposed { .. } => Some(Mono::ZERO),
    };
    let (sender, trusted) = watch::channel(until(&leadership.borrow()).unwrap_or_default());
    TaskTracker::new().spawn(async move {
        while leadership.changed().await.is_ok() {
            if let Some(until) = until(&leadership.borrow_and_update()) {
                sender.send_replace(until);
            }
        }
        sender.send_replace(Mono::ZERO);
    });
    trusted
}
