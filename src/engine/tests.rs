//! Statements about the engine, one rule at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::model::{
    Asked, Change, ChangeKind, Dispatch, DispatchId, Field, Kilowatts, Phase, Program, Site,
    SiteId, Source,
};

const RULES: Rules = Rules {
    retain: Duration::from_secs(30 * 24 * 3600),
    pre_curtail: Duration::ZERO,
    curtail_on_test: false,
    stride: usize::MAX,
};

fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

/// Seconds after an arbitrary moment that all tests share.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

fn dispatch(start: i64, end: Option<i64>) -> Dispatch {
    Dispatch {
        id: id("dkmq"),
        authorized: true,
        test: false,
        start_time: at(start),
        end_time: end.map(at),
        creation_time: None,
        modification_number: None,
        program: Program::default(),
        sites: vec![Arc::new(Site {
            id: SiteId::new("s1").unwrap(),
            name: "Plant".into(),
            customer_location_id: "1".into(),
            commitment: Some(Kilowatts(12.0)),
        })],
        metadata: serde_json::json!({}),
    }
}

fn numbered(number: i64, dispatch: Dispatch) -> Dispatch {
    Dispatch {
        modification_number: Some(number),
        ..dispatch
    }
}

/// A schedule that is told things, and what came of the last one.
struct World {
    schedule: Schedule,
    asked: u64,
    outcome: Outcome,
}

impl World {
    fn new() -> Self {
        Self {
            schedule: Schedule::default(),
            asked: 0,
            outcome: Outcome::default(),
        }
    }

    /// Asks now: the question's place in the order.
    fn ask(&mut self) -> Asked {
        self.asked += 1;
        Asked {
            term: 1,
            count: self.asked,
        }
    }

    fn tell(&mut self, now: i64, observation: &Observation) -> Vec<String> {
        let (schedule, outcome) = reconcile(self.schedule.clone(), observation, at(now), &RULES);
        self.schedule = schedule;
        self.outcome = outcome;
        self.outcome.changes.iter().map(name).collect()
    }

    fn clock(&mut self, now: i64) -> Vec<String> {
        self.tell(now, &Observation::Clock)
    }

    fn answer(&mut self, now: i64, asked: Asked, answer: Answer) -> Vec<String> {
        self.tell(
            now,
            &Observation::Api {
                source: Source::Poll,
                asked,
                answer,
            },
        )
    }

    fn look_up(&mut self, now: i64, dispatch: Dispatch) -> Vec<String> {
        let asked = self.ask();
        self.answer_look_up(now, asked, dispatch)
    }

    fn answer_look_up(&mut self, now: i64, asked: Asked, dispatch: Dispatch) -> Vec<String> {
        self.answer(
            now,
            asked,
            Answer::Found(Reading::Dispatch(Arc::new(dispatch))),
        )
    }

    fn gone(&mut self, now: i64) -> Vec<String> {
        let asked = self.ask();
        self.answer_gone(now, asked)
    }

    fn answer_gone(&mut self, now: i64, asked: Asked) -> Vec<String> {
        self.answer(now, asked, Answer::Gone(id("dkmq")))
    }

    fn list(&mut self, now: i64, dispatches: Vec<Dispatch>) -> Vec<String> {
        let asked = self.ask();
        self.answer_list(now, asked, dispatches)
    }

    fn answer_list(&mut self, now: i64, asked: Asked, list: Vec<Dispatch>) -> Vec<String> {
        let readings = list
            .into_iter()
            .map(|dispatch| Reading::Dispatch(Arc::new(dispatch)))
            .collect();
        self.answer(now, asked, Answer::List(Arc::new(List::new(readings, 0))))
    }

    fn phase(&self) -> Phase {
        self.schedule.get(&id("dkmq")).unwrap().phase
    }

    fn asks_again(&self) -> bool {
        self.outcome.look_ups == [id("dkmq")]
    }
}

fn name(change: &Change) -> String {
    match &change.kind {
        ChangeKind::Updated { changed } => {
            let fields: Vec<_> = changed
                .iter()
                .map(|field| serde_json::to_value(field).unwrap())
                .map(|field| field.as_str().unwrap().to_owned())
                .collect();
            format!("updated {}", fields.join(" "))
        }
        kind => kind.event_type().trim_start_matches("dispatch.").to_owned(),
    }
}

