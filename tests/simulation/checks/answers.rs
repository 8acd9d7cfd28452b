//! Every change comes from an answer that counts (rules R2 and R3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Durable;
use crate::oracle;
use crate::violation::{Checked, must};
use dispatchd::model::{Answer, Asked, CancelReason, Dispatch, DispatchId, Entry, Reading};
use dispatchd::store::Batch;
use dispatchd::voltus::{ApiResponse, Question};

/// When an answer was made, and the request's place among those of that moment.
/// One that no cache has kept counts as made when its request was issued.
type Order = (Duration, Asked);

/// Behind every request.
const LAST: Asked = Asked {
    term: u64::MAX,
    count: u64::MAX,
};

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
    order: Order,
    /// When its request was issued, or when a cache made it.
    issued: Duration,
    list: bool,
    /// A list that counts as a poll that succeeded.
    poll: bool,
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

    fn numbers(&self, id: &DispatchId) -> impl Iterator<Item = Option<i64>> {
        let shown = self.shown.get(id).into_iter().flatten();
        shown.map(number)
    }

    fn lacks(&self, id: &DispatchId) -> bool {
        self.list && self.complete && !self.names(id)
    }

    fn shows(&self, id: &DispatchId, dispatch: &Dispatch) -> bool {
        let shown = self.shown.get(id);
        shown.is_some_and(|shown| shown.iter().any(|shown| oracle::fits(shown, dispatch)))
    }
}

/// Two requests that confirm a claim are issued at least so far apart.
const APART: Duration = Duration::from_secs(10);

/// The answers of one term.
#[derive(Debug, Default)]
pub(super) struct Answers {
    issued: BTreeMap<Asked, Duration>,
    told: Vec<Answered>,
}

impl Answers {
    /// A request goes out.
    pub fn asked(&mut self, asked: Asked, now: Duration) {
        self.issued.insert(asked, now);
    }

