//! Takes observations in, and builds the batch of one commit from them.

mod after_commit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::announce::Announcer;
use super::heals::Correction;
use super::numbering::{Clocks, Numbering};
use super::recording::{Origins, new_states};
use super::skips::Skip;
use super::waiters::Ticket;
use crate::clock::Now;
use crate::engine::{Observation, Outcome, Rules, Schedule, SiteChange, SitePlan, plan, reconcile};
use crate::model::{
    Answer, Asked, CancelReason, Change, ChangeKind, DispatchId, Entry, Event, HistoryItem,
    OverrideOrder, Reading, SiteId, SiteState, Source,
};
use crate::store::{Batch, SinkRecord, SyncRecord};

pub(super) use after_commit::{AfterCommit, ResponseTaken, WaiterOutcome};

/// The whole state: as committed, or with what was taken in on top of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    pub schedule: Schedule,
    pub plan: SitePlan,
    /// Where the numbering of events stands.
    pub numbering: Numbering,
    pub sync: SyncRecord,
    /// Whether the last commits of an earlier leader may be missing, and the sites were not
    /// told their states once more since.
    pub commits_lost: bool,
    /// All starts and ends up to this time are applied, UTC.
    pub as_of: DateTime<Utc>,
}

impl Committed {
    /// When time alone changes something next, UTC.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        match (self.schedule.next_due(), self.plan.next_due()) {
            (Some(schedule), Some(plan)) => Some(schedule.min(plan)),
            (one, other) => one.or(other),
        }
    }
}

/// Something on its way into the schedule.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// What the API said.
    Answer(AnswerJob),
    /// What an operator ordered, and the operator, who waits until it is on disk.
    Order(OverrideOrder, Ticket),
}

/// An answer of the API on its way into the schedule.
#[derive(Debug, Clone)]
pub(super) struct AnswerJob {
    /// The request that brought it. If a cache answered, the observation's own
    /// request has an earlier place.
    pub asked: Asked,
    /// When the request was issued, UTC.
    pub asked_at: DateTime<Utc>,
    /// When the answer came, UTC.
    pub answered_at: DateTime<Utc>,
    pub observation: Observation,
    /// Those who wait for it, and for which dispatch.
    pub tickets: Vec<(Ticket, DispatchId)>,
    /// The poll that brought it, and whether it was the first one.
    pub poll: Option<(Asked, bool)>,
}

/// A commit that is under way.
#[derive(Debug)]
pub(super) struct CommitUnderWay {
    pub next: Committed,
    pub after_commit: AfterCommit,
    pub events: Vec<Event>,
    pub changes: Vec<Change>,
    pub site_changes: Vec<SiteChange>,
    /// Sites whose override is another than before.
    pub overridden: Vec<Arc<SiteState>>,
    /// What it was made of.
    pub jobs: Vec<Job>,
    /// It deletes old events.
    pub forgets: bool,
}

/// One batch, gathered on top of what is committed or about to be.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    rules: Rules,
    now: Now,
    next: Committed,
    announcer: Announcer,
    /// The entries that are another than before; `None` for one that goes. What was
    /// taken in last holds: what goes may come again in the same commit.
    entries: BTreeMap<DispatchId, Option<Arc<Entry>>>,
    /// The sites, likewise.
    sites: BTreeMap<SiteId, Option<Arc<SiteState>>>,
    batch: Batch,
    after_commit: AfterCommit,
    changes: Vec<Change>,
    site_changes: Vec<SiteChange>,
    overridden: Vec<Arc<SiteState>>,
    jobs: Vec<Job>,
    skips: Vec<Skip>,
    /// A chunk was taken in, and there is more that is due.
    behind: bool,
}

impl BatchBuilder {
    pub fn new(base: &Committed, term: u64, store_id: Arc<str>, rules: Rules, now: Now) -> Self {
        let clocks = Clocks {
            wall: now.wall,
            api: None,
        };
        Self {
            rules,
            now,
            next: base.clone(),
            announcer: Announcer::new(store_id, base.numbering, clocks),
            entries: BTreeMap::new(),
            sites: BTreeMap::new(),
            batch: Batch {
                term,
                expected_revision: base.schedule.revision(),
                ..Batch::default()
            },
            after_commit: AfterCommit::default(),
            changes: Vec::new(),
            site_changes: Vec::new(),
            overridden: Vec::new(),
            jobs: Vec::new(),
            skips: Vec::new(),
            behind: false,
        }
    }

