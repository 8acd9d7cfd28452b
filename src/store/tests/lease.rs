//! What the lease of every shared store must do, told of each of them.

use std::sync::Barrier;
use std::thread;

use super::*;

/// A shared store that nobody has led yet.
pub(super) trait Shared {
    type Lease: LeaseStore;
    type Store: Store;

    /// Connects one daemon's lease.
    fn lease(&self) -> Self::Lease;

    /// Connects the writer of the daemon that leads with this term and holder.
    fn writer(&self, term: u64, holder: &str) -> Self::Store;

    /// The last commits are lost, and the next take-over can find that out.
    fn lose_commits(&self);
}

impl Shared for MemoryStore {
    type Lease = MemoryStore;
    type Store = MemoryStore;

    fn lease(&self) -> MemoryStore {
        self.clone()
    }

    fn writer(&self, term: u64, _: &str) -> MemoryStore {
        self.led(term)
    }

    fn lose_commits(&self) {
        MemoryStore::lose_commits(self);
    }
}

impl Shared for Postgres {
    type Lease = PostgresLease;
    type Store = PostgresStore;

    fn lease(&self) -> PostgresLease {
        Postgres::lease(self)
    }

    fn writer(&self, term: u64, holder: &str) -> PostgresStore {
        self.store(term, holder).unwrap()
    }

    fn lose_commits(&self) {
        let (cluster, schema) = (postgresql().unwrap().0, self.schema());
        cluster.sql(&format!("UPDATE {schema}.leader SET timeline = '00000000'"));
    }
}

/// Holds a kind of store to all statements. `new` makes an empty store.
pub(super) fn keeps_a_lease<S: Shared>(new: impl Fn() -> S) {
    one_daemon_takes_a_lease_that_nobody_had(&new());
    of_candidates_at_once_one_takes_the_lease(&new());
    a_renewal_takes_both_the_term_and_the_holder(&new());
    a_take_over_needs_exactly_the_watched_row(&new());
    a_lease_given_back_names_its_last_holder_and_can_be_taken(&new());
    the_term_is_above_the_last_one_the_events_and_the_clock(&new());
    commits_of_a_deposed_holder_are_refused(&new());
    lost_commits_are_known_from_the_take_over_to_the_commit_that_makes_up_for_them(&new());
}

#[test]
fn a_store_in_memory_keeps_a_lease() {
    keeps_a_lease(|| MemoryStore::new("memory", at(0)));
}

#[test]
fn a_store_in_postgresql_keeps_a_lease() {
    if postgresql().is_none() {
        return;
    }
    keeps_a_lease(|| {
        let (cluster, schema) = postgresql().unwrap();
        let target = PostgresTarget::parse(&cluster.url(&schema), None).unwrap();
        Postgres::open(&target, "http://api").unwrap()
    });
}

fn take<L: LeaseStore>(lease: &mut L, watched: Option<&LeaseRow>, holder: &str) -> Option<u64> {
    let taken = lease.take_over(watched, &candidate(holder), at(1));
    taken.unwrap()
}

/// Who leads now.
fn row<L: LeaseStore>(lease: &mut L) -> LeaseRow {
    lease.look().unwrap().unwrap()
}

fn one_daemon_takes_a_lease_that_nobody_had(store: &impl Shared) {
    let (mut a, mut b) = (store.lease(), store.lease());
    assert_eq!(a.look().unwrap(), None);
    assert!(!a.renew(1, "a").unwrap(), "nobody leads");
    assert!(!a.give_back(1, "a").unwrap(), "nobody leads");
    let term = take(&mut a, None, "a").unwrap();
    assert_eq!(take(&mut b, None, "b"), None, "a leads");
    let seen = row(&mut b);
    assert_eq!(
        seen,
        LeaseRow {
            term,
            holder: "a".into(),
            beat: seen.beat,
            node: "plant".into(),
            advertise: Some("http://a".into()),
            since: at(1),
            fingerprint: "as all others".into(),
            given_back: false,
            server: seen.server.clone(),
        }
    );
    assert!(seen.is_held(term, "a") && seen.is_still(&row(&mut a)));
}

