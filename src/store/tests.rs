//! What every store must do, told of each of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::model::{
    Asked, Dispatch, Entry, Inquiry, Kilowatts, Phase, Program, Site, SiteId, SkippedEvent, Source,
};

#[path = "../../tests/postgres/cluster.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod cluster;
use cluster::Cluster;

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(seconds * 1000 + 5)
}

pub(crate) fn entry(id: &str) -> Entry {
    Entry {
        dispatch: Arc::new(Dispatch {
            id: DispatchId::new(id).unwrap(),
            authorized: true,
            test: false,
            start_time: at(10),
            end_time: Some(at(20)),
            creation_time: None,
            modification_number: Some(3),
            program: Program::default(),
            sites: vec![Arc::new(Site {
                extra: Default::default(),
                id: SiteId::new("s").unwrap(),
                name: "Übung".into(),
                customer_location_id: String::new(),
                commitment: Some(Kilowatts(12.5)),
            })],
            metadata: serde_json::json!({"a": [1, null]}),
            extra: Default::default(),
        }),
        phase: Phase::Scheduled,
        cancel_reason: None,
        started: false,
        ended: false,
        first_seen: at(0),
        last_changed: at(1),
        last_confirmed: at(2),
        over_since: None,
        discovered_by: Source::Webhook,
        last_changed_by: Source::Poll,
        asked: Asked { term: 1, count: 7 },
        inquiry: Inquiry::default(),
    }
}

fn event(store: &Stored, position: u64, event_type: &str, subject: &str) -> Event {
    Event {
        position,
        term: store.term,
        id: Event::id_at(&store.id, store.term, position),
        event_type: event_type.into(),
        subject: subject.into(),
        time: at(i64::try_from(position).unwrap()),
        sequence: position,
        unconditional: position.is_multiple_of(2),
        origin: None,
        data: serde_json::value::to_raw_value(&position).unwrap().into(),
    }
}

fn item(revision: u64) -> HistoryItem {
    HistoryItem {
        revision,
        at: at(3),
        event_type: "dispatch.created".into(),
        source: Source::Poll,
        phase: Phase::Scheduled,
        changed: Default::default(),
        skipped: None,
        site_override: None,
    }
}

/// A batch that adds one dispatch with its history and event.
pub(crate) fn batch(store: &Stored, id: &str) -> Batch {
    let revision = store.revision + 1;
    Batch {
        term: store.term,
        expected_revision: store.revision,
        revision,
        entries: vec![Arc::new(entry(id))],
        history: vec![(DispatchId::new(id).unwrap(), item(revision))],
        events: vec![event(store, store.position + 1, "dispatch.created", id)],
        ..Batch::default()
    }
}

/// A store and its reader, and a way to start it again.
trait Kind {
    type Store: Store;
    type Reader: StoreReader;
    fn open(&mut self) -> (Self::Store, Self::Reader);
}

struct Memory(Option<MemoryStore>);

impl Kind for Memory {
    type Store = MemoryStore;
    type Reader = MemoryStore;
    fn open(&mut self) -> (MemoryStore, MemoryStore) {
        let store = match &self.0 {
            Some(store) => store.reopened(at(0)),
            None => MemoryStore::new("memory", at(0)),
        };
        self.0 = Some(store.clone());
        (store.clone(), store)
    }
}

struct Sqlite(tempfile::TempDir);

impl Kind for Sqlite {
    type Store = SqliteStore;
    type Reader = SqliteReader;
    fn open(&mut self) -> (SqliteStore, SqliteReader) {
        let store =
            SqliteStore::open(&self.0.path().join("state.db"), "http://api", at(0)).unwrap();
        let reader = store.reader().unwrap();
        (store, reader)
    }
}

/// The server that all tests of this process share, if PostgreSQL is installed.
static CLUSTER: LazyLock<Option<Cluster>> = LazyLock::new(|| Cluster::start(&["fsync=off"]));

