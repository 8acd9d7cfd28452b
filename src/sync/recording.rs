//! Decides what a batch keeps for the records of dispatches: what the API said, and
//! which commands followed, with the times at which they were due.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{Mono, Now};
use crate::engine::{Observation, Outcome, Schedule, SiteChange, SiteChangeKind};
use crate::model::{Answer, CancelReason, Change, ChangeKind, SiteState, Source};
use crate::store::{NewCommand, NewState, Way};

/// The states that an observation brought, one for each dispatch that it changed.
/// `before` is the schedule before it.
pub(super) fn new_states(
    observation: &Observation,
    outcome: &Outcome,
    before: &Schedule,
    now: Now,
) -> Vec<NewState> {
    let Observation::Api { request, answer } = observation else {
        return Vec::new();
    };
    let way = match (answer, request.source) {
        (Answer::List(_), _) => Way::List,
        (_, Source::Webhook) => Way::Webhook,
        _ => Way::Check,
    };
    let mut states: Vec<NewState> = Vec::new();
    for change in &outcome.changes {
        // One observation may bring several changes of a dispatch, one after another.
        let is_known = states.last().is_some_and(|last| last.dispatch == change.id);
        let said = matches!(change.source, Source::Webhook | Source::Poll);
        if is_known || !said || !is_news(change) {
            continue;
        }
        let withdrawn = change.kind == ChangeKind::Cancelled(CancelReason::Withdrawn);
        let body = serde_json::to_string(&change.entry.dispatch).unwrap_or_default();
        states.push(NewState {
            dispatch: change.id.clone(),
            before_seen: before.get(&change.id).map(|entry| entry.last_confirmed),
            way,
            asked: wall(request.issued, now),
            answered: wall(request.answered, now),
            body: (!withdrawn).then(|| Arc::from(body)),
        });
    }
    states
}

/// Whether the API said something else than before.
fn is_news(change: &Change) -> bool {
    let withdrawn = change.kind == ChangeKind::Cancelled(CancelReason::Withdrawn);
    let before = change.before.as_ref();
    withdrawn || before.is_none_or(|before| **before != *change.entry.dispatch)
}

/// A time of the clock that does not jump, by the wall clock as it goes now.
fn wall(at: Mono, now: Now) -> DateTime<Utc> {
    let ago = TimeDelta::from_std(now.mono.saturating_sub(at)).unwrap_or_default();
    now.wall.checked_sub_signed(ago).unwrap_or(now.wall)
}

/// What is kept of a command. `before` is the site as it was, `lead` how long before a
/// start its sites are curtailed.
pub(super) fn new_command(
    change: &SiteChange,
    position: u64,
    before: Option<&SiteState>,
    schedule: &Schedule,
    lead: Duration,
    now: DateTime<Utc>,
) -> NewCommand {
    let held_before = before.map_or(&[][..], |before| &before.dispatches);
    let mut dispatches = vec![change.cause.clone()];
    dispatches.extend_from_slice(&change.site.dispatches);
    dispatches.extend_from_slice(held_before);
    dispatches.sort_unstable();
    dispatches.dedup();
    let due = due(change, schedule, lead, now);
    NewCommand {
        dispatches,
        site: change.site.id.clone(),
        position,
        command: change.kind.event_type(),
        due,
        // The clock decides what was known before, also where it does so late.
        known: match change.source {
            Source::Timer => due,
            _ => now,
        },
    }
}

/// When a command had to be given: never later than it was.
fn due(
    change: &SiteChange,
    schedule: &Schedule,
    lead: Duration,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let Some(entry) = schedule.get(&change.cause) else {
        return now;
    };
    let lead = TimeDelta::from_std(lead).unwrap_or_default();
    let start = entry.dispatch.start_time.checked_sub_signed(lead);
    let end = entry.dispatch.end_time;
    let due = match change.kind {
        SiteChangeKind::Curtail => start,
        SiteChangeKind::Release if entry.cancel_reason.is_none() => end,
        SiteChangeKind::Adjust if change.source == Source::Timer => {
            let passed = [start, end].into_iter().flatten();
            passed.filter(|time| *time <= now).max()
        }
        SiteChangeKind::Release | SiteChangeKind::Adjust => None,
    };
    due.unwrap_or(now).min(now)
}
