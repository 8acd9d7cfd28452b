//! Every change comes from an answer that counts (rules R2 and R3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Durable;
use crate::engine::{Answer, Reading};
use crate::model::{Asked, CancelReason, Dispatch, DispatchId, Entry};
use crate::simulation::oracle;
use crate::simulation::violation::{Checked, must};
use crate::store::Batch;
use crate::voltus::{Question, Told};

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waits,
    InCommit,
    Settled,
}

#[derive(Debug)]
struct Answered {
    asked: Asked,
    list: bool,
    progress: Progress,
    shown: BTreeMap<DispatchId, Vec<Reading>>,
    unreadable: BTreeSet<DispatchId>,
    gone: Option<DispatchId>,
    /// A list all of whose elements have an id.
    complete: bool,
}

impl Answered {
    fn names(&self, id: &DispatchId) -> bool {
        self.shown.contains_key(id) || self.unreadable.contains(id)
    }

    fn lacks(&self, id: &DispatchId) -> bool {
        self.list && self.complete && !self.names(id)
    }

    fn shows(&self, id: &DispatchId, dispatch: &Dispatch) -> bool {
        let shown = self.shown.get(id);
        shown.is_some_and(|shown| shown.iter().any(|shown| oracle::fits(shown, dispatch)))
    }
}

/// The answers of one term.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Answered>);

impl Answers {
    /// An answer comes in.
    pub fn told(&mut self, asked: Asked, question: &Question, told: &Told) {
        let mut answered = Answered {
            asked,
            list: *question == Question::List,
            progress: Progress::Waits,
            shown: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            gone: None,
            complete: true,
        };
        let readings = match &told.answer {
            Answer::List(list) => {
                answered.complete = list.nameless() == 0;
                list.readings()
            }
            Answer::Found(reading) => std::slice::from_ref(reading),
            Answer::Gone(id) => {
                answered.gone = Some(id.clone());
                &[]
            }
        };
        for reading in readings {
            let id = reading.id().clone();
            if reading.dispatch().is_some() {
                answered.shown.entry(id).or_default().push(reading.clone());
            } else {
                answered.unreadable.insert(id);
            }
        }
        self.0.push(answered);
    }

    /// All that waits goes into a commit, except for what is put off to the next.
    pub fn commit_begun(&mut self, put_off: &[Asked]) {
        for answered in &mut self.0 {
            if answered.progress == Progress::Waits && !put_off.contains(&answered.asked) {
                answered.progress = Progress::InCommit;
            }
        }
    }

    /// The commit has ended. Tells whether a list was in it.
    pub fn commit_ended(&mut self, ok: bool) -> bool {
        let in_commit = |answered: &Answered| answered.progress == Progress::InCommit;
        let list = self.0.iter().any(|one| in_commit(one) && one.list);
        if ok {
            self.advance(Progress::InCommit, Progress::Settled);
        } else {
            // A failed commit discards what was built on it (rule R5).
            self.0.retain(|answered| !in_commit(answered));
        }
        list
    }

    /// There was nothing to write. Tells whether a list was taken in.
    pub fn settled(&mut self) -> bool {
        let waits = |answered: &&Answered| answered.progress == Progress::Waits;
        let list = self.0.iter().filter(waits).any(|answered| answered.list);
        self.advance(Progress::Waits, Progress::Settled);
        list
    }

    fn advance(&mut self, from: Progress, to: Progress) {
        for answered in &mut self.0 {
            if answered.progress == from {
                answered.progress = to;
            }
        }
    }

    /// Whether every change of a batch follows from what was told.
    pub fn may_write(&self, batch: &Batch, durable: &Durable, now: Duration) -> Checked {
        for entry in &batch.entries {
            let before = durable.entries.get(entry.id());
            let withdrawn = entry.cancel_reason == Some(CancelReason::Withdrawn);
            let was_withdrawn =
                before.is_some_and(|before| before.cancel_reason == entry.cancel_reason);
            if withdrawn && !was_withdrawn {
                self.may_withdraw(entry.id(), now)?;
            }
            match before {
                Some(before) if before.dispatch == entry.dispatch => {}
                before => self.may_change(before.map(|before| &**before), entry, now)?,
            }
        }
        Ok(())
    }

