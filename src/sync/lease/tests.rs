//! What daemons do about the lease, told of one or two of them and a store in memory.

use chrono::DateTime;

use super::*;
use crate::store::{Candidate, LeaseStore, MemoryStore};

fn ms(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

/// One daemon at a shared store. Its calls take no time, unless a test says so.
struct Daemon {
    lease: Lease,
    candidate: Candidate,
    store: MemoryStore,
    now: u64,
    /// Its coordinator finishes turns.
    turns: bool,
    /// The store answers.
    answered: bool,
    /// The calls, and when they were sent.
    calls: Vec<(u64, LeaseCall)>,
}

impl Daemon {
    fn new(name: &str, store: &MemoryStore) -> Self {
        Self {
            lease: Lease::new(name.into()),
            candidate: Candidate {
                holder: name.into(),
                node: name.into(),
                advertise: None,
                fingerprint: "same".into(),
            },
            store: store.clone(),
            now: 0,
            turns: true,
            answered: true,
            calls: Vec::new(),
        }
    }

    /// A daemon that leads since now, and one that has never looked.
    fn leader_and_standby() -> (Self, Self) {
        let store = MemoryStore::new("store", DateTime::UNIX_EPOCH);
        let (mut leader, standby) = (Self::new("a", &store), Self::new("b", &store));
        leader.until(0);
        assert!(leader.leads());
        leader.calls.clear();
        (leader, standby)
    }

    fn make(&mut self, call: &LeaseCall) -> Result<LeaseAnswer, StoreError> {
        let answer = call.make(&mut self.store, &self.candidate, DateTime::UNIX_EPOCH);
        self.calls.push((self.now, call.clone()));
        if self.answered {
            answer
        } else {
            Err(StoreError::Closed)
        }
    }

    /// Lives until `until`, and does what is next.
    fn until(&mut self, until: u64) {
        loop {
            if self.turns {
                self.lease.turned(ms(self.now));
            }
            match self.lease.next(ms(self.now)) {
                NextCall::Now(call) => {
                    let answer = self.make(&call);
                    self.lease.ended(&call, ms(self.now), ms(self.now), answer);
                }
                NextCall::At(at) if at <= ms(until) => {
                    assert!(at > ms(self.now), "time goes on");
                    self.now = u64::try_from(at.as_millis()).unwrap();
                }
                NextCall::At(_) | NextCall::Never => {
                    self.now = until;
                    return;
                }
            }
        }
    }

    /// The next call takes so long, one way and the other. Returns what it was.
    fn call_that_takes(&mut self, there: u64, back: u64) -> LeaseCall {
        self.lease.turned(ms(self.now));
        let NextCall::Now(call) = self.lease.next(ms(self.now)) else {
            panic!("nothing to do at {}", self.now);
        };
        let sent = self.now;
        self.now += there;
        let answer = self.make(&call);
        self.now += back;
        self.lease.ended(&call, ms(sent), ms(self.now), answer);
        call
    }

    /// Stands still until `until`.
    fn stand_still(&mut self, until: u64) {
        self.now = until;
    }

    fn leadership(&self) -> Leadership {
        self.lease.leadership(ms(self.now))
    }

    fn leads(&self) -> bool {
        matches!(self.leadership(), Leadership::Leading { .. })
    }

    fn is_suspended(&self) -> bool {
        matches!(self.leadership(), Leadership::Suspended { .. })
    }

    fn row(&mut self) -> LeaseRow {
        self.store.look().unwrap().unwrap()
    }

    /// When take-overs were tried.
    fn take_overs(&self) -> Vec<u64> {
        let tried = self.calls.iter();
        tried
            .filter(|(_, call)| matches!(call, LeaseCall::TakeOver { .. }))
            .map(|(at, _)| *at)
            .collect()
    }
}

/// All live until `until`, a tenth of a second at a time.
fn all_until<const N: usize>(daemons: [&mut Daemon; N], until: u64) {
    let mut daemons = daemons;
    let mut now = daemons.iter().map(|daemon| daemon.now).min().unwrap();
    while now < until {
        now += 100;
        for daemon in &mut daemons {
            if now > daemon.now {
                daemon.until(now);
            }
        }
    }
}

#[test]
fn the_first_daemon_leads_at_once_and_the_second_stands_by_for_it() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    all_until([&mut a, &mut b], 60_000);
    assert!(a.leads());
    let row = a.row();
    assert_eq!((row.beat, &*row.node), (60, "a"), "renewed every second");
    let Leadership::Standby { leader: Some(seen) } = b.leadership() else {
        panic!("{:?}", b.leadership());
    };
    assert_eq!((seen.term, seen.holder), (row.term, row.holder));
    assert_eq!(b.take_overs(), [0; 0]);
}

