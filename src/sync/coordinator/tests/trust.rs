//! Without trust nothing begins and nothing is promised; with it again, all goes on (rule
//! R15).

use super::*;
use crate::store::StoreError;
use crate::sync::coordinator::trusting::SUSPENDED;

/// Far ahead.
const LONG: Mono = Duration::from_secs(86_400);

impl Shell {
    /// There is no trust from now on.
    fn suspend(&mut self) {
        self.coordinator.trust_until(self.now.mono);
        self.step(0, []);
    }

    /// There is trust again.
    fn trust(&mut self) {
        self.coordinator.trust_until(LONG);
        self.step(0, []);
    }

    /// The look-up that went out last.
    fn look_up(&self) -> Asked {
        let look_up = self.effects.iter().find_map(|effect| match effect {
            Effect::Ask {
                asked,
                question: Question::Dispatch(_),
            } => Some(*asked),
            _ => None,
        });
        look_up.unwrap()
    }

    fn replies(&self) -> Vec<(u64, WaiterReply)> {
        let replies = self.effects.iter().filter_map(|effect| match effect {
            Effect::Reply { waiter, outcome } => Some((*waiter, outcome.clone())),
            _ => None,
        });
        replies.collect()
    }
}

fn webhook(waiter: u64) -> Input<u64> {
    let id = id("dkmq");
    Input::Webhook { id, waiter }
}

fn found(shell: &Shell) -> Answer {
    let end_time = Some(shell.now.wall + TimeDelta::hours(1));
    Answer::Found(Reading::Dispatch(Arc::new(Dispatch {
        end_time,
        ..dispatch(shell.now.wall + TimeDelta::seconds(3))
    })))
}

fn is_suspended(reply: &WaiterReply) -> bool {
    matches!(reply, WaiterReply::Unavailable { reason, retry_after }
        if reason == SUSPENDED && *retry_after > Duration::ZERO)
}

#[test]
fn without_trust_no_attempt_starts_and_with_it_again_it_starts_at_once() {
    let mut shell = Shell::with_a_dispatch();
    shell.coordinator.trust_until(shell.now.mono);
    shell.committed(10);
    assert!(shell.attempts().is_empty());
    shell.step(5000, []);
    assert!(shell.attempts().is_empty());
    shell.trust();
    assert_eq!(shell.attempts().len(), 1);
}

#[test]
fn without_trust_no_attempt_that_failed_is_made_again() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    let first = shell.attempts()[0];
    shell.attempted(first, Attempt::failed("busy"));
    shell.suspend();
    for _ in 0..100 {
        shell.step(1000, []);
        assert!(shell.attempts().is_empty());
    }
    shell.trust();
    assert_eq!(shell.attempts().len(), 1);
}

#[test]
fn an_attempt_that_was_broken_off_goes_again_at_once_and_counts_as_no_failure() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    let first = shell.attempts()[0];
    shell.suspend();
    shell.attempted(first, Attempt::BrokenOff);
    assert!(shell.attempts().is_empty());
    shell.trust();
    assert_eq!(shell.attempts().len(), 1);
    let sinks = shell.coordinator.view().sinks;
    assert_eq!((sinks[0].failed_attempts, &sinks[0].last_error), (0, &None));
}

#[test]
fn without_trust_a_webhook_waits_and_is_told_to_come_back_at_its_deadline() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.suspend();
    shell.step(10, [webhook(1)]);
    assert!(shell.effects.is_empty(), "{:?}", shell.effects);
    shell.step(2000, [webhook(2)]);
    assert!(shell.effects.is_empty(), "{:?}", shell.effects);
    assert!(shell.sleeps_for() <= LOOK_AT_CLOCK);
    shell.step(3000, []);
    let replies = shell.replies();
    assert!(
        matches!(&replies[..], [(1, reply)] if is_suspended(reply)),
        "{replies:?}"
    );
    // The other one is in time for the trust.
    shell.trust();
    let look_up = shell.look_up();
    let answer = found(&shell);
    shell.step(10, [told(look_up, answer)]);
    // The start that came due meanwhile is written first.
    shell.committed(10);
    shell.committed(10);
    assert_eq!(shell.replies(), [(2, WaiterReply::Applied)]);
}

#[test]
fn without_trust_no_answer_is_taken_in_and_no_commit_begins() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.step(10, [webhook(1)]);
    let look_up = shell.look_up();
    shell.suspend();
    let answer = found(&shell);
    shell.step(10, [told(look_up, answer)]);
    assert!(shell.effects.is_empty(), "{:?}", shell.effects);
    // Nor does the clock say that it starts.
    shell.step(4000, []);
    assert!(shell.effects.is_empty(), "{:?}", shell.effects);
    shell.trust();
    assert_eq!(shell.events(), ["dispatch.started", "dispatch.updated"]);
    shell.committed(10);
    assert_eq!(shell.replies(), [(1, WaiterReply::Applied)]);
}

