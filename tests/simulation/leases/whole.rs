//! Whole daemons: while a process leads, its coordinator, engine and outboxes run on the
//! one database, and what they do is carried out in a world that can be cut anywhere.
//!
//! The upstream, its API and the receivers are those of the world of one daemon. The API
//! tells no lies here: that world has enough of them.

mod checks;
mod database;
mod effects;
mod lead;
mod outside;
mod plan;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use dispatchd::clock::Mono;
use dispatchd::delivery::Attempt;
use dispatchd::model::{Asked, DispatchId, Event as Told};
use dispatchd::store::{MemoryStore, StoreError};
use dispatchd::sync::{Input, Leadership, LeaseAnswer};
use rand::RngExt;

use self::checks::Checks;
use self::database::{Database, Reply, Request};
use self::lead::Lead;
use super::process::Request as LeaseRequest;
use super::{Event, World};
use crate::api::{Prepared, SimulatedApi};
use crate::convergence;
use crate::receivers::Receiver;
use crate::upstream::Upstream;
use crate::violation::{Checked, Violation, must};

pub use lead::Lead as RunningLead;
pub use plan::{WholePlan, generate};

/// A sender gives up waiting for the answer to a webhook.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(10);

/// For so long all must be right to be right.
const STAYS_RIGHT: Duration = Duration::from_secs(3);

/// Which lead something belongs to: that of another term is not told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    pub process: usize,
    pub life: u64,
    pub term: u64,
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub struct Webhook {
    id: DispatchId,
    /// When the upstream told of the change.
    told: Duration,
    /// The incident's number, for the dice.
    number: u64,
    attempt: u32,
}

/// Something that comes due for a whole daemon.
#[derive(Debug)]
pub enum Happening {
    /// The incident of this number begins.
    Upstream(usize),
    /// A webhook reaches a process.
    Webhook { to: usize, webhook: Webhook },
    /// A new leader has loaded the state, if the database lets it.
    Load(Of),
    /// The API answers.
    Response {
        of: Of,
        asked: Asked,
        asked_at: Duration,
        prepared: Prepared,
    },
    /// A request for the connection that commits reaches the database.
    AtDatabase(Request),
    /// Its answer reaches the process, or the process gives up waiting.
    Replied {
        of: Of,
        call: u64,
        reply: Option<Reply>,
    },
    /// It asks again what became of a commit.
    Settle(Of),
    /// Something is to be told to the coordinator.
    Told(Of, Box<Input<u64>>),
    /// A receiver acts.
    Acts { sink: usize, events: Vec<Told> },
    /// An attempt ends.
    Attempted {
        of: Of,
        sink: usize,
        attempt: u64,
        result: Attempt,
    },
    /// The trust ends, if it was not renewed.
    TrustEnds(Of),
}

impl Happening {
    /// The process that must run to hear of it, and which life of it, if that matters.
    pub fn listener(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Self::Upstream(_) | Self::AtDatabase(_) | Self::Acts { .. } => None,
            Self::Webhook { to, .. } => Some((*to, None)),
            Self::Load(of)
            | Self::Response { of, .. }
            | Self::Replied { of, .. }
            | Self::Settle(of)
            | Self::Told(of, _)
            | Self::Attempted { of, .. }
            | Self::TrustEnds(of) => Some((of.process, Some(of.life))),
        }
    }
}

/// What whole daemons have around them.
pub struct Whole {
    plan: WholePlan,
    upstream: Upstream,
    api: SimulatedApi,
    receivers: Vec<Receiver>,
    /// Webhooks that wait for an answer, by waiter, with the lead that must give it.
    waiting: BTreeMap<u64, (Of, Webhook)>,
    waiters: u64,
    database: Database,
    checks: Checks,
}

impl Whole {
    pub fn new(plan: WholePlan) -> Self {
        let receivers = (0..).zip(&plan.knobs.batches).zip(&plan.knobs.routes);
        Self {
            receivers: receivers
                .map(|((sink, batch), route)| Receiver::new(sink, *batch, *route))
                .collect(),
            upstream: Upstream::default(),
            api: SimulatedApi::default(),
            waiting: BTreeMap::new(),
            waiters: 0,
            database: Database::default(),
            checks: Checks::default(),
            plan,
        }
    }
}