#[test]
fn of_daemons_that_start_at_once_one_leads() {
    let store = MemoryStore::new("store", DateTime::UNIX_EPOCH);
    let (mut a, mut b) = (Daemon::new("a", &store), Daemon::new("b", &store));
    // Both look before either takes it.
    assert_eq!(a.call_that_takes(0, 0), LeaseCall::Look);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    all_until([&mut a, &mut b], 20_000);
    assert!(a.leads() && !b.leads());
    assert_eq!(b.take_overs().len(), 1, "then it watches");
}

#[test]
fn a_standby_takes_over_from_a_leader_that_has_died_after_watching_for_five_seconds() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    all_until([&mut a, &mut b], 10_000);
    let beat = a.row();
    // The last renewal was in the tenth second, and b sees it in the eleventh at most.
    b.until(30_000);
    let tried = b.take_overs();
    assert!(tried.len() == 1 && (15_000..=16_000).contains(&tried[0]));
    assert!(b.leads() && b.row().term > beat.term);
}

#[test]
fn a_leader_trusts_itself_for_three_and_a_half_seconds_from_sending() {
    let (mut a, _) = Daemon::leader_and_standby();
    let Leadership::Leading {
        term,
        trusted_until,
    } = a.leadership()
    else {
        panic!("it leads");
    };
    assert_eq!(trusted_until, ms(3500));
    // A renewal that takes two seconds there and one back.
    a.stand_still(1000);
    assert_eq!(a.call_that_takes(2000, 1000), LeaseCall::Renew { term });
    a.stand_still(4499);
    assert!(a.leads());
    a.stand_still(4500);
    assert_eq!(a.leadership(), Leadership::Suspended { term });
}

#[test]
fn an_answer_that_comes_after_the_trust_has_run_out_restores_nothing() {
    let (mut a, _) = Daemon::leader_and_standby();
    a.stand_still(1000);
    a.call_that_takes(0, 3500);
    assert!(a.is_suspended());
    // The next renewal does.
    a.call_that_takes(10, 10);
    assert!(a.leads());
}

#[test]
fn two_renewals_may_fail_and_a_third_that_fails_suspends() {
    let (mut a, _) = Daemon::leader_and_standby();
    a.until(1000);
    a.answered = false;
    a.until(3900);
    assert!(a.leads());
    a.answered = true;
    a.until(5000);
    assert!(a.leads());
    a.answered = false;
    a.until(8499);
    assert!(a.leads());
    a.until(8500);
    assert!(a.is_suspended());
    a.until(60_000);
    assert!(a.is_suspended());
    a.answered = true;
    a.until(61_000);
    assert!(a.leads(), "the row still has its term and holder");
}

#[test]
fn a_suspended_leader_is_deposed_by_another_term_and_stands_by_when_it_has_let_go() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    let Leadership::Leading { term, .. } = a.leadership() else {
        panic!("it leads");
    };
    b.until(20_000);
    assert!(b.leads());
    a.stand_still(20_000);
    assert!(a.is_suspended(), "before it has heard anything");
    a.call_that_takes(0, 0);
    assert_eq!(a.leadership(), Leadership::Deposed { term, by: None });
    a.until(20_000);
    let by = Some(b.row());
    assert_eq!(a.leadership(), Leadership::Deposed { term, by });
    // Until it has let go, it does not lead again.
    a.until(40_000);
    assert_eq!(a.take_overs(), [0; 0]);
    a.lease.stand_by();
    assert!(matches!(a.leadership(), Leadership::Standby { .. }));
    a.until(44_999);
    assert!(!a.leads(), "what it saw before does not count");
    a.until(46_000);
    assert!(a.leads());
}

#[test]
fn a_leader_renews_only_while_its_coordinator_turns() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    a.until(5000);
    let beat = a.row().beat;
    a.turns = false;
    a.until(9000);
    assert_eq!(a.row().beat, beat + 1, "the last turn was a second ago");
    assert!(a.leads());
    a.until(9500);
    assert!(a.is_suspended());
    // It goes on as soon as the coordinator does.
    a.lease.turned(ms(9550));
    a.until(9700);
    assert!(a.leads());
    // It learns that it was deposed although it does not renew.
    b.stand_still(9700);
    b.until(20_000);
    assert!(b.leads());
    a.until(20_000);
    assert!(matches!(a.leadership(), Leadership::Deposed { by: Some(row), .. } if row == b.row()));
}

#[test]
fn a_turn_that_comes_a_little_late_delays_the_renewal_by_as_much() {
    let (mut a, _) = Daemon::leader_and_standby();
    a.turns = false;
    let mut now = 0;
    while now < 60_000 {
        now += 1040;
        a.until(now);
        assert!(a.leads());
        a.lease.turned(ms(now));
    }
    assert!(a.row().beat > 50);
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    all_until([&mut a, &mut b], 10_500);
    a.lease.give_back();
    assert!(matches!(a.leadership(), Leadership::Standby { .. }));
    a.until(10_500);
    assert_eq!(a.lease.next(ms(10_500)), NextCall::Never);
    b.until(11_100);
    assert!(b.leads());
    a.until(60_000);
    assert!(
        b.row().is_held(b.row().term, "b"),
        "a takes nothing any more"
    );
}