#[test]
fn a_future_dispatch_is_created_then_started_then_ended_by_the_clock() {
    let mut world = World::new();
    assert_eq!(world.list(0, vec![dispatch(10, Some(20))]), ["created"]);
    assert_eq!(world.schedule.next_due(), Some(at(10)));
    assert!(world.clock(9).is_empty());
    assert_eq!(world.clock(10), ["started"]);
    assert_eq!(world.schedule.next_due(), Some(at(20)));
    assert_eq!(world.clock(20), ["ended"]);
    assert_eq!(world.schedule.next_due(), None);
}

#[test]
fn a_dispatch_first_seen_after_its_start_is_created_and_started() {
    let mut world = World::new();
    assert_eq!(
        world.list(5, vec![dispatch(0, None)]),
        ["created", "started"]
    );
    assert_eq!(world.phase(), Phase::Active);
}

#[test]
fn a_dispatch_first_seen_when_over_has_only_ended() {
    for (start, end) in [(0, 5), (20, 20), (20, 15)] {
        let mut world = World::new();
        assert_eq!(world.list(10, vec![dispatch(start, Some(end))]), ["ended"]);
        assert_eq!(world.phase(), Phase::Ended);
    }
}

#[test]
fn a_dispatch_first_seen_unauthorized_is_cancelled() {
    let mut world = World::new();
    let mut cancelled = dispatch(10, Some(20));
    cancelled.authorized = false;
    assert_eq!(world.list(0, vec![cancelled]), ["cancelled"]);
}

#[test]
fn what_passed_while_nobody_looked_is_caught_up_with_in_order() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    assert_eq!(world.clock(100), ["started", "ended"]);
}

#[test]
fn an_update_names_the_fields_that_changed() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let mut update = numbered(1, dispatch(10, Some(20)));
    update.sites.clear();
    assert_eq!(
        world.look_up(1, update),
        ["updated end_time modification_number sites"]
    );
}

#[test]
fn an_update_that_ends_an_open_dispatch_is_updated_then_ended() {
    let mut world = World::new();
    world.look_up(0, dispatch(-5, None));
    assert_eq!(
        world.look_up(10, dispatch(-5, Some(10))),
        ["updated end_time", "ended"]
    );
}

#[test]
fn an_update_that_cancels_is_only_cancelled() {
    let mut world = World::new();
    world.look_up(0, dispatch(10, None));
    let mut update = dispatch(10, Some(30));
    update.authorized = false;
    assert_eq!(world.look_up(1, update), ["cancelled"]);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.dispatch.end_time, Some(at(30)));
}

#[test]
fn an_end_moved_later_brings_the_dispatch_back() {
    let mut world = World::new();
    world.look_up(0, dispatch(-5, Some(5)));
    world.clock(5);
    assert_eq!(
        world.look_up(6, dispatch(-5, Some(50))),
        ["updated phase end_time", "started"]
    );
}

#[test]
fn a_start_moved_later_takes_the_dispatch_back_to_scheduled() {
    let mut world = World::new();
    world.look_up(0, dispatch(0, Some(50)));
    assert_eq!(
        world.look_up(1, dispatch(10, Some(50))),
        ["updated phase start_time"]
    );
    assert_eq!(world.clock(10), ["started"]);
}

#[test]
fn a_dispatch_authorized_again_comes_back() {
    let mut world = World::new();
    let mut cancelled = dispatch(0, None);
    cancelled.authorized = false;
    world.look_up(1, cancelled);
    assert_eq!(
        world.look_up(2, dispatch(0, None)),
        ["updated phase authorized", "started"]
    );
}

#[test]
fn two_updates_within_one_second_end_on_the_newer() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let first = world.ask();
    let second = world.ask();
    world.answer_look_up(1, second, numbered(2, dispatch(10, Some(30))));
    assert!(
        world
            .answer_look_up(1, first, numbered(1, dispatch(10, Some(20))))
            .is_empty()
    );
    assert_eq!(world.outcome.outdated, 1);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.dispatch.end_time, Some(at(30)));
}

