//! It wakes in time for what comes next, though nothing happens before.

use super::*;

/// One whose first poll has found a dispatch that starts so much later.
fn with_a_start_in(later: TimeDelta) -> Shell {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &[]);
    let poll = shell.asked();
    shell.committed(10);
    let dispatches = [dispatch(shell.now.wall + later)];
    shell.step(10, [list(poll, &dispatches)]);
    shell.committed(0);
    shell
}

#[test]
fn it_wakes_for_a_start() {
    let mut shell = with_a_start_in(TimeDelta::milliseconds(10_310));
    shell.step(10_000, []);
    assert_eq!(shell.sleeps_for(), Duration::from_millis(300));
}

#[test]
fn it_wakes_for_the_deadline_of_a_webhook_whose_look_up_hangs() {
    let mut shell = with_a_start_in(TimeDelta::hours(1));
    let webhook = Input::Webhook {
        id: id("other"),
        waiter: 1,
    };
    shell.step(0, [webhook]);
    shell.step(4600, []);
    assert_eq!(shell.sleeps_for(), Duration::from_millis(400));
    shell.coordinator.trust_until(shell.now.mono);
    shell.step(100, []);
    assert_eq!(shell.sleeps_for(), Duration::from_millis(300), "suspended");
}

#[test]
fn it_wakes_when_a_token_comes_for_which_a_look_up_waits() {
    // A token comes every 2.2 s.
    let mut shell = Shell::polling(Duration::from_secs(3600), 36, &[]);
    shell.step(
        0,
        (0..40).map(|waiter| Input::Webhook {
            id: id(&format!("d{waiter}")),
            waiter,
        }),
    );
    shell.step(1500, []);
    let sleeps_for = shell.sleeps_for();
    assert!(sleeps_for < LOOK_AT_CLOCK, "{sleeps_for:?}");
    let asks = |effect: &Effect<u64>| matches!(effect, Effect::Ask { .. });
    assert!(!shell.effects.iter().any(asks));
    shell.step(u64::try_from(sleeps_for.as_millis()).unwrap() + 1, []);
    assert!(shell.effects.iter().any(asks));
}

#[test]
fn it_wakes_to_say_that_no_poll_has_confirmed_the_schedule_for_three_intervals() {
    let mut shell = Shell::new(240, &[]);
    let poll = shell.asked();
    shell.committed(10);
    shell.step(10, [list(poll, &[])]);
    shell.committed(0);
    // The next poll hangs.
    for _ in 0..29 {
        shell.step(100, []);
    }
    assert_eq!(shell.sleeps_for(), Duration::from_millis(100));
    shell.step(100, []);
    assert_eq!(shell.events(), ["sync.stale"]);
}

#[test]
fn it_wakes_to_try_again_what_could_not_be_delivered() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    let first = shell.attempts()[0];
    shell.attempted(first, Attempt::failed("busy"));
    let failed = shell.now.mono;
    while shell.attempts().is_empty() {
        let sleeps_for = u64::try_from(shell.sleeps_for().as_millis()).unwrap();
        shell.step(sleeps_for + 1, []);
        if shell.committing().is_some() {
            shell.committed(0);
        }
    }
    let passed = shell.now.mono - failed;
    assert!(passed <= Duration::from_millis(510), "{passed:?}");
}
