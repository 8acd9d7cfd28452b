//! Statements about the engine that hold in every story: whatever the upstream
//! does, however its answers are late, lost, wrong or overtaken, whatever the
//! clock does, and whenever the daemon starts again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is tests: what is not as it must be ends one"
)]

mod counts;
mod doubt;
mod oracle;
mod phases;
mod settled;
mod story;
mod upstream;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use self::oracle::{Verdict, Word, word};
use self::phases::Belief;
use self::settled::assert_settled;
use self::story::{Op, calm_stories, doubtful_stories, stories};
use self::world::{RULES, Step, World, at};
use dispatchd::engine::{Observation, Outcome, Request, Schedule, reconcile};
use dispatchd::model::{
    Answer, Asked, CancelReason, ChangeKind, Dispatch, DispatchId, DoubtKind, Entry, Field,
    Inquiry, Reading, Source,
};

fn config() -> ProptestConfig {
    ProptestConfig {
        // A story is cheap to play, and the rare ones are the point.
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn play(story: &[Op]) -> Vec<Step> {
    World::play(story, false).steps
}

fn entries(schedule: &Schedule) -> Vec<Entry> {
    schedule
        .entries()
        .map(|entry| Entry::clone(&entry))
        .collect()
}

/// The entries without what is only recorded about who asked and when.
fn decided(schedule: &Schedule) -> Vec<Entry> {
    let unrecorded = |entry: Arc<Entry>| Entry {
        asked: Asked::default(),
        inquiry: Inquiry::default(),
        last_confirmed: at(0),
        ..unsourced(&entry)
    };
    schedule.entries().map(unrecorded).collect()
}

fn unsourced(entry: &Entry) -> Entry {
    Entry {
        discovered_by: Source::Timer,
        last_changed_by: Source::Timer,
        ..entry.clone()
    }
}

fn is_withdrawn(entry: &Entry) -> bool {
    entry.cancel_reason == Some(CancelReason::Withdrawn)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn after_one_good_poll_and_twenty_seconds_the_schedule_is_what_the_upstream_says(
        story in stories(),
    ) {
        let mut world = World::play(&story, false);
        let before = world.look();
        world.settle();
        assert_settled(&world, &before);
    }

    #[test]
    fn with_true_answers_the_schedule_never_goes_back_to_what_the_upstream_said_before(
        story in calm_stories(),
    ) {
        let mut world = World::play(&story, false);
        // A state may recur, so each entry is taken for its latest likeness.
        let mut reached: BTreeMap<DispatchId, usize> = BTreeMap::new();
        for step in &world.steps {
            reached.retain(|id, _| step.after.get(id).is_some());
            for entry in step.after.entries() {
                let reached = reached.entry(entry.id().clone()).or_default();
                let next = world.first_moment_like(&entry.dispatch, *reached);
                *reached = next.expect("it is what the upstream said then or later");
            }
        }
        world.settle();
    }

    #[test]
    fn the_newest_request_wins_and_a_lower_number_only_by_two_look_ups_ten_seconds_apart(
        story in stories(),
    ) {
        let steps = play(&story);
        for (place, step) in steps.iter().enumerate() {
            for known in step.before.entries() {
                let Some(entry) = step.after.get(known.id()) else { continue };
                let Some((asked, Word::Shows(seen))) = word(step, known.id()) else {
                    assert_eq!(&entry.dispatch, &known.dispatch, "nothing was shown");
                    continue;
                };
                let verdict = oracle::verdict(&steps, place, &known, seen, asked);
                let replaced = *entry.dispatch == *seen && entry.asked >= asked;
                let stayed = entry.dispatch == known.dispatch && entry.asked == known.asked;
                match verdict {
                    Verdict::Replaces => assert!(replaced, "{known:?} {seen:?} {asked}"),
                    Verdict::Stays => assert!(stayed, "{known:?} {seen:?} {asked}"),
                    Verdict::Either => assert!(replaced || stayed),
                }
                assert!(entry.asked >= known.asked);
                let (new, old) = (seen.modification_number, known.dispatch.modification_number);
                let rewound = known.inquiry.rewound.is_some();
                if stayed && asked > known.asked && new < old && !rewound {
                    assert!(step.after.is_in_doubt(known.id()), "nobody asks again");
                }
            }
        }
    }

    #[test]
    fn every_transition_is_announced_once_and_in_order(story in stories()) {
        let mut beliefs: BTreeMap<DispatchId, Belief> = BTreeMap::new();
        let mut latest = i64::MIN;
        for step in play(&story) {
            latest = latest.max(step.now);
            let mut revision = step.before.revision();
            let mut previous: BTreeMap<&DispatchId, &ChangeKind> = BTreeMap::new();
            for change in &step.outcome.changes {
                revision += 1;
                assert_eq!((change.revision, change.at), (revision, at(step.now)));
                let known = step.before.get(&change.id).map(|entry| Arc::clone(&entry.dispatch));
                assert_eq!(change.before, known);
                let belief = beliefs.entry(change.id.clone()).or_insert(Belief::Unknown);
                let heard = belief.hear(&change.kind, previous.get(&change.id).copied());
                let heard = heard.unwrap_or_else(|| panic!("{belief:?}, then {change:?}"));
                *belief = heard;
                previous.insert(&change.id, &change.kind);

                let dispatch = &change.entry.dispatch;
                let empty = dispatch.end_time.is_some_and(|end| end <= dispatch.start_time);
                match &change.kind {
                    ChangeKind::Created => assert!(dispatch.authorized),
                    ChangeKind::Started => assert!(dispatch.start_time <= at(latest)),
                    ChangeKind::Ended => {
                        assert!(empty || dispatch.end_time.is_some_and(|end| end <= at(latest)));
                    }
                    ChangeKind::Cancelled(CancelReason::Unauthorized) => {
                        assert!(!dispatch.authorized);
                    }
                    ChangeKind::Cancelled(CancelReason::Withdrawn) => assert!(dispatch.authorized),
                    ChangeKind::Updated { changed } => {
                        let before = change.before.as_ref().expect("it was known");
                        let named = changed.iter().filter(|field| **field != Field::Phase);
                        let named = named.map(|field| serde_json::to_value(field).unwrap());
                        let named = named.map(|field| field.as_str().unwrap().to_owned());
                        prop_assert_eq!(
                            named.collect::<std::collections::BTreeSet<_>>(),
                            phases::differences(before, dispatch)
                        );
                    }
                }
            }
            for entry in step.after.entries() {
                let belief = beliefs.entry(entry.id().clone()).or_insert(Belief::Unknown);
                *belief = belief.settle();
                assert_eq!(*belief, Belief::In(entry.phase), "{:?}", entry);
                let told = step.outcome.changes.iter().any(|change| {
                    change.id == *entry.id() && change.entry.dispatch == entry.dispatch
                });
                let same = step.before.get(entry.id()).is_some_and(|known| {
                    known.dispatch == entry.dispatch && known.phase == entry.phase
                });
                assert!(told || same, "a change that nobody was told of: {entry:?}");
            }
            beliefs.retain(|id, _| step.after.get(id).is_some());
            let dropped = u64::from(!step.outcome.pruned.is_empty());
            assert_eq!(step.after.revision(), revision + dropped);
        }
    }

    #[test]
    fn a_second_poll_with_the_same_answer_changes_nothing(story in stories()) {
        let world = World::play(&story, false);
        let first = world.next();
        let second = Asked { count: first.count + 1, ..first };
        for step in world.steps.iter().filter(|step| oracle::list(step).is_some()) {
            let poll = |schedule: &Schedule, asked| {
                let mut observation = step.observation.clone();
                if let Observation::Api { request, .. } = &mut observation {
                    request.asked = asked;
                }
                reconcile(schedule.clone(), &observation, at(step.now), &RULES)
            };
            let (once, _) = poll(&step.after, first);
            let (twice, outcome) = poll(&once, second);
            assert!(outcome.changes.is_empty() && outcome.pruned.is_empty(), "{outcome:?}");
            assert_eq!(twice.revision(), once.revision());
            assert_eq!(decided(&twice), decided(&once));
        }
    }

    #[test]
    fn a_list_alone_withdraws_nothing_and_two_404s_do_only_ten_seconds_apart(
        story in prop_oneof![stories(), doubtful_stories()],
    ) {
        let steps = play(&story);
        for (place, step) in steps.iter().enumerate() {
            for change in &step.outcome.changes {
                let said = word(step, &change.id).map(|(_, word)| word);
                match change.kind {
                    ChangeKind::Cancelled(CancelReason::Withdrawn) => {
                        assert!(oracle::may_withdraw(&steps, place, &change.id), "{change:?}");
                    }
                    ChangeKind::Cancelled(CancelReason::Unauthorized) => {
                        let Some(Word::Shows(dispatch)) = said else { panic!("{said:?}") };
                        assert!(!dispatch.authorized);
                    }
                    _ => {}
                }
            }
            for doubt in &step.outcome.doubts {
                let entry = step.after.get(&doubt.id).unwrap();
                match (doubt.kind, word(step, &doubt.id)) {
                    (DoubtKind::Absent, Some((asked, Word::Lacks))) => {
                        assert!(asked > entry.asked && !entry.phase.is_over(), "{entry:?}");
                    }
                    (DoubtKind::Lower, Some((asked, Word::Shows(shown)))) => {
                        let known = entry.dispatch.modification_number;
                        assert!(asked > entry.asked && shown.modification_number < known);
                    }
                    other => panic!("{other:?}"),
                }
            }
            for known in step.after.entries().filter(|entry| !entry.phase.is_over()) {
                let lacking = oracle::newest_word(&steps, place, &known) == Some(Word::Lacks);
                assert!(!lacking || step.after.is_in_doubt(known.id()), "{known:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_falls_back_undoes_no_start_and_no_end(story in stories(), back in 0..60i64) {
        let steps = play(&story);
        phases::follow_phases(&steps, |step, entry, passed| {
            let allowed = passed.phases(step.now);
            let right = allowed.contains(&entry.phase) || is_withdrawn(entry);
            assert!(right, "{passed:?} {entry:?}");
        });
        for step in &steps {
            let then = at(step.now - back);
            let (after, outcome) = reconcile(step.after.clone(), &Observation::Clock, then, &RULES);
            assert_eq!(outcome, Outcome::default());
            assert_eq!(entries(&after), entries(&step.after));
        }
    }

    #[test]
    fn the_next_due_is_the_earliest_start_or_end_that_is_still_to_come(story in stories()) {
        for step in play(&story) {
            let due = phases::next_due(&step.after);
            assert_eq!(step.after.next_due(), due);
            assert!(due.is_none_or(|due| due > at(step.now)), "it is due and not applied");
            if let Some(due) = due {
                let early = due - chrono::TimeDelta::milliseconds(1);
                let clock = |now| reconcile(step.after.clone(), &Observation::Clock, now, &RULES).1;
                assert!(clock(early).changes.is_empty());
                assert!(!clock(due).changes.is_empty());
            }
        }
    }

    #[test]
    fn an_answer_asked_for_earlier_with_an_equal_or_missing_number_changes_nothing(
        story in stories(),
        missing in any::<bool>(),
        by in 0..4u64,
    ) {
        let steps = play(&story);
        for (place, step) in steps.iter().enumerate() {
            for known in step.after.entries() {
                let mut number = known.dispatch.modification_number;
                if is_withdrawn(&known) {
                    // A higher one may be from before it was gone.
                    number = number.map(|number| number + 1);
                }
                // Anything that was ever said of it, asked for earlier.
                let said = steps[..=place].iter().filter_map(|step| word(step, known.id()));
                for (_, word) in said {
                    let answer = match word {
                        Word::Shows(dispatch) => {
                            Answer::Found(Reading::Dispatch(Arc::new(Dispatch {
                                modification_number: number.filter(|_| !missing),
                                ..dispatch.clone()
                            })))
                        }
                        Word::Gone => Answer::Gone(known.id().clone()),
                        Word::Lacks | Word::Unreadable => continue,
                    };
                    let observation = Observation::Api {
                        request: Request {
                            source: Source::Webhook,
                            asked: Asked {
                                count: known.asked.count.saturating_sub(by),
                                ..known.asked
                            },
                            issued: Duration::ZERO,
                            answered: Duration::ZERO,
                            clock_agrees: true,
                        },
                        answer,
                    };
                    let (after, outcome) =
                        reconcile(step.after.clone(), &observation, at(step.now), &RULES);
                    let timed = outcome.timed;
                    assert_eq!(outcome, Outcome { outdated: 1, timed, ..Outcome::default() });
                    assert_eq!(entries(&after), entries(&step.after));
                }
            }
        }
    }

    #[test]
    fn the_source_of_an_observation_decides_nothing(story in stories()) {
        let swapped = World::play(&story, true).steps;
        let steps = play(&story);
        assert_eq!(steps.len(), swapped.len());
        for (step, other) in steps.iter().zip(&swapped) {
            let bare = |schedule: &Schedule| -> Vec<Entry> {
                schedule.entries().map(|entry| unsourced(&entry)).collect()
            };
            assert_eq!(bare(&step.after), bare(&other.after));
            let kinds = |step: &Step| -> Vec<_> {
                let changes = step.outcome.changes.iter();
                changes.map(|change| (change.id.clone(), change.kind.clone(), change.revision)).collect()
            };
            assert_eq!(kinds(step), kinds(other));
            let rest = |step: &Step| Outcome {
                changes: vec![],
                timed: None,
                ..step.outcome.clone()
            };
            assert_eq!(rest(step), rest(other));
        }
    }

    #[test]
    fn an_entry_is_dropped_when_it_was_over_long_enough_and_has_left_the_list_and_only_then(
        story in stories(),
    ) {
        let steps = play(&story);
        for (place, step) in steps.iter().enumerate() {
            for known in step.before.entries() {
                let dropped = step.outcome.pruned.contains(known.id());
                assert_eq!(dropped, step.after.get(known.id()).is_none());
                let lacks = oracle::list(step).and_then(|_| word(step, known.id()));
                let absent = lacks.is_some_and(|(asked, word)| {
                    word == Word::Lacks && asked > known.asked
                });
                let since = oracle::over_since(&steps, place, known.id());
                let kept = |since| oracle::kept_long_enough(since, step.now);
                let may = absent && since.is_some_and(|(earliest, _)| kept(earliest));
                let must = absent && since.is_some_and(|(_, latest)| kept(latest));
                assert!(!dropped || may, "too early: {known:?}");
                assert!(dropped || !must, "too late: {known:?}");
            }
            let known = |entry: &Arc<Entry>| step.before.get(entry.id()).is_some();
            for entry in step.after.entries().filter(|entry| !known(entry)) {
                let too_old = entry.phase.is_over() && oracle::is_long_over(&entry.dispatch, step.now);
                assert!(!too_old, "not worth taking in: {entry:?}");
            }
        }
    }
}