#[test]
fn a_higher_number_counts_even_in_an_answer_asked_for_earlier() {
    let mut world = World::new();
    let first = world.ask();
    world.look_up(0, numbered(1, dispatch(10, None)));
    assert_eq!(
        world.answer_look_up(1, first, numbered(2, dispatch(10, Some(20)))),
        ["updated end_time modification_number"]
    );
}

#[test]
fn with_equal_or_missing_numbers_the_later_question_wins() {
    for (known, seen) in [
        (Some(1), Some(1)),
        (None, Some(1)),
        (Some(1), None),
        (None, None),
    ] {
        let with = |number, end| Dispatch {
            modification_number: number,
            ..dispatch(10, Some(end))
        };
        let mut world = World::new();
        let early = world.ask();
        world.look_up(0, with(known, 20));
        assert!(world.answer_look_up(1, early, with(seen, 30)).is_empty());
        assert!(!world.look_up(1, with(seen, 30)).is_empty());
    }
}

#[test]
fn a_lower_number_is_looked_up_before_it_is_taken_over() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(10, None)));
    assert!(
        world
            .list(1, vec![numbered(3, dispatch(10, Some(20)))])
            .is_empty()
    );
    assert!(world.asks_again());
    // Another list is no look-up.
    assert!(
        world
            .list(2, vec![numbered(3, dispatch(10, Some(20)))])
            .is_empty()
    );
    assert!(world.asks_again());
    assert_eq!(
        world.look_up(3, numbered(3, dispatch(10, Some(20)))),
        ["updated end_time modification_number"]
    );
    assert_eq!(world.outcome.rewinds, 1);
}

#[test]
fn a_lower_number_from_a_stale_cache_changes_nothing() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(10, None)));
    world.list(1, vec![numbered(6, dispatch(10, Some(20)))]);
    assert!(world.look_up(2, numbered(7, dispatch(10, None))).is_empty());
    // The question is closed: the next lower number raises it anew.
    assert!(
        world
            .look_up(3, numbered(6, dispatch(10, Some(20))))
            .is_empty()
    );
    assert_eq!(world.outcome.rewinds, 0);
    assert!(world.asks_again());
}

#[test]
fn a_lower_number_confirms_nothing_about_what_was_accepted_meanwhile() {
    let mut world = World::new();
    world.look_up(0, numbered(9, dispatch(10, None)));
    let (first, second) = (world.ask(), world.ask());
    world.list(1, vec![numbered(8, dispatch(10, None))]);
    // An answer without a number, then one with a number lower than any.
    world.answer_look_up(2, first, dispatch(10, Some(20)));
    world.answer_look_up(2, second, numbered(3, dispatch(10, Some(20))));
    assert!(
        world
            .look_up(3, numbered(2, dispatch(10, Some(30))))
            .is_empty()
    );
    assert!(world.asks_again());
}

#[test]
fn a_dispatch_missing_from_the_list_is_looked_up_before_it_is_cancelled() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    assert!(world.list(1, vec![]).is_empty());
    assert!(world.asks_again());
    assert!(world.gone(2).is_empty(), "one 404 is not enough");
    assert!(world.list(3, vec![]).is_empty());
    assert!(world.asks_again());
    assert_eq!(world.gone(4), ["cancelled"]);
    assert_eq!(world.phase(), Phase::Cancelled);
}

#[test]
fn two_404s_after_one_poll_withdraw_nothing() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    assert!(world.gone(3).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_404_without_a_list_that_lacks_it_withdraws_nothing() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.gone(1);
    world.gone(2);
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_dispatch_that_left_the_list_and_still_exists_stays() {
    let mut world = World::new();
    world.list(0, vec![dispatch(-5, None)]);
    for poll in 0..5 {
        world.list(10 * poll + 1, vec![]);
        assert!(world.asks_again());
        assert!(world.look_up(10 * poll + 2, dispatch(-5, None)).is_empty());
    }
    assert_eq!(world.phase(), Phase::Active);
}

#[test]
fn being_seen_again_forgets_an_earlier_404() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    world.list(3, vec![dispatch(10, None)]);
    world.list(4, vec![]);
    assert!(world.gone(5).is_empty());
}

