//! Applies one observation: (schedule, observation, now) -> (schedule, what changed).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{DoubtChange, Observation, Request, Schedule};
use crate::model::{
    Answer, Asked, CancelReason, Change, ChangeKind, Dispatch, DispatchId, Entry, List,
    OverrideOrder, Phase, Reading, Source,
};

/// What the operator decides about the schedule and its sites, and how much is
/// done at once.
///
/// The same for as long as the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long ended and cancelled dispatches are kept (rule R12).
    pub retain: Duration,
    /// How long before a start its sites are curtailed: the lead (rule R7).
    pub pre_curtail: Duration,
    /// Whether test dispatches curtail sites like any other.
    pub curtail_on_test: bool,
    /// The most due work of one step of the clock. A dispatch counts one, and one
    /// for each of its sites. The next step takes the rest, so that a day on which
    /// everything starts together is decided, written and delivered in pieces.
    pub chunk: usize,
}

/// Few enough that nobody waits for a step, many enough to share a commit.
pub const CHUNK: usize = 8192;

impl Rules {
    /// Until when something over since then is kept, UTC. `None` is for ever.
    pub(super) fn kept_until(&self, over_since: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let retain = TimeDelta::from_std(self.retain).ok()?;
        over_since.checked_add_signed(retain)
    }

    /// Whether something over since then has been kept long enough.
    pub(super) fn is_past(&self, over_since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.kept_until(over_since)
            .is_some_and(|until| until <= now)
    }

    /// When the lead of something that starts then begins, UTC.
    pub(crate) fn lead_start(&self, start: DateTime<Utc>) -> DateTime<Utc> {
        TimeDelta::from_std(self.pre_curtail)
            .ok()
            .and_then(|lead| start.checked_sub_signed(lead))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// What an observation led to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// Entries that were dropped, kept long enough.
    pub pruned: Vec<DispatchId>,
    /// Claims of the API that are not believed yet (rules R2 and R3), raised by
    /// this observation. [`Schedule::checks_due`] tells what to look up for them.
    pub doubts: Vec<DoubtChange>,
    /// Dispatches shown in a way that is not believed: with a lower number than
    /// ours, or in an answer from before a lower number was taken over.
    pub unbelieved: Vec<DispatchId>,
    /// Answers that came too late: a newer one had been taken already.
    pub outdated: u64,
    /// Times that a lower number was taken over: the upstream was restored.
    pub rewinds: u64,
    /// The request and its source, if the API's clock agrees with ours or is not
    /// known. The site plan then undoes leads that began too early.
    pub timed: Option<(Asked, Source)>,
    /// What an operator ordered for a site. It changes no dispatch; the site plan
    /// follows it.
    pub ordered: Option<OverrideOrder>,
}

/// Applies one observation made at `now`: the schedule that follows, and what
/// that changed.
///
/// What came due by `now` is applied first, so that an answer is never compared
/// with a schedule that is behind its time. The clock alone brings no more than
/// one [chunk](Rules::chunk). If there is no other copy of the schedule,
/// nothing is copied.
pub fn reconcile(
    schedule: Schedule,
    observation: &Observation,
    now: DateTime<Utc>,
    rules: &Rules,
) -> (Schedule, Outcome) {
    let mut step = Reconciling {
        schedule,
        outcome: Outcome::default(),
        now,
        rules,
    };
    match observation {
        Observation::Clock => step.advance(rules.chunk),
        Observation::Operator(order) => {
            step.outcome.ordered = Some(order.clone());
            step.advance(usize::MAX);
        }
        Observation::Api { request, answer } => {
            let timed = (request.asked, request.source);
            step.outcome.timed = request.clock_agrees.then_some(timed);
            step.advance(usize::MAX);
            match answer {
                Answer::List(list) => step.list(list, request),
                Answer::Found(reading) => step.reading(reading, request, Shape::LookUp),
                Answer::Gone(id) => step.gone(id, request),
            }
        }
    }
    (step.schedule, step.outcome)
}

/// How a dispatch was asked for. Only a look-up can settle a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    List,
    LookUp,
}

/// The schedule while one observation is applied to it.
pub(super) struct Reconciling<'a> {
    pub schedule: Schedule,
    pub outcome: Outcome,
    pub now: DateTime<Utc>,
    pub rules: &'a Rules,
}

