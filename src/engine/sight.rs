//! A dispatch that the API shows: new, newer, the same, or too late.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::phase::{Passed, phase};
use super::reconcile::{Shape, Step};
use crate::model::{
    Absence, Asked, CancelReason, ChangeKind, Dispatch, Entry, Field, Phase, Source,
};
use crate::simulation::defects::{self, Defect};

/// How a dispatch that was seen stands to the one that is known (rule R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Newer, or a confirmation: it counts.
    Newer,
    /// The question was asked before one that was answered already.
    Outdated,
    /// Asked later, yet with a lower number. Either a stale cache upstream, or
    /// the upstream was restored from a backup.
    Lower,
}

fn standing(known: &Entry, seen: &Dispatch, asked: Asked) -> Standing {
    let later = asked > known.asked || defects::is(Defect::OlderAnswerWins);
    if known.cancel_reason == Some(CancelReason::Withdrawn) && !later {
        // It may carry a higher number and still be from before it was gone.
        return Standing::Outdated;
    }
    match (seen.modification_number, known.dispatch.modification_number) {
        (Some(seen), Some(known)) if seen > known => Standing::Newer,
        (Some(seen), Some(known)) if seen < known && later => Standing::Lower,
        _ if later => Standing::Newer,
        _ => Standing::Outdated,
    }
}

impl Step<'_> {
    /// The API showed `dispatch`.
    pub(super) fn see(
        &mut self,
        dispatch: &Arc<Dispatch>,
        asked: Asked,
        source: Source,
        shape: Shape,
    ) {
        let Some(known) = self.schedule.get(&dispatch.id) else {
            return self.first_sight(dispatch, asked, source);
        };
        match standing(&known, dispatch, asked) {
            Standing::Newer => self.accept(&known, dispatch, asked, source, shape),
            Standing::Outdated => self.outcome.outdated += 1,
            Standing::Lower => {
                let confirmed =
                    shape == Shape::LookUp && known.rewind.is_some_and(|first| asked > first);
                if confirmed || defects::is(Defect::RewindBelieved) {
                    self.outcome.rewinds += 1;
                    self.accept(&known, dispatch, asked, source, shape);
                } else {
                    let mut entry = Entry::clone(&known);
                    entry.rewind.get_or_insert(asked);
                    remember_sight(&mut entry, asked);
                    self.schedule.put(Arc::new(entry));
                    self.outcome.look_ups.push(dispatch.id.clone());
                }
            }
        }
    }

    fn first_sight(&mut self, dispatch: &Arc<Dispatch>, asked: Asked, source: Source) {
        let passed = Passed::at(dispatch, self.now);
        let (phase, cancel_reason) = phase(dispatch, passed);
        let over_since = phase
            .is_over()
            .then(|| dispatch.end_time.map_or(self.now, |end| end.min(self.now)));
        if over_since.is_some_and(|since| self.rules.is_past(since, self.now)) {
            return;
        }
        let entry = Entry {
            dispatch: Arc::clone(dispatch),
            phase,
            cancel_reason,
            started: passed.started,
            ended: passed.ended,
            first_seen: self.now,
            last_changed: self.now,
            last_confirmed: self.now,
            over_since,
            discovered_by: source,
            last_changed_by: source,
            asked,
            absence: None,
            rewind: None,
        };
        let kinds = match (phase, cancel_reason) {
            (Phase::Cancelled, reason) => {
                vec![ChangeKind::Cancelled(
                    reason.unwrap_or(CancelReason::Unauthorized),
                )]
            }
            (Phase::Ended, _) => vec![ChangeKind::Ended],
            (Phase::Active, _) => vec![ChangeKind::Created, ChangeKind::Started],
            (Phase::Scheduled, _) => vec![ChangeKind::Created],
        };
        self.record(entry, None, kinds, source);
    }

    fn accept(
        &mut self,
        known: &Entry,
        dispatch: &Arc<Dispatch>,
        asked: Asked,
        source: Source,
        shape: Shape,
    ) {
        let passed = Passed::since(known, dispatch, self.now);
        let (phase, cancel_reason) = phase(dispatch, passed);
        let mut changed = Field::differences(&known.dispatch, dispatch);
        let kinds = announcements(known.phase, phase, &mut changed);

        let mut entry = Entry::clone(known);
        // The next list shares what it has in common with this one.
        if !changed.is_empty() || shape == Shape::List {
            entry.dispatch = Arc::clone(dispatch);
        }
        entry.phase = phase;
        entry.cancel_reason = cancel_reason;
        entry.started = passed.started;
        entry.ended = passed.ended;
        entry.asked = known.asked.max(asked);
        entry.last_confirmed = self.now;
        entry.over_since = phase.is_over().then(|| {
            let since = known.over_since.unwrap_or(self.now);
            let end = dispatch.end_time.unwrap_or(DateTime::<Utc>::MAX_UTC);
            match known.dispatch.end_time {
                // What ends later than was thought was not over before that.
                Some(thought) if thought < end => since.max(end.min(self.now)),
                _ => since,
            }
        });
        // A lower number was compared with what was known until now.
        entry.rewind = None;
        speak_for_presence(&mut entry, asked);
        self.record(entry, Some(Arc::clone(&known.dispatch)), kinds, source);
    }
}

/// What announces the way from one phase to the next. `phase` joins `changed`
/// where no event of its own tells that the dispatch came back.
fn announcements(from: Phase, to: Phase, changed: &mut Vec<Field>) -> Vec<ChangeKind> {
    if to == Phase::Cancelled && from != Phase::Cancelled {
        return vec![ChangeKind::Cancelled(CancelReason::Unauthorized)];
    }
    let came_back = from != to && (from.is_over() || to == Phase::Scheduled);
    if came_back {
        changed.insert(0, Field::Phase);
    }
    let mut kinds = Vec::with_capacity(2);
    if !changed.is_empty() {
        kinds.push(ChangeKind::Updated {
            changed: changed.clone(),
        });
    }
    match to {
        Phase::Active if from != to => kinds.push(ChangeKind::Started),
        Phase::Ended if from != to => kinds.push(ChangeKind::Ended),
        _ => {}
    }
    kinds
}

/// An answer that shows a dispatch ends the suspicion that it is gone, unless
/// what raised the suspicion was asked later. An earlier 404 is forgotten even
/// then: it may be older than the answer.
fn speak_for_presence(entry: &mut Entry, asked: Asked) {
    match &mut entry.absence {
        Some(absence) if asked > absence.asked => entry.absence = None,
        Some(absence) if absence.open => absence.gone = 0,
        _ => {}
    }
}

/// An answer that shows a dispatch and is not taken over speaks for presence
/// too. It is remembered, so that nothing from before it speaks for absence.
pub(super) fn remember_sight(entry: &mut Entry, asked: Asked) {
    speak_for_presence(entry, asked);
    entry.absence.get_or_insert(Absence {
        asked,
        gone: 0,
        open: false,
    });
}