#[test]
fn a_404_from_before_it_was_seen_again_is_forgotten_when_the_sight_comes_late() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    let seen = world.ask();
    world.list(3, vec![]);
    world.answer_look_up(4, seen, dispatch(10, None));
    assert!(world.gone(5).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_list_from_before_an_unreadable_sight_raises_no_question() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    let late = world.ask();
    let look_up = world.ask();
    let asked = world.ask();
    let readings = vec![Reading::Unreadable {
        id: id("dkmq"),
        reason: "no start_time".into(),
    }];
    let list = Arc::new(List::new(readings, 0));
    world.answer(1, asked, Answer::List(list));
    world.answer_list(2, late, vec![]);
    assert!(!world.asks_again());
    world.answer_gone(3, look_up);
    world.list(4, vec![]);
    assert!(world.asks_again());
    assert!(world.gone(5).is_empty());
}

#[test]
fn the_same_list_or_one_asked_for_before_the_404_is_not_a_second_poll() {
    for late in [false, true] {
        let mut world = World::new();
        world.list(0, vec![dispatch(10, None)]);
        let early = world.ask();
        let list = world.ask();
        world.answer_list(1, list, vec![]);
        let look_up = world.ask();
        world.answer_gone(2, look_up);
        world.answer_list(3, if late { early } else { list }, vec![]);
        assert!(!world.asks_again());
        assert!(world.answer_gone(4, look_up).is_empty());
        assert!(world.gone(5).is_empty());
        assert_eq!(world.phase(), Phase::Scheduled);
    }
}

#[test]
fn an_entry_seen_after_the_list_was_asked_for_is_not_missing() {
    let mut world = World::new();
    let list = world.ask();
    world.look_up(0, dispatch(10, None));
    world.answer_list(1, list, vec![]);
    assert!(world.outcome.look_ups.is_empty());
}

#[test]
fn a_late_answer_from_before_the_404_does_not_bring_a_dispatch_back() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let late = world.ask();
    world.list(1, vec![]);
    world.gone(2);
    world.list(3, vec![]);
    world.gone(4);
    assert!(
        world
            .answer_look_up(5, late, numbered(1, dispatch(10, None)))
            .is_empty()
    );
    assert_eq!(world.phase(), Phase::Cancelled);
}

#[test]
fn a_withdrawn_dispatch_that_is_listed_again_comes_back() {
    let mut world = World::new();
    world.list(0, vec![dispatch(1, None)]);
    for now in [2, 4] {
        world.list(now, vec![]);
        world.gone(now + 1);
    }
    assert_eq!(
        world.list(6, vec![dispatch(1, None)]),
        ["updated phase", "started"]
    );
}

#[test]
fn a_list_with_a_nameless_element_raises_no_question_of_absence() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    let asked = world.ask();
    world.answer(1, asked, Answer::List(Arc::new(List::new(vec![], 1))));
    assert!(world.outcome.look_ups.is_empty());
    assert_eq!(world.outcome.unreadable, 1);
}

#[test]
fn an_unreadable_dispatch_keeps_its_last_good_state() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    let asked = world.ask();
    let readings = vec![Reading::Unreadable {
        id: id("dkmq"),
        reason: "no start_time".into(),
    }];
    let list = Arc::new(List::new(readings, 0));
    assert!(world.answer(1, asked, Answer::List(list)).is_empty());
    assert!(world.outcome.look_ups.is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn of_a_dispatch_listed_twice_the_higher_number_counts_else_the_last() {
    let ends = |first, second| {
        let mut world = World::new();
        world.list(0, vec![first, second]);
        let entry = world.schedule.get(&id("dkmq")).unwrap();
        entry.dispatch.end_time
    };
    let higher = numbered(2, dispatch(10, Some(20)));
    let lower = numbered(1, dispatch(10, Some(30)));
    assert_eq!(ends(higher.clone(), lower.clone()), Some(at(20)));
    assert_eq!(ends(lower, higher), Some(at(20)));
    assert_eq!(
        ends(dispatch(10, Some(20)), dispatch(10, Some(30))),
        Some(at(30))
    );
}

#[test]
fn a_clock_that_falls_back_undoes_no_start_and_no_end() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    world.clock(10);
    assert!(world.list(5, vec![dispatch(10, Some(20))]).is_empty());
    assert_eq!(world.phase(), Phase::Active);
    world.clock(20);
    // Nor does an update of something else.
    let mut update = dispatch(10, Some(20));
    update.metadata = serde_json::json!({"reason": "drill"});
    assert_eq!(world.list(5, vec![update]), ["updated metadata"]);
    assert_eq!(world.phase(), Phase::Ended);
}

