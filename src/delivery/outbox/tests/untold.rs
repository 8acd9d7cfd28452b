//! Which sites count as not told what they must do.

use super::*;
use crate::registration::tests::Log;

/// The untold sites, and since how many seconds they wait.
fn untold(world: &mut World) -> Vec<(String, i64)> {
    world.outbox.advance(world.now);
    let now = world.now.wall;
    let health = world.outbox.health();
    let sites = health.untold.iter();
    sites
        .map(|(site, untold)| (site.to_string(), (now - untold.since).num_seconds()))
        .collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_site_is_untold_once_its_command_has_waited_ten_seconds() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    world.pass(seconds(9));
    assert_eq!(untold(&mut world), []);
    world.pass(seconds(1));
    assert_eq!(untold(&mut world), [("s".into(), 10)]);
    world.ends(sent[0].0, &Attempt::Delivered);
    assert_eq!(untold(&mut world), []);
    world.pass(seconds(60));
    assert_eq!(untold(&mut world), [], "nothing is due");
}

#[test]
fn a_newer_command_does_not_begin_the_wait_anew() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    for command in [ADJUST, ADJUST, RELEASE] {
        world.pass(seconds(3));
        world.happens(command, "s");
    }
    world.pass(seconds(1));
    assert_eq!(untold(&mut world), [("s".into(), 10)]);
    // The old command arrives; the newer one waits from now on.
    world.ends(sent[0].0, &Attempt::Delivered);
    assert_eq!(untold(&mut world), []);
    world.pass(seconds(10));
    assert_eq!(untold(&mut world), [("s".into(), 10)]);
    world.sends_one("site.release s 4", &Attempt::Delivered);
    assert_eq!(untold(&mut world), []);
}

#[test]
fn an_untold_site_has_the_reason_of_its_last_attempt() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::failed("busy"));
    world.pass(seconds(10));
    world.outbox.advance(world.now);
    let reason = |world: &World| world.outbox.health().untold["s"].reason.clone();
    assert_eq!(reason(&world).as_deref(), Some("busy"));
    world.sends_one("site.curtail s 1", &Attempt::failed("broken"));
    assert_eq!(reason(&world).as_deref(), Some("broken"));
}

#[test]
fn a_site_that_needs_no_command_is_not_untold() {
    let mut world = World::new(1);
    world.outbox.hold_commands(true);
    // Never attempted, and normal now: nothing is to be sent.
    world.happens(CURTAIL, "never");
    world.happens(RELEASE, "never");
    // The operator gives a command up.
    let position = world.happens(CURTAIL, "skipped");
    world.pass(seconds(10));
    assert_eq!(untold(&mut world), [("skipped".into(), 10)]);
    let id = Event::id_at("store", 1, position);
    world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(untold(&mut world), []);
    // Dispatches are no sites.
    world.happens("dispatch.created", "d");
    world.pass(seconds(20));
    assert_eq!(untold(&mut world), []);
}

#[test]
fn a_command_that_waited_before_a_restart_has_waited() {
    let mut world = World::new(1);
    world.pass(seconds(5));
    world.happens(CURTAIL, "s");
    world.commit();
    world.pass(seconds(240));
    world.restart();
    assert_eq!(untold(&mut world), [("s".into(), 244)]);
}

#[test]
fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.commit();
    world.now.wall -= TimeDelta::hours(1);
    world.restart();
    world.pass(seconds(9));
    assert_eq!(untold(&mut world), []);
    world.pass(seconds(1));
    assert_eq!(untold(&mut world), [("s".into(), 10)]);
}

#[test]
fn what_goes_once_more_after_a_reconnect_leaves_no_site_untold() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.outbox.connected(world.now);
    let event = world.log[0].clone();
    assert!(matches!(
        world.outbox.refresh_read(world.now),
        Some(RefreshRead::Positions)
    ));
    world
        .outbox
        .take_refresh(Ok(RefreshPage::Positions(vec![1])), world.now);
    world.outbox.refresh_read(world.now);
    world
        .outbox
        .take_refresh(Ok(RefreshPage::Events(vec![event])), world.now);
    let sent = world.sends();
    assert_eq!(sent.len(), 1);
    world.pass(seconds(30));
    assert_eq!(untold(&mut world), []);
}

