//! Counts what was committed since the start, for metrics.
//!
//! They are counted as changes are committed, from the coordinator's own inputs
//! alone, and published with its health: whoever shows them as metrics reads
//! them there. So the coordinator stays as deterministic as it was, and a
//! simulation can hold it to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::batch_builder::{CommitUnderWay, Committed};
use crate::engine::{Rules, SiteChange, SiteChangeKind};
use crate::histogram::Histogram;
use crate::model::{Change, ChangeKind, DispatchId, Phase, Source};

/// Bounds for how late something was, in seconds. Starts and ends are written
/// within milliseconds as a rule; what comes due while the daemon is down is
/// late by the length of that.
const LATE: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

/// Bounds for how long a change can have gone unseen, in seconds. At the usual
/// interval a healing takes up to 30.
const UNSEEN: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// Bounds for how long a poll took, in seconds. A list may take a minute.
const POLL: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// What can happen to a dispatch and is brought by an answer of the API.
const BY_ANSWER: [&str; 5] = ["created", "updated", "started", "ended", "cancelled"];
/// What the clock alone can bring.
const BY_TIMER: [&str; 2] = ["started", "ended"];
/// What a site can be told.
const COMMANDS: [&str; 3] = ["curtail", "adjust", "release"];

/// Counts by what happened and what brought it.
pub type ByTypeAndSource = BTreeMap<(&'static str, &'static str), u64>;

/// What the coordinator has done since the start. All that can be counted is there
/// from the beginning, as 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    /// Changes of dispatches that were committed.
    pub changes: ByTypeAndSource,
    /// Commands to sites that were committed.
    pub commands: ByTypeAndSource,
    /// How late what came due by itself was committed, in seconds, by what it
    /// was: `started`, `ended`, or a command to a site.
    pub lateness: BTreeMap<&'static str, Histogram>,
    /// Seconds from the last answer of the API that did not show a change to
    /// the commit of that change, for changes that the poller found and no
    /// webhook brought.
    pub unseen: Histogram,
    /// Seconds that polls took, from question to commit, by outcome:
    /// `succeeded` or `failed`.
    pub polls: BTreeMap<&'static str, Histogram>,
}

impl Default for Counters {
    fn default() -> Self {
        let by_api = [Source::Webhook, Source::Poll];
        let brought = |sources: &[Source], types: &[&'static str]| {
            let mut counts = ByTypeAndSource::new();
            for source in sources {
                counts.extend(types.iter().map(|kind| ((*kind, source.name()), 0)));
            }
            counts
        };
        let mut changes = brought(&by_api, &BY_ANSWER);
        changes.extend(brought(&[Source::Timer], &BY_TIMER));
        let each = |names: &[&'static str], bounds| {
            let histograms = names.iter().map(|name| (*name, Histogram::new(bounds)));
            histograms.collect::<BTreeMap<_, _>>()
        };
        let mut lateness = each(&BY_TIMER, LATE);
        lateness.extend(each(&COMMANDS, LATE));
        Self {
            changes,
            commands: brought(&[Source::Webhook, Source::Poll, Source::Timer], &COMMANDS),
            lateness,
            unseen: Histogram::new(UNSEEN),
            polls: each(&["succeeded", "failed"], POLL),
        }
    }
}

impl Counters {
    /// A poll ended after `took`.
    pub(super) fn poll(&mut self, succeeded: bool, took: Duration) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        if let Some(histogram) = self.polls.get_mut(outcome) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// `done` is committed, at `now`, on top of `before`.
    pub(super) fn commit(
        &mut self,
        done: &CommitUnderWay,
        before: &Committed,
        rules: &Rules,
        now: DateTime<Utc>,
    ) {
        for change in &done.changes {
            let kind = change_name(&change.kind);
            *self
                .changes
                .entry((kind, change.source.name()))
                .or_default() += 1;
            if let Some(due) = change_due(change) {
                self.late(kind, due, now);
            }
        }
        let by_timer: BTreeSet<&DispatchId> = done
            .changes
            .iter()
            .filter(|change| change.source == Source::Timer)
            .map(|change| &change.id)
            .collect();
        for change in &done.site_changes {
            let kind = command_name(change.kind);
            *self
                .commands
                .entry((kind, change.source.name()))
                .or_default() += 1;
            if let Some(due) = command_due(change, &by_timer, done, rules) {
                self.late(kind, due, now);
            }
        }
        for correction in &done.after_commit.heals {
            let known = before
                .schedule
                .get(&correction.id)
                .map(|entry| entry.last_confirmed);
            // What was not known was not in the list before.
            if let Some(last) = known.or(before.sync.last_poll) {
                self.unseen.observe(seconds(now - last));
            }
        }
    }

    fn late(&mut self, kind: &'static str, due: DateTime<Utc>, now: DateTime<Utc>) {
        if let Some(histogram) = self.lateness.get_mut(kind) {
            histogram.observe(seconds(now - due));
        }
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.to_std().unwrap_or_default().as_secs_f64()
}

fn change_name(kind: &ChangeKind) -> &'static str {
    kind.event_type().trim_start_matches("dispatch.")
}

fn command_name(kind: SiteChangeKind) -> &'static str {
    kind.event_type().trim_start_matches("site.")
}

/// When a change was due, if it is one that the clock brought.
fn change_due(change: &Change) -> Option<DateTime<Utc>> {
    let dispatch = &change.entry.dispatch;
    match change.kind {
        _ if change.source != Source::Timer => None,
        ChangeKind::Started => Some(dispatch.start_time),
        ChangeKind::Ended => dispatch.end_time,
        _ => None,
    }
}

/// When a command was due, if the clock brought it: the start less the lead for
/// a dispatch that took hold of the site, the end for one that let go. A command
/// that follows from nothing but other rules after a restart was never due. Nor is the
/// end of an override counted here.
fn command_due(
    change: &SiteChange,
    by_timer: &BTreeSet<&DispatchId>,
    done: &CommitUnderWay,
    rules: &Rules,
) -> Option<DateTime<Utc>> {
    if change.source != Source::Timer {
        return None;
    }
    let cause = change.cause.dispatch()?;
    let entry = done.next.schedule.get(cause)?;
    let holds = change.site.dispatches.binary_search(cause).is_ok();
    let lead_began = holds && entry.phase == Phase::Scheduled;
    if !lead_began && !by_timer.contains(cause) {
        return None;
    }
    if holds {
        Some(rules.lead_start(entry.dispatch.start_time))
    } else {
        entry.dispatch.end_time
    }
}
