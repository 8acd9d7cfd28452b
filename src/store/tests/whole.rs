//! A state that is carried over to another store is the same state there.

use std::path::PathBuf;

use super::record::{command, id, settled, site_event, state, with_states};
use super::*;
use crate::model::{SiteMode, SiteState};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> SqliteStore {
        SqliteStore::open(&self.file(name), "http://api", at(0)).unwrap()
    }

    /// Copies the state in one file to another one.
    fn copy(&self, from: &str, to: &str) -> Result<Checksums, CarryError> {
        let mut source = SqliteReader::of_unused(&self.file(from)).unwrap();
        let id = source.head().unwrap().unwrap().id;
        let mut target = SqliteCopy::begin(&self.file(to), &id).unwrap();
        carry_over(&mut source, &mut target)
    }
}

fn site(name: &str) -> SiteState {
    SiteState {
        id: SiteId::new(name).unwrap(),
        name: "Übung".into(),
        customer_location_id: String::new(),
        state: SiteMode::Curtailed,
        since: at(3),
        until: None,
        commitment_kw: Some(Kilowatts(0.1)),
        dispatches: vec![id("a")],
        programs: Vec::new(),
        extra: None,
        next: None,
        site_override: None,
    }
}

/// Names that some store writes in another way.
const NAMES: [&str; 4] = ["s", "a\0b", "a\\0b", "ends with \\"];

/// Fills a state with some of everything, and gives what a start loads of it.
fn fill(store: &mut SqliteStore) -> Stored {
    let answers = vec![
        state("a", 0, false, 1),
        state("a", 1, false, 3),
        state("b", 0, false, 1),
    ];
    let stored = store.load().unwrap();
    let mut first = with_states(store, answers);
    let body = include_str!("odd_values.json");
    let (list, _) = crate::voltus::read_list(body.as_bytes()).unwrap();
    let Some(crate::model::Reading::Dispatch(read)) = list.readings().first().cloned() else {
        panic!("a dispatch");
    };
    first.entries.push(Arc::new(Entry {
        dispatch: read,
        ..entry("odd")
    }));
    first.sites = NAMES.map(|name| Arc::new(site(name))).into();
    first.events = vec![
        site_event(&stored, 1, "site.curtail", "a"),
        event(&stored, 2, "dispatch.created", "a"),
        event(&stored, 3, "sync.stale", "dispatchd"),
    ];
    first.sync = Some(SyncRecord {
        last_poll: Some(at(4)),
        stale: true,
    });
    let told = Attempted {
        position: 1,
        curtailed: true,
        acknowledged: true,
        held: true,
    };
    let retry = Retry {
        attempts: 3,
        at: at(9),
        pause: Duration::from_millis(1500),
        tried: Some(Tried {
            first: at(3),
            last: at(5),
            count: 4,
        }),
    };
    let never_sent = SettledCommand {
        tried: None,
        last_error: None,
        ..command("b", 1, DeliveryEnd::Superseded)
    };
    first.sinks = vec![SinkRecord {
        done: 1,
        done_beyond: [(3, Some(3))].into(),
        retries: NAMES.map(|name| (name.into(), Some(retry))).into(),
        attempted: NAMES.map(|name| (name.into(), Some(told))).into(),
        route: Some("a route".into()),
        ..settled([
            command("a", 1, DeliveryEnd::Acknowledged(at(21))),
            command("a", 2, DeliveryEnd::Skipped),
            never_sent,
        ])
    }];
    store.commit(&first).unwrap();
    // States, commands and lines in the middle are left out; a position is used by an
    // event that has gone.
    for first in (2..1_200).step_by(30) {
        let numbers = first..first + 30;
        let answers = numbers.clone().map(|n| state("a", n, n % 7 == 0, n));
        let mut next = with_states(store, answers.collect());
        next.sinks = vec![SinkRecord {
            done: 1,
            ..settled(numbers.map(|n| {
                let position = u64::try_from(n).unwrap() + 10;
                command("a", position, DeliveryEnd::Acknowledged(at(n)))
            }))
        }];
        let skipped = HistoryItem {
            event_type: "event.skipped".into(),
            ..item(next.revision)
        };
        next.skipped = vec![(id("a"), skipped)];
        store.commit(&next).unwrap();
    }
    // More than a page of each.
    let stored = store.load().unwrap();
    let mut many = batch(&stored, "d0");
    many.entries = (0..1_200)
        .map(|n| Arc::new(entry(&format!("d{n}"))))
        .collect();
    many.sites = (0..1_200)
        .map(|n| Arc::new(site(&format!("many {n}"))))
        .collect();
    many.events = (10..11_000)
        .map(|n| event(&stored, n, "dispatch.updated", "a"))
        .collect();
    store.commit(&many).unwrap();
    store.load().unwrap()
}

