//! Statements about the engine, one rule at a time.

mod absence;
mod clock;
mod doubt;
mod order;
mod phases;
mod readers;
mod unchanged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::clock::Mono;
use crate::model::{
    Answer, Asked, Change, ChangeKind, Dispatch, DispatchId, DoubtKind, Entry, Field, Kilowatts,
    List, Phase, Program, Reading, Site, SiteId, Source, UnreadParts,
};

const RULES: Rules = Rules {
    retain: Duration::from_secs(30 * 24 * 3600),
    pre_curtail: Duration::ZERO,
    curtail_on_test: false,
    chunk: usize::MAX,
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
            extra: Default::default(),
            id: SiteId::new("s1").unwrap(),
            name: "Plant".into(),
            customer_location_id: "1".into(),
            commitment: Some(Kilowatts(12.0)),
        })],
        metadata: serde_json::json!({}),
        extra: Default::default(),
    }
}

fn numbered(number: i64, dispatch: Dispatch) -> Dispatch {
    Dispatch {
        modification_number: Some(number),
        ..dispatch
    }
}

/// The clock that does not jump, so many seconds after the start.
fn moment(seconds: i64) -> Mono {
    Mono::from_secs(u64::try_from(seconds + 1000).unwrap())
}

/// A schedule that is told things, and what came of the last one.
struct World {
    schedule: Schedule,
    asked: u64,
    now: i64,
    /// When each request was issued.
    issued: BTreeMap<Asked, Mono>,
    /// Whether the API's clock agrees with ours.
    clock_agrees: bool,
    outcome: Outcome,
}

impl World {
    fn new() -> Self {
        Self {
            schedule: Schedule::default(),
            asked: 0,
            now: 0,
            issued: BTreeMap::new(),
            clock_agrees: true,
            outcome: Outcome::default(),
        }
    }

    /// Asks now: the question's place in the order.
    fn ask(&mut self) -> Asked {
        self.asked += 1;
        let asked = Asked {
            term: 1,
            count: self.asked,
        };
        self.issued.insert(asked, moment(self.now));
        asked
    }

    fn tell(&mut self, now: i64, observation: &Observation) -> Vec<String> {
        self.now = now;
        let (schedule, outcome) = reconcile(self.schedule.clone(), observation, at(now), &RULES);
        self.schedule = schedule;
        self.outcome = outcome;
        self.outcome.changes.iter().map(name).collect()
    }

    fn clock(&mut self, now: i64) -> Vec<String> {
        self.tell(now, &Observation::Clock)
    }

    fn answer(&mut self, now: i64, asked: Asked, answer: Answer) -> Vec<String> {
        let answered = moment(now);
        let request = Request {
            source: Source::Poll,
            asked,
            issued: self.issued.get(&asked).copied().unwrap_or(answered),
            answered,
            clock_agrees: self.clock_agrees,
        };
        self.tell(now, &Observation::Api { request, answer })
    }

    fn look_up(&mut self, now: i64, dispatch: Dispatch) -> Vec<String> {
        self.now = now;
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
        self.now = now;
        let asked = self.ask();
        self.answer_gone(now, asked)
    }

    fn answer_gone(&mut self, now: i64, asked: Asked) -> Vec<String> {
        self.answer(now, asked, Answer::Gone(id("dkmq")))
    }

    fn list(&mut self, now: i64, dispatches: Vec<Dispatch>) -> Vec<String> {
        self.now = now;
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

    /// Whether something is to be looked up at that second.
    fn checks_at(&self, second: i64) -> bool {
        self.schedule.checks_due(moment(second)).next().is_some()
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
    assert!(!world.checks_at(1));
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
fn where_one_dispatch_ends_as_another_starts_the_start_comes_first() {
    let mut world = World::new();
    let next = Dispatch {
        id: id("next"),
        ..dispatch(20, None)
    };
    world.list(0, vec![dispatch(10, Some(20)), next]);
    world.clock(10);
    assert_eq!(world.clock(20), ["started", "ended"]);
}

#[test]
fn a_step_of_the_clock_takes_dispatches_and_sites_up_to_its_chunk() {
    let mut world = World::new();
    let named = |name| Dispatch {
        id: id(name),
        ..dispatch(10, None)
    };
    world.list(0, ["a", "b", "c"].map(named).to_vec());
    // One for each dispatch and one for its site.
    let rules = Rules { chunk: 4, ..RULES };
    for started in [2, 1, 0] {
        let (schedule, outcome) = reconcile(world.schedule, &Observation::Clock, at(10), &rules);
        assert_eq!(outcome.changes.len(), started);
        world.schedule = schedule;
    }
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
fn a_cancelled_dispatch_is_kept_from_its_cancellation_on_whatever_becomes_of_it() {
    let day = 24 * 3600;
    for end in [15 * day, 12 * day] {
        let mut world = World::new();
        let mut cancelled = dispatch(10 * day, Some(15 * day));
        cancelled.authorized = false;
        world.list(0, vec![cancelled.clone()]);
        cancelled.end_time = Some(at(end));
        cancelled.metadata = serde_json::json!({"note": 1});
        let told = world.list(20 * day, vec![cancelled]);
        assert!(told[0].starts_with("updated"), "{told:?}");
        world.list(30 * day, vec![]);
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
        extra: serde_json::from_str(r#"{"new": 1}"#).unwrap(),
        ..dispatch(1, Some(2))
    };
    let differences = Field::differences(&before, &after);
    assert_eq!(differences.len(), 10);
    assert_eq!(differences[9].name(), "extra.new");
}
