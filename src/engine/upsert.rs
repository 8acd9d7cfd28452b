//! Takes in a dispatch that the API shows: new, newer, the same, or outdated.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Request;
use super::doubts::not_absent;
use super::phase::{Passed, phase};
use super::reconcile::{Reconciling, Shape};
use crate::model::{
    Asked, CancelReason, ChangeKind, Dispatch, Entry, Field, Inquiry, Phase, Source,
};

/// How a dispatch that was seen stands to the one that is known (rule R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Newer, or a confirmation: it counts.
    Newer,
    /// The question was asked before one that was answered already.
    Outdated,
    /// Its request was issued before a lower number was taken over, so it may show
    /// the old number.
    Straggler,
    /// Asked later, yet with a lower number. Either a stale cache upstream, or
    /// the upstream was restored from a backup.
    Lower,
}

fn standing(known: &Entry, seen: &Dispatch, request: &Request) -> Standing {
    let later = request.asked > known.asked;
    let rewound = known.inquiry.rewound;
    if rewound.is_some_and(|rewound| request.issued < rewound) {
        // Its number may be from before the upstream was restored.
        return if later {
            Standing::Straggler
        } else {
            Standing::Outdated
        };
    }
    if known.cancel_reason == Some(CancelReason::Withdrawn) && !later {
        // It may carry a higher number and still be from before it was gone.
        return Standing::Outdated;
    }
    match (seen.modification_number, known.dispatch.modification_number) {
        // A missing number counts as lower than any.
        (seen, known) if seen < known && later => Standing::Lower,
        (Some(seen), Some(known)) if seen > known => Standing::Newer,
        (seen, known) if seen >= known && later => Standing::Newer,
        _ => Standing::Outdated,
    }
}

impl Reconciling<'_> {
    /// The API showed `dispatch`.
    pub(super) fn upsert(&mut self, dispatch: &Arc<Dispatch>, request: &Request, shape: Shape) {
        let Some(known) = self.schedule.get(&dispatch.id) else {
            return self.add(dispatch, request.asked, request.source);
        };
        match standing(&known, dispatch, request) {
            Standing::Newer => self.accept(&known, dispatch, request, shape),
            Standing::Outdated => self.outcome.outdated += 1,
            Standing::Straggler => {
                self.outcome.outdated += 1;
                self.outcome.unbelieved.push(dispatch.id.clone());
            }
            Standing::Lower if self.lower(&known, request, shape == Shape::LookUp) => {
                self.outcome.rewinds += 1;
                let mut known = Entry::clone(&known);
                known.inquiry.rewound = Some(request.answered);
                self.accept(&known, dispatch, request, shape);
            }
            Standing::Lower => self.outcome.unbelieved.push(dispatch.id.clone()),
        }
    }

    fn add(&mut self, dispatch: &Arc<Dispatch>, asked: Asked, source: Source) {
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
            inquiry: Inquiry::default(),
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

    fn accept(&mut self, known: &Entry, dispatch: &Arc<Dispatch>, request: &Request, shape: Shape) {
        let passed = Passed::since(known, dispatch, self.now, request.clock_agrees);
        let (phase, cancel_reason) = phase(dispatch, passed);
        let mut changed = Field::differences(&known.dispatch, dispatch);
        let kinds = announcements(known.phase, phase, &mut changed);

        let mut entry = Entry::clone(known);
        // The list's own copy is kept: the next list shares it, and is compared by
        // pointer then.
        if !changed.is_empty() || shape == Shape::List {
            entry.dispatch = Arc::clone(dispatch);
        }
        entry.phase = phase;
        entry.cancel_reason = cancel_reason;
        entry.started = passed.started;
        entry.ended = passed.ended;
        entry.asked = known.asked.max(request.asked);
        entry.last_confirmed = self.now;
        entry.over_since = phase.is_over().then(|| {
            let since = known.over_since.unwrap_or(self.now);
            let end = dispatch.end_time.unwrap_or(DateTime::<Utc>::MAX_UTC);
            match known.dispatch.end_time {
                // If the end moved later, the dispatch was not over before the new
                // end.
                Some(thought) if thought < end => since.max(end.min(self.now)),
                _ => since,
            }
        });
        not_absent(&mut entry, request.asked);
        if phase.is_over() {
            // A dispatch that is over needs no check of its absence.
            entry.inquiry.absent = None;
        }
        // The doubt compared the lower number with the old entry, which is
        // replaced now.
        entry.inquiry.lower = None;
        let before = Arc::clone(&known.dispatch);
        self.record(entry, Some(before), kinds, request.source);
    }
}

/// The changes to announce for a move from one phase to the next. No event type
/// says that a dispatch came back: then `phase` is added to the changed fields of
/// the update.
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
