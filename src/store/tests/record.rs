//! What every store keeps to prove how a dispatch was carried out.

use super::*;
use crate::model::{CancelReason, CommandOrigin};

pub(super) fn state(id: &str, number: i64, withdrawn: bool, seconds: i64) -> NewState {
    let mut shown = entry(id);
    let mut dispatch = Dispatch::clone(&shown.dispatch);
    dispatch.modification_number = Some(number);
    shown.dispatch = Arc::new(dispatch);
    if withdrawn {
        shown.phase = Phase::Cancelled;
        shown.cancel_reason = Some(CancelReason::Withdrawn);
    }
    NewState {
        entry: Arc::new(shown),
        told: told(seconds),
        changed: !withdrawn,
    }
}

fn told(seconds: i64) -> Told {
    Told {
        way: Way::List,
        asked: at(seconds),
        answered: at(seconds + 1),
    }
}

/// The next batch for a store, with these states.
pub(super) fn with_states(store: &mut dyn Store, states: Vec<NewState>) -> Batch {
    let stored = store.load().unwrap();
    let newest: BTreeMap<DispatchId, Arc<Entry>> = states
        .iter()
        .map(|state| (state.entry.id().clone(), Arc::clone(&state.entry)))
        .collect();
    Batch {
        term: stored.term,
        expected_revision: stored.revision,
        revision: stored.revision + 1,
        history: newest
            .keys()
            .map(|id| (id.clone(), item(stored.revision + 1)))
            .collect(),
        entries: newest.into_values().collect(),
        states,
        ..Batch::default()
    }
}

pub(super) fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

/// The number, the time of the request and the modification number of each state.
fn numbers(record: &DispatchRecord) -> Vec<(u64, Option<DateTime<Utc>>, Option<i64>)> {
    let states = record.states.iter();
    states
        .map(|line| {
            let body = line.body.as_deref();
            let dispatch = body.map(|body| serde_json::from_str::<Dispatch>(body).unwrap());
            assert_eq!(line.bytes, body.map_or(0, |body| body.len() as u64));
            let number = dispatch.and_then(|dispatch| dispatch.modification_number);
            (line.number, line.told.map(|told| told.asked), number)
        })
        .collect()
}

#[test]
fn a_state_is_kept_when_another_one_replaces_it() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let mut commit = |states| {
            let batch = with_states(&mut *store, states);
            store.commit(&batch).unwrap();
        };
        commit(vec![
            state("a", 0, false, 1),
            state("b", 0, false, 1),
            // One batch may hold several answers.
            state("b", 1, false, 3),
        ]);
        commit(vec![state("a", 1, false, 5)]);
        // The same again, be it that the phase is another.
        commit(vec![NewState {
            changed: false,
            ..state("a", 1, false, 7)
        }]);
        commit(vec![state("a", 1, true, 9)]);
        // It comes back as it was.
        commit(vec![NewState {
            changed: false,
            ..state("a", 1, false, 11)
        }]);
        commit(vec![state("a", 2, false, 13), state("a", 3, false, 15)]);

        let record = reader.record(&id("a")).unwrap();
        let expected = [
            (1, Some(at(1)), Some(0)),
            (2, Some(at(5)), Some(1)),
            (3, Some(at(9)), None),
            (4, Some(at(11)), Some(1)),
            (5, Some(at(13)), Some(2)),
            (6, Some(at(15)), Some(3)),
        ];
        assert_eq!(numbers(&record), expected);
        assert_eq!(record.states[0].told, Some(told(1)));
        let record = reader.record(&id("b")).unwrap();
        let expected = [(1, Some(at(1)), Some(0)), (2, Some(at(3)), Some(1))];
        assert_eq!(numbers(&record), expected);
        assert!(reader.record(&id("unknown")).unwrap().states.is_empty());
    });
}

#[test]
fn a_start_or_an_end_is_no_state_of_the_api() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let batch = with_states(&mut *store, vec![state("a", 0, false, 1)]);
        store.commit(&batch).unwrap();
        let started = with_states(&mut *store, vec![state("a", 0, false, 5)]);
        let started = Batch {
            states: Vec::new(),
            ..started
        };
        store.commit(&started).unwrap();
        let record = reader.record(&id("a")).unwrap();
        assert_eq!(numbers(&record), [(1, Some(at(1)), Some(0))]);
    });
}

#[test]
fn of_a_dispatch_that_changes_for_ever_the_first_and_the_last_lines_stay() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        // One commit may hold many answers.
        for first in (0..1_200).step_by(20) {
            let numbers = first..first + 20;
            let states = numbers
                .clone()
                .map(|number| state("a", number, false, number));
            let mut batch = with_states(&mut *store, states.collect());
            batch.sinks = vec![settled(numbers.map(|number| {
                let position = u64::try_from(number).unwrap() + 1;
                command("a", position, DeliveryEnd::Acknowledged(at(number)))
            }))];
            store.commit(&batch).unwrap();
        }
        let record = reader.record(&id("a")).unwrap();
        let kept: Vec<u64> = record.states.iter().map(|line| line.number).collect();
        let expected: Vec<u64> = (1..=500).chain(700..=1_200).collect();
        assert_eq!(kept, expected);
        let commands = record.commands.len() as u64;
        assert_eq!(commands + record.commands_left_out, 1_200);
        assert!((1_000..1_200).contains(&commands), "{commands}");
        assert_eq!(record.commands[0].settled.position, 1);
        assert_eq!(record.commands[499].settled.position, 500);
        assert!(record.commands[500].settled.position > 600);
    });
}

