//! What the rules say of phases, and what a listener makes of events: told
//! naively, by scanning instead of indexing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::oracle::{Word, word};
use super::world::{Step, at};
use dispatchd::engine::{Observation, Schedule};
use dispatchd::model::{ChangeKind, Dispatch, DispatchId, Entry, Field, Phase};

/// The phase of a dispatch whose start and end have passed or not.
fn phase_of(dispatch: &Dispatch, started: bool, ended: bool) -> Phase {
    if !dispatch.authorized {
        Phase::Cancelled
    } else if ended
        || dispatch
            .end_time
            .is_some_and(|end| end <= dispatch.start_time)
    {
        Phase::Ended
    } else if started {
        Phase::Active
    } else {
        Phase::Scheduled
    }
}

/// Which times of a dispatch have passed, on a clock that may fall back.
///
/// What passed while it was called off or over was announced to nobody, so the
/// rules leave open whether it counts when the clock falls back: `surely` does
/// not count it, `perhaps` does.
#[derive(Debug)]
pub struct Passed {
    dispatch: Dispatch,
    surely: (bool, bool),
    perhaps: (bool, bool),
}

impl Passed {
    pub fn new(dispatch: &Dispatch) -> Self {
        Self {
            dispatch: dispatch.clone(),
            surely: (false, false),
            perhaps: (false, false),
        }
    }

    /// The upstream says something else: what it moved later has not passed.
    pub fn replace(&mut self, dispatch: &Dispatch) {
        let end = |dispatch: &Dispatch| dispatch.end_time.unwrap_or(DateTime::<Utc>::MAX_UTC);
        if dispatch.start_time > self.dispatch.start_time {
            (self.surely.0, self.perhaps.0) = (false, false);
        }
        if end(dispatch) > end(&self.dispatch) {
            (self.surely.1, self.perhaps.1) = (false, false);
        }
        self.dispatch = dispatch.clone();
    }

    /// An answer by which the clock is right was taken, or perhaps was: what is
    /// more than a minute ahead has not passed.
    pub fn undo(&mut self, now: i64, perhaps: bool) {
        let ahead = |time: DateTime<Utc>| time > at(now + 60);
        let start = ahead(self.dispatch.start_time);
        let end = self.dispatch.end_time.is_some_and(ahead);
        for (concerned, passed) in [(true, &mut self.surely), (!perhaps, &mut self.perhaps)] {
            if concerned {
                *passed = (passed.0 && !start, passed.1 && !end);
            }
        }
    }

    pub fn look(&mut self, now: i64, announced: bool) {
        let started = self.dispatch.start_time <= at(now);
        let ended = self.dispatch.end_time.is_some_and(|end| end <= at(now));
        self.perhaps = (self.perhaps.0 || started, self.perhaps.1 || ended);
        if announced {
            self.surely = (self.surely.0 || started, self.surely.1 || ended);
        }
    }

    /// The phases that the rules allow, seen at `now`.
    pub fn phases(&self, now: i64) -> std::ops::RangeInclusive<Phase> {
        let started = self.dispatch.start_time <= at(now);
        let ended = self.dispatch.end_time.is_some_and(|end| end <= at(now));
        let (sure_start, sure_end) = self.surely;
        phase_of(&self.dispatch, sure_start || started, sure_end || ended)
            ..=phase_of(&self.dispatch, self.perhaps.0, self.perhaps.1)
    }
}