#[test]
fn giving_back_is_tried_until_it_is_answered() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    a.until(10_000);
    a.calls.clear();
    a.answered = false;
    a.lease.give_back();
    a.until(12_500);
    assert_eq!(a.calls.len(), 3);
    a.answered = true;
    a.until(13_000);
    assert_eq!(a.lease.next(ms(13_000)), NextCall::Never);
    b.stand_still(13_000);
    b.until(13_000);
    assert!(b.leads());
    // Another daemon may have taken it before: it is not taken from that one.
    let (mut a, mut b) = Daemon::leader_and_standby();
    b.until(20_000);
    a.stand_still(20_000);
    a.lease.give_back();
    a.until(20_000);
    assert_eq!(a.lease.next(ms(20_000)), NextCall::Never);
    let row = b.row();
    assert!(row.is_held(row.term, "b"));
}

#[test]
fn a_standby_that_is_told_to_stop_calls_nothing_any_more() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    all_until([&mut a, &mut b], 3000);
    b.lease.give_back();
    assert_eq!(b.lease.next(ms(3000)), NextCall::Never);
}

#[test]
fn a_look_that_fails_starts_the_watch_anew() {
    let (_, mut b) = Daemon::leader_and_standby();
    b.until(3000);
    b.answered = false;
    b.until(4000);
    b.answered = true;
    // The next good look is in the fifth second.
    b.until(9999);
    assert!(!b.leads());
    b.until(10_000);
    assert!(b.leads());
}

#[test]
fn a_standby_that_stood_still_starts_the_watch_anew() {
    let (_, mut b) = Daemon::leader_and_standby();
    b.until(4000);
    b.stand_still(60_000);
    b.until(64_999);
    assert!(!b.leads());
    b.until(65_000);
    assert!(b.leads());
    // So does one that stood still while a look was under way.
    let (_, mut b) = Daemon::leader_and_standby();
    b.until(4500);
    b.stand_still(5000);
    assert_eq!(b.call_that_takes(10, 2000), LeaseCall::Look);
    assert!(!matches!(
        b.lease.next(ms(b.now)),
        NextCall::Now(LeaseCall::TakeOver { .. })
    ));
    b.until(12_000);
    assert!(!b.leads());
    b.until(12_100);
    assert!(b.leads());
    // And one that did so when it was about to take over, or a lease was free.
    let (mut a, mut b) = Daemon::leader_and_standby();
    all_until([&mut a, &mut b], 900);
    a.lease.give_back();
    a.until(950);
    b.stand_still(1000);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    b.stand_still(2501);
    assert!(matches!(
        b.lease.next(ms(2501)),
        NextCall::Now(LeaseCall::Look)
    ));
}

#[test]
fn looks_that_take_long_are_counted_from_their_end() {
    let (_, mut b) = Daemon::leader_and_standby();
    // The store showed the row at some time between 0 and 1400.
    b.call_that_takes(700, 700);
    b.until(6399);
    assert!(!b.leads());
    b.until(6400);
    assert!(b.leads());
}

#[test]
fn a_renewal_that_arrives_late_makes_the_take_over_fail() {
    let (mut a, mut b) = Daemon::leader_and_standby();
    b.until(4999);
    b.stand_still(5000);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    let term = a.row().term;
    assert!(a.store.renew(term, "a").unwrap());
    b.until(5000);
    assert_eq!(b.take_overs(), [5000]);
    assert!(!b.leads());
    b.until(10_999);
    assert_eq!(b.take_overs(), [5000], "it watches anew");
    b.until(11_000);
    assert!(b.leads());
}

#[test]
fn a_take_over_whose_answer_got_lost_is_found_by_the_next_look() {
    let (_, mut b) = Daemon::leader_and_standby();
    b.until(4500);
    b.stand_still(5000);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    b.answered = false;
    b.call_that_takes(0, 0);
    assert!(!b.leads(), "nobody knows");
    b.answered = true;
    b.stand_still(6000);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    assert!(b.is_suspended(), "the trust comes from a renewal");
    b.until(6000);
    assert!(b.leads());
}