#[test]
fn without_trust_what_a_commit_under_way_has_written_is_promised_to_nobody() {
    for returns in [true, false] {
        let mut shell = Shell::with_a_dispatch();
        shell.committed(10);
        shell.step(10, [webhook(1)]);
        let look_up = shell.look_up();
        let answer = found(&shell);
        shell.step(10, [told(look_up, answer)]);
        assert!(shell.committing().is_some());
        shell.suspend();
        shell.committed(10);
        assert_eq!(shell.replies(), []);
        let revision = shell.coordinator.view().schedule.revision();
        if returns {
            shell.trust();
            assert_eq!(shell.replies(), [(1, WaiterReply::Applied)]);
        } else {
            shell.step(5000, []);
            let replies = shell.replies();
            assert!(
                matches!(&replies[..], [(1, reply)] if is_suspended(reply)),
                "{replies:?}"
            );
            shell.trust();
            assert_eq!(shell.replies(), [], "nobody is answered twice");
        }
        // What was on disk is not lost.
        assert!(shell.coordinator.view().schedule.revision() >= revision);
    }
}

#[test]
fn an_order_that_was_answered_with_an_error_is_not_carried_out_later() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.suspend();
    let order = an_order(&shell);
    shell.step(10, [Input::Override { order, waiter: 1 }]);
    shell.step(8000, []);
    assert_eq!(shell.replies().len(), 1);
    shell.trust();
    // Whatever it writes now is written.
    for _ in 0..3 {
        shell.committed(1000);
    }
    let view = shell.coordinator.view();
    assert_eq!(view.plan.overridden().count(), 0);
}

#[test]
fn an_order_in_a_commit_that_does_not_end_is_said_to_be_uncertain() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    let order = an_order(&shell);
    shell.step(10, [Input::Override { order, waiter: 1 }]);
    shell.step(8000, []);
    let replies = shell.replies();
    let [(1, reply)] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert!(reply.reason().unwrap().contains("may still take effect"));
}

#[test]
fn an_order_behind_a_commit_that_does_not_end_is_said_to_be_uncertain() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.begin_commit();
    let order = an_order(&shell);
    shell.step(10, [Input::Override { order, waiter: 1 }]);
    shell.step(8000, []);
    let replies = shell.replies();
    let reply = replies.iter().find(|(waiter, _)| *waiter == 1);
    let reason = reply.and_then(|(_, reply)| reply.reason());
    assert!(reason.unwrap().contains("may still take effect"));
}

#[test]
fn without_trust_an_order_waits_and_nothing_is_skipped() {
    let mut shell = Shell::with_a_dispatch();
    let pending = shell.committing().unwrap().events[0].id.to_string();
    shell.committed(10);
    shell.suspend();
    let order = an_order(&shell);
    let request = SkipRequest {
        event: pending,
        sink: None,
    };
    let waiter = 2;
    let inputs = [
        Input::Override { order, waiter: 1 },
        Input::Skip { request, waiter },
    ];
    shell.step(10, inputs);
    let replies = shell.replies();
    assert!(
        matches!(&replies[..], [(2, reply)] if is_suspended(reply)),
        "{replies:?}"
    );
    shell.step(8000, []);
    let replies = shell.replies();
    assert!(
        matches!(&replies[..], [(1, reply)] if is_suspended(reply)),
        "{replies:?}"
    );
}

#[test]
fn without_trust_what_is_pending_is_listed_all_the_same() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.suspend();
    let request = PendingRequest {
        limit: 10,
        ..PendingRequest::default()
    };
    shell.step(10, [Input::ListPending { request, waiter: 1 }]);
    let replies = shell.replies();
    assert!(
        matches!(&replies[..], [(1, WaiterReply::Pending(sinks))] if sinks[0].events.len() == 1),
        "{replies:?}"
    );
}

#[test]
fn readers_see_since_when_this_daemon_does_not_know_whether_it_leads() {
    let mut shell = Shell::with_a_dispatch();
    let health = |shell: &Shell| shell.coordinator.view().health;
    assert_eq!(health(&shell).suspended_since(shell.now), None);
    let until = shell.now.mono + Duration::from_millis(200);
    shell.coordinator.trust_until(until);
    shell.step(0, []);
    assert_eq!(
        shell.sleeps_for(),
        Duration::from_millis(200),
        "it wakes then"
    );
    let since = shell.now.wall + Duration::from_millis(200);
    shell.step(900, []);
    assert_eq!(health(&shell).suspended_since(shell.now), Some(since));
    shell.trust();
    assert_eq!(health(&shell).suspended_since(shell.now), None);
}

