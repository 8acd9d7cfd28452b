//! What the simulation has found wrong once, one test each.

mod failing_store;
mod starting_again;
mod trust;
mod waking;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::delivery::Attempt;
use crate::model::{
    Answer, Dispatch, List, Override, Program, Reading, Route, Site, SiteId, SiteMode,
};
use crate::store::{Batch, MemoryStore, Store};
use crate::sync::tests::Named;
use crate::voltus::{ApiError, ApiResponse, Problems, Question, Stamp};

const INTERVAL: Duration = Duration::from_secs(1);

struct Shell {
    coordinator: Coordinator<u64>,
    now: Now,
    effects: Vec<Effect<u64>>,
    asked: Option<Asked>,
}

impl Shell {
    fn new(api_rate: u32, sinks: &[&'static str]) -> Self {
        Self::polling(INTERVAL, api_rate, sinks)
    }

    fn polling(poll_interval: Duration, api_rate: u32, sinks: &[&'static str]) -> Self {
        let now = start();
        let stored = MemoryStore::new("test", DateTime::UNIX_EPOCH)
            .load()
            .unwrap();
        let outboxes = sinks
            .iter()
            .map(|name| Outbox::new(&Named(name), &Route::default(), None, 0, 0, now))
            .collect();
        let settings = settings(poll_interval, api_rate);
        Self::on(settings, stored, outboxes, now)
    }

    /// One that takes in one start after the other.
    fn chunks_of_one() -> Self {
        let mut settings = settings(Duration::from_secs(3600), 240);
        settings.rules.chunk = 1;
        let stored = MemoryStore::new("test", DateTime::UNIX_EPOCH).load();
        Self::on(settings, stored.unwrap(), Vec::new(), start())
    }

    /// One that goes on from what is stored.
    fn on(settings: Settings, stored: Stored, outboxes: Vec<Outbox>, now: Now) -> Self {
        let mut shell = Self {
            coordinator: Coordinator::new(settings, stored, outboxes, now, 7),
            now,
            effects: Vec::new(),
            asked: None,
        };
        shell.step(0, []);
        shell
    }

    /// Lets so many milliseconds pass, and tells it what happened.
    fn step(&mut self, millis: u64, inputs: impl IntoIterator<Item = Input<u64>>) {
        let passed = Duration::from_millis(millis);
        self.now.mono += passed;
        self.now.wall += passed;
        self.effects = self.coordinator.step(self.now, inputs);
        let asked = self.effects.iter().find_map(|effect| match effect {
            Effect::Ask { asked, .. } => Some(*asked),
            _ => None,
        });
        self.asked = asked.or(self.asked);
    }

    /// Begins a commit that has nothing to do with the rest.
    fn begin_commit(&mut self) {
        let other = Dispatch {
            id: id("other"),
            ..dispatch(self.now.wall + TimeDelta::hours(1))
        };
        let webhook = Input::Webhook {
            id: other.id.clone(),
            waiter: 99,
        };
        self.step(0, [webhook]);
        let asked = self.asked();
        let found = Reading::Dispatch(Arc::new(other));
        self.step(0, [told(asked, Answer::Found(found))]);
        assert!(self.committing().is_some());
    }

    fn committed(&mut self, millis: u64) {
        self.step(millis, [Input::Committed(Ok(()))]);
    }

    /// The question that went out last.
    fn asked(&self) -> Asked {
        self.asked.unwrap()
    }

    /// The commands that somebody would have to give by hand.
    fn due(&self) -> Vec<(String, String)> {
        let view = self.coordinator.view();
        let due = view.health.due_commands.iter();
        due.map(|event| (event.event_type.to_string(), event.subject.to_string()))
            .collect()
    }

    fn committing(&self) -> Option<&Batch> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Commit(batch) => Some(&**batch),
            _ => None,
        })
    }

    fn events(&self) -> Vec<&str> {
        let events = self.committing().map_or(&[][..], |batch| &batch.events);
        events.iter().map(|event| &*event.event_type).collect()
    }

    /// One with a sink, whose first poll has found a dispatch. That is being written.
    fn with_a_dispatch() -> Self {
        let mut shell = Self::polling(Duration::from_secs(3600), 240, &["slow"]);
        let poll = shell.asked();
        shell.committed(10);
        let dispatches = [dispatch(shell.now.wall + TimeDelta::seconds(3))];
        shell.step(10, [list(poll, &dispatches)]);
        shell
    }

    fn attempts(&self) -> Vec<u64> {
        let attempts = self.effects.iter().filter_map(|effect| match effect {
            Effect::Attempt { start, .. } => Some(start.attempt),
            _ => None,
        });
        attempts.collect()
    }

    /// An attempt of the sink has come to this.
    fn attempted(&mut self, attempt: u64, result: Attempt) {
        let sink = 0;
        self.step(
            10,
            [Input::Attempted {
                sink,
                attempt,
                result,
                waited: Duration::ZERO,
            }],
        );
    }

    fn sleeps_for(&self) -> Duration {
        self.coordinator.next_wake() - self.now.mono
    }
}

