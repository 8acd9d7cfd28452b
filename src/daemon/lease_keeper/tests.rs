//! Keepers of one store in memory, with real clocks.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, Weak};
use std::time::Duration;

use chrono::DateTime;
use tokio::time::{sleep, timeout};

use super::*;
use crate::registration::tests::Log;
use crate::store::{LeaseRow, MemoryStore};
use crate::sync::WATCHED_FOR;

/// What each wait ends with, if what it waits for does not come.
const AT_MOST: Duration = Duration::from_secs(60);

/// What a daemon would lead with.
fn ours(fingerprint: &str) -> watch::Receiver<Arc<str>> {
    watch::channel(fingerprint.into()).1
}

fn candidate(name: &str) -> Candidate {
    Candidate {
        holder: name.into(),
        node: name.into(),
        advertise: None,
        fingerprint: "same".into(),
    }
}

/// A store whose calls block while it is closed.
#[derive(Clone)]
struct Gated {
    store: MemoryStore,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Gated {
    fn new(store: MemoryStore) -> Self {
        Self {
            store,
            gate: Arc::new((Mutex::new(true), Condvar::new())),
        }
    }

    fn open(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }

    fn pass(&self) {
        let is_open = self.gate.0.lock().unwrap();
        let _passed = self.gate.1.wait_while(is_open, |open| !*open).unwrap();
    }
}

impl LeaseStore for Gated {
    fn look(&mut self) -> Result<Option<LeaseRow>, StoreError> {
        self.pass();
        self.store.look()
    }

    fn renew(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        self.pass();
        self.store.renew(term, holder)
    }

    fn take_over(
        &mut self,
        watched: Option<&LeaseRow>,
        candidate: &Candidate,
        now: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        self.pass();
        self.store.take_over(watched, candidate, now)
    }

    fn give_back(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        self.pass();
        self.store.give_back(term, holder)
    }
}

/// A daemon with nothing but a keeper and a coordinator that turns.
struct Daemon {
    keeper: LeaseKeeper,
    leadership: watch::Receiver<Leadership>,
    clock: SystemClock,
    turns: Arc<AtomicBool>,
    barred: watch::Sender<Option<Arc<str>>>,
    give_back: CancellationToken,
}

impl Daemon {
    fn start(name: &str, store: impl LeaseStore) -> Self {
        let clock = SystemClock::new();
        let turns = Arc::new(Turns::default());
        let is_alive = Arc::new(AtomicBool::new(true));
        let give_back = CancellationToken::new();
        let barred = watch::Sender::new(None);
        let participant = Participant {
            candidate: candidate(name),
            fingerprint: ours("same"),
            clock,
            turns: Arc::clone(&turns),
            barred: barred.subscribe(),
            give_back: give_back.clone(),
        };
        let keeper = LeaseKeeper::start(store, participant).unwrap();
        let coordinator = (Arc::downgrade(&turns), Arc::clone(&is_alive));
        thread::spawn(move || turn(&coordinator.0, &coordinator.1, clock));
        Self {
            leadership: keeper.leadership(),
            keeper,
            clock,
            turns: is_alive,
            barred,
            give_back,
        }
    }

    /// Waits until it stands so.
    async fn is(&mut self, so: impl Fn(&Leadership) -> bool) -> Leadership {
        let state = timeout(AT_MOST, self.leadership.wait_for(so)).await;
        state.expect("in time").expect("a keeper").clone()
    }

    async fn leads(&mut self) -> (u64, Mono) {
        match self
            .is(|state| matches!(state, Leadership::Leading { .. }))
            .await
        {
            Leadership::Leading {
                term,
                trusted_until,
            } => (term, trusted_until),
            _ => unreachable!("just looked"),
        }
    }