/// One whose first poll has found a dispatch for a site, from 3 s to 10 s from now. That
/// is on disk.
fn with_a_short_dispatch() -> Shell {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let sites = vec![Arc::new(Site {
        id: SiteId::new("plant").unwrap(),
        name: "Plant".into(),
        customer_location_id: String::new(),
        commitment: None,
        extra: Default::default(),
    })];
    let short = Dispatch {
        end_time: Some(shell.now.wall + TimeDelta::seconds(10)),
        sites,
        ..dispatch(shell.now.wall + TimeDelta::seconds(3))
    };
    shell.step(10, [list(poll, &[short])]);
    shell.committed(10);
    shell
}

#[test]
fn what_comes_due_while_suspended_is_named_until_it_is_over() {
    let mut shell = with_a_short_dispatch();
    shell.suspend();
    assert_eq!(shell.due(), []);
    shell.step(4000, []);
    assert_eq!(shell.due(), [("site.curtail".into(), "plant".into())]);
    // Nobody was told to curtail: there is nothing to release.
    shell.step(7000, []);
    assert_eq!(shell.due(), []);
}

#[test]
fn what_a_commit_that_does_not_end_would_tell_is_due_also_at_the_second_time() {
    let mut shell = with_a_short_dispatch();
    shell.suspend();
    shell.trust();
    shell.step(3500, []);
    assert!(shell.events().contains(&"site.curtail"));
    shell.suspend();
    assert_eq!(shell.due(), [("site.curtail".into(), "plant".into())]);
}

#[test]
fn the_release_of_a_site_that_was_curtailed_is_due_when_it_ends_while_suspended() {
    let mut shell = with_a_short_dispatch();
    shell.step(3500, []);
    assert!(shell.events().contains(&"site.curtail"));
    shell.committed(10);
    shell.suspend();
    assert_eq!(shell.due(), []);
    shell.step(8000, []);
    assert_eq!(shell.due(), [("site.release".into(), "plant".into())]);
    shell.trust();
    shell.committed(10);
    assert_eq!(shell.due(), []);
}

#[test]
fn webhooks_that_came_while_suspended_and_were_answered_are_not_kept() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    shell.suspend();
    for number in 0..100 {
        let id = id(&format!("d{number}"));
        shell.step(100, [Input::Webhook { id, waiter: number }]);
    }
    let kept = shell.coordinator.asking.look_ups.wanted();
    assert!(
        kept > 0 && kept < 60,
        "those of the last five seconds: {kept}"
    );
    shell.step(10_000, []);
    assert_eq!(shell.coordinator.asking.look_ups.wanted(), 0);
}

#[test]
fn what_a_commit_had_that_fails_while_suspended_stays_due_until_a_list_is_stored() {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let active = curtails(&shell, "plant", -1);
    shell.step(10, [list(poll, &[active])]);
    assert!(shell.committing().is_some());
    shell.suspend();
    let curtail = [("site.curtail".into(), "plant".into())];
    assert_eq!(shell.due(), curtail);
    let what = "it does not answer".into();
    shell.step(500, [Input::Committed(Err(StoreError::Damaged { what }))]);
    assert_eq!(shell.due(), curtail);
    shell.trust();
    shell.step(1100, []);
    shell.committed(10);
    assert_eq!(shell.due(), curtail);
}

#[test]
fn an_order_that_is_written_while_suspended_counts_for_what_is_due() {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let active = curtails(&shell, "s1", 1);
    shell.step(2000, [list(poll, &[active])]);
    let what = || "it does not answer".into();
    shell.step(
        10,
        [Input::Committed(Err(StoreError::Damaged { what: what() }))],
    );
    shell.step(1100, []);
    shell.committed(10);
    assert_eq!(shell.due(), [("site.curtail".into(), "s1".into())]);
    let mut order = an_order(&shell);
    let kept_out = order.site_override.as_deref().cloned();
    order.site_override = kept_out.map(|kept_out| {
        let state = SiteMode::Normal;
        Arc::new(Override { state, ..kept_out })
    });
    shell.step(10, [Input::Override { order, waiter: 1 }]);
    assert!(shell.committing().is_some());
    shell.suspend();
    shell.committed(10);
    shell.trust();
    assert_eq!(shell.due(), []);
}
