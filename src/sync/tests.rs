//! Statements about the machine, stepped by hand.

mod strides;
mod tally;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::clock::{Mono, Now};
use crate::delivery::Outbox;
use crate::engine::{Answer, List, Reading, Rules};
use crate::model::{Asked, Dispatch, DispatchId, Event, Program};
use crate::store::{Batch, MemoryStore, Store, StoreError};
use crate::voltus::{ApiError, Problems, Question, Told};

const INTERVAL: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5);

fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

fn at(millis: u64) -> Now {
    let mono = Duration::from_millis(millis);
    Now {
        wall: wall(0) + mono,
        mono,
    }
}

fn wall(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

/// An open dispatch that starts at `start` seconds.
fn dispatch(text: &str, start: i64) -> Dispatch {
    Dispatch {
        id: id(text),
        authorized: true,
        test: false,
        start_time: wall(start),
        end_time: None,
        creation_time: None,
        modification_number: None,
        program: Program::default(),
        sites: Vec::new(),
        metadata: serde_json::json!({}),
    }
}

fn numbered(number: i64, dispatch: Dispatch) -> Dispatch {
    Dispatch {
        modification_number: Some(number),
        ..dispatch
    }
}

fn settings(rate: u32) -> Settings {
    Settings {
        poll_interval: INTERVAL,
        webhook_deadline: DEADLINE,
        api_rate: NonZeroU32::new(rate).unwrap(),
        rules: Rules {
            retain: Duration::from_secs(3600 * 24 * 30),
            pre_curtail: Duration::ZERO,
            curtail_on_test: false,
            stride: usize::MAX,
        },
    }
}

/// A machine that goes on from `store` by other rules.
fn with_rules(store: &MemoryStore, change: impl FnOnce(&mut Rules)) -> World {
    let mut world = World::with(240, store);
    let mut settings = settings(240);
    change(&mut settings.rules);
    let stored = world.store.load().unwrap();
    world.machine = Machine::new(settings, stored, Vec::new(), at(0), 7);
    world
}

/// A machine, what it wants to have done, and what it said.
struct World {
    machine: Machine<&'static str>,
    store: MemoryStore,
    now: u64,
    asked: Vec<(Asked, Question)>,
    commits: Vec<Batch>,
    replies: Vec<(&'static str, Verdict)>,
    events: Vec<Event>,
}

impl World {
    fn new() -> Self {
        Self::with(240, &MemoryStore::new("test"))
    }

    /// A machine that goes on from `store`, with this budget.
    fn with(rate: u32, store: &MemoryStore) -> Self {
        let mut store = store.reopened();
        let stored = store.load().unwrap();
        Self {
            machine: Machine::new(settings(rate), stored, Vec::<Outbox>::new(), at(0), 7),
            store,
            now: 0,
            asked: Vec::new(),
            commits: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A machine whose first poll has found nothing.
    fn polled() -> Self {
        let mut world = Self::new();
        world.step([]);
        world.list(vec![]);
        world.commit();
        world
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = Input<&'static str>>) {
        for effect in self.machine.step(at(self.now), inputs) {
            match effect {
                Effect::Ask { asked, question } => self.asked.push((asked, question)),
                Effect::Commit(batch) => self.commits.push(*batch),
                Effect::Reply { waiter, verdict } => self.replies.push((waiter, verdict)),
                Effect::Show(events) => self.events.extend(events),
                Effect::Attempt { .. } => panic!("there are no sinks"),
                Effect::End(error) => panic!("{error}"),
            }
        }
    }

    /// Steps whenever the machine wants to, until `millis`.
    fn until(&mut self, millis: u64) {
        while self.now < millis {
            let wake = self.machine.next_wake().max(at(self.now + 1).mono);
            self.now = u64::try_from(wake.as_millis()).unwrap().min(millis);
            self.step([]);
        }
    }

    fn webhook(&mut self, waiter: &'static str, text: &str) {
        self.step([Input::Webhook {
            id: id(text),
            waiter,
        }]);
    }

    /// The question that waits for an answer, which there must be one of.
    fn question(&mut self) -> (Asked, Question) {
        assert_eq!(self.asked.len(), 1, "{:?}", self.asked);
        self.asked.remove(0)
    }

    fn answer(&mut self, asked: Asked, result: Result<Answer, ApiError>) {
        let result = result.map(|answer| Told {
            answer,
            problems: Problems::default(),
        });
        self.step([Input::Told { asked, result }]);
    }

    fn list(&mut self, dispatches: Vec<Dispatch>) {
        let (asked, question) = self.question();
        assert_eq!(question, Question::List);
        self.answer(asked, Ok(list(dispatches)));
    }

    fn found(&mut self, dispatch: Dispatch) {
        let (asked, question) = self.question();
        assert_eq!(question, Question::Dispatch(dispatch.id.clone()));
        self.answer(asked, Ok(found(dispatch)));
    }

    fn gone(&mut self, text: &str) {
        let (asked, question) = self.question();
        assert_eq!(question, Question::Dispatch(id(text)));
        self.answer(asked, Ok(Answer::Gone(id(text))));
    }

    /// The commit that is under way succeeds.
    fn commit(&mut self) {
        let batch = self.commits.remove(0);
        let result = self.store.commit(&batch);
        result.as_ref().unwrap();
        self.step([Input::Committed(result)]);
    }

    fn commit_fails(&mut self) {
        self.commits.remove(0);
        let error = StoreError::Damaged {
            what: "the disk is full".into(),
        };
        self.step([Input::Committed(Err(error))]);
    }

    fn verdicts(&mut self) -> Vec<(&'static str, &'static str)> {
        let replies = std::mem::take(&mut self.replies);
        let name = |verdict| match verdict {
            Verdict::Settled => "settled",
            Verdict::Unknown => "unknown",
            Verdict::Unavailable { .. } => "unavailable",
            Verdict::Busy => "busy",
        };
        replies
            .into_iter()
            .map(|(waiter, verdict)| (waiter, name(verdict)))
            .collect()
    }

    fn health(&self) -> Arc<Health> {
        self.machine.view().health
    }

    fn knows(&self, text: &str) -> bool {
        self.machine.view().schedule.get(&id(text)).is_some()
    }

    fn event_types(&self) -> Vec<&str> {
        self.events.iter().map(|event| &*event.event_type).collect()
    }
}

fn list(dispatches: Vec<Dispatch>) -> Answer {
    let readings = dispatches.into_iter().map(Arc::new);
    let readings = readings.map(Reading::Dispatch).collect();
    Answer::List(Arc::new(List::new(readings, 0)))
}

fn found(dispatch: Dispatch) -> Answer {
    Answer::Found(Reading::Dispatch(Arc::new(dispatch)))
}

fn down() -> ApiError {
    ApiError::Unreachable("refused".into())
}

#[test]
fn a_webhook_is_answered_only_once_its_dispatch_is_on_disk() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    assert!(world.verdicts().is_empty());
    assert!(!world.knows("a"), "readers see what is committed");
    world.commit();
    assert_eq!(world.verdicts(), [("w", "settled")]);
    assert!(world.knows("a"));
    assert_eq!(world.event_types(), ["dispatch.created"]);
}

#[test]
fn webhooks_that_wait_share_a_commit() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    // While the first commit is under way, two more arrive.
    world.webhook("second", "b");
    world.found(dispatch("b", 100));
    world.webhook("third", "c");
    world.found(dispatch("c", 100));
    assert_eq!(world.commits.len(), 1);
    world.commit();
    assert_eq!(world.verdicts(), [("first", "settled")]);
    assert_eq!(world.commits.len(), 1);
    assert_eq!(world.commits[0].entries.len(), 2);
    world.commit();
    assert_eq!(world.verdicts().len(), 2);
}

#[test]
fn what_changes_nothing_waits_for_the_commit_that_it_was_compared_with() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    world.webhook("second", "a");
    world.found(dispatch("a", 100));
    assert!(world.verdicts().is_empty());
    world.commit();
    assert_eq!(
        world.verdicts(),
        [("first", "settled"), ("second", "settled")]
    );
    assert!(world.commits.is_empty(), "a duplicate costs no commit");
}

#[test]
fn a_failed_commit_keeps_nothing_and_fails_those_who_wait() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit_fails();
    assert_eq!(world.verdicts(), [("w", "unavailable")]);
    assert!(!world.knows("a"));
    assert!(world.health().store_error.is_some());
    // The poll that it asked for heals it once the disk is well again.
    world.until(1000);
    world.commit();
    assert_eq!(world.health().store_error, None);
    world.list(vec![dispatch("a", 100)]);
    world.commit();
    assert!(world.knows("a"));
}