/// The server, and the name of a schema that nobody has used. `None`, and a line, if there
/// is no PostgreSQL.
pub(crate) fn postgresql() -> Option<(&'static Cluster, String)> {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTER.as_ref();
    if cluster.is_none() {
        eprintln!("left out for PostgreSQL, which is not installed");
    }
    let schema = format!("test{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
    cluster.map(|cluster| (cluster, schema))
}

/// What a daemon with this random name says of itself.
pub(crate) fn candidate(holder: &str) -> Candidate {
    Candidate {
        holder: holder.into(),
        node: "plant".into(),
        advertise: Some(format!("http://{holder}").into()),
        fingerprint: "as all others".into(),
    }
}

struct InPostgres(PostgresTarget);

impl InPostgres {
    fn new() -> Option<Self> {
        let (cluster, schema) = postgresql()?;
        let target = PostgresTarget::parse(&cluster.url(&schema), None);
        Some(Self(target.unwrap()))
    }
}

impl Kind for InPostgres {
    type Store = PostgresStore;
    type Reader = PostgresReader;
    fn open(&mut self) -> (PostgresStore, PostgresReader) {
        let database = Postgres::open(&self.0, "http://api").unwrap();
        let candidate = candidate(&format!("{:x}", rand::random::<u64>()));
        let mut lease = database.lease();
        let watched = lease.look().unwrap();
        let term = lease.take_over(watched.as_ref(), &candidate, at(0));
        let term = term.unwrap().expect("nobody else is there");
        let store = database.store(term, &candidate.holder).unwrap();
        (store, database.reader())
    }
}

fn of_each(statement: impl Fn(&mut dyn FnMut() -> (Box<dyn Store>, Box<dyn StoreReader>))) {
    let mut memory = Memory(None);
    statement(&mut || {
        let (store, reader) = memory.open();
        (Box::new(store), Box::new(reader))
    });
    let mut sqlite = Sqlite(tempfile::tempdir().unwrap());
    statement(&mut || {
        let (store, reader) = sqlite.open();
        (Box::new(store), Box::new(reader))
    });
    if let Some(mut postgres) = InPostgres::new() {
        statement(&mut || {
            let (store, reader) = postgres.open();
            (Box::new(store), Box::new(reader))
        });
    }
}

#[test]
fn what_was_committed_is_found_after_a_restart_and_the_term_is_another() {
    of_each(|open| {
        let (mut store, _) = open();
        let before = store.load().unwrap();
        store.commit(&batch(&before, "a")).unwrap();
        drop(store);

        let (mut store, mut reader) = open();
        let after = store.load().unwrap();
        assert!(after.term > before.term);
        assert_eq!((after.revision, after.position), (1, 1));
        assert_eq!(after.id, before.id);
        assert_eq!(after.entries, [entry("a")]);
        let id = DispatchId::new("a").unwrap();
        assert_eq!(reader.history(&id).unwrap(), [item(1)]);
        let events = reader.events(0, 10).unwrap();
        assert_eq!(
            serde_json::to_value(&events).unwrap(),
            serde_json::to_value([event(&before, 1, "dispatch.created", "a")]).unwrap()
        );
        assert!(!events[0].unconditional);
        assert!(reader.events(1, 10).unwrap().is_empty());
    });
}

#[test]
fn a_store_of_which_nothing_was_lost_says_so_and_takes_a_batch_that_makes_up_for_losses() {
    of_each(|open| {
        let (mut store, _) = open();
        let stored = store.load().unwrap();
        assert!(!stored.commits_lost);
        let made_up = Batch {
            commits_made_up: true,
            ..batch(&stored, "a")
        };
        store.commit(&made_up).unwrap();
        drop(store);
        let (mut store, _) = open();
        let stored = store.load().unwrap();
        assert!(!stored.commits_lost);
        assert_eq!(stored.revision, 1);
    });
}

#[test]
fn numbers_and_times_of_every_kind_are_the_same_after_a_restart() {
    let body = include_str!("tests/odd_values.json");
    let (list, problems) = crate::voltus::read_list(body.as_bytes()).unwrap();
    assert_eq!(problems.counts().total(), 0, "{problems}");
    let Some(crate::model::Reading::Dispatch(read)) = list.readings().first().cloned() else {
        panic!("a dispatch");
    };
    let odd = Entry {
        dispatch: read,
        ..entry("odd")
    };
    of_each(|open| {
        let (mut store, _) = open();
        let mut first = batch(&store.load().unwrap(), "odd");
        first.entries = vec![Arc::new(odd.clone())];
        store.commit(&first).unwrap();
        drop(store);
        let (mut store, _) = open();
        assert_eq!(store.load().unwrap().entries, std::slice::from_ref(&odd));
    });
}

#[test]
fn a_batch_of_another_term_or_against_another_revision_is_refused_whole_each_by_its_name() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        let right = batch(&stored, "a");
        let of_another_term = Batch {
            term: right.term + 1,
            ..right.clone()
        };
        let refused = store.commit(&of_another_term);
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
        let against_another = Batch {
            expected_revision: 5,
            ..right.clone()
        };
        let refused = store.commit(&against_another);
        assert!(matches!(refused, Err(StoreError::OutOfStep)), "{refused:?}");
        assert!(reader.events(0, 10).unwrap().is_empty());
        assert_eq!(store.load().unwrap().revision, 0);
        store.commit(&right).unwrap();
        // The same batch again is against an old revision.
        let refused = store.commit(&right);
        assert!(matches!(refused, Err(StoreError::OutOfStep)), "{refused:?}");
    });
}