#[test]
fn a_receiver_that_is_not_there_is_known_before_anything_is_due() {
    let mut world = World::new(1);
    let condition = |world: &World| world.outbox.health().condition;
    let refused = Err("connection refused".to_owned());
    world.outbox.probed(refused.clone(), world.now);
    assert_eq!(condition(&world), SinkCondition::Failing);
    let error = world.outbox.health().last_error;
    assert_eq!(error.as_deref(), Some("connection refused"));
    world.outbox.probed(Ok(()), world.now);
    assert_eq!(condition(&world), SinkCondition::Ok);
    assert_eq!(world.outbox.health().last_error, None);
    // A delivery proves more than a look.
    world.outbox.probed(refused, world.now);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    assert_eq!(condition(&world), SinkCondition::Ok);
}

#[test]
fn an_untold_site_has_the_command_that_it_lacks() {
    let mut world = World::new(1);
    let command = |world: &mut World| {
        world.outbox.advance(world.now);
        world.outbox.health().untold["s"].command
    };
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &failed());
    world.pass(seconds(10));
    assert_eq!(command(&mut world), "curtail");
    world.happens(ADJUST, "s");
    assert_eq!(command(&mut world), "curtail", "none was acknowledged");
    world.happens(RELEASE, "s");
    assert_eq!(command(&mut world), "release");
}

/// Otherwise each restart with something pending would be an alarm.
#[test]
fn after_a_restart_the_log_waits_until_an_attempt_has_had_its_chance() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.commit();
    world.pass(seconds(240));
    world.restart();
    let why = |world: &mut World| {
        world.outbox.advance(world.now);
        let health = world.outbox.health();
        let why = health.untold["s"]
            .why(health.unreachable.as_ref())
            .to_owned();
        (why, world.outbox.untold.logged)
    };
    assert_eq!(why(&mut world), ("not tried since the start".into(), 0));
    let sent = world.sends();
    assert_eq!(why(&mut world), ("the receiver has not answered".into(), 0));
    world.ends(sent[0].0, &Attempt::failed("busy"));
    assert_eq!(why(&mut world), ("busy".into(), 1));

    world.restart();
    world.pass(seconds(9));
    assert_eq!(why(&mut world).1, 0);
    world.pass(seconds(1));
    assert_eq!(why(&mut world).1, 1, "nothing was tried for ten seconds");
}

#[test]
fn how_long_sites_were_untold_counts_from_when_their_commands_were_due() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let due = world.now.wall;
    let sent = world.sends();
    world.pass(seconds(14));
    world.outbox.advance(world.now);
    assert_eq!(world.outbox.untold.since, Some(due));
    world.ends(sent[0].0, &Attempt::Delivered);
    world.outbox.advance(world.now);
    assert_eq!(world.outbox.untold.since, None);
}

#[test]
fn the_log_names_untold_sites_once_and_again_when_there_are_more() {
    let (log, _guard) = Log::here();
    let lines = || log.lines("sites have not been told").len();
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let _ = world.sends();
    for _ in 0..5 {
        world.pass(seconds(70));
        world.outbox.advance(world.now);
        assert_eq!(lines(), 1);
    }
    world.happens(CURTAIL, "t");
    world.pass(seconds(10));
    world.outbox.advance(world.now);
    assert_eq!(lines(), 2);
}

#[test]
fn after_a_restart_the_log_names_untold_sites_at_once_if_nobody_is_there() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.commit();
    world.pass(seconds(240));
    world.restart();
    world.sends_one(
        "site.curtail s 1",
        &Attempt::unreachable("connection refused"),
    );
    world.outbox.advance(world.now);
    assert_eq!(world.outbox.untold.logged, 1);
}

#[test]
fn a_site_whose_first_attempt_hangs_is_not_shown_with_the_error_of_another() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "refused");
    world.happens(CURTAIL, "hangs");
    let sent = world.sends();
    let (attempt, _) = sent
        .iter()
        .find(|(_, text)| text.contains("refused"))
        .unwrap();
    world.ends(*attempt, &Attempt::failed("429"));
    world.pass(seconds(10));
    world.outbox.advance(world.now);
    let health = world.outbox.health();
    let why = |site: &str| health.untold[site].why(health.unreachable.as_ref());
    assert_eq!(why("refused"), "429");
    assert_eq!(why("hangs"), "the receiver has not answered");
}