/// Follows every entry's times over all steps, and calls `check` with what the
/// rules allow after each.
pub fn follow_phases(steps: &[Step], mut check: impl FnMut(&Step, &Entry, &Passed)) {
    let mut known: BTreeMap<DispatchId, Passed> = BTreeMap::new();
    for step in steps {
        known.retain(|id, _| step.before.get(id).is_some());
        for entry in step.before.entries() {
            let passed = known.get_mut(entry.id());
            let passed = passed.expect("an entry that was there is followed");
            passed.look(step.now, !entry.phase.is_over());
        }
        for entry in step.after.entries() {
            let passed = known.entry(entry.id().clone());
            let passed = passed.or_insert_with(|| Passed::new(&entry.dispatch));
            passed.replace(&entry.dispatch);
            let shown = matches!(word(step, entry.id()), Some((_, Word::Shows(_))));
            if let (true, Observation::Api { request, .. }) = (shown, &step.observation)
                && request.clock_agrees
            {
                let before = step.before.get(entry.id());
                let newer = before.is_none_or(|before| before.asked < request.asked);
                passed.undo(step.now, !newer || entry.asked != request.asked);
            }
            let confirmed = shown && entry.last_confirmed == at(step.now);
            let withdrawn = entry.dispatch.authorized && entry.phase == Phase::Cancelled;
            passed.look(
                step.now,
                confirmed && entry.dispatch.authorized && !withdrawn,
            );
            check(step, &entry, passed);
        }
    }
}

/// Where a listener believes a dispatch to stand, who hears only events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    Unknown,
    In(Phase),
    /// It came back; what follows tells to where, and nothing means scheduled.
    Back,
    /// Its start moved later.
    Postponed,
}

impl Belief {
    /// What it makes of an event, told right after `previous`. `None` when the
    /// contract does not allow it there.
    pub fn hear(self, kind: &ChangeKind, previous: Option<&ChangeKind>) -> Option<Self> {
        let updated = matches!(previous, Some(ChangeKind::Updated { .. }));
        match (self, kind) {
            (Self::Unknown, ChangeKind::Created) => Some(Self::In(Phase::Scheduled)),
            (Self::In(Phase::Scheduled) | Self::Back, ChangeKind::Started) => {
                Some(Self::In(Phase::Active))
            }
            (Self::Unknown | Self::In(Phase::Active) | Self::Back, ChangeKind::Ended) => {
                Some(Self::In(Phase::Ended))
            }
            // Only an update ends what has not started.
            (Self::In(Phase::Scheduled), ChangeKind::Ended) if updated => {
                Some(Self::In(Phase::Ended))
            }
            (Self::Unknown, ChangeKind::Cancelled(_)) => Some(Self::In(Phase::Cancelled)),
            (Self::In(phase), ChangeKind::Cancelled(_)) => {
                (phase != Phase::Cancelled && !updated).then_some(Self::In(Phase::Cancelled))
            }
            (Self::In(phase), ChangeKind::Updated { changed }) => {
                match (changed.contains(&Field::Phase), phase) {
                    (false, _) => (!changed.is_empty()).then_some(self),
                    (true, Phase::Ended | Phase::Cancelled) => Some(Self::Back),
                    (true, Phase::Active) => Some(Self::Postponed),
                    (true, Phase::Scheduled) => None,
                }
            }
            _ => None,
        }
    }

    /// What it believes when nothing more is told.
    pub fn settle(self) -> Self {
        match self {
            Self::Back | Self::Postponed => Self::In(Phase::Scheduled),
            settled => settled,
        }
    }
}

/// The fields in which two dispatches differ, told from their JSON.
pub fn differences(before: &Dispatch, after: &Dispatch) -> BTreeSet<String> {
    let fields = |dispatch| match serde_json::to_value(dispatch) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("a dispatch is an object, not {other:?}"),
    };
    let (before, after): (serde_json::Map<_, _>, _) = (fields(before), fields(after));
    let names = before.keys().chain(after.keys());
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

/// The next start or end of any entry.
pub fn next_due(schedule: &Schedule) -> Option<DateTime<Utc>> {
    let due = schedule.entries().filter_map(|entry| match entry.phase {
        Phase::Scheduled => Some(entry.dispatch.start_time),
        Phase::Active => entry.dispatch.end_time,
        Phase::Ended | Phase::Cancelled => None,
    });
    due.min()
}
