//! What the rules say of answers, told naively: by looking back over every step
//! instead of keeping state.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::world::{RETAIN, Step, at};
use dispatchd::engine::{Observation, Schedule};
use dispatchd::model::{
    Answer, Asked, ChangeKind, Dispatch, DispatchId, Entry, List, Phase, Reading,
};

/// What an answer says of one dispatch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Word<'a> {
    /// The list lacks it.
    Lacks,
    /// The look-up said 404.
    Gone,
    /// It is there, and nothing else is known.
    Unreadable,
    Shows(&'a Dispatch),
}

/// What `step` says of `id`, and when the question was issued.
pub fn word<'a>(step: &'a Step, id: &DispatchId) -> Option<(Asked, Word<'a>)> {
    let Observation::Api { request, answer } = &step.observation else {
        return None;
    };
    let word = match answer {
        Answer::Gone(gone) => (gone == id).then_some(Word::Gone),
        Answer::Found(reading) => among(std::slice::from_ref(reading), id),
        Answer::List(list) => {
            among(list.readings(), id).or((list.nameless() == 0).then_some(Word::Lacks))
        }
    };
    let word = match (word, step.whole.get(id)) {
        (Some(Word::Shows(_)), Some(whole)) => Some(Word::Shows(whole)),
        (word, _) => word,
    };
    word.map(|word| (request.asked, word))
}

/// What rule R11 makes of dispatches that could be read in part: they keep the
/// sites that they had `before`.
pub fn made_whole(observation: &Observation, before: &Schedule) -> BTreeMap<DispatchId, Dispatch> {
    let readings = match observation {
        Observation::Api {
            answer: Answer::List(list),
            ..
        } => list.readings(),
        Observation::Api {
            answer: Answer::Found(reading),
            ..
        } => std::slice::from_ref(reading),
        _ => &[],
    };
    let mut made_whole = BTreeMap::new();
    for reading in readings {
        if let Reading::InPart { dispatch, .. } = reading {
            let mut whole = Dispatch::clone(dispatch);
            let held = before.get(&dispatch.id);
            for site in held.iter().flat_map(|held| &held.dispatch.sites) {
                if whole.sites.iter().all(|read| read.id != site.id) {
                    whole.sites.push(Arc::clone(site));
                }
            }
            whole.sites.sort_by(|one, other| one.id.cmp(&other.id));
            made_whole.insert(whole.id.clone(), whole);
        }
    }
    made_whole
}

/// Of a dispatch that is there twice: the higher number, else the last.
pub fn among<'a>(readings: &'a [Reading], id: &DispatchId) -> Option<Word<'a>> {
    let named: Vec<&Reading> = readings
        .iter()
        .filter(|reading| reading.id() == id)
        .collect();
    let readable: Vec<&Dispatch> = named
        .iter()
        .filter_map(|reading| match reading {
            Reading::Dispatch(dispatch) | Reading::InPart { dispatch, .. } => Some(&**dispatch),
            Reading::Unreadable { .. } => None,
        })
        .collect();
    let numbered = readable
        .iter()
        .all(|dispatch| dispatch.modification_number.is_some());
    let chosen = if numbered {
        readable
            .iter()
            .max_by_key(|dispatch| dispatch.modification_number)
    } else {
        readable.last()
    };
    match chosen {
        Some(dispatch) => Some(Word::Shows(dispatch)),
        None => (!named.is_empty()).then_some(Word::Unreadable),
    }
}

pub fn list(step: &Step) -> Option<&List> {
    match &step.observation {
        Observation::Api {
            answer: Answer::List(list),
            ..
        } => Some(list),
        _ => None,
    }
}

/// What was said of `id` before step `until`, since it is in the schedule and
/// since the daemon last started.
fn heard<'a>(
    steps: &'a [Step],
    until: usize,
    id: &'a DispatchId,
) -> impl Iterator<Item = (&'a Step, Asked, Word<'a>)> {
    let since = steps[..until]
        .iter()
        .rposition(|step| step.before.get(id).is_none());
    let term = steps[until].term;
    let known = steps[since.unwrap_or(0)..until].iter();
    known
        .filter(move |step| step.term == term)
        .filter_map(move |step| word(step, id).map(|(asked, word)| (step, asked, word)))
}

/// What step `place` says of `known`, if no question asked later was answered.
pub fn newest_word<'a>(steps: &'a [Step], place: usize, known: &'a Entry) -> Option<Word<'a>> {
    let (asked, word) = word(&steps[place], known.id())?;
    let newest = heard(steps, place, known.id()).all(|(_, before, _)| before < asked);
    (newest && asked > known.asked).then_some(word)
}

/// Whether an answer must replace what is known (rule R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Replaces,
    Stays,
    /// The rule leaves it open.
    Either,
}

/// Two requests that confirm a claim are issued at least so far apart.
const APART: Duration = Duration::from_secs(10);

/// When the request of `step` was issued. Zero if it is none.
fn issued(step: &Step) -> Duration {
    match &step.observation {
        Observation::Api { request, .. } => request.issued,
        Observation::Clock | Observation::Operator(_) => Duration::ZERO,
    }
}

fn is_by_id(step: &Step) -> bool {
    matches!(
        &step.observation,
        Observation::Api {
            answer: Answer::Found(_) | Answer::Gone(_),
            ..
        }
    )
}

