//! What the API seems to say and is not believed yet: that a dispatch is gone
//! (rule R3), or that its number went back (rule R2).
//!
//! Both are questions that two answers by id settle. A [`Doubt`] is raised by
//! the first answer that makes the claim, is checked by look-ups, and ends with
//! the second answer by id that confirms the claim, or with a newer answer that
//! says otherwise.

use std::sync::Arc;
use std::time::Duration;

use super::Request;
use super::last_list::Open;
use super::reconcile::Reconciling;
use crate::clock::Mono;
use crate::model::{Asked, DispatchId, Doubt, DoubtKind, Entry, FirstAnswer};

/// The two requests whose answers confirm a claim are issued at least this far
/// apart: a replica or a cache that lags by less confirms nothing.
const CONFIRM_AFTER: Duration = Duration::from_secs(10);

/// A list that lacks more than so many live dispatches, and more than half of
/// them, is rather wrong than right.
const MASS_ABSENCE: usize = 10;

/// How long lists must go on lacking so many before absence counts again.
const MASS_ABSENCE_LASTS: Duration = Duration::from_secs(600);

/// Lists lack most of the live dispatches. Until that has lasted for ten
/// minutes nothing is looked up for its absence, and no 404 counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassAbsence {
    /// When the first such list was asked for, on the clock that does not jump.
    pub since: Mono,
    /// How many live dispatches the newest list lacks.
    pub absent: usize,
    /// How many live dispatches there were then.
    pub live: usize,
}

impl MassAbsence {
    /// From then absence counts again, even if lists still lack most dispatches.
    pub fn until(&self) -> Mono {
        self.since + MASS_ABSENCE_LASTS
    }
}

/// A claim that was raised or settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubtChange {
    /// The dispatch.
    pub id: DispatchId,
    /// What the API seems to say.
    pub kind: DoubtKind,
}

impl Reconciling<'_> {
    /// Takes in how many live dispatches a complete list lacks.
    pub(super) fn mass_absence(&mut self, open: &[Open], request: &Request) {
        let live = self.schedule.live();
        let absent = open
            .iter()
            .filter(|open| open.reading.is_none())
            .filter_map(|open| self.schedule.get(&open.id))
            .filter(|entry| !entry.phase.is_over() && request.asked > entry.last_shown())
            .count();
        let mass = absent > MASS_ABSENCE && absent * 2 > live;
        let since = self.schedule.mass_absence.map(|mass| mass.since);
        self.schedule.mass_absence = mass.then(|| MassAbsence {
            since: since.unwrap_or(request.issued),
            absent,
            live,
        });
    }

    /// A complete list lacks `entry`, which is not over.
    pub(super) fn missing(&mut self, entry: &Entry, request: &Request) {
        if request.asked <= entry.last_shown() {
            return;
        }
        let absent = match entry.inquiry.absent {
            Some(doubt) if request.asked <= doubt.newest => return,
            Some(doubt) => Doubt {
                newest: request.asked,
                ..doubt
            },
            None => self.raise(entry.id(), DoubtKind::Absent, request),
        };
        let mut entry = entry.clone();
        entry.inquiry.absent = Some(absent);
        self.schedule.put(Arc::new(entry));
    }

    /// The API said by id that it knows no such dispatch.
    pub(super) fn gone(&mut self, id: &DispatchId, request: &Request) {
        let Some(known) = self.schedule.get(id) else {
            return;
        };
        if request.asked <= known.asked {
            self.outcome.outdated += 1;
            return;
        }
        let mut entry = Entry::clone(&known);
        let inquiry = &mut entry.inquiry;
        inquiry.lower = inquiry
            .lower
            .and_then(|doubt| contradicted(doubt, request.asked))
            .map(|doubt| postpone(doubt, request));
        // Without a list that lacks it a 404 proves nothing.
        if let Some(doubt) = inquiry.absent
            && !self.is_mass_absence(request)
        {
            match confirm(doubt, request) {
                Confirmed::Yes => {
                    entry.asked = request.asked;
                    return self.withdraw(entry, request.source);
                }
                Confirmed::NotYet(doubt) => inquiry.absent = Some(doubt),
            }
        }
        self.schedule.put(Arc::new(entry));
    }

    fn is_mass_absence(&self, request: &Request) -> bool {
        let mass = self.schedule.mass_absence;
        mass.is_some_and(|mass| request.issued < mass.until())
    }

    /// The API showed `id` in a form that could not be read.
    pub(super) fn present(&mut self, id: &DispatchId, request: &Request, by_id: bool) {
        let Some(known) = self.schedule.get(id) else {
            return;
        };
        let mut entry = Entry::clone(&known);
        shown(&mut entry, request.asked);
        // It tells nothing of the number.
        let lower = entry.inquiry.lower;
        entry.inquiry.lower = lower.map(|doubt| {
            if by_id {
                postpone(doubt, request)
            } else {
                doubt
            }
        });
        self.schedule.put(Arc::new(entry));
    }

    /// The API showed a lower number for `known` than ours. Says whether that is
    /// confirmed now.
    pub(super) fn lower(&mut self, known: &Entry, request: &Request, by_id: bool) -> bool {
        let doubt = match known.inquiry.lower {
            Some(doubt) => Doubt {
                newest: doubt.newest.max(request.asked),
                ..doubt
            },
            // An answer by id that raises the doubt is also the first of the two
            // answers, so `since` lies before its request.
            None => Doubt {
                since: known.asked,
                ..self.raise(known.id(), DoubtKind::Lower, request)
            },
        };
        let doubt = match by_id.then(|| confirm(doubt, request)) {
            Some(Confirmed::Yes) => return true,
            Some(Confirmed::NotYet(doubt)) => doubt,
            None => doubt,
        };
        let mut entry = known.clone();
        shown(&mut entry, request.asked);
        entry.inquiry.lower = Some(doubt);
        self.schedule.put(Arc::new(entry));
        false
    }

    fn raise(&mut self, id: &DispatchId, kind: DoubtKind, request: &Request) -> Doubt {
        self.outcome.doubts.push(DoubtChange {
            id: id.clone(),
            kind,
        });
        Doubt {
            since: request.asked,
            newest: request.asked,
            first: None,
            check_at: request.issued,
        }
    }
}