#[test]
fn a_daemon_that_stops_gives_back_what_a_take_over_without_an_answer_took() {
    let store = MemoryStore::new("store", DateTime::UNIX_EPOCH);
    let mut a = Daemon::new("a", &store);
    a.call_that_takes(0, 0);
    a.answered = false;
    a.call_that_takes(0, 0);
    a.answered = true;
    a.lease.give_back();
    a.until(1000);
    assert!(a.row().given_back);
    assert_eq!(a.lease.next(ms(1000)), NextCall::Never);
    // Nothing is given back if it took nothing.
    let (_, mut b) = Daemon::leader_and_standby();
    b.until(4999);
    b.lease.claimed = true;
    b.lease.give_back();
    b.until(5999);
    assert_eq!(b.lease.next(ms(5999)), NextCall::Never);
    assert!(!b.row().given_back);
}

#[test]
fn a_leader_that_reads_another_row_is_deposed_whatever_it_is() {
    for change in [
        |row: &mut LeaseRow| row.term += 1,
        |row: &mut LeaseRow| row.holder = "c".into(),
        |row: &mut LeaseRow| row.given_back = true,
    ] {
        let (mut a, _) = Daemon::leader_and_standby();
        let mut row = a.row();
        change(&mut row);
        let by = Some(row.clone());
        let answer = Ok(LeaseAnswer::Row(Some(row)));
        a.lease.ended(&LeaseCall::Look, ms(10), ms(20), answer);
        a.stand_still(20);
        assert!(matches!(a.leadership(), Leadership::Deposed { by: seen, .. } if seen == by));
    }
    let (mut a, _) = Daemon::leader_and_standby();
    let answer = Ok(LeaseAnswer::Row(None));
    a.lease.ended(&LeaseCall::Look, ms(10), ms(20), answer);
    assert!(matches!(
        a.leadership(),
        Leadership::Deposed { by: None, .. }
    ));
}

#[test]
fn an_old_row_of_its_own_makes_no_leader() {
    // A backup of the database was put back: the row is from before it was deposed.
    let (mut a, mut b) = Daemon::leader_and_standby();
    let old = a.row();
    b.until(10_000);
    a.stand_still(10_000);
    a.until(10_000);
    a.lease.stand_by();
    let answer = Ok(LeaseAnswer::Row(Some(old)));
    a.lease
        .ended(&LeaseCall::Look, ms(10_010), ms(10_020), answer);
    assert!(matches!(
        a.leadership(),
        Leadership::Standby { leader: Some(_) }
    ));
}

/// No coordinator turns before the lead has begun.
#[test]
fn a_daemon_that_hears_late_of_its_take_over_leads_then_whatever_gets_lost_before() {
    let (_, mut b) = Daemon::leader_and_standby();
    b.turns = false;
    b.until(4999);
    b.stand_still(5000);
    assert_eq!(b.call_that_takes(0, 0), LeaseCall::Look);
    let call = |b: &Daemon| match b.lease.next(ms(b.now)) {
        NextCall::Now(call) => call,
        later => panic!("{later:?}"),
    };
    for (answered, expected) in [(false, "TakeOver"), (true, "Look"), (false, "Renew")] {
        b.answered = answered;
        assert!(format!("{:?}", call(&b)).starts_with(expected));
        let made = call(&b);
        let answer = b.make(&made);
        b.lease.ended(&made, ms(b.now), ms(b.now), answer);
        assert!(!b.leads());
        b.stand_still(b.now + 1000);
    }
    // The first renewal got lost.
    b.stand_still(b.now + 5000);
    b.answered = true;
    b.until(b.now);
    assert!(b.leads());
    // Then it has as much time for its first turn as after any take-over.
    let since = b.now;
    b.until(since + 1000);
    assert!(b.leads());
    b.until(since + 10_000);
    assert!(b.is_suspended());
}

#[test]
fn a_standby_that_could_not_lead_watches_on_and_takes_nothing_over_until_it_could() {
    let (mut leader, mut standby) = Daemon::leader_and_standby();
    standby.lease.bar(true);
    leader.until(3000);
    standby.until(3000);
    assert!(!standby.lease.is_vacant(), "the leader renews");
    // The leader is dead.
    standby.until(20_000);
    assert!(standby.lease.is_vacant());
    assert!(!standby.leads());
    let took = |daemon: &Daemon| {
        let mut calls = daemon.calls.iter();
        calls.any(|(_, call)| matches!(call, LeaseCall::TakeOver { .. }))
    };
    assert!(!took(&standby));
    standby.lease.bar(false);
    standby.until(21_000);
    assert!(standby.leads());
    assert!(!standby.lease.is_vacant());
}

#[test]
fn a_lease_that_was_given_back_is_left_to_a_daemon_that_could_lead() {
    let (mut leader, mut standby) = Daemon::leader_and_standby();
    standby.lease.bar(true);
    standby.until(1000);
    leader.lease.give_back();
    leader.until(2000);
    standby.until(10_000);
    assert!(standby.lease.is_vacant() && !standby.leads());
    let mut third = Daemon::new("c", &standby.store);
    third.until(2000);
    assert!(third.leads());
}