fn same(one: &Stored, other: &Stored) {
    let by_id = |stored: &Stored| {
        let entries = stored.entries.iter();
        let entries: BTreeMap<_, _> = entries
            .map(|entry| (entry.id().clone(), entry.clone()))
            .collect();
        let sites = stored.sites.iter();
        let sites: BTreeMap<_, _> = sites.map(|site| (site.id.clone(), site.clone())).collect();
        (entries, sites)
    };
    assert!(by_id(one) == by_id(other));
    let numbers = |stored: &Stored| (stored.id.clone(), stored.revision, stored.position);
    assert_eq!(numbers(one), numbers(other));
    assert_eq!((one.sync, &one.sinks), (other.sync, &other.sinks));
}

/// What a reader tells of a dispatch, and of all events.
fn told(reader: &mut dyn StoreReader) -> String {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |event: &Event| event.position);
        let page = reader.events(after, 1_000).unwrap();
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let of = |reader: &mut dyn StoreReader, name: &str| {
        let record = reader.record(&id(name)).unwrap();
        let history = reader.history(&id(name)).unwrap();
        format!("{record:?} {history:?}")
    };
    format!("{events:?} {} {}", of(reader, "a"), of(reader, "b"))
}

#[test]
fn a_state_is_the_same_after_it_went_to_a_database_and_back() {
    let place = Place::new();
    let mut store = place.open("from.db");
    let before = fill(&mut store);
    let told_before = told(&mut store.reader().unwrap());
    drop(store);
    let back = match postgresql() {
        Some((cluster, schema)) => {
            let target = PostgresTarget::parse(&cluster.url(&schema), None).unwrap();
            let mut source = SqliteReader::of_unused(&place.file("from.db")).unwrap();
            let mut copy = PostgresCopy::begin(&target, &before.id).unwrap();
            let there = carry_over(&mut source, &mut copy).unwrap();
            assert!(PostgresCopy::begin(&target, &before.id).is_err());
            drop(copy);

            // And to another database.
            let (_, second) = postgresql().unwrap();
            let second = PostgresTarget::parse(&cluster.url(&second), None).unwrap();
            let mut source = PostgresWhole::of_unused(&target).unwrap();
            let mut copy = PostgresCopy::begin(&second, &before.id).unwrap();
            assert_eq!(carry_over(&mut source, &mut copy).unwrap(), there);
            drop(source);

            let database = Postgres::open(&target, "http://api").unwrap();
            assert_eq!(told(&mut database.reader()), told_before);
            let mut lease = database.lease();
            let row = lease.look().unwrap();
            let term = lease.take_over(row.as_ref(), &candidate("a"), at(0));
            let term = term.unwrap().expect("nobody is there");
            assert!(term > before.term, "{term} {}", before.term);
            let mut store = database.store(term, "a").unwrap();
            same(&store.load().unwrap(), &before);
            lease.give_back(term, "a").unwrap();
            drop(store);

            let mut source = PostgresWhole::of_unused(&target).unwrap();
            let mut copy = SqliteCopy::begin(&place.file("back.db"), &before.id).unwrap();
            assert_eq!(carry_over(&mut source, &mut copy).unwrap(), there);
            term
        }
        None => {
            place.copy("from.db", "back.db").unwrap();
            before.term
        }
    };
    let mut store = place.open("back.db");
    let after = store.load().unwrap();
    assert!(after.term > back, "{} {back}", after.term);
    same(&after, &before);
    assert_eq!(told(&mut store.reader().unwrap()), told_before);
}

/// A target that is not written as it is told.
struct Losing<T>(T);

impl<T: WholeTarget> WholeTarget for Losing<T> {
    type Reader = T::Reader;

    fn reader(&mut self) -> &mut T::Reader {
        self.0.reader()
    }