#[test]
fn what_came_due_is_applied_before_the_answer_is_compared() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    let mut update = dispatch(10, Some(20));
    update.metadata = serde_json::json!({"a": 1});
    assert_eq!(
        world.list(15, vec![update]),
        ["started", "updated metadata"]
    );
}

#[test]
fn an_entry_is_dropped_when_it_was_over_long_enough_and_has_left_the_list() {
    let day = 24 * 3600;
    let mut world = World::new();
    world.list(0, vec![dispatch(-20, Some(-10))]);
    world.list(29 * day, vec![]);
    assert_eq!(world.schedule.len(), 1);
    world.list(30 * day, vec![dispatch(-20, Some(-10))]);
    assert_eq!(world.schedule.len(), 1, "it is listed still");
    let before = world.schedule.revision();
    world.list(30 * day, vec![]);
    assert_eq!(world.outcome.pruned, [id("dkmq")]);
    assert!(world.schedule.is_empty());
    assert!(world.schedule.revision() > before);
}

#[test]
fn a_list_asked_for_before_an_entry_was_seen_drops_nothing() {
    let day = 24 * 3600;
    let mut world = World::new();
    world.list(0, vec![dispatch(-20, Some(-10))]);
    let late = world.ask();
    world.list(30 * day, vec![dispatch(-20, Some(-10))]);
    world.answer_list(30 * day, late, vec![]);
    assert_eq!(world.schedule.len(), 1);
}

#[test]
fn an_entry_whose_end_turns_out_to_be_later_is_kept_from_that_end_on() {
    let day = 24 * 3600;
    let ended = dispatch(-20, Some(28 * day));
    let mut cancelled = dispatch(-20, None);
    cancelled.authorized = false;
    for update in [ended, cancelled] {
        let mut world = World::new();
        world.list(0, vec![dispatch(-20, Some(10))]);
        world.list(29 * day, vec![update]);
        world.list(31 * day, vec![]);
        assert_eq!(world.schedule.len(), 1);
        world.list(59 * day, vec![]);
        assert!(world.schedule.is_empty());
    }
}

#[test]
fn what_was_over_for_too_long_at_first_sight_is_not_taken_in() {
    let day = 24 * 3600;
    let mut world = World::new();
    assert!(world.list(31 * day, vec![dispatch(0, Some(10))]).is_empty());
    assert!(world.schedule.is_empty());
}

#[test]
fn the_revision_grows_with_every_change_and_never_otherwise() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    assert_eq!(world.schedule.revision(), 1);
    world.list(1, vec![dispatch(10, Some(20))]);
    world.list(2, vec![]);
    world.gone(3);
    assert_eq!(world.schedule.revision(), 1);
    world.clock(20);
    assert_eq!(world.schedule.revision(), 3);
    let last = world.outcome.changes.last().unwrap();
    assert_eq!((last.revision, &last.kind), (3, &ChangeKind::Ended));
}

#[test]
fn the_source_is_recorded() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    world.clock(10);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.discovered_by, Source::Poll);
    assert_eq!(entry.last_changed_by, Source::Timer);
    assert_eq!(entry.last_changed, at(10));
}

#[test]
fn differences_name_every_field() {
    let before = dispatch(0, None);
    let after = Dispatch {
        authorized: false,
        test: true,
        creation_time: Some(at(0)),
        modification_number: Some(1),
        program: Program {
            id: Some(1),
            ..Program::default()
        },
        sites: vec![],
        metadata: serde_json::json!(1),
        ..dispatch(1, Some(2))
    };
    assert_eq!(Field::differences(&before, &after).len(), 9);
}