    /// Waits until it stands by for the leader of this term.
    async fn stands_by_for(&mut self, term: u64) {
        self.is(
            |state| matches!(state, Leadership::Standby { leader: Some(row) } if row.term == term),
        )
        .await;
    }
}

/// Finishes turns while it is alive, as long as somebody wants to know.
fn turn(turns: &Weak<Turns>, is_alive: &AtomicBool, clock: SystemClock) {
    while let Some(turns) = turns.upgrade() {
        if is_alive.load(Ordering::SeqCst) {
            turns.finished(clock.now().mono);
        }
        drop(turns);
        thread::sleep(Duration::from_millis(50));
    }
}

fn store() -> MemoryStore {
    MemoryStore::new("memory", DateTime::UNIX_EPOCH)
}

/// Waits until this is so.
async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let wait = async {
        while !so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(AT_MOST, wait).await.expect("in time");
}

#[tokio::test]
async fn one_daemon_leads_and_a_lease_given_back_is_taken_before_it_was_watched_for_long() {
    let store = store();
    let mut a = Daemon::start("a", store.clone());
    let (first, _) = a.leads().await;
    let mut b = Daemon::start("b", store.clone());
    b.stands_by_for(first).await;
    let begun = b.clock.now().mono;
    a.give_back.cancel();
    let (second, _) = b.leads().await;
    assert!(second > first);
    assert!(b.clock.now().mono < begun + WATCHED_FOR);
    a.is(|state| matches!(state, Leadership::Standby { .. }))
        .await;
    // The keeper of a daemon that has left is gone.
    let closed = async { while a.leadership.changed().await.is_ok() {} };
    timeout(AT_MOST, closed).await.expect("an end");
}

#[tokio::test]
async fn the_trust_runs_out_on_time_while_a_renewal_is_blocked_and_comes_back_with_its_answer() {
    let gated = Gated::new(store());
    let mut a = Daemon::start("a", gated.clone());
    let (term, _) = a.leads().await;
    gated.open(false);
    // The last renewal before that may still have had its answer.
    let mut trusted = Mono::ZERO;
    loop {
        let state = a.leadership.borrow_and_update().clone();
        match state {
            Leadership::Leading { trusted_until, .. } => trusted = trusted_until,
            Leadership::Suspended { term: suspended } => {
                assert_eq!(suspended, term);
                break;
            }
            other => panic!("{other:?}"),
        }
        let changed = timeout(AT_MOST, a.leadership.changed()).await;
        changed.expect("in time").expect("a keeper");
    }
    let late = a.clock.now().mono.checked_sub(trusted);
    let late = late.expect("not before the trust had run out");
    assert!(late < Duration::from_secs(2), "{late:?} late");
    gated.open(true);
    let (restored, _) = a.leads().await;
    assert_eq!(restored, term);
}

#[tokio::test]
async fn a_daemon_whose_coordinator_stands_still_is_deposed_and_can_lead_again() {
    let store = store();
    let mut a = Daemon::start("a", store.clone());
    let (first, _) = a.leads().await;
    let mut b = Daemon::start("b", store.clone());
    b.stands_by_for(first).await;
    a.turns.store(false, Ordering::SeqCst);
    let (second, _) = b.leads().await;
    let lost = a
        .is(|state| matches!(state, Leadership::Deposed { by: Some(_), .. }))
        .await;
    let Leadership::Deposed { term, by: Some(by) } = lost else {
        unreachable!("just looked");
    };
    assert_eq!((term, by.term, &*by.node), (first, second, "b"));
    a.turns.store(true, Ordering::SeqCst);
    a.keeper.stand_by();
    a.stands_by_for(second).await;
    b.give_back.cancel();
    let (third, _) = a.leads().await;
    assert!(third > second);
}

#[tokio::test]
async fn a_keeper_that_is_dropped_lets_go_of_the_store() {
    let gated = Gated::new(store());
    let mut a = Daemon::start("a", gated.clone());
    a.leads().await;
    let gate = Arc::downgrade(&gated.gate);
    drop(gated);
    drop(a);
    until(|| async { gate.strong_count() == 0 }).await;
}

/// A store with a bug.
struct Panics;

impl LeaseStore for Panics {
    fn look(&mut self) -> Result<Option<LeaseRow>, StoreError> {
        panic!("on purpose");
    }

