//! What every store keeps to prove how a dispatch was carried out.

use super::*;

fn state(id: &str, body: Option<&str>, seconds: i64) -> NewState {
    NewState {
        dispatch: DispatchId::new(id).unwrap(),
        before_seen: None,
        way: Way::List,
        asked: at(seconds),
        answered: at(seconds + 1),
        body: body.map(Arc::from),
    }
}

fn command(ids: &[&str], position: u64) -> NewCommand {
    NewCommand {
        dispatches: ids.iter().map(|id| DispatchId::new(id).unwrap()).collect(),
        site: SiteId::new("s").unwrap(),
        position,
        command: "site.curtail",
        due: at(10),
        known: at(11),
    }
}

fn attempts(attempts: impl IntoIterator<Item = (u64, Attempts)>) -> SinkRecord {
    SinkRecord {
        sink: "stdout".into(),
        attempts: attempts.into_iter().collect(),
        ..SinkRecord::default()
    }
}

/// The same store, to be written to by the next batch.
fn next(store: &mut dyn Store) -> Batch {
    let stored = store.load().unwrap();
    Batch {
        term: stored.term,
        expected_revision: stored.revision,
        revision: stored.revision,
        ..Batch::default()
    }
}

#[test]
fn what_the_api_said_is_kept_and_the_same_again_is_only_seen_later() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        store
            .commit(&Batch {
                states: vec![
                    state("a", Some("{\"one\": 1}"), 1),
                    state("gone", Some("{}"), 1),
                ],
                ..batch(&stored, "a")
            })
            .unwrap();
        let states = vec![
            state("a", Some("{\"one\": 1}"), 5),
            NewState {
                before_seen: Some(at(7)),
                ..state("a", None, 9)
            },
        ];
        let again = Batch {
            states,
            ..next(&mut *store)
        };
        store.commit(&again).unwrap();

        let record = reader.record(&DispatchId::new("a").unwrap()).unwrap();
        let [first, second] = &record.states[..] else {
            panic!("{record:?}");
        };
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!((first.asked, first.answered), (at(1), at(2)));
        assert_eq!(first.last_seen, at(7));
        assert_eq!(first.body.as_deref(), Some("{\"one\": 1}"));
        assert_eq!(first.bytes, 10);
        assert_eq!((second.body.as_deref(), second.last_seen), (None, at(10)));
        let unknown = reader.record(&DispatchId::new("gone").unwrap()).unwrap();
        assert!(unknown.states.is_empty(), "it is no dispatch of the store");
    });
}

#[test]
fn how_commands_were_delivered_adds_up_and_goes_with_the_last_dispatch_that_has_them() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, "a")).unwrap();
        let second = Batch {
            revision: 2,
            entries: vec![Arc::new(entry("b"))],
            history: vec![(DispatchId::new("b").unwrap(), item(2))],
            commands: vec![command(&["a", "b"], 5), command(&["b"], 6)],
            ..next(&mut *store)
        };
        store.commit(&second).unwrap();

        let curtail: Arc<str> = "site.curtail".into();
        let site: Arc<str> = "s".into();
        let mut failed = Attempts::begun(&site, &curtail, at(12));
        failed.end(Err(&"refused".into()), at(13));
        let sinks = vec![attempts([
            (5, failed),
            (7, Attempts::begun(&site, &curtail, at(12))),
        ])];
        let batch = Batch {
            sinks,
            ..next(&mut *store)
        };
        store.commit(&batch).unwrap();
        let mut later = Attempts::of("s");
        later.add(Attempts::begun(&site, &curtail, at(20)));
        let mut ended = Attempts::of("s");
        ended.end(Ok(()), at(21));
        for one in [later, ended] {
            let sinks = vec![attempts([(5, one)])];
            let batch = Batch {
                sinks,
                ..next(&mut *store)
            };
            store.commit(&batch).unwrap();
        }

        for (id, commands) in [("a", 1), ("b", 2)] {
            let record = reader.record(&DispatchId::new(id).unwrap()).unwrap();
            assert_eq!(record.commands.len(), commands, "{id}");
            assert_eq!(
                (record.commands[0].due, record.commands[0].known),
                (at(10), at(11))
            );
            let expected = DeliveryLine {
                site: SiteId::new("s").unwrap(),
                position: 5,
                sink: "stdout".into(),
                command: Arc::clone(&curtail),
                first_attempt: at(12),
                last_attempt: at(20),
                attempts: 2,
                acknowledged: Some(at(21)),
                last_error: Some("refused".into()),
            };
            assert_eq!(record.deliveries, [expected], "{id}");
            assert_eq!(record.sinks, [("stdout".into(), None)]);
        }
        for (pruned, left) in [("a", 1), ("b", 0)] {
            let pruned = vec![DispatchId::new(pruned).unwrap()];
            let revision = next(&mut *store).revision + 1;
            let batch = Batch {
                pruned,
                revision,
                ..next(&mut *store)
            };
            store.commit(&batch).unwrap();
            let record = reader.record(&DispatchId::new("b").unwrap()).unwrap();
            assert_eq!(record.deliveries.len(), left);
        }
    });
}

#[test]
fn of_a_site_that_is_told_for_ever_the_first_and_the_last_commands_stay() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, "a")).unwrap();
        let (site, curtail): (Arc<str>, Arc<str>) = ("s".into(), "site.curtail".into());
        for hundred in 0..12_u64 {
            let positions = hundred * 100 + 2..hundred * 100 + 102;
            let commands = positions.clone().map(|position| command(&["a"], position));
            let told = positions.map(|at_position| {
                let begun = Attempts::begun(&site, &curtail, at(1));
                (at_position, begun)
            });
            let flapping = Batch {
                commands: commands.collect(),
                sinks: vec![attempts(told)],
                ..next(&mut *store)
            };
            store.commit(&flapping).unwrap();
        }
        let record = reader.record(&DispatchId::new("a").unwrap()).unwrap();
        let numbers: Vec<u64> = record.commands.iter().map(|line| line.number).collect();
        let expected: Vec<u64> = (1..=500).chain(701..=1_200).collect();
        assert_eq!(numbers, expected);
        assert_eq!(record.deliveries.len(), 1_000);
    });
}