fn start() -> Now {
    Now {
        wall: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
        mono: Mono::ZERO,
    }
}

fn settings(poll_interval: Duration, api_rate: u32) -> Settings {
    Settings {
        poll_interval,
        webhook_deadline: Duration::from_secs(5),
        api_rate: NonZeroU32::new(api_rate).unwrap(),
        rules: Rules {
            retain: Duration::from_secs(86_400),
            pre_curtail: Duration::ZERO,
            curtail_on_test: false,
            chunk: usize::MAX,
        },
    }
}

fn told(asked: Asked, answer: Answer) -> Input<u64> {
    Input::Response {
        asked,
        result: Ok(ApiResponse {
            answer,
            problems: Problems::default(),
            stamp: Stamp::default(),
        }),
    }
}

fn list(asked: Asked, dispatches: &[Dispatch]) -> Input<u64> {
    let readings = dispatches.iter().cloned().map(Arc::new);
    let list = List::new(readings.map(Reading::Dispatch).collect(), 0);
    told(asked, Answer::List(Arc::new(list)))
}

fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

fn dispatch(start_time: DateTime<Utc>) -> Dispatch {
    Dispatch {
        id: id("dkmq"),
        authorized: true,
        test: false,
        start_time,
        end_time: None,
        creation_time: None,
        modification_number: None,
        program: Program::default(),
        sites: Vec::new(),
        metadata: serde_json::json!({}),
        extra: Default::default(),
    }
}

/// From `seconds` on, for a site.
fn curtails(shell: &Shell, site: &str, seconds: i64) -> Dispatch {
    let site = Site {
        id: SiteId::new(site).unwrap(),
        name: String::new(),
        customer_location_id: String::new(),
        commitment: None,
        extra: Default::default(),
    };
    Dispatch {
        id: id(&format!("for-{}", site.id)),
        sites: vec![Arc::new(site)],
        ..dispatch(shell.now.wall + TimeDelta::seconds(seconds))
    }
}

/// An operator curtails a site for an hour.
fn an_order(shell: &Shell) -> OverrideOrder {
    OverrideOrder {
        site: SiteId::new("s1").unwrap(),
        name: String::new(),
        customer_location_id: String::new(),
        site_override: Some(Arc::new(Override {
            state: SiteMode::Curtailed,
            since: shell.now.wall,
            until: shell.now.wall + Duration::from_secs(3600),
            reason: "by hand".into(),
        })),
    }
}

#[test]
fn a_slow_commit_is_waited_for_asleep() {
    let mut shell = Shell::new(240, &["slow"]);
    let asked = shell.asked();
    let dispatches = [dispatch(shell.now.wall)];
    shell.committed(10);
    shell.step(10, [list(asked, &dispatches)]);
    shell.committed(10);
    let start = shell.effects.iter().find_map(|effect| match effect {
        Effect::Attempt { start, .. } => Some(start.attempt),
        _ => None,
    });
    shell.begin_commit();
    // What was delivered waits to be written, behind a commit that takes long.
    let delivered = Input::Attempted {
        sink: 0,
        attempt: start.unwrap(),
        result: Attempt::Delivered,
        waited: Duration::ZERO,
    };
    shell.step(10, [delivered]);
    shell.step(400, []);
    assert!(shell.coordinator.writing.is_under_way());
    assert!(shell.sleeps_for() >= Duration::from_millis(100));
}

