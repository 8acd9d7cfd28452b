//! What the simulation has found wrong once, one test each.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::engine::{Answer, List, Reading};
use crate::model::{Dispatch, Program};
use crate::store::{MemoryStore, Store};
use crate::voltus::Problems;

const INTERVAL: Duration = Duration::from_secs(1);

/// A machine on an empty store, and what it wants done.
struct Shell {
    machine: Machine<u64>,
    now: Now,
    effects: Vec<Effect<u64>>,
}

impl Shell {
    fn new(api_rate: u32, sinks: &[&str]) -> Self {
        let now = Now {
            wall: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            mono: Mono::ZERO,
        };
        let stored = MemoryStore::new("test").load().unwrap();
        let outboxes = sinks
            .iter()
            .map(|name| Outbox::new(name, 1, None, 0, now))
            .collect();
        let settings = Settings {
            poll_interval: INTERVAL,
            webhook_deadline: Duration::from_secs(5),
            api_rate: NonZeroU32::new(api_rate).unwrap(),
            rules: Rules {
                retain: Duration::from_secs(86_400),
                pre_curtail: Duration::ZERO,
                curtail_on_test: false,
            },
        };
        let mut shell = Self {
            machine: Machine::new(settings, stored, outboxes, now, 7),
            now,
            effects: Vec::new(),
        };
        shell.step(0, []);
        shell
    }

    /// Lets so many milliseconds pass, and tells it what happened.
    fn step(&mut self, millis: u64, inputs: impl IntoIterator<Item = Input<u64>>) {
        let passed = Duration::from_millis(millis);
        self.now.mono += passed;
        self.now.wall += passed;
        self.effects = self.machine.step(self.now, inputs);
    }

    fn committed(&mut self, millis: u64) {
        self.step(millis, [Input::Committed(Ok(()))]);
    }

    /// The question that went out last.
    fn asked(&self) -> Asked {
        let asked = self.effects.iter().find_map(|effect| match effect {
            Effect::Ask { asked, .. } => Some(*asked),
            _ => None,
        });
        asked.unwrap()
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

    fn sleeps_for(&self) -> Duration {
        self.machine.next_wake() - self.now.mono
    }
}

fn list(asked: Asked, dispatches: &[Dispatch]) -> Input<u64> {
    let readings = dispatches.iter().cloned().map(Arc::new);
    let list = List {
        readings: readings.map(Reading::Dispatch).collect(),
        nameless: 0,
    };
    Input::Told {
        asked,
        result: Ok(Told {
            answer: Answer::List(list),
            problems: Problems::default(),
        }),
    }
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
    // What was delivered waits to be written, behind a commit that takes long.
    let delivered = Input::Attempted {
        sink: 0,
        attempt: start.unwrap(),
        result: Attempt::Delivered,
    };
    shell.step(10, [delivered]);
    shell.step(980, []);
    assert!(shell.machine.writing.is_some());
    shell.step(400, []);
    assert!(shell.sleeps_for() >= Duration::from_millis(100));
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
fn a_429_that_names_no_time_puts_polls_off_no_longer_than_any_failure() {
    let mut shell = Shell::new(6000, &[]);
    let mut asked = shell.asked();
    shell.committed(0);
    for _ in 0..20 {
        let retry_after = None;
        let result = Err(ApiError::TooFast { retry_after });
        shell.step(0, [Input::Told { asked, result }]);
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
    let id = id("dkmq");
    shell.step(0, [Input::Webhook { id, waiter: 1 }]);
    let asked = shell.asked();
    let later = dispatch(shell.now.wall + TimeDelta::hours(1));
    let reading = Reading::Dispatch(Arc::new(later));
    let result = Ok(Told {
        answer: Answer::Found(reading),
        problems: Problems::default(),
    });
    // Its commit takes longer than the schedule may go unconfirmed.
    shell.step(0, [Input::Told { asked, result }]);
    assert!(shell.committing().is_some());
    shell.step(500, [list(poll, &[])]);
    shell.committed(4000);
    assert!(shell.committing().is_some());
    assert_eq!(shell.events(), [] as [&str; 0]);
}