pub(super) fn command(cause: &str, position: u64, end: DeliveryEnd) -> SettledCommand {
    SettledCommand {
        cause: id(cause),
        position,
        site: "s".into(),
        command: "site.curtail".into(),
        due: at(10),
        known: at(11),
        tried: Some(Tried {
            first: at(12),
            last: at(20),
            count: 2,
        }),
        end,
        last_error: Some("refused".into()),
    }
}

pub(super) fn settled(commands: impl IntoIterator<Item = SettledCommand>) -> SinkRecord {
    SinkRecord {
        sink: "stdout".into(),
        settled: commands.into_iter().collect(),
        ..SinkRecord::default()
    }
}

pub(super) fn site_event(store: &Stored, position: u64, event_type: &str, cause: &str) -> Event {
    let data = serde_json::json!({"cause": cause});
    Event {
        data: Arc::new(serde_json::value::to_raw_value(&data).unwrap()),
        origin: Some(Arc::new(CommandOrigin {
            cause: id(cause),
            due: at(10),
            known: at(11),
        })),
        ..event(store, position, event_type, "s")
    }
}

#[test]
fn how_commands_ended_is_kept_for_the_dispatch_that_caused_them_and_goes_with_it() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        let mut batch = with_states(
            &mut *store,
            vec![state("a", 0, false, 1), state("b", 0, false, 1)],
        );
        batch.events = vec![
            site_event(&stored, 1, "site.curtail", "a"),
            site_event(&stored, 2, "site.adjust", "b"),
            site_event(&stored, 3, "site.release", "b"),
        ];
        // The first was never sent: the second told the same.
        let never_sent = SettledCommand {
            tried: None,
            last_error: None,
            ..command("a", 1, DeliveryEnd::Superseded)
        };
        let told = command("b", 2, DeliveryEnd::Acknowledged(at(21)));
        batch.sinks = vec![settled([
            never_sent.clone(),
            told.clone(),
            command("unknown", 4, DeliveryEnd::Skipped),
        ])];
        store.commit(&batch).unwrap();

        let record = reader.record(&id("a")).unwrap();
        let line = CommandLine {
            sink: "stdout".into(),
            settled: never_sent,
            made_up: Some(at(21)),
        };
        assert_eq!(record.commands, [line]);
        assert!(record.newest.is_empty(), "the newest is of another");
        let record = reader.record(&id("b")).unwrap();
        assert_eq!(record.commands.len(), 1);
        assert_eq!(record.commands[0].settled, told);
        let [newest] = &record.newest[..] else {
            panic!("{:?}", record.newest);
        };
        assert_eq!((newest.position, newest.is_release()), (3, true));
        let origin = newest.origin.as_ref().unwrap();
        assert_eq!((origin.due, origin.known), (at(10), at(11)));

        let prune = Batch {
            pruned: vec![id("b")],
            ..with_states(&mut *store, Vec::new())
        };
        store.commit(&prune).unwrap();
        let record = reader.record(&id("b")).unwrap();
        assert!(record.commands.is_empty() && record.states.is_empty());
        assert_eq!(reader.record(&id("a")).unwrap().commands.len(), 1);
    });
}

#[test]
fn a_later_command_makes_up_for_one_only_until_the_site_is_told_otherwise() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        let mut batch = with_states(&mut *store, vec![state("a", 0, false, 1)]);
        batch.events = vec![
            site_event(&stored, 1, "site.curtail", "a"),
            site_event(&stored, 2, "site.release", "a"),
            site_event(&stored, 3, "site.curtail", "a"),
        ];
        batch.sinks = vec![settled([
            command("a", 1, DeliveryEnd::Superseded),
            command("a", 3, DeliveryEnd::Acknowledged(at(21))),
        ])];
        store.commit(&batch).unwrap();
        let record = reader.record(&id("a")).unwrap();
        assert_eq!(record.commands[0].made_up, None);
    });
}

#[test]
fn where_the_sinks_stand_with_the_sites_of_a_dispatch_is_told() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let mut batch = with_states(&mut *store, vec![state("a", 0, false, 1)]);
        let told = Attempted {
            position: 3,
            curtailed: true,
            acknowledged: false,
            held: false,
        };
        let retry = Retry {
            attempts: 1,
            at: at(9),
            pause: Duration::from_millis(1500),
            tried: Some(Tried {
                first: at(3),
                last: at(5),
                count: 4,
            }),
        };
        batch.sinks = vec![SinkRecord {
            sink: "stdout".into(),
            route: Some("a route".into()),
            attempted: [("s".into(), Some(told)), ("elsewhere".into(), Some(told))].into(),
            retries: [
                ("site/s".into(), Some(retry)),
                ("dispatch/s".into(), Some(retry)),
            ]
            .into(),
            ..SinkRecord::default()
        }];
        store.commit(&batch).unwrap();
        let site = SiteId::new("s").unwrap();
        let line = SinkLine {
            sink: "stdout".into(),
            route: Some("a route".into()),
            attempted: [(site.clone(), told)].into(),
            retries: [(site, retry)].into(),
        };
        assert_eq!(reader.record(&id("a")).unwrap().sinks, [line]);
    });
}