#[test]
fn after_a_standstill_a_command_is_tried_again_although_something_else_starts_later() {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let dispatches = [
        curtails(&shell, "plant", 0),
        curtails(&shell, "north", 7200),
    ];
    shell.step(10, [list(poll, &dispatches)]);
    // Each attempt fails. How many there were at the site in all steps.
    let mut go_on = |millis: &[u64]| {
        let mut tries = 0;
        for millis in millis {
            let ended = shell.effects.iter().filter_map(|effect| match effect {
                Effect::Commit(_) => Some(Input::Committed(Ok(()))),
                Effect::Attempt { sink, start } => {
                    let sites = start.events.iter().filter(|it| it.family() == "site");
                    tries += sites.count();
                    Some(Input::Attempted {
                        sink: *sink,
                        attempt: start.attempt,
                        result: Attempt::failed("out of order"),
                        waited: Duration::ZERO,
                    })
                }
                _ => None,
            });
            let ended: Vec<_> = ended.collect();
            shell.step(*millis, ended);
        }
        tries
    };
    assert_eq!(go_on(&[10; 10]), 1);
    assert!(go_on(&[60_000, 10, 10, 10, 10]) > 0);
}

#[test]
fn a_token_is_waited_for_asleep() {
    let mut shell = Shell::new(1, &[]);
    let asked = shell.asked();
    shell.committed(10);
    shell.step(10, [list(asked, &[])]);
    shell.committed(10);
    for waiter in 0..3 {
        let id = id("dkmq");
        shell.step(500, [Input::Webhook { id, waiter }]);
        assert!(shell.sleeps_for() >= Duration::from_millis(100));
        if shell.committing().is_some() {
            shell.committed(1);
        }
    }
}

#[test]
fn who_asks_for_what_the_same_commit_brings_is_not_told_that_it_is_unknown() {
    let mut shell = Shell::new(240, &[]);
    let poll = shell.asked();
    let webhook = |waiter| Input::Webhook {
        id: id("dkmq"),
        waiter,
    };
    // A commit is under way while all of this is told.
    shell.begin_commit();
    shell.step(10, [webhook(1)]);
    let first = shell.asked();
    shell.step(10, [told(first, Answer::Gone(id("dkmq")))]);
    shell.step(10, [webhook(2)]);
    let second = shell.asked();
    let found = Reading::Dispatch(Arc::new(dispatch(shell.now.wall)));
    shell.step(10, [told(second, Answer::Found(found)), list(poll, &[])]);
    shell.committed(10);
    shell.committed(10);
    let outcomes = shell.effects.iter().filter_map(|effect| match effect {
        Effect::Reply { waiter, outcome } => Some((*waiter, outcome)),
        _ => None,
    });
    let unknown: Vec<_> = outcomes
        .filter(|(_, outcome)| **outcome == WaiterReply::Unknown)
        .collect();
    assert_eq!(unknown, []);
}

#[test]
fn a_flood_of_webhooks_for_what_no_list_shows_leaves_tokens_to_look_ups() {
    // A token comes every 2.2 s.
    let mut shell = Shell::polling(Duration::from_secs(30), 36, &[]);
    let mut questions = vec![(shell.asked(), Question::List)];
    let (mut lists, mut look_ups) = (0, 0);
    for waiter in 0..600 {
        let mut inputs = vec![Input::Webhook {
            id: id(&format!("junk{waiter}")),
            waiter,
        }];
        for (asked, question) in questions.drain(..) {
            inputs.push(match question {
                Question::List => list(asked, &[]),
                Question::Dispatch(id) => told(asked, Answer::Gone(id)),
            });
        }
        if shell.committing().is_some() {
            inputs.push(Input::Committed(Ok(())));
        }
        shell.step(100, inputs);
        for effect in &shell.effects {
            if let Effect::Ask { asked, question } = effect {
                match question {
                    Question::List => lists += 1,
                    Question::Dispatch(_) => look_ups += 1,
                }
                questions.push((*asked, question.clone()));
            }
        }
    }
    // Eight at once, then 27 tokens in the minute.
    assert!(look_ups >= 8 + 9, "{look_ups} look-ups, {lists} lists");
    assert!(lists >= 9, "{look_ups} look-ups, {lists} lists");
}

