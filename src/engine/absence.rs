//! A dispatch that the API does not show. Absence is a question, not an answer
//! (rule R3): the list covers 24 hours and can be wrong.

use std::sync::Arc;

use super::reconcile::Step;
use super::sight::remember_sight;
use crate::model::{Absence, Asked, DispatchId, Entry, Source};
use crate::simulation::defects::{self, Defect};

/// How many polls' look-ups must say 404 before a dispatch counts as withdrawn.
const GONE_ENOUGH: u32 = 2;

impl Step<'_> {
    /// A list that was asked for at `asked` lacks `entry`, which is not over.
    pub(super) fn missing(&mut self, entry: &Entry, asked: Asked) {
        // A list from before the newest 404 or sight, or the same list once
        // more, is not another poll.
        let newest = entry.absence.map(|absence| absence.asked);
        if asked <= entry.asked || newest.is_some_and(|newest| asked <= newest) {
            return;
        }
        let mut entry = entry.clone();
        entry.absence = Some(Absence {
            asked,
            gone: entry.absence.map_or(0, |absence| absence.gone),
            open: true,
        });
        self.outcome.look_ups.push(entry.id().clone());
        self.schedule.put(Arc::new(entry));
    }

    /// The API said that it knows no such dispatch.
    pub(super) fn gone(&mut self, id: &DispatchId, asked: Asked, source: Source) {
        let Some(known) = self.schedule.get(id) else {
            return;
        };
        if asked <= known.asked {
            self.outcome.outdated += 1;
            return;
        }
        // Without a list that lacks it, one 404 proves nothing.
        let Some(absence) = known
            .absence
            .filter(|absence| absence.open && asked > absence.asked)
        else {
            return;
        };
        let mut entry = Entry::clone(&known);
        let gone = absence.gone + 1;
        if gone < GONE_ENOUGH && !defects::is(Defect::OneNotFoundIsEnough) {
            entry.absence = Some(Absence {
                asked,
                gone,
                open: false,
            });
            self.schedule.put(Arc::new(entry));
        } else {
            entry.asked = asked;
            self.withdraw(entry, source);
        }
    }

    /// A dispatch could not be read, but it is there.
    pub(super) fn present(&mut self, id: &DispatchId, asked: Asked) {
        if let Some(known) = self.schedule.get(id) {
            let mut entry = Entry::clone(&known);
            remember_sight(&mut entry, asked);
            self.schedule.put(Arc::new(entry));
        }
    }
}