#[test]
fn what_was_built_on_a_commit_that_failed_is_taken_in_anew() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    // This changes nothing in what is being written.
    world.webhook("second", "a");
    world.found(dispatch("a", 100));
    world.commit_fails();
    assert_eq!(world.verdicts(), [("first", "unavailable")]);
    assert_eq!(world.commits[0].entries.len(), 1);
    world.commit();
    assert_eq!(world.verdicts(), [("second", "settled")]);
    assert!(world.knows("a"));
    assert_eq!(world.event_types(), ["dispatch.created"]);
}

#[test]
fn a_disk_that_fails_is_tried_again_every_second_until_it_takes_writes() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("a", 1)]);
    world.commit();
    world.until(1000);
    world.commit_fails();
    world.asked.clear();
    assert!(world.event_types().len() == 1, "the start is not announced");
    world.until(1900);
    assert!(world.commits.is_empty());
    world.until(2000);
    world.commit();
    assert_eq!(world.event_types()[1..], ["dispatch.started"]);
}

#[test]
fn a_failed_fetch_is_refused_and_a_poll_follows_at_once() {
    let mut world = World::polled();
    world.now = 5000;
    world.webhook("w", "a");
    let (asked, _) = world.question();
    world.answer(asked, Err(down()));
    assert_eq!(world.verdicts(), [("w", "unavailable")]);
    world.list(vec![dispatch("a", 100)]);
    world.commit();
    assert!(world.knows("a"));
}