    /// Tells the time by the machine's wall clock, and by the API's if an answer
    /// has shown it.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.announcer.set_clocks(clocks);
    }

    /// The schedule with all that was gathered.
    pub fn schedule(&self) -> &Schedule {
        &self.next.schedule
    }

    /// When time alone changes something next of what was gathered, UTC.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.next.next_due()
    }

    /// The operators whose orders are in it.
    pub fn orders(&self) -> &[Ticket] {
        &self.after_commit.orders
    }

    /// Whether one chunk is in this batch and more is due. The builder then takes
    /// nothing else: the API's answers are compared with a schedule that has
    /// caught up.
    pub fn is_full(&self) -> bool {
        self.behind
    }

    /// Lets the clock say what has come due by `now`.
    pub fn clock(&mut self, now: Now) {
        self.now = now;
        self.observe(&Observation::Clock);
    }

    /// Lets the clock say all that has come due by `now`, in as many chunks as it takes.
    pub fn catch_up(&mut self, now: Now) {
        self.clock(now);
        while self.is_full() {
            self.clock(now);
        }
    }

    /// Takes in what the API said or an operator ordered, at `now`.
    pub fn job(&mut self, job: Job, now: Now) {
        self.now = now;
        match &job {
            Job::Answer(answer) => {
                let (event, waiter) = (self.announcer.len(), self.waiter_count());
                self.answer(answer);
                self.after_commit.responses.push(ResponseTaken {
                    asked: answer.asked,
                    events: event..self.announcer.len(),
                    waiters: waiter..self.waiter_count(),
                });
            }
            Job::Order(order, ticket) => {
                self.observe(&Observation::Operator(order.clone()));
                self.after_commit.orders.push(*ticket);
            }
        }
        self.jobs.push(job);
    }

    fn waiter_count(&self) -> usize {
        self.after_commit.waiter_outcomes.len()
    }

    /// Takes an answer in, and settles what becomes of those who wait.
    fn answer(&mut self, job: &AnswerJob) {
        if job.poll.is_some() && self.next.commits_lost {
            // Not before: what the missing commits have told may differ from what the
            // store has, and the API says which holds.
            self.next.plan.retell();
        }
        let outcome = self.observe(&job.observation);
        self.batch.states.extend(new_states(job, &outcome));
        let changed: BTreeSet<&DispatchId> = if job.tickets.is_empty() {
            BTreeSet::new()
        } else {
            // Changes that the clock made in this step do not come from the
            // answer.
            let by_answer = |change: &&Change| change.source != Source::Timer;
            let changes = outcome.changes.iter().filter(by_answer);
            changes.map(|change| &change.id).collect()
        };
        for (ticket, id) in &job.tickets {
            // An answer from a cache proves nothing to a webhook, also if a newer
            // one replaced it: that one may be older than the webhook.
            let cached = matches!(
                &job.observation,
                Observation::Api { request, .. } if request.asked != job.asked
            );
            let open = outcome.unbelieved.contains(id)
                || job.observation.leaves_open()
                || (outcome.outdated > 0 && (cached || self.is_contradicted(&job.observation)));
            let waiter_outcome = if open {
                WaiterOutcome::Unusable
            } else if changed.contains(id) {
                WaiterOutcome::Changed
            } else {
                self.outcome_of_unchanged(&job.observation, id)
            };
            self.after_commit
                .waiter_outcomes
                .push((*ticket, id.clone(), waiter_outcome));
        }
        if let Some((asked, first)) = job.poll {
            self.after_commit.polls.push(asked);
            self.poll_succeeded();
            if !first {
                self.heals(&outcome, &job.tickets);
            }
        } else if job.tickets.is_empty() {
            // A look-up that a poll asked for.
            self.heals(&outcome, &[]);
        }
        self.after_commit.doubts.extend(outcome.doubts);
    }

    /// Whether a poll is among what was taken in.
    pub fn polled(&self) -> bool {
        !self.after_commit.polls.is_empty()
    }

    /// What was taken in so far.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Returns the jobs, to be taken in again: the commit below this batch has
    /// failed.
    pub fn undo(self) -> Vec<Job> {
        self.jobs
    }

    /// Marks the schedule as stale, and adds the event `sync.stale`.
    pub fn stale(&mut self, now: Now) {
        let sync = SyncRecord {
            stale: true,
            ..self.next.sync
        };
        self.announcer.sync(true, sync.last_poll, now.wall);
        self.set_sync(sync);
    }

    /// Keeps in the history of each dispatch which of its events operators gave up.
    pub fn skips<'s>(&mut self, skips: impl IntoIterator<Item = &'s Skip>) {
        self.skips.extend(skips.into_iter().cloned());
    }

    /// Takes along what came of deliveries.
    pub fn sinks(&mut self, records: impl IntoIterator<Item = SinkRecord>) {
        self.batch.sinks.extend(records);
    }

    /// Everything up to this position is settled at every sink. `None` when there
    /// is no sink.
    pub fn delivered(&mut self, position: Option<u64>) {
        self.batch.delivered = position.unwrap_or(self.next.numbering.position());
    }

    /// Lets old events of sites and of the daemon go.
    pub fn forget(&mut self, now: Now) {
        self.batch.forget_before = chrono::TimeDelta::from_std(self.rules.retain)
            .ok()
            .and_then(|retain| now.wall.checked_sub_signed(retain));
    }

    /// Writes what is known already, to see whether the store takes it.
    pub fn probe(&mut self) {
        self.set_sync(self.next.sync);
    }

    /// The batch, and what follows once it is committed.
    pub fn finish(mut self, now: Now) -> (Batch, CommitUnderWay) {
        // A later observation of this batch may have added the dispatch that an
        // earlier one did not know.
        let mut waiter_outcomes = std::mem::take(&mut self.after_commit.waiter_outcomes);
        for (_, id, waiter_outcome) in &mut waiter_outcomes {
            if *waiter_outcome == WaiterOutcome::Unknown {
                *waiter_outcome = self.outcome_of_not_found(id);
            }
        }
        self.after_commit.waiter_outcomes = waiter_outcomes;
        let (events, numbering) = self.announcer.finish();
        let mut next = self.next;
        next.numbering = numbering;
        if !self.behind {
            next.as_of = now.wall;
        }
        let mut batch = self.batch;
        batch.revision = next.schedule.revision();
        (batch.entries, batch.pruned) = kept_and_gone(self.entries);
        (batch.sites, batch.forgotten) = kept_and_gone(self.sites);
        batch.events.clone_from(&events);
        for skip in self.skips {
            for id in skip.dispatches {
                let Some(entry) = next.schedule.get(&id) else {
                    continue;
                };
                let event = skip.event.clone();
                let line = HistoryItem::skipped(event, batch.revision, entry.phase, skip.at);
                batch.skipped.push((id, line));
            }
        }
        let under_way = CommitUnderWay {
            next,
            after_commit: self.after_commit,
            events,
            changes: self.changes,
            site_changes: self.site_changes,
            overridden: self.overridden,
            jobs: self.jobs,
            forgets: batch.forget_before.is_some(),
        };
        (batch, under_way)
    }

    fn observe(&mut self, observation: &Observation) -> Outcome {
        let schedule = std::mem::take(&mut self.next.schedule);
        let (schedule, outcome) = reconcile(schedule, observation, self.now.wall, &self.rules);
        self.next.schedule = schedule;
        for change in &outcome.changes {
            self.announcer.change(change);
            let entry = Some(Arc::clone(&change.entry));
            self.entries.insert(change.id.clone(), entry);
            let item = HistoryItem::from(change);
            self.batch.history.push((change.id.clone(), item));
        }
        for id in &outcome.pruned {
            self.entries.insert(id.clone(), None);
        }
        self.plan_sites(&outcome);
        self.changes.extend_from_slice(&outcome.changes);
        self.after_commit.outdated += outcome.outdated;
        self.after_commit.rewinds += outcome.rewinds;
        self.behind = self.next_due().is_some_and(|due| due <= self.now.wall);
        outcome
    }

    /// Whether all sites whose sinks have changed were told.
    pub fn is_rerouted(&self) -> bool {
        self.next.plan.is_rerouted()
    }

    /// Lets the sites follow the schedule.
    fn plan_sites(&mut self, outcome: &Outcome) {
        let retells = self.next.plan.is_retelling();
        let planned = plan(
            std::mem::take(&mut self.next.plan),
            &self.next.schedule,
            outcome,
            self.now.wall,
            &self.rules,
        );
        self.next.plan = planned.plan;
        if retells && !self.next.plan.is_retelling() {
            self.next.commits_lost = false;
            self.batch.commits_made_up = true;
            self.after_commit.retold = Some(planned.changes.len());
        }
        for site in planned.overridden {
            self.sites.insert(site.id.clone(), Some(Arc::clone(&site)));
            self.overridden.push(site);
        }
        for note in planned.notes {
            let Some(entry) = self.next.schedule.get(&note.dispatch) else {
                continue;
            };
            let (revision, at) = (self.next.schedule.revision(), self.now.wall);
            let line = HistoryItem::overridden(&note, revision, entry.phase, at);
            self.batch.skipped.push((note.dispatch, line));
        }
        let lead = self.rules.pre_curtail;
        let mut origins = Origins::new(&self.next.schedule, lead, self.now.wall);
        for change in &planned.changes {
            let origin = origins.of(change);
            self.announcer.site(change, origin, self.now.wall);
            let site = Some(Arc::clone(&change.site));
            self.sites.insert(change.site.id.clone(), site);
        }
        let forgotten = planned.forgotten.into_iter().map(|id| (id, None));
        self.sites.extend(forgotten);
        self.site_changes.extend(planned.changes);
    }

    /// Whether the schedule and this look-up have the same number and different
    /// content. One of the two answers could then not be read in part.
    fn is_contradicted(&self, observation: &Observation) -> bool {
        let Observation::Api {
            answer: Answer::Found(Reading::Dispatch(seen)),
            ..
        } = observation
        else {
            return false;
        };
        let held = self.next.schedule.get(&seen.id);
        held.is_some_and(|held| {
            let same_number = held.dispatch.modification_number == seen.modification_number;
            same_number && held.dispatch != *seen
        })
    }

    /// What came of an observation for a webhook whose dispatch it did not change.
    fn outcome_of_unchanged(&self, observation: &Observation, id: &DispatchId) -> WaiterOutcome {
        let Observation::Api { answer, .. } = observation else {
            return WaiterOutcome::NothingNew;
        };
        match answer {
            Answer::Found(_) | Answer::List(_) => WaiterOutcome::NothingNew,
            Answer::Gone(_) => self.outcome_of_not_found(id),
        }
    }

    /// What to tell of a dispatch that the API does not know.
    fn outcome_of_not_found(&self, id: &DispatchId) -> WaiterOutcome {
        match self.next.schedule.get(id) {
            None => WaiterOutcome::Unknown,
            Some(entry) if entry.phase.is_over() => WaiterOutcome::NothingNew,
            Some(_) => WaiterOutcome::GoneButLive,
        }
    }

    /// Counts the dispatches that a poll changed and for which nobody waited.
    fn heals(&mut self, outcome: &Outcome, awaited: &[(Ticket, DispatchId)]) {
        const WITHDRAWN: ChangeKind = ChangeKind::Cancelled(CancelReason::Withdrawn);
        let found = outcome.changes.iter().filter(|change| {
            let is_awaited = awaited.iter().any(|(_, id)| *id == change.id);
            change.source == Source::Poll && !is_awaited
        });
        let mut healed: Vec<Correction> = found
            .map(|change| Correction {
                id: change.id.clone(),
                withdrawn: change.kind == WITHDRAWN,
            })
            .collect();
        // The changes of one dispatch follow one another. A withdrawal is its only one.
        healed.dedup_by(|one, before| one.id == before.id);
        self.after_commit.heals.extend(healed);
    }

    fn poll_succeeded(&mut self) {
        if self.next.sync.stale {
            self.announcer
                .sync(false, Some(self.now.wall), self.now.wall);
        }
        self.set_sync(SyncRecord {
            last_poll: Some(self.now.wall),
            stale: false,
        });
    }

    fn set_sync(&mut self, sync: SyncRecord) {
        self.next.sync = sync;
        self.batch.sync = Some(sync);
    }
}

/// What is written of these, and which of them go.
fn kept_and_gone<K, V>(rows: BTreeMap<K, Option<V>>) -> (Vec<V>, Vec<K>) {
    let mut kept = Vec::with_capacity(rows.len());
    let mut gone = Vec::new();
    for (key, row) in rows {
        match row {
            Some(row) => kept.push(row),
            None => gone.push(key),
        }
    }
    (kept, gone)
}
