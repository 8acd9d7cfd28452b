//! Statements about the machine, stepped by hand.

mod asking;
mod caches;
mod causes;
mod chunks;
mod commits;
mod counters;
mod heals;
mod lost_commits;
mod skips;
mod slowdown;
mod turns;
mod unrouted;

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::clock::{Mono, Now};
use crate::delivery::{Attempt, DeliveryTrace, Outbox, Sink};
use crate::engine::Rules;
use crate::model::{
    Answer, Asked, Dispatch, DispatchId, Event, List, Override, OverrideOrder, Program, Reading,
    Site, SiteId, SiteMode, UnreadParts,
};
use crate::store::{Batch, MemoryStore, Store, StoreError};
use crate::voltus::{ApiClock, ApiError, ApiResponse, Problems, Question, Stamp};

/// A sink that only has a name.
pub(super) struct Named(pub &'static str);

impl Sink for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(std::future::ready(Attempt::Delivered))
    }
}

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
        extra: Default::default(),
    }
}

/// A dispatch of one site.
fn with_site(dispatch: Dispatch) -> Dispatch {
    let site = Site {
        extra: Default::default(),
        id: SiteId::new("s").unwrap(),
        name: String::new(),
        customer_location_id: String::new(),
        commitment: None,
    };
    Dispatch {
        sites: vec![Arc::new(site)],
        ..dispatch
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
            chunk: usize::MAX,
        },
    }
}

/// A coordinator that goes on from `store` by other rules.
fn with_rules(store: &MemoryStore, change: impl FnOnce(&mut Rules)) -> World {
    let mut world = World::with(240, store);
    let mut settings = settings(240);
    change(&mut settings.rules);
    let stored = world.store.load().unwrap();
    world.coordinator = Coordinator::new(settings, stored, Vec::new(), at(0), 7);
    world
}

/// A coordinator, what it wants to have done, and what it said.
struct World {
    coordinator: Coordinator<&'static str>,
    store: MemoryStore,
    now: u64,
    asked: Vec<(Asked, Question)>,
    commits: Vec<Batch>,
    replies: Vec<(&'static str, WaiterReply)>,
    events: Vec<Event>,
    /// Attempts to deliver hang for ever, if there are any.
    has_sink: bool,
}

impl World {
    fn new() -> Self {
        Self::with(240, &MemoryStore::new("test", DateTime::UNIX_EPOCH))
    }

    /// A coordinator that goes on from `store`, with this budget.
    fn with(rate: u32, store: &MemoryStore) -> Self {
        let mut store = store.reopened(DateTime::UNIX_EPOCH);
        let stored = store.load().unwrap();
        Self {
            coordinator: Coordinator::new(settings(rate), stored, Vec::<Outbox>::new(), at(0), 7),
            store,
            now: 0,
            asked: Vec::new(),
            commits: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
            has_sink: false,
        }
    }

    /// A coordinator whose first poll has found nothing.
    fn polled() -> Self {
        let mut world = Self::new();
        world.step([]);
        world.list(vec![]);
        world.commit();
        world
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = Input<&'static str>>) {
        for effect in self.coordinator.step(at(self.now), inputs) {
            match effect {
                Effect::Ask { asked, question } => self.asked.push((asked, question)),
                Effect::Commit(batch) => self.commits.push(*batch),
                Effect::Reply { waiter, outcome } => self.replies.push((waiter, outcome)),
                Effect::Show(events) => self.events.extend(events),
                Effect::Attempt { .. }
                | Effect::Abandon { .. }
                | Effect::ReadPending { .. }
                | Effect::ReadRefresh { .. } => {
                    assert!(self.has_sink, "there are no sinks");
                }
                Effect::End(error) => panic!("{error}"),
            }
        }
    }