#[test]
fn a_webhook_waits_no_longer_than_its_deadline_and_a_poll_follows() {
    let mut world = World::polled();
    world.until(10_000);
    world.webhook("w", "a");
    let (slow, _) = world.question();
    world.until(14_999);
    assert!(world.verdicts().is_empty());
    world.until(15_000);
    assert_eq!(world.verdicts(), [("w", "unavailable")]);
    assert_eq!(world.question().1, Question::List);
    // What comes late is taken in all the same.
    world.answer(slow, Ok(found(dispatch("a", 100))));
    world.commit();
    assert!(world.knows("a"));
    assert!(world.verdicts().is_empty(), "nobody is answered twice");
}

#[test]
fn a_404_is_an_answer_only_for_what_the_schedule_does_not_hold() {
    let mut world = World::polled();
    world.webhook("stranger", "x");
    world.gone("x");
    assert_eq!(world.verdicts(), [("stranger", "unknown")]);

    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit();
    world.verdicts();
    world.now = 5000;
    world.webhook("live", "a");
    world.gone("a");
    assert_eq!(world.verdicts(), [("live", "unavailable")]);
    assert_eq!(
        world.question().1,
        Question::List,
        "the poller looks at once"
    );
}

#[test]
fn a_404_for_what_is_over_is_settled() {
    let mut world = World::polled();
    let cancelled = Dispatch {
        authorized: false,
        ..dispatch("a", 100)
    };
    world.webhook("w", "a");
    world.found(cancelled);
    world.commit();
    world.webhook("again", "a");
    world.gone("a");
    assert_eq!(world.verdicts(), [("w", "settled"), ("again", "settled")]);
}