impl Whole {
    /// Another daemon has taken over.
    pub fn taken_over(&mut self) {
        self.database.taken_over();
    }

    /// Whether the database is not the one at which the leader took over.
    pub fn is_replaced(&self) -> bool {
        self.database.is_replaced()
    }

    /// A call to the lease of this database.
    pub fn make(
        &self,
        store: &mut MemoryStore,
        request: &LeaseRequest,
    ) -> Result<LeaseAnswer, StoreError> {
        self.database.make(store, request)
    }
}

impl World {
    pub fn begin_whole(&mut self) {
        let incidents = self.whole.iter().flat_map(|whole| &whole.plan.incidents);
        let begins: Vec<Duration> = incidents.map(|timed| timed.at).collect();
        for (number, at) in begins.into_iter().enumerate() {
            self.after(at, Event::Whole(Happening::Upstream(number)));
        }
        self.database_changed();
    }

    pub fn happens(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Upstream(number) => self.upstream_incident(number),
            Happening::Webhook { to, webhook } => self.webhook(to, webhook),
            Happening::Load(of) => return self.load(of),
            Happening::Response {
                of,
                asked,
                asked_at,
                prepared,
            } => self.response(of, asked, asked_at, prepared),
            Happening::AtDatabase(request) => return self.at_database(request),
            Happening::Replied { of, call, reply } => self.replied(of, call, reply),
            Happening::Settle(of) => self.settle(of),
            Happening::Told(of, input) => self.tell(of, *input),
            Happening::Acts { sink, events } => self.acts(sink, &events),
            Happening::Attempted {
                of,
                sink,
                attempt,
                result,
            } => self.attempted(of, sink, attempt, result),
            Happening::TrustEnds(of) => self.trust_ends(of),
        }
        Ok(())
    }

    fn lead(&mut self, of: Of) -> Option<&mut Lead> {
        let lead = self.processes[of.process].lead.as_mut();
        lead.filter(|lead| lead.of == of)
    }

    pub fn tell(&mut self, of: Of, input: Input<u64>) {
        if let Some(lead) = self.lead(of) {
            lead.daemon.inbox.push(input);
        }
    }

    /// When the next lead is to be stepped, and whose it is.
    pub fn next_step(&self) -> Option<(Duration, usize)> {
        let now = self.now;
        let runs = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.up && process.paused == 0 && process.hung == 0);
        let steps = runs.filter_map(|(number, process)| {
            let lead = process.lead.as_ref()?;
            let next = lead.daemon.next_step(process.mono(now));
            Some((process.world(next).max(now), number))
        });
        steps.min()
    }

    pub fn step_lead(&mut self, number: usize) -> Checked {
        let now = self.now;
        let process = &mut self.processes[number];
        let (shown, wall) = (process.mono(now), process.wall(now));
        let Some(lead) = &mut process.lead else {
            return Ok(());
        };
        let of = lead.of;
        let effects = lead.daemon.step(shown, wall);
        self.finds_replacement(of)?;
        let process = &mut self.processes[number];
        process.lease.turned(shown);
        self.counts.add("daemons: step", 1);
        for effect in effects {
            self.carry_out(of, effect)?;
            if self.lead(of).is_none() {
                return Ok(());
            }
        }
        let ended = self
            .lead(of)
            .is_some_and(|lead| lead.daemon.has_ended(shown));
        if ended {
            self.line(|| format!("{number}.{} has ended its last attempt", of.life));
            self.drop_lead(number);
            self.processes[number].lease.give_back();
            self.act(number);
        }
        Ok(())
    }

    /// Begins a lead where the lease was taken, tells it how long it may act, and drops it
    /// where the lease was lost.
    pub fn follow_leads(&mut self) {
        if self.whole.is_none() {
            return;
        }
        for number in 0..self.processes.len() {
            let now = self.now;
            let process = &mut self.processes[number];
            if !process.up || process.paused > 0 {
                continue;
            }
            let of = |term| Of {
                process: number,
                life: process.life,
                term,
            };
            match process.leadership(now) {
                Leadership::Leading { term, .. }
                    if process.lead.is_none() && process.loading.is_none() =>
                {
                    let of = of(term);
                    process.loading = Some(term);
                    if !process.leaving {
                        let takes = self.roll("load", number).random_range(5..400);
                        self.later(Duration::from_millis(takes), Happening::Load(of));
                    }
                }
                Leadership::Leading { trusted_until, .. } => {
                    self.trust(number, trusted_until);
                }
                Leadership::Suspended { .. } => self.trust(number, Mono::ZERO),
                Leadership::Standby { .. } | Leadership::Deposed { .. } => {
                    process.loading = None;
                    self.drop_lead(number);
                }
            }
        }
    }

    fn trust(&mut self, number: usize, until: Mono) {
        let process = &mut self.processes[number];
        let Some(lead) = process
            .lead
            .as_mut()
            .filter(|lead| lead.trusted_until != until)
        else {
            return;
        };
        lead.trusted_until = until;
        lead.daemon.trust_until(until);
        lead.daemon.wake();
        let of = lead.of;
        let left = process.world(until).saturating_sub(self.now);
        self.later(left, Happening::TrustEnds(of));
    }

    /// The process lets go of its lead, if it has one: whoever waits sees the connection
    /// break. What is on its way to receivers may arrive all the same.
    pub fn drop_lead(&mut self, number: usize) {
        let Some(lead) = self.processes[number].lead.take() else {
            return;
        };
        let Some(whole) = &mut self.whole else {
            return;
        };
        let (of, mut resent) = (lead.of, Vec::new());
        whole.waiting.retain(|_, (waits_for, webhook)| {
            if *waits_for == of {
                resent.push(webhook.clone());
            }
            *waits_for != of
        });
        for webhook in resent {
            self.resend(webhook);
        }
    }

    /// Something comes due for a whole daemon.
    fn later(&mut self, pause: Duration, happening: Happening) {
        self.after(pause, Event::Whole(happening));
    }

    /// Nothing goes wrong any more: runs until all has been right for some time.
    pub fn comes_right(&mut self) -> Checked {
        let Some(whole) = &self.whole else {
            return Ok(());
        };
        let deadline = self.now + convergence::patience(&whole.plan.knobs);
        let mut right_since = None;
        loop {
            let soon = self.now + Duration::from_secs(1);
            while self.advance(soon)? {}
            self.now = soon;
            match self.is_right() {
                Ok(()) if self.now >= *right_since.get_or_insert(self.now) + STAYS_RIGHT => {
                    return self.kept();
                }
                Ok(()) => {}
                Err(violation) if self.now >= deadline => return Err(violation),
                Err(_) => right_since = None,
            }
        }
    }

    fn is_right(&self) -> Checked {
        let Some(whole) = &self.whole else {
            return Ok(());
        };
        let broken = |rule, detail: &str| Violation {
            rule,
            detail: detail.to_owned(),
            at: self.now,
        };
        let mut leading = self.processes.iter().filter(|it| it.leads(self.now));
        let Some((process, lead)) = leading.find_map(|it| Some((it, it.lead.as_ref()?))) else {
            return Err(broken(
                "in the end a daemon leads and has the state",
                "none does",
            ));
        };
        convergence::check(&convergence::Situation {
            now: self.now,
            wall: process.wall(self.now),
            knobs: &whole.plan.knobs,
            upstream: &whole.upstream,
            view: &lead.daemon.coordinator().view(),
            receivers: &whole.receivers,
            durable: &Default::default(),
        })?;
        self.is_made_up_for()
    }

    /// All that was promised is in the database.
    fn kept(&self) -> Checked {
        let stored = self.stored()?;
        let Some(whole) = &self.whole else {
            return Ok(());
        };
        whole.checks.kept(&stored, &whole.upstream, self.now)
    }

    /// In the end, every site has been told once more since commits were lost.
    fn is_made_up_for(&self) -> Checked {
        let lost = self.stored()?.commits_lost;
        self.must(!lost, "lost commits are made up for", String::new)
    }

    fn stored(&self) -> Result<dispatchd::store::Stored, Violation> {
        use dispatchd::store::Store;
        self.store.clone().load().map_err(|error| Violation {
            rule: "the store in memory does not fail",
            detail: error.to_string(),
            at: self.now,
        })
    }

    fn must(&self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Checked {
        must(holds, self.now, rule, detail)
    }
}