    /// An answer comes in. `too_old` says that a list is from so long ago that
    /// the poll has failed.
    pub fn told(&mut self, asked: Asked, question: &Question, told: &ApiResponse, too_old: bool) {
        let issued = self.issued.remove(&asked).unwrap_or_default();
        let age = told.stamp.age;
        let made = issued.saturating_sub(age);
        // What was asked for at the moment in which a cache made its answer was
        // not asked for later.
        let place = if age.is_zero() { asked } else { LAST };
        let list = *question == Question::List;
        let mut answered = Answered {
            asked,
            order: (made, place),
            issued: made,
            list,
            poll: list && !too_old,
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
        self.told.push(answered);
    }

    /// All that waits goes into a commit, except for what is put off to the next.
    pub fn commit_begun(&mut self, waiting_requests: &[Asked]) {
        for answered in &mut self.told {
            if answered.progress == Progress::Waits && !waiting_requests.contains(&answered.asked) {
                answered.progress = Progress::InCommit;
            }
        }
    }

    /// The commit has ended. Tells whether a list was in it.
    pub fn commit_ended(&mut self, ok: bool) -> bool {
        let in_commit = |answered: &Answered| answered.progress == Progress::InCommit;
        let list = self.told.iter().any(|one| in_commit(one) && one.poll);
        if ok {
            self.advance(Progress::InCommit, Progress::Settled);
        } else {
            // A failed commit discards what was built on it (rule R5).
            self.told.retain(|answered| !in_commit(answered));
        }
        list
    }

    /// There was nothing to write. Tells whether a list was taken in.
    pub fn settled(&mut self) -> bool {
        let waits = |answered: &&Answered| answered.progress == Progress::Waits;
        let list = self.told.iter().filter(waits).any(|answered| answered.poll);
        self.advance(Progress::Waits, Progress::Settled);
        list
    }

    fn advance(&mut self, from: Progress, to: Progress) {
        for answered in &mut self.told {
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
            .told
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
        // Several answers of one commit may lead to it step by step.
        let mut steps = vec![
            before
                .map(|before| oracle::site_ids(&before.dispatch))
                .unwrap_or_default(),
        ];
        let in_commit = self.told.iter();
        let in_commit = in_commit.filter(|answered| answered.progress == Progress::InCommit);
        for reading in in_commit.flat_map(|answered| answered.shown.get(id).into_iter().flatten()) {
            let after = steps
                .iter()
                .map(|before| oracle::sites_after(reading, before));
            let after: Vec<_> = after.collect();
            steps.extend(after);
            steps.sort_unstable();
            steps.dedup();
        }
        must(
            candidates
                .iter()
                .flat_map(|answered| answered.shown.get(id).into_iter().flatten())
                .any(|reading| {
                    let mut steps = steps.iter();
                    steps.any(|before| oracle::adds_nothing(reading, before, &entry.dispatch))
                }),
            now,
            "a site that could not be read stays, and none is made up",
            || format!("{id} is {:?}, before it was {before:?}", entry.dispatch),
        )?;
        let Some(before) = before else {
            return Ok(());
        };
        // Whoever showed what we had before was the newest so far.
        let seen = self
            .told
            .iter()
            .filter(|answered| answered.progress == Progress::Settled)
            .filter(|answered| answered.shows(id, &before.dispatch))
            .map(|answered| answered.order)
            .max();
        let (new, old) = (
            entry.dispatch.modification_number,
            before.dispatch.modification_number,
        );
        let later = candidates
            .iter()
            .any(|answered| seen.is_none_or(|seen| answered.order > seen));
        must(new > old || later, now, "the newest request wins", || {
            format!("{id}: number {new:?} after {old:?}, known since request {seen:?}")
        })?;
        if new >= old {
            return Ok(());
        }
        // Several answers of one commit may lead to it step by step.
        let between = |number: Option<i64>| new < number && number < old;
        let by_steps = self.told.iter().any(|answered| {
            answered.progress == Progress::InCommit && answered.numbers(id).any(between)
        });
        let confirmed = candidates
            .iter()
            .any(|answered| !answered.list && self.is_rewind(id, old, answered));
        must(
            confirmed || by_steps,
            now,
            "a lower number is believed only after two look-ups ten seconds apart",
            || format!("{id}: number {new:?} after {old:?}, {:?}", self.told),
        )
    }

    /// Whether `last`, a look-up that shows a number below `old`, confirms one
    /// from ten seconds before that nothing asked in between denies.
    fn is_rewind(&self, id: &DispatchId, old: Option<i64>, last: &Answered) -> bool {
        self.told.iter().any(|first| {
            let lower = !first.list && first.numbers(id).any(|number| number < old);
            let early = first.order < last.order && first.issued + APART <= last.issued;
            let denied = self.told.iter().any(|other| {
                let between = first.order < other.order && other.order < last.order;
                let taken = other.progress != Progress::Waits;
                between
                    && taken
                    && other.numbers(id).all(|number| number >= old)
                    && other.shown.contains_key(id)
            });
            lower && early && !denied
        })
    }

    /// Rule R3: two 404s by id, ten seconds apart, after a list that lacks it, and
    /// no sign of life between them.
    fn may_withdraw(&self, id: &DispatchId, now: Duration) -> Checked {
        let taken: Vec<&Answered> = self
            .told
            .iter()
            .filter(|answered| answered.progress != Progress::Waits)
            .collect();
        // What came after the decision could not enter into it.
        let decided = (1..=taken.len())
            .filter_map(|so_far| taken.get(..so_far))
            .any(|so_far| is_gone(id, so_far));
        must(
            decided,
            now,
            "nothing is withdrawn without two 404s ten seconds apart",
            || format!("{id}: {taken:?}"),
        )
    }
}

fn number(reading: &Reading) -> Option<i64> {
    reading.dispatch()?.modification_number
}

/// Whether the last of these answers, which are in the order in which they came,
/// is the second 404.
fn is_gone(id: &DispatchId, taken: &[&Answered]) -> bool {
    let Some((last, before)) = taken.split_last() else {
        return false;
    };
    let is_404 = |answered: &Answered| answered.gone.as_ref() == Some(id);
    let confirms = |first: &&Answered| {
        let early = first.order < last.order && first.issued + APART <= last.issued;
        let listed = before
            .iter()
            .any(|list| list.lacks(id) && list.order < first.order);
        let seen = before
            .iter()
            .any(|other| other.names(id) && other.order > first.order);
        is_404(first) && early && listed && !seen
    };
    is_404(last) && before.iter().copied().any(|first| confirms(&first))
}