#[test]
fn a_webhook_whose_answer_raises_a_question_waits_for_the_next_answer() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(numbered(5, dispatch("a", 100)));
    world.commit();
    world.verdicts();
    world.webhook("w", "a");
    world.found(numbered(3, dispatch("a", 200)));
    assert!(world.verdicts().is_empty());
    world.found(numbered(3, dispatch("a", 200)));
    world.commit();
    assert_eq!(world.verdicts(), [("w", "settled")]);
    assert_eq!(world.health().rewinds, 1);
}

#[test]
fn a_webhook_about_what_cannot_be_read_is_refused() {
    let mut world = World::polled();
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let reading = Reading::Unreadable {
        id: id("a"),
        reason: "no start_time".into(),
    };
    world.answer(asked, Ok(Answer::Found(reading)));
    assert_eq!(world.verdicts(), [("w", "unavailable")]);
    assert_eq!(world.health().unreadable, 1);
}

#[test]
fn when_more_wait_than_the_budget_allows_one_list_answers_those_it_contains() {
    let store = MemoryStore::new("test");
    let mut world = World::with(8, &store);
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    assert!(world.asked.is_empty());
    // Two at once: one is kept for the poll.
    world.step(["a", "b", "c"].map(|text| Input::Webhook {
        id: id(text),
        waiter: text,
    }));
    let questions: Vec<_> = world
        .asked
        .iter()
        .map(|(_, question)| question.clone())
        .collect();
    assert_eq!(questions, [Question::Dispatch(id("a")), Question::List]);
    let (asked, _) = world.asked.remove(1);
    world.answer(asked, Ok(list(vec![dispatch("b", 100)])));
    world.commit();
    assert_eq!(world.verdicts(), [("b", "settled")]);
    // The list says nothing of c: it is no 404, it takes too long.
    world.until(25_000);
    assert_eq!(
        world.verdicts(),
        [("a", "unavailable"), ("c", "unavailable")]
    );
}

#[test]
fn junk_ids_do_not_delay_the_healing_of_a_real_dispatch() {
    let mut world = World::polled();
    world.until(5000);
    for number in 0..1000 {
        world.webhook("junk", &format!("junk{number}"));
    }
    world.webhook("real", "real");
    let lists: Vec<Asked> = world
        .asked
        .iter()
        .filter(|(_, question)| *question == Question::List)
        .map(|(asked, _)| *asked)
        .collect();
    assert_eq!(lists.len(), 1, "the kept token goes to a poll at once");
    world.answer(lists[0], Ok(list(vec![dispatch("real", 100)])));
    world.commit();
    assert!(world.knows("real"));
}

#[test]
fn whoever_asks_the_api_something_else_needs_the_budgets_leave() {
    let store = MemoryStore::new("test");
    let mut world = World::with(8, &store);
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    let leave = ["first", "second", "third"].map(|waiter| Input::Leave { waiter });
    world.step(leave);
    // The last token there is is kept for the poll.
    assert_eq!(world.verdicts(), [("first", "settled")]);
    world.until(41_000);
    assert_eq!(world.verdicts(), [("second", "settled")]);
}

#[test]
fn nothing_is_asked_while_the_api_wants_to_be_left_alone() {
    let mut world = World::polled();
    world.until(5000);
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let slow_down = ApiError::TooFast {
        retry_after: Some(Duration::from_secs(60)),
    };
    world.answer(asked, Err(slow_down));
    assert_eq!(world.verdicts(), [("w", "unavailable")]);
    world.webhook("early", "b");
    world.step([Input::Poll { waiter: "hand" }]);
    assert_eq!(
        world.verdicts(),
        [("early", "unavailable"), ("hand", "unavailable")]
    );
    world.until(64_999);
    assert!(world.asked.is_empty());
    world.until(65_000);
    assert_eq!(world.question().1, Question::List);
}