    fn renew(&mut self, _: u64, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn take_over(
        &mut self,
        _: Option<&LeaseRow>,
        _: &Candidate,
        _: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn give_back(&mut self, _: u64, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[tokio::test]
async fn a_keeper_whose_store_has_died_closes_its_channel() {
    let mut a = Daemon::start("a", Panics);
    let closed = async { while a.leadership.changed().await.is_ok() {} };
    timeout(AT_MOST, closed).await.expect("an end");
}

#[test]
fn the_log_tells_each_change_of_leadership_once() {
    let (log, _guard) = Log::here();
    let mut lease = LeaseLog::new(ours("same"));
    let row = |term, beat| LeaseRow {
        term,
        holder: "x".into(),
        beat,
        node: "plant-b".into(),
        advertise: None,
        since: DateTime::UNIX_EPOCH,
        fingerprint: "same".into(),
        given_back: false,
        server: "".into(),
    };
    let standby = |beat| Leadership::Standby {
        leader: Some(row(7, beat)),
    };
    let leading = |millis| Leadership::Leading {
        term: 8,
        trusted_until: Mono::from_millis(millis),
    };
    let suspended = Leadership::Suspended { term: 8 };
    let deposed = |by| Leadership::Deposed { term: 8, by };
    let steps = [
        (Leadership::Standby { leader: None }, ""),
        (
            standby(1),
            "INFO another dispatchd leads; this one stands by",
        ),
        (standby(2), ""),
        // It has found out that it leads, and is not renewed yet.
        (suspended.clone(), ""),
        (leading(1), "INFO dispatchd has taken the lead term=8"),
        (leading(2), ""),
        (
            suspended.clone(),
            "WARN suspended: the lease was not renewed",
        ),
        (suspended.clone(), ""),
        (leading(3), "INFO the lease is renewed again"),
        (suspended, "WARN suspended: the lease was not renewed"),
        (deposed(None), "WARN dispatchd has lost the lead"),
        (deposed(Some(row(9, 0))), ""),
        (
            Leadership::Standby {
                leader: Some(row(9, 1)),
            },
            "leader=plant-b term=9",
        ),
    ];
    let mut expected = Vec::new();
    for (state, line) in steps {
        lease.state(&state, Still::default());
        if !line.is_empty() {
            expected.push(line);
        }
        let all = log.lines("");
        assert_eq!(all.len(), expected.len(), "{all:#?}");
        let words = expected.last().copied().unwrap_or_default();
        let last = all
            .last()
            .map(|line| line.replace("dispatchd::daemon::lease_keeper::log: ", ""));
        assert!(
            last.unwrap_or_default().contains(words),
            "{words}: {all:#?}"
        );
    }
}

#[test]
fn the_log_tells_why_a_leader_is_suspended() {
    let still = |process, coordinator| Still {
        process: Duration::from_secs(process),
        coordinator: Duration::from_secs(coordinator),
    };
    for (still, reason) in [
        (still(0, 0), "the store has not answered in time"),
        (still(0, 4), "the coordinator has stood still"),
        (
            still(20, 22),
            "this process, or its machine, stood still for 20s",
        ),
    ] {
        let (log, _guard) = Log::here();
        let mut lease = LeaseLog::new(ours("same"));
        let trusted_until = Mono::ZERO;
        let leading = Leadership::Leading {
            term: 8,
            trusted_until,
        };
        lease.state(&leading, Still::default());
        lease.state(&Leadership::Suspended { term: 8 }, still);
        assert_eq!(log.lines(reason).len(), 1);
    }
}

#[test]
fn the_log_tells_that_the_store_fails_and_that_it_answers_again() {
    let (log, _guard) = Log::here();
    let mut lease = LeaseLog::new(ours("same"));
    let at = Duration::from_secs;
    for second in 1..50 {
        lease.answered(&Err(StoreError::Closed), at(second));
    }
    lease.answered(&Ok(LeaseAnswer::Renewed(true)), at(50));
    lease.answered(&Ok(LeaseAnswer::Renewed(true)), at(51));
    let all = log.lines("");
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all[0].contains("WARN") && all[1].contains("lasted=49s"));
}

#[test]
fn the_log_warns_of_a_difference_when_it_is_seen_and_when_the_lead_is_taken_with_it() {
    let (log, _guard) = Log::here();
    let theirs = "sinks=1;routes=1";
    let mut lease = LeaseLog::new(ours("sinks=2;routes=1"));
    let row = |term, fingerprint: &str| LeaseRow {
        term,
        holder: "x".into(),
        beat: 1,
        node: "plant-b".into(),
        advertise: None,
        since: DateTime::UNIX_EPOCH,
        fingerprint: fingerprint.into(),
        given_back: false,
        server: "".into(),
    };
    let led_by = |row| Leadership::Standby { leader: Some(row) };
    let leading = |term| Leadership::Leading {
        term,
        trusted_until: Mono::from_millis(1),
    };
    for _ in 0..3 {
        lease.state(&led_by(row(7, theirs)), Still::default());
    }
    let warned = log.lines("WARN");
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(warned[0].contains("differs=\"sinks\""), "{warned:#?}");
    lease.state(&leading(8), Still::default());
    assert_eq!(log.lines("acts differently").len(), 1);
    lease.state(&led_by(row(9, "sinks=2;routes=1")), Still::default());
    lease.state(&leading(10), Still::default());
    assert_eq!(log.lines("WARN").len(), 2, "{:#?}", log.lines("WARN"));
}

#[test]
fn the_log_says_once_that_nobody_leads_and_why_this_daemon_does_not() {
    let (log, _guard) = Log::here();
    let mut lease = LeaseLog::new(ours("same"));
    let why = Some("no sink is named `a` any more");
    for (vacant, barred) in [
        (false, why),
        (true, None),
        (true, why),
        (true, why),
        (false, why),
        (true, why),
    ] {
        lease.vacant(vacant, barred);
    }
    let all = log.lines("nobody leads");
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all[0].contains("ERROR") && all[0].contains("named `a`"));
}

/// What `/status` of the leader shows is what standbys read in the lease.
#[tokio::test]
async fn since_when_a_daemon_leads_is_what_its_lease_says() {
    let store = store();
    let mut a = Daemon::start("a", store.clone());
    a.leads().await;
    let row = store.clone().look().unwrap().unwrap();
    assert_eq!(a.keeper.health().borrow().led_since, Some(row.since));
}

#[tokio::test]
async fn a_barred_daemon_leaves_the_lease_alone_until_it_could_lead() {
    let store = store();
    let mut a = Daemon::start("a", store.clone());
    let (first, _) = a.leads().await;
    let mut b = Daemon::start("b", store.clone());
    b.barred.send_replace(Some("a sink is gone".into()));
    b.stands_by_for(first).await;
    a.give_back.cancel();
    let mut health = b.keeper.health();
    let vacant = timeout(AT_MOST, health.wait_for(|health| health.vacant)).await;
    vacant.expect("in time").expect("a keeper");
    assert!(store.clone().look().unwrap().unwrap().given_back);
    b.barred.send_replace(None);
    b.leads().await;
}