fn of_candidates_at_once_one_takes_the_lease(store: &impl Shared) {
    let mut watched = None;
    for _ in 0..10 {
        let names = ["a", "b", "c", "d"];
        let barrier = Barrier::new(names.len());
        let candidates = names.map(|name| (name, store.lease()));
        let terms: Vec<(&str, u64)> = thread::scope(|scope| {
            let threads = candidates.map(|(name, mut lease)| {
                let (watched, barrier) = (watched.as_ref(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    take(&mut lease, watched, name).map(|term| (name, term))
                })
            });
            let taken = threads.into_iter().filter_map(|each| each.join().unwrap());
            taken.collect()
        });
        let seen = row(&mut store.lease());
        assert_eq!(terms, [(&*seen.holder, seen.term)]);
        watched = Some(seen);
    }
}

fn a_renewal_takes_both_the_term_and_the_holder(store: &impl Shared) {
    let (mut a, mut b) = (store.lease(), store.lease());
    let term = take(&mut a, None, "a").unwrap();
    let first = row(&mut b);
    for (term, holder) in [(term, "b"), (term + 1, "a"), (term - 1, "a")] {
        assert!(!a.renew(term, holder).unwrap());
        assert!(!a.give_back(term, holder).unwrap());
        assert_eq!(row(&mut b), first, "nothing is changed");
    }
    let mut last = first;
    for _ in 0..3 {
        assert!(a.renew(term, "a").unwrap());
        let renewed = row(&mut b);
        assert!(renewed.beat > last.beat && !renewed.is_still(&last));
        last = LeaseRow {
            beat: renewed.beat,
            ..last
        };
        assert_eq!(renewed, last, "nothing else is changed");
    }
}

fn a_take_over_needs_exactly_the_watched_row(store: &impl Shared) {
    let (mut a, mut b) = (store.lease(), store.lease());
    let term = take(&mut a, None, "a").unwrap();
    let watched = row(&mut b);
    assert!(a.renew(term, "a").unwrap());
    let now = row(&mut b);
    let others = [
        watched,
        LeaseRow {
            term: now.term - 1,
            ..now.clone()
        },
        LeaseRow {
            holder: "c".into(),
            ..now.clone()
        },
        LeaseRow {
            beat: now.beat + 1,
            ..now.clone()
        },
        LeaseRow {
            given_back: true,
            ..now.clone()
        },
    ];
    for watched in others.iter().map(Some).chain([None]) {
        assert_eq!(take(&mut b, watched, "b"), None, "{watched:?}");
        assert_eq!(row(&mut b), now, "nothing is changed");
    }
    let next = take(&mut b, Some(&now), "b").unwrap();
    assert!(next > term);
    assert!(row(&mut a).is_held(next, "b"));
    assert!(!a.renew(term, "a").unwrap(), "a is deposed");
    assert!(!a.give_back(term, "a").unwrap(), "it is not a's to give");
    assert!(b.renew(next, "b").unwrap());
}

fn a_lease_given_back_names_its_last_holder_and_can_be_taken(store: &impl Shared) {
    let (mut a, mut b) = (store.lease(), store.lease());
    let term = take(&mut a, None, "a").unwrap();
    let held = row(&mut b);
    assert!(a.give_back(term, "a").unwrap());
    assert!(a.give_back(term, "a").unwrap(), "an answer may get lost");
    let given_back = row(&mut b);
    assert!(!a.renew(term, "a").unwrap(), "a renewal that comes late");
    assert_eq!(row(&mut b), given_back);
    assert!(!given_back.is_still(&held) && !given_back.is_held(term, "a"));
    assert_eq!((given_back.term, &*given_back.holder), (term, "a"));
    assert_eq!(take(&mut b, Some(&held), "b"), None, "given back since");
    let next = take(&mut b, Some(&given_back), "b").unwrap();
    assert!(next > term);
    assert!(row(&mut a).is_held(next, "b"));
}