    /// Steps whenever the coordinator wants to, until `millis`.
    fn until(&mut self, millis: u64) {
        while self.now < millis {
            let wake = self.coordinator.next_wake().max(at(self.now + 1).mono);
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

    /// An operator orders that the site stays as it is, until `until` seconds.
    fn order(&mut self, waiter: &'static str, until: i64) {
        let order = OverrideOrder {
            site: SiteId::new("s").unwrap(),
            name: String::new(),
            customer_location_id: String::new(),
            site_override: Some(Arc::new(Override {
                state: SiteMode::Normal,
                since: at(self.now).wall,
                until: wall(until),
                reason: "the boiler is being repaired".into(),
            })),
        };
        self.step([Input::Override { order, waiter }]);
    }

    /// The question that waits for an answer, which there must be one of.
    fn question(&mut self) -> (Asked, Question) {
        assert_eq!(self.asked.len(), 1, "{:?}", self.asked);
        self.asked.remove(0)
    }

    fn answer(&mut self, asked: Asked, result: Result<Answer, ApiError>) {
        let result = result.map(|answer| ApiResponse {
            answer,
            problems: Problems::default(),
            stamp: Stamp::default(),
        });
        self.step([Input::Response { asked, result }]);
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

    /// Every commit that is under way succeeds.
    fn commit_all(&mut self) {
        while !self.commits.is_empty() {
            self.commit();
        }
    }

    fn commit_fails(&mut self) {
        self.commits.remove(0);
        let error = StoreError::Damaged {
            what: "the disk is full".into(),
        };
        self.step([Input::Committed(Err(error))]);
    }

    fn outcomes(&mut self) -> Vec<(&'static str, &'static str)> {
        let replies = std::mem::take(&mut self.replies);
        let name = |outcome| match outcome {
            WaiterReply::Applied => "settled",
            WaiterReply::Granted => "granted",
            WaiterReply::Unknown => "unknown",
            WaiterReply::Unavailable { .. } => "unavailable",
            WaiterReply::Busy => "busy",
            WaiterReply::Pending(_) | WaiterReply::Skipped(_) | WaiterReply::PendingAt(_) => {
                "of outboxes"
            }
        };
        replies
            .into_iter()
            .map(|(waiter, outcome)| (waiter, name(outcome)))
            .collect()
    }

    fn health(&self) -> Arc<Health> {
        self.coordinator.view().health
    }

    fn knows(&self, text: &str) -> bool {
        self.coordinator.view().schedule.get(&id(text)).is_some()
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
    let all = ["dispatch.created", "dispatch.started", "dispatch.ended"];
    for (millis, happened) in [(1999, 1), (2000, 2), (3999, 2), (4000, 3)] {
        world.until(millis);
        world.commit_all();
        assert_eq!(world.event_types(), all[..happened], "at {millis} ms");
    }
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

/// A standby takes over when its clock has run for long.
#[test]
fn the_three_intervals_are_counted_from_when_a_daemon_begins_to_poll() {
    let mut world = World::new();
    let stored = world.store.load().unwrap();
    world.now = 600_000;
    let now = at(world.now);
    world.coordinator = Coordinator::new(settings(240), stored, Vec::new(), now, 7);
    world.step([]);
    assert!(world.commits.is_empty(), "{:?}", world.commits);
    assert_eq!(world.health().state(now.mono), State::Starting);
    let stale = now.mono + INTERVAL * 3;
    assert_eq!(world.health().state(stale), State::Stale);
    world.until(world.now + 91_000);
    world.commit();
    assert_eq!(world.event_types(), ["sync.stale"]);
}

#[test]
fn a_dispatch_that_left_the_list_is_looked_up_and_withdrawn_after_the_second_404() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 1000));
    world.commit();
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    world.gone("a");
    assert_eq!(world.event_types().len(), 1, "one 404 is not enough");
    world.until(world.now + 9_999);
    world.asked.clear();
    world.until(world.now + 1);
    world.gone("a");
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
    let effects = world.coordinator.step(later, []);
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
    let busy = world.outcomes();
    assert_eq!(busy.len(), 5000 - 4096);
    assert!(busy.iter().all(|(_, outcome)| *outcome == "busy"));
    // No flood of them shuts out those who act by hand.
    for _ in 0..300 {
        world.step([Input::Poll { waiter: "hand" }]);
    }
    assert_eq!(world.outcomes(), vec![("hand", "busy"); 300 - 256]);
}