#[test]
fn history_comes_back_line_by_line_however_many_came_with_the_dispatch() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let id = DispatchId::new("a").unwrap();
        for revisions in [[1, 2], [3, 4]] {
            let stored = store.load().unwrap();
            store
                .commit(&Batch {
                    revision: revisions[1],
                    history: revisions
                        .map(|revision| (id.clone(), item(revision)))
                        .into(),
                    ..batch(&stored, "a")
                })
                .unwrap();
        }
        assert_eq!(reader.history(&id).unwrap(), [1, 2, 3, 4].map(item));
    });
}

#[test]
fn what_an_operator_gave_up_is_kept_behind_the_changes_of_its_revision_and_goes_with_its_dispatch()
{
    of_each(|open| {
        let (mut store, mut reader) = open();
        let id = DispatchId::new("a").unwrap();
        let skip = |event: &str, revision| {
            let skipped = SkippedEvent {
                event: event.into(),
                event_type: "site.curtail".into(),
                subject: "s".into(),
                sink: "stdout".into(),
                reason: Some("no".into()),
            };
            let line = HistoryItem::skipped(skipped, revision, Phase::Active, at(4));
            (id.clone(), line)
        };
        let stored = store.load().unwrap();
        let unknown = DispatchId::new("unknown").unwrap();
        let mut first = batch(&stored, "a");
        first.skipped = vec![skip("e1", 1), (unknown.clone(), skip("e2", 1).1)];
        store.commit(&first).unwrap();
        // By itself, with no change: several of one revision.
        let only = Batch {
            term: stored.term,
            expected_revision: 1,
            revision: 1,
            skipped: vec![skip("e3", 1), skip("e4", 1)],
            ..Batch::default()
        };
        assert!(!only.is_empty());
        store.commit(&only).unwrap();
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, "a")).unwrap();
        drop(store);
        let (mut store, mut second) = open();
        let expected = [
            item(1),
            skip("e1", 1).1,
            skip("e3", 1).1,
            skip("e4", 1).1,
            item(2),
        ];
        assert_eq!(second.history(&id).unwrap(), expected);
        assert!(second.history(&unknown).unwrap().is_empty());
        let prune = Batch {
            term: store.load().unwrap().term,
            expected_revision: 2,
            revision: 3,
            pruned: vec![id.clone()],
            ..Batch::default()
        };
        store.commit(&prune).unwrap();
        assert!(reader.history(&id).unwrap().is_empty());
        // A dispatch of the same id that comes later has none of it.
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, "a")).unwrap();
        assert_eq!(reader.history(&id).unwrap(), [item(4)]);
    });
}

#[test]
fn a_pruned_dispatch_goes_with_its_history_then_its_events_and_nothing_else_goes() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        let mut first = batch(&stored, "a");
        first.entries.push(Arc::new(entry("b")));
        first.events.push(event(&stored, 2, "site.curtail", "a"));
        first
            .events
            .push(event(&stored, 3, "dispatch.created", "b"));
        store.commit(&first).unwrap();
        let id = DispatchId::new("a").unwrap();
        store
            .commit(&Batch {
                term: stored.term,
                expected_revision: 1,
                revision: 2,
                pruned: vec![id.clone()],
                delivered: 3,
                ..Batch::default()
            })
            .unwrap();
        assert_eq!(store.load().unwrap().entries, [entry("b")]);
        assert!(reader.history(&id).unwrap().is_empty());
        let left = |reader: &mut Box<dyn StoreReader>| -> Vec<u64> {
            let events = reader.events(0, 10).unwrap();
            events.iter().map(|event| event.position).collect()
        };
        assert_eq!(left(&mut reader), [1, 2, 3]);
        store
            .commit(&Batch {
                term: stored.term,
                expected_revision: 2,
                revision: 2,
                forget_before: Some(at(100)),
                delivered: 3,
                ..Batch::default()
            })
            .unwrap();
        while store.tidy().unwrap() {}
        assert_eq!(left(&mut reader), [2, 3], "a site's newest event stays");
        assert_eq!(reader.newest_site_events().unwrap()[0].position, 2);
        assert_eq!(reader.newest_site_positions().unwrap(), [2]);
        let at = reader.events_at(&[3, 1, 2, 9]).unwrap();
        let at: Vec<u64> = at.iter().map(|event| event.position).collect();
        assert_eq!(at, [3, 2], "those that have gone are left out");
    });
}