fn the_term_is_above_the_last_one_the_events_and_the_clock(store: &impl Shared) {
    let mut lease = store.lease();
    let millis = |time: DateTime<Utc>| u64::try_from(time.timestamp_millis()).unwrap();
    let first = lease.take_over(None, &candidate("a"), at(1)).unwrap();
    let first = first.unwrap();
    assert!(first >= millis(at(1)));

    let mut writer = store.writer(first, "a");
    let stored = writer.load().unwrap();
    let position = (first + 500) * 1000;
    let mut ahead = batch(&stored, "x");
    ahead.events[0].position = position;
    ahead.events[0].id = Event::id_at(&stored.id, first, position);
    writer.commit(&ahead).unwrap();
    // The wall clock of this daemon is slow.
    let row = lease.look().unwrap();
    let taken = lease.take_over(row.as_ref(), &candidate("b"), at(0));
    let second = taken.unwrap().unwrap();
    assert!(second > position / 1000 && second > first);

    let row = lease.look().unwrap();
    let taken = lease.take_over(row.as_ref(), &candidate("c"), at(900));
    assert!(taken.unwrap().unwrap() >= millis(at(900)));
}

fn commits_of_a_deposed_holder_are_refused(store: &impl Shared) {
    let mut lease = store.lease();
    let first = take(&mut lease, None, "a").unwrap();
    let mut a = store.writer(first, "a");
    let stored = a.load().unwrap();
    assert_eq!(stored.term, first);
    a.commit(&batch(&stored, "x")).unwrap();

    let watched = row(&mut lease);
    let second = take(&mut lease, Some(&watched), "b").unwrap();
    let stored = Stored {
        revision: 1,
        position: 1,
        ..stored
    };
    // Not even one that changes nothing, such as a probe of the store.
    let nothing = Batch {
        term: first,
        expected_revision: 1,
        revision: 1,
        ..Batch::default()
    };
    for late in [batch(&stored, "y"), nothing] {
        let refused = a.commit(&late).unwrap_err();
        assert!(matches!(refused, StoreError::Fenced), "{refused}");
    }

    let mut b = store.writer(second, "b");
    let stored = b.load().unwrap();
    assert_eq!(
        (stored.term, stored.revision, stored.position),
        (second, 1, 1)
    );
    b.commit(&batch(&stored, "y")).unwrap();
}

fn lost_commits_are_known_from_the_take_over_to_the_commit_that_makes_up_for_them(
    store: &impl Shared,
) {
    let mut lease = store.lease();
    let first = take(&mut lease, None, "a").unwrap();
    let mut a = store.writer(first, "a");
    let stored = a.load().unwrap();
    assert!(!stored.commits_lost, "nobody has led before");
    a.commit(&batch(&stored, "x")).unwrap();
    store.lose_commits();
    for (holder, next) in [("b", "y"), ("c", "z")] {
        let watched = row(&mut lease);
        let term = take(&mut lease, Some(&watched), holder).unwrap();
        // Another machine may have chosen the lost one by a clock that is ahead.
        assert!(term > first + 119_000);
        let mut writer = store.writer(term, holder);
        let stored = writer.load().unwrap();
        assert!(stored.commits_lost, "{holder}");
        // Another commit does not make up for it.
        writer.commit(&batch(&stored, next)).unwrap();
        assert!(writer.load().unwrap().commits_lost, "{holder}");
    }
    let watched = row(&mut lease);
    let term = take(&mut lease, Some(&watched), "d").unwrap();
    let mut d = store.writer(term, "d");
    let stored = d.load().unwrap();
    let made_up = Batch {
        term,
        expected_revision: stored.revision,
        revision: stored.revision,
        commits_made_up: true,
        ..Batch::default()
    };
    d.commit(&made_up).unwrap();
    assert!(!d.load().unwrap().commits_lost);
    let watched = row(&mut lease);
    let term = take(&mut lease, Some(&watched), "e").unwrap();
    assert!(!store.writer(term, "e").load().unwrap().commits_lost);
}