#[test]
fn a_429_that_names_no_time_puts_polls_off_no_longer_than_any_failure() {
    let mut shell = Shell::new(6000, &[]);
    let mut asked = shell.asked();
    shell.committed(0);
    for _ in 0..20 {
        let retry_after = None;
        let result = Err(ApiError::TooFast { retry_after });
        shell.step(0, [Input::Response { asked, result }]);
        let failed = shell.now.mono;
        while !shell
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Ask { .. }))
        {
            let inputs: Vec<_> = match shell.committing() {
                Some(_) => vec![Input::Committed(Ok(()))],
                None => Vec::new(),
            };
            shell.step(50, inputs);
        }
        assert!(shell.now.mono - failed <= Duration::from_millis(5050));
        asked = shell.asked();
    }
}

#[test]
fn a_poll_that_waits_behind_a_slow_commit_is_not_announced_as_blindness() {
    let mut shell = Shell::new(240, &[]);
    let poll = shell.asked();
    // This commit takes longer than the schedule may go unconfirmed.
    shell.begin_commit();
    shell.step(500, [list(poll, &[])]);
    shell.committed(4000);
    assert!(shell.committing().is_some());
    assert_eq!(shell.events(), [] as [&str; 0]);
}

/// One whose only site was curtailed a moment ago, which the receiver refused: it is
/// tried again in half a second. Another site is curtailed in two seconds.
fn with_a_command_that_failed() -> Shell {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let over_soon = Dispatch {
        end_time: Some(shell.now.wall + TimeDelta::minutes(10)),
        ..curtails(&shell, "plant", 0)
    };
    let dispatches = [over_soon, curtails(&shell, "north", 2)];
    shell.step(10, [list(poll, &dispatches)]);
    for _ in 0..10 {
        let ended = shell.effects.iter().filter_map(|effect| match effect {
            Effect::Commit(_) => Some(Input::Committed(Ok(()))),
            Effect::Attempt { sink, start } => {
                let is_site = start.events.iter().any(|it| it.family() == "site");
                Some(Input::Attempted {
                    sink: *sink,
                    attempt: start.attempt,
                    result: match is_site {
                        true => Attempt::failed("out of order"),
                        false => Attempt::Delivered,
                    },
                    waited: Duration::ZERO,
                })
            }
            _ => None,
        });
        let ended: Vec<_> = ended.collect();
        shell.step(10, ended);
    }
    shell
}

impl Shell {
    /// The commands that go out now.
    fn commands(&self) -> Vec<(&str, &str)> {
        let starts = self.effects.iter().filter_map(|effect| match effect {
            Effect::Attempt { start, .. } => Some(&start.events),
            _ => None,
        });
        let sites = starts.flatten().filter(|event| event.family() == "site");
        sites
            .map(|event| (&*event.event_type, &*event.subject))
            .collect()
    }
}

#[test]
fn after_a_standstill_no_command_goes_that_is_over_meanwhile() {
    let mut shell = with_a_command_that_failed();
    shell.step(3_600_000, []);
    assert!(shell.committing().is_some());
    assert_eq!(shell.commands(), []);
    for _ in 0..10 {
        shell.committed(10);
        let commands = shell.commands();
        let curtails = |command: &(&str, &str)| *command == ("site.curtail", "plant");
        assert!(!commands.iter().any(curtails), "{commands:?}");
    }
}

#[test]
fn a_command_that_failed_is_tried_again_though_a_commit_that_is_due_takes_long() {
    let mut shell = with_a_command_that_failed();
    let mut tries = 0;
    for tenth in 0..100 {
        shell.step(100, []);
        // The other site's start is due by then.
        if tenth >= 30 {
            assert!(shell.coordinator.writing.is_under_way());
            tries += shell.commands().len();
        }
        for attempt in shell.attempts() {
            shell.attempted(attempt, Attempt::failed("out of order"));
        }
    }
    assert!(tries > 0);
}
