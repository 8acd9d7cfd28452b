//! Decides what a batch keeps to prove how dispatches were carried out: which answers
//! told a new state, and when each command had to be given.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::engine::{Observation, Outcome, Schedule, SiteChange, SiteChangeKind};
use crate::model::{Answer, CancelReason, Change, ChangeKind, CommandOrigin, Entry, Source};
use crate::store::{NewState, Told, Way};
use crate::sync::batch_builder::AnswerJob;

/// The states that an answer of the API brought: one for each dispatch that it changed.
pub(super) fn new_states(job: &AnswerJob, outcome: &Outcome) -> Vec<NewState> {
    let Observation::Api { request, answer } = &job.observation else {
        return Vec::new();
    };
    let way = match (answer, request.source) {
        (Answer::List(_), _) => Way::List,
        (_, Source::Webhook) => Way::Webhook,
        _ => Way::Check,
    };
    let told = Told {
        way,
        asked: job.asked_at,
        answered: job.answered_at,
    };
    let mut states: Vec<NewState> = Vec::new();
    for change in &outcome.changes {
        let by_answer = matches!(change.source, Source::Webhook | Source::Poll);
        // One observation may bring several changes of a dispatch, one after another.
        let is_known = states
            .last()
            .is_some_and(|last| *last.entry.id() == change.id);
        if by_answer && !is_known {
            states.push(NewState {
                entry: Arc::clone(&change.entry),
                told,
                changed: is_changed(change),
            });
        }
    }
    states
}

/// Whether the dispatch is other than before.
fn is_changed(change: &Change) -> bool {
    let before = change.before.as_ref();
    change.kind == ChangeKind::Cancelled(CancelReason::Withdrawn)
        || before.is_none_or(|before| **before != *change.entry.dispatch)
}

/// Tells of commands why and when they had to be given. Commands that come one after
/// another mostly have the same cause, and share what is told of them.
pub(super) struct Origins<'s> {
    schedule: &'s Schedule,
    /// How long before a start its sites are curtailed.
    lead: Duration,
    now: DateTime<Utc>,
    last: Option<(SiteChangeKind, Source, Arc<CommandOrigin>)>,
}

impl<'s> Origins<'s> {
    /// Of commands that follow from `schedule` at `now`.
    pub fn new(schedule: &'s Schedule, lead: Duration, now: DateTime<Utc>) -> Self {
        Self {
            schedule,
            lead,
            now,
            last: None,
        }
    }

    /// Why and when a command had to be given. `None` if no dispatch caused it: an
    /// operator's order is in no dispatch's proof.
    pub fn of(&mut self, change: &SiteChange) -> Option<Arc<CommandOrigin>> {
        let cause = change.cause.dispatch()?;
        if let Some((kind, source, origin)) = &self.last
            && (*kind, *source, &origin.cause) == (change.kind, change.source, cause)
        {
            return Some(Arc::clone(origin));
        }
        let due = self
            .schedule
            .get(cause)
            .and_then(|entry| due(&entry, change.kind, change.source, self.lead, self.now))
            .map_or(self.now, |due| due.min(self.now));
        let origin = Arc::new(CommandOrigin {
            cause: cause.clone(),
            due,
            // What the clock brings was known before, also where that is noticed late.
            known: match change.source {
                Source::Timer => due,
                _ => self.now,
            },
        });
        self.last = Some((change.kind, change.source, Arc::clone(&origin)));
        Some(origin)
    }
}

/// When a command had to be given because of `entry`, by the schedule. `None` if that
/// was at once.
fn due(
    entry: &Entry,
    kind: SiteChangeKind,
    source: Source,
    lead: Duration,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let lead = TimeDelta::from_std(lead).unwrap_or_default();
    let start = entry.dispatch.start_time.checked_sub_signed(lead);
    let end = entry.dispatch.end_time;
    match kind {
        SiteChangeKind::Curtail => start,
        SiteChangeKind::Release if entry.cancel_reason.is_none() => end,
        SiteChangeKind::Adjust if source == Source::Timer => {
            let passed = [start, end].into_iter().flatten();
            passed.filter(|time| *time <= now).max()
        }
        SiteChangeKind::Release | SiteChangeKind::Adjust => None,
    }
}

#[cfg(test)]
mod tests;