    fn write(&mut self, part: &Part) -> Result<(), StoreError> {
        match part {
            Part::Events(events) => {
                let kept = events.iter().filter(|event| event.position != 2);
                self.0.write(&Part::Events(kept.cloned().collect()))
            }
            Part::Sink(name, state) => {
                let mut state = state.clone();
                state
                    .attempted
                    .values_mut()
                    .for_each(|last| last.held = false);
                self.0.write(&Part::Sink(name.clone(), state))
            }
            other => self.0.write(other),
        }
    }

    fn finish(&mut self, head: &Head) -> Result<(), StoreError> {
        self.0.finish(head)
    }
}

#[test]
fn what_is_lost_or_changed_on_the_way_is_named_and_the_copy_is_no_state() {
    let place = Place::new();
    let mut store = place.open("from.db");
    fill(&mut store);
    drop(store);
    let mut source = SqliteReader::of_unused(&place.file("from.db")).unwrap();
    let target = SqliteCopy::begin(&place.file("to.db"), "id").unwrap();
    let refused = carry_over(&mut source, &mut Losing(target)).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("events: 10993 copied, 10992 found"), "{text}");
    assert!(
        text.contains("last attempts: the content of some of 4"),
        "{text}"
    );
    let half = SqliteStore::open(&place.file("to.db"), "http://api", at(0)).unwrap_err();
    assert!(matches!(half, OpenError::HalfCopy { .. }), "{half}");
    let half = SqliteReader::of_unused(&place.file("to.db")).unwrap_err();
    assert!(matches!(half, OpenError::HalfCopy { .. }), "{half}");
    let half = SqliteStore::probe(&place.file("to.db"), "http://api").unwrap_err();
    assert!(matches!(half, OpenError::HalfCopy { .. }), "{half}");
}

#[test]
fn half_a_copy_in_a_database_is_refused_by_its_name_also_by_the_next_copy() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let target = PostgresTarget::parse(&cluster.url(&schema), None).unwrap();
    drop(PostgresCopy::begin(&target, "id").unwrap());
    for refused in [
        Postgres::open(&target, "http://api").map(drop),
        Postgres::probe(&target, "http://api").map(drop),
        PostgresCopy::begin(&target, "id").map(drop),
        PostgresWhole::of_unused(&target).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, OpenError::HalfCopy { .. }), "{error}");
        assert!(error.to_string().contains("DROP SCHEMA"), "{error}");
    }
}

#[test]
fn while_a_database_is_read_no_daemon_takes_the_lead_and_afterwards_one_can() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let target = PostgresTarget::parse(&cluster.url(&schema), None).unwrap();
    let database = Postgres::open(&target, "http://api").unwrap();
    let mut source = PostgresWhole::of_unused(&target).unwrap();
    let mut lease = database.lease();
    let row = lease.look().unwrap();
    let kept_off = lease.take_over(row.as_ref(), &candidate("a"), at(0));
    assert!(kept_off.is_err(), "{kept_off:?}");
    assert!(source.head().unwrap().is_some());
    drop(source);
    let taken = lease.take_over(row.as_ref(), &candidate("a"), at(0));
    let term = taken.unwrap().expect("nobody leads");

    let in_use = PostgresWhole::of_unused(&target).map(drop);
    // It leads without a sign of life, so that it counts as gone.
    assert!(in_use.is_ok(), "{in_use:?}");
    let renewing = std::thread::spawn(move || {
        for _ in 0..40 {
            lease.renew(term, "a").unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let in_use = PostgresWhole::of_unused(&target).map(drop).unwrap_err();
    assert!(matches!(in_use, OpenError::InUse { .. }), "{in_use}");
    renewing.join().unwrap();
}

#[test]
fn a_file_that_is_read_has_nothing_beside_it_afterwards() {
    let place = Place::new();
    drop(place.open("from.db"));
    let names = || {
        let entries = std::fs::read_dir(place.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (before, bytes) = (names(), std::fs::read(place.file("from.db")).unwrap());
    let mut source = SqliteReader::of_unused(&place.file("from.db")).unwrap();
    assert!(source.head().unwrap().is_some());
    drop(source);
    assert!(SqliteCopy::is_free(&place.file("from.db")).is_err());
    assert_eq!(names(), before);
    assert_eq!(std::fs::read(place.file("from.db")).unwrap(), bytes);
}