/// Rule R2 for a dispatch that was known before step `place` and is shown by it.
pub fn verdict(
    steps: &[Step],
    place: usize,
    known: &Entry,
    seen: &Dispatch,
    asked: Asked,
) -> Verdict {
    let later = asked > known.asked;
    let withdrawn = known.phase == Phase::Cancelled && known.dispatch.authorized;
    let rewound = known.inquiry.rewound;
    if (withdrawn && !later) || rewound.is_some_and(|at| issued(&steps[place]) < at) {
        return Verdict::Stays;
    }
    let old = known.dispatch.modification_number;
    let by_id = is_by_id(&steps[place]);
    match seen.modification_number.cmp(&old) {
        Ordering::Less if later && by_id => lower_number(steps, place, known, asked),
        Ordering::Less => Verdict::Stays,
        Ordering::Greater if old.is_some() => Verdict::Replaces,
        _ if later => Verdict::Replaces,
        _ => Verdict::Stays,
    }
}

/// Whether a lower number, shown by id, is confirmed by an earlier answer.
fn lower_number(steps: &[Step], place: usize, known: &Entry, asked: Asked) -> Verdict {
    let old = known.dispatch.modification_number;
    let is_lower = |word: &Word| match word {
        Word::Shows(dispatch) => dispatch.modification_number < old,
        _ => false,
    };
    let heard: Vec<(&Step, Asked, Word)> = heard(steps, place, known.id())
        .filter(|(_, before, _)| *before > known.asked)
        .collect();
    let same = |step: &Step| {
        let then = step.after.get(known.id());
        then.is_some_and(|then| then.asked == known.asked && then.dispatch == known.dispatch)
    };
    let confirms = |(step, before, word): &&(&Step, Asked, Word)| {
        let early = issued(step) + APART <= issued(&steps[place]);
        let between = |other: &Asked| before < other && *other < asked;
        let denied = heard.iter().any(|(_, other, word)| {
            between(other) && matches!(word, Word::Shows(_)) && !is_lower(word)
        });
        is_by_id(step) && is_lower(word) && early && *before < asked && same(step) && !denied
    };
    let in_order = heard.iter().is_sorted_by_key(|(_, before, _)| *before)
        && heard.iter().all(|(_, before, _)| *before < asked);
    let unanimous = heard
        .iter()
        .all(|(step, _, word)| same(step) && (is_lower(word) || *word == Word::Unreadable));
    match heard.iter().find(confirms) {
        None => Verdict::Stays,
        Some(_) if in_order && unanimous => Verdict::Replaces,
        Some(_) => Verdict::Either,
    }
}

/// Whether step `place`, a 404, may be the one that withdraws `id` (rule R3): a
/// list that lacks it, a 404, and this one, each issued after the one before, the
/// 404s ten seconds apart, and nobody saw it since the first.
pub fn may_withdraw(steps: &[Step], place: usize, id: &DispatchId) -> bool {
    let Some((last, Word::Gone)) = word(&steps[place], id) else {
        return false;
    };
    let heard: Vec<(&Step, Asked, Word)> = heard(steps, place, id).collect();
    heard.iter().any(|(step, first, word)| {
        let seen_since = heard.iter().any(|(_, asked, word)| {
            matches!(word, Word::Shows(_) | Word::Unreadable) && asked > first
        });
        let listed = heard
            .iter()
            .any(|(_, list, word)| *word == Word::Lacks && list < first);
        *word == Word::Gone
            && *first < last
            && issued(step) + APART <= issued(&steps[place])
            && !seen_since
            && listed
    })
}

/// Since when `id` is over before step `place` is done: the earliest and the
/// latest that one can say. `None` while it is not over.
pub fn over_since(steps: &[Step], place: usize, id: &DispatchId) -> Option<(i64, i64)> {
    let was_over = |step: &Step| {
        step.before
            .get(id)
            .is_some_and(|known| known.phase.is_over())
    };
    let end_by = |dispatch: &Dispatch, now: i64| {
        let end = dispatch.end_time.map(|end| (end - at(0)).num_seconds());
        end.filter(|end| *end <= now)
    };
    let last = &steps[place];
    if !was_over(last) {
        // It may have ended while nobody looked, just before the answer.
        let mut changes = last.outcome.changes.iter();
        let ended = changes.find(|change| change.id == *id && change.kind == ChangeKind::Ended)?;
        let end = end_by(&ended.entry.dispatch, last.now);
        return Some((end.unwrap_or(last.now), last.now));
    }
    let turn = steps[..place].iter().rposition(|step| !was_over(step))?;
    let dispatch = &steps[turn].after.get(id)?.dispatch;
    let now = steps[turn].now;
    let (mut earliest, mut latest) = (end_by(dispatch, now).unwrap_or(now), now);
    for step in &steps[turn..place] {
        let known = step
            .before
            .get(id)
            .and_then(|known| known.dispatch.end_time);
        let dispatch = &step.after.get(id)?.dispatch;
        // What ends later than was thought was not over before that.
        let later = |known| dispatch.end_time.is_none_or(|end| known < end);
        if known.is_some_and(later) {
            let end = end_by(dispatch, step.now).unwrap_or(step.now);
            (earliest, latest) = (earliest.max(end), latest.max(end));
        }
    }
    Some((earliest, latest))
}

/// Whether something over since then has been kept long enough at `now`.
pub fn kept_long_enough(since: i64, now: i64) -> bool {
    at(since) + TimeDelta::seconds(RETAIN) <= at(now)
}

/// Whether it was over for too long to be taken in at first sight (rule R12).
pub fn is_long_over(dispatch: &Dispatch, now: i64) -> bool {
    let end = dispatch.end_time.map(|end| (end - at(0)).num_seconds());
    end.is_some_and(|end| kept_long_enough(end, now))
}
