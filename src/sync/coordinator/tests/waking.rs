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