#[test]
fn what_is_to_be_delivered_yet_stays_when_its_dispatch_goes_or_it_is_old() {
    of_each(|open| {
        let (mut store, mut reader) = open();
        let stored = store.load().unwrap();
        let mut first = batch(&stored, "a");
        first.events.push(event(&stored, 2, "sync.stale", "daemon"));
        first.events.push(event(&stored, 3, "dispatch.ended", "a"));
        store.commit(&first).unwrap();
        let mut left = |batch: Batch| -> Vec<u64> {
            store
                .commit(&Batch {
                    term: stored.term,
                    expected_revision: 1,
                    revision: 1,
                    ..batch
                })
                .unwrap();
            while store.tidy().unwrap() {}
            let events = reader.events(0, 10).unwrap();
            events.iter().map(|event| event.position).collect()
        };
        let pruned = Batch {
            pruned: vec![DispatchId::new("a").unwrap()],
            delivered: 1,
            ..Batch::default()
        };
        assert_eq!(left(pruned), [1, 2, 3]);
        let forget = |delivered| Batch {
            forget_before: Some(at(100)),
            delivered,
            ..Batch::default()
        };
        assert_eq!(left(forget(1)), [2, 3]);
        assert_eq!(left(forget(2)), [3]);
        assert_eq!(left(forget(3)), [0; 0]);
    });
}

#[test]
fn what_is_known_of_polls_and_deliveries_is_found_again() {
    of_each(|open| {
        let (mut store, _) = open();
        let stored = store.load().unwrap();
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
        let told = Attempted {
            position: 3,
            curtailed: true,
            acknowledged: false,
            held: true,
        };
        let sync = SyncRecord {
            last_poll: Some(at(4)),
            stale: true,
        };
        let mut keep = Batch {
            term: stored.term,
            sync: Some(sync),
            sinks: vec![SinkRecord {
                sink: "stdout".into(),
                done: 4,
                done_beyond: [(6, Some(7)), (9, Some(9)), (12, Some(14))].into(),
                retries: [
                    ("site/a".into(), Some(retry)),
                    ("site/b".into(), Some(retry)),
                ]
                .into(),
                attempted: [("a".into(), Some(told)), ("b".into(), Some(told))].into(),
                route: Some("a route".into()),
                settled: Vec::new(),
            }],
            ..Batch::default()
        };
        store.commit(&keep).unwrap();
        keep.sync = None;
        keep.sinks = vec![SinkRecord {
            sink: "stdout".into(),
            done: 7,
            done_beyond: [(9, Some(10)), (12, None)].into(),
            retries: [("site/a".into(), None)].into(),
            attempted: [("a".into(), None)].into(),
            route: None,
            settled: Vec::new(),
        }];
        store.commit(&keep).unwrap();
        drop(store);
        let stored = open().0.load().unwrap();
        assert_eq!(stored.sync, sync);
        let sink = &stored.sinks["stdout"];
        assert_eq!((sink.done, &sink.done_beyond), (7, &[(9, 10)].into()));
        assert_eq!(sink.retries.len(), 1);
        assert_eq!(sink.retries["site/b"], retry);
        assert_eq!(sink.attempted, [("b".into(), told)].into());
        assert_eq!(sink.route.as_deref(), Some("a route"));
    });
}

#[test]
fn a_sink_that_is_forgotten_leaves_nothing_behind_and_the_others_stay() {
    of_each(|open| {
        let mut store = open().0;
        let stored = store.load().unwrap();
        let told = Attempted {
            position: 3,
            curtailed: true,
            acknowledged: true,
            held: true,
        };
        let record = |sink: &str| SinkRecord {
            sink: sink.into(),
            done: 4,
            done_beyond: [(6, Some(7))].into(),
            attempted: [("a".into(), Some(told))].into(),
            ..SinkRecord::default()
        };
        let mut batch = Batch {
            term: stored.term,
            sinks: vec![record("stays"), record("goes")],
            ..Batch::default()
        };
        store.commit(&batch).unwrap();
        batch.sinks = Vec::new();
        batch.forgotten_sinks = vec!["goes".into(), "was never there".into()];
        store.commit(&batch).unwrap();
        drop(store);
        let stored = open().0.load().unwrap();
        let sinks: Vec<&str> = stored.sinks.keys().map(|name| &**name).collect();
        assert_eq!(sinks, ["stays"]);
        assert_eq!(stored.sinks["stays"].attempted["a"], told);
    });
}

mod lease;
mod record;
mod whole;