/// An answer by id makes the claim of `doubt`.
fn confirm(doubt: Doubt, request: &Request) -> Confirmed {
    if request.asked <= doubt.since {
        return Confirmed::NotYet(doubt);
    }
    let first = match doubt.first {
        Some(first) if request.asked <= first.asked => first,
        Some(first) if request.issued >= first.issued + CONFIRM_AFTER => return Confirmed::Yes,
        Some(first) => first,
        None => FirstAnswer {
            asked: request.asked,
            issued: request.issued,
        },
    };
    Confirmed::NotYet(Doubt {
        first: Some(first),
        newest: doubt.newest.max(request.asked),
        check_at: doubt.check_at.max(first.issued + CONFIRM_AFTER),
        ..doubt
    })
}

/// Puts the next look-up off to ten seconds after `request`, whose answer neither
/// confirms nor denies the claim.
fn postpone(doubt: Doubt, request: &Request) -> Doubt {
    Doubt {
        check_at: doubt.check_at.max(request.issued + CONFIRM_AFTER),
        ..doubt
    }
}

/// An answer to the request `asked` showed `entry`.
pub(super) fn not_absent(entry: &mut Entry, asked: Asked) {
    let absent = entry.inquiry.absent;
    entry.inquiry.absent = absent.and_then(|doubt| contradicted(doubt, asked));
}

/// An answer to the request `asked` showed `entry` and is not accepted.
fn shown(entry: &mut Entry, asked: Asked) {
    entry.inquiry.shown = entry.inquiry.shown.max(asked);
    not_absent(entry, asked);
}

/// What came of an answer by id that makes the claim of a doubt.
enum Confirmed {
    /// It is the second one, and late enough.
    Yes,
    /// It is not.
    NotYet(Doubt),
}

/// The doubt after an answer that denies the claim. If that request is newer than
/// every answer that made the claim, the doubt ends (`None`). Otherwise it stays,
/// and older answers no longer count.
fn contradicted(doubt: Doubt, asked: Asked) -> Option<Doubt> {
    (asked <= doubt.newest).then(|| Doubt {
        since: doubt.since.max(asked),
        first: doubt.first.filter(|first| first.asked > asked),
        ..doubt
    })
}