impl Reconciling<'_> {
    /// Applies starts and ends that are due, until `most` dispatches and sites are
    /// counted.
    fn advance(&mut self, most: usize) {
        let mut taken = 0;
        while taken < most
            && let Some(before) = self.schedule.first_due(self.now)
        {
            taken += 1 + before.dispatch.sites.len();
            let mut entry = Entry::clone(&before);
            let mut kinds = Vec::with_capacity(2);
            if !entry.started && entry.dispatch.start_time <= self.now {
                entry.started = true;
                entry.phase = Phase::Active;
                kinds.push(ChangeKind::Started);
            }
            if let Some(end) = entry.dispatch.end_time.filter(|end| *end <= self.now) {
                entry.ended = true;
                entry.phase = Phase::Ended;
                entry.over_since = Some(end);
                // A dispatch that is over needs no check of its absence.
                entry.inquiry.absent = None;
                kinds.push(ChangeKind::Ended);
            }
            let dispatch = Arc::clone(&before.dispatch);
            self.record(entry, Some(dispatch), kinds, Source::Timer);
        }
    }

    /// The whole list: what it shows, what it lacks, and what can be dropped.
    fn list(&mut self, list: &Arc<List>, request: &Request) {
        let asked = request.asked;
        let open = self.schedule.open(list, asked, self.now);
        if list.nameless() == 0 && self.schedule.is_newest_list(asked) {
            self.mass_absence(&open, request);
        }
        for reading in open.iter().filter_map(|open| open.reading) {
            self.reading(reading, request, Shape::List);
        }
        if list.nameless() == 0 {
            for open in open.iter().filter(|open| open.reading.is_none()) {
                self.lacking(&open.id, request);
            }
        }
        if !self.outcome.pruned.is_empty() {
            self.schedule.bump();
        }
        self.schedule.confirm(asked, self.now, open);
    }

    /// The list does not show this dispatch.
    fn lacking(&mut self, id: &DispatchId, request: &Request) {
        let Some(entry) = self.schedule.get(id) else {
            return;
        };
        match entry.over_since {
            None => self.missing(&entry, request),
            Some(since) if request.asked > entry.asked && self.rules.is_past(since, self.now) => {
                self.schedule.remove(id);
                self.outcome.pruned.push(id.clone());
            }
            Some(_) => {}
        }
    }

    /// One dispatch of an answer.
    fn reading(&mut self, reading: &Reading, request: &Request, shape: Shape) {
        match reading {
            Reading::Dispatch(dispatch) => self.upsert(dispatch, request, shape),
            Reading::InPart { dispatch, unread } => {
                let held = self.schedule.get(&dispatch.id);
                let whole = held.map_or_else(
                    || Arc::clone(dispatch),
                    |held| unread.fill_from(dispatch, &held.dispatch),
                );
                self.upsert(&whole, request, shape);
            }
            Reading::Unreadable { id, .. } => {
                self.present(id, request, shape == Shape::LookUp);
            }
        }
    }

    /// Stores `entry` and records one change for each of `kinds`.
    pub(super) fn record(
        &mut self,
        mut entry: Entry,
        before: Option<Arc<Dispatch>>,
        kinds: Vec<ChangeKind>,
        source: Source,
    ) {
        if !kinds.is_empty() {
            entry.last_changed = self.now;
            entry.last_changed_by = source;
        }
        let entry = Arc::new(entry);
        self.schedule.put(Arc::clone(&entry));
        for kind in kinds {
            let revision = self.schedule.bump();
            self.outcome.changes.push(Change {
                id: entry.id().clone(),
                kind,
                entry: Arc::clone(&entry),
                before: before.clone(),
                source,
                at: self.now,
                revision,
            });
        }
    }

    /// Calls a dispatch off.
    pub(super) fn withdraw(&mut self, mut entry: Entry, source: Source) {
        let before = Arc::clone(&entry.dispatch);
        entry.phase = Phase::Cancelled;
        entry.cancel_reason = Some(CancelReason::Withdrawn);
        entry.over_since = Some(self.now);
        entry.inquiry.absent = None;
        entry.inquiry.lower = None;
        let kinds = vec![ChangeKind::Cancelled(CancelReason::Withdrawn)];
        self.record(entry, Some(before), kinds, source);
    }
}