#[test]
fn a_poll_by_hand_is_answered_after_a_poll_that_was_issued_later() {
    let mut world = World::new();
    world.step([]);
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    assert!(
        world.verdicts().is_empty(),
        "that one was under way already"
    );
    world.list(vec![dispatch("a", 100)]);
    assert!(world.verdicts().is_empty());
    world.commit();
    assert_eq!(world.verdicts(), [("hand", "settled")]);
}

#[test]
fn what_the_poller_finds_is_a_heal_but_for_the_first_poll() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("old", 100)]);
    world.commit();
    assert_eq!(world.health().heals, 0);
    world.webhook("w", "told");
    world.found(dispatch("told", 100));
    world.commit();
    world.step([Input::Poll { waiter: "hand" }]);
    let all = ["old", "told", "lost"].map(|text| dispatch(text, 100));
    world.list(all.to_vec());
    world.commit();
    assert_eq!(world.health().heals, 1);
    // No webhook for it came within a minute: one was missed.
    world.until(70_000);
    assert_eq!(world.health().missed_webhooks, 1);
}

#[test]
fn starts_and_ends_come_on_time_with_the_api_down() {
    let mut world = World::new();
    world.step([]);
    let soon = Dispatch {
        end_time: Some(wall(4)),
        ..dispatch("a", 2)
    };
    world.list(vec![soon]);
    world.commit();
    world.until(2000);
    world.commit();
    world.until(4000);
    world.commit();
    assert_eq!(
        world.event_types(),
        ["dispatch.created", "dispatch.started", "dispatch.ended"]
    );
}

#[test]
fn what_passed_while_the_daemon_was_down_is_caught_up_with_at_the_start() {
    let mut world = World::new();
    world.step([]);
    let soon = Dispatch {
        end_time: Some(wall(4)),
        ..dispatch("a", 2)
    };
    world.list(vec![soon]);
    world.commit();
    let mut world = World::with(240, &world.store);
    world.now = 10_000;
    world.step([]);
    world.commit();
    assert_eq!(world.event_types(), ["dispatch.started", "dispatch.ended"]);
}

#[test]
fn three_intervals_without_a_poll_are_announced_once_and_so_is_the_recovery() {
    let mut world = World::polled();
    for _ in 0..40 {
        world.until(world.now + 10_000);
        for (asked, _) in std::mem::take(&mut world.asked) {
            world.answer(asked, Err(down()));
        }
        if !world.commits.is_empty() {
            world.commit();
        }
    }
    assert_eq!(world.event_types(), ["sync.stale"]);
    assert_eq!(world.health().state(at(world.now).mono), State::Stale);
    while world.asked.is_empty() {
        world.until(world.now + 1000);
    }
    world.list(vec![]);
    world.commit();
    assert_eq!(world.event_types(), ["sync.stale", "sync.recovered"]);
    assert_eq!(world.health().state(at(world.now).mono), State::Fresh);
}

#[test]
fn a_dispatch_that_left_the_list_is_looked_up_and_withdrawn_after_the_second_404() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 1000));
    world.commit();
    for round in 0..2 {
        world.step([Input::Poll { waiter: "hand" }]);
        world.list(vec![]);
        world.commit();
        assert_eq!(world.event_types().len(), 1, "round {round}");
        world.gone("a");
    }
    world.commit();
    assert_eq!(
        world.event_types(),
        ["dispatch.created", "dispatch.cancelled"]
    );
}

#[test]
fn a_jump_of_the_clock_asks_for_a_poll() {
    let mut world = World::polled();
    world.until(3000);
    let later = Now {
        wall: wall(7200),
        mono: Mono::from_millis(3100),
    };
    let effects = world.machine.step(later, []);
    assert!(matches!(
        effects[0],
        Effect::Ask {
            question: Question::List,
            ..
        }
    ));
}

#[test]
fn too_many_who_wait_are_told_to_come_back() {
    let mut world = World::polled();
    for number in 0..5000 {
        world.webhook("w", &format!("d{number}"));
    }
    let busy = world.verdicts();
    assert_eq!(busy.len(), 5000 - 4096);
    assert!(busy.iter().all(|(_, verdict)| *verdict == "busy"));
}