    /// Rule R2: a higher number, or a later question.
    fn may_change(&self, before: Option<&Entry>, entry: &Entry, now: Duration) -> Checked {
        let id = entry.id();
        let candidates: Vec<&Answered> = self
            .0
            .iter()
            .filter(|answered| answered.progress == Progress::InCommit)
            .filter(|answered| answered.shows(id, &entry.dispatch))
            .collect();
        must(
            !candidates.is_empty(),
            now,
            "what is stored was told",
            || format!("{id} is {:?}, which no answer said", entry.dispatch),
        )?;
        must(
            candidates
                .iter()
                .flat_map(|answered| answered.shown.get(id).into_iter().flatten())
                .any(|reading| oracle::adds_nothing(reading, before, &entry.dispatch)),
            now,
            "a site that could not be read stays, and none is made up",
            || format!("{id} is {:?}, before it was {before:?}", entry.dispatch),
        )?;
        let Some(before) = before else {
            return Ok(());
        };
        // Whoever showed what we had before was the newest so far.
        let seen = self
            .0
            .iter()
            .filter(|answered| answered.progress == Progress::Settled)
            .filter(|answered| answered.shows(id, &before.dispatch))
            .map(|answered| answered.asked)
            .max();
        let numbers = (
            entry.dispatch.modification_number,
            before.dispatch.modification_number,
        );
        let higher = matches!(numbers, (Some(new), Some(old)) if new > old);
        let later = candidates
            .iter()
            .any(|answered| seen.is_none_or(|seen| answered.asked > seen));
        must(higher || later, now, "the newest question wins", || {
            format!("{id}: numbers {numbers:?}, known since question {seen:?}")
        })?;
        let (Some(new), Some(old)) = numbers else {
            return Ok(());
        };
        if new >= old {
            return Ok(());
        }
        let lower = |answered: &&Answered| {
            answered.shown.get(id).is_some_and(|shown| {
                shown
                    .iter()
                    .any(|shown| number(shown).is_some_and(|number| number < old))
            })
        };
        let first = self.0.iter().filter(lower).map(|one| one.asked).min();
        let confirmed = candidates
            .iter()
            .any(|answered| !answered.list && Some(answered.asked) > first);
        // Several jobs of one commit may lead to it over a missing number.
        let by_way = self.0.iter().any(|answered| {
            answered.progress == Progress::InCommit
                && answered
                    .shown
                    .get(id)
                    .is_some_and(|shown| shown.iter().any(|shown| number(shown).is_none()))
        });
        must(
            confirmed || by_way,
            now,
            "a lower number is looked up before it is believed",
            || format!("{id}: number {new} after {old}"),
        )
    }

    /// Rule R3: 404s from the look-ups of two polls, and no sign of life since.
    fn may_withdraw(&self, id: &DispatchId, now: Duration) -> Checked {
        let taken: Vec<&Answered> = self
            .0
            .iter()
            .filter(|answered| answered.progress != Progress::Waits)
            .collect();
        // What came after the decision could not enter into it.
        let decided = (1..=taken.len())
            .filter_map(|so_far| taken.get(..so_far))
            .any(|so_far| not_found(id, so_far) >= 2);
        must(
            decided,
            now,
            "nothing is withdrawn without two 404s from the look-ups of two polls",
            || format!("{id}: {taken:?}"),
        )
    }
}

fn number(reading: &Reading) -> Option<i64> {
    reading.dispatch()?.modification_number
}

/// How many 404s speak for a dispatch's withdrawal, after these answers, which
/// are in the order in which they came.
///
/// A 404 counts that follows a list without the dispatch, one that has led to
/// no 404 yet, unless something asked after that list had shown the dispatch by
/// then, or something asked after the 404 has shown it since.
fn not_found(id: &DispatchId, taken: &[&Answered]) -> usize {
    let mut led = BTreeSet::new();
    let mut count = 0;
    for (index, gone) in taken.iter().enumerate() {
        let shown_since = taken
            .iter()
            .any(|seen| seen.names(id) && seen.asked > gone.asked);
        if gone.gone.as_ref() != Some(id) || shown_since {
            continue;
        }
        let before = taken.get(..index).unwrap_or_default();
        let seen = before.iter().filter(|answered| answered.names(id));
        let seen = seen.map(|answered| answered.asked).max();
        let known = led.len();
        led.extend(
            before
                .iter()
                .filter(|list| list.lacks(id) && list.asked < gone.asked)
                .map(|list| list.asked)
                .filter(|list| seen.is_none_or(|seen| *list > seen)),
        );
        count += usize::from(led.len() > known);
    }
    count
}
