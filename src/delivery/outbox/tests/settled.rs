//! What is kept of a command once its delivery has come to an end.

use super::*;
use crate::model::{CommandOrigin, DispatchId};
use crate::store::{DeliveryEnd, SettledCommand};

impl World {
    /// Commits a site's event that the dispatch of this id caused, and offers it.
    fn is_caused(&mut self, event_type: &str, cause: &str) -> u64 {
        self.position += 1;
        let event = event(self.position, event_type, "s");
        self.offer(Event {
            origin: Some(Arc::new(CommandOrigin {
                cause: DispatchId::new(cause).unwrap(),
                due: event.time,
                known: event.time,
            })),
            ..event
        })
    }

    /// What is to be written down of commands, in words.
    fn settled(&mut self) -> Vec<String> {
        let record = self.outbox.take_record(self.now.mono, true);
        let settled = record.map(|record| record.settled).unwrap_or_default();
        settled.iter().map(in_words).collect()
    }
}

fn in_words(settled: &SettledCommand) -> String {
    let end = match settled.end {
        DeliveryEnd::Acknowledged(_) => "acknowledged",
        DeliveryEnd::Superseded => "superseded",
        DeliveryEnd::Skipped => "skipped",
    };
    let count = settled.tried.map_or(0, |tried| tried.count);
    let error = settled.last_error.as_deref().unwrap_or("-");
    let (cause, position) = (&settled.cause, settled.position);
    format!(
        "{cause} {position} {}: {end}, {count} attempts, {error}",
        settled.command
    )
}

#[test]
fn an_acknowledged_command_is_kept_with_its_attempts() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    assert_eq!(world.settled(), [""; 0]);
    let begun = world.now.wall;
    world.wait();
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    let record = world.outbox.take_record(world.now.mono, true).unwrap();
    let [settled] = &record.settled[..] else {
        panic!("{record:?}");
    };
    assert_eq!(
        in_words(settled),
        "a 1 site.curtail: acknowledged, 2 attempts, down"
    );
    assert_eq!(settled.end.acknowledged(), Some(world.now.wall));
    let tried = settled.tried.unwrap();
    assert_eq!((tried.first, tried.last), (begun, world.now.wall));
    // It is written once, and again if it was not.
    assert_eq!(world.settled(), [""; 0]);
    world.outbox.not_recorded(Some(record), world.now.mono);
    assert_eq!(world.settled().len(), 1);
}

#[test]
fn a_command_that_was_never_sent_is_kept_when_another_one_goes_instead() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.is_caused(ADJUST, "b");
    assert_eq!(
        world.settled(),
        ["a 1 site.curtail: superseded, 0 attempts, -"]
    );
    world.sends_one("site.curtail s 2", &Attempt::Delivered);
    assert_eq!(
        world.settled(),
        ["b 2 site.curtail: acknowledged, 1 attempts, -"]
    );
}

#[test]
fn a_release_where_nothing_was_curtailed_leaves_nothing() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.is_caused(RELEASE, "a");
    world.sends_nothing();
    let mut world = World::new(1);
    world.is_caused(RELEASE, "a");
    world.sends_nothing();
    assert_eq!(world.settled(), [""; 0]);
}

#[test]
fn a_command_under_way_is_kept_once_its_attempt_has_ended() {
    for (result, expected) in [
        (
            Attempt::Delivered,
            "a 1 site.curtail: acknowledged, 1 attempts, -",
        ),
        (failed(), "a 1 site.curtail: superseded, 1 attempts, down"),
        (
            Attempt::Unreachable {
                reason: "no route".to_owned(),
            },
            "a 1 site.curtail: superseded, 1 attempts, no route",
        ),
    ] {
        let mut world = World::new(1);
        world.is_caused(CURTAIL, "a");
        let sent = world.sends();
        world.is_caused(RELEASE, "a");
        // The daemon may be killed before the attempt ends.
        assert_eq!(
            world.settled(),
            ["a 1 site.curtail: superseded, 1 attempts, -"]
        );
        world.ends(sent[0].0, &result);
        assert_eq!(world.settled(), [expected]);
        world.wait();
        world.sends_one("site.release s 2", &Attempt::Delivered);
        assert_eq!(
            world.settled(),
            ["a 2 site.release: acknowledged, 1 attempts, -"]
        );
    }
}

#[test]
fn a_command_that_an_operator_gives_up_is_kept_as_such() {
    let mut world = World::new(1);
    let position = world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    let id = Event::id_at("store", 1, position);
    world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(
        world.settled(),
        ["a 1 site.curtail: skipped, 1 attempts, down"]
    );
}

#[test]
fn attempts_are_counted_on_after_a_restart() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    let begun = world.now.wall;
    world.commit();
    world.wait();
    world.restart();
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    let record = world.outbox.take_record(world.now.mono, true).unwrap();
    let tried = record.settled[0].tried.unwrap();
    assert_eq!((tried.first, tried.count), (begun, 2));
}

#[test]
fn what_goes_once_more_after_a_new_connection_is_no_new_command() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    assert_eq!(world.settled().len(), 1);
    world.outbox.connected(world.now);
    let read = world.outbox.refresh_read(world.now).unwrap();
    assert_eq!(read, RefreshRead::Positions);
    world
        .outbox
        .take_refresh(Ok(RefreshPage::Positions(vec![1])), world.now);
    assert_eq!(
        world.outbox.refresh_read(world.now),
        Some(RefreshRead::Events(vec![1]))
    );
    let events = world.log.clone();
    world
        .outbox
        .take_refresh(Ok(RefreshPage::Events(events)), world.now);
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    assert_eq!(world.settled(), [""; 0]);
}

#[test]
fn what_is_given_up_is_kept_as_what_was_sent_of_it() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    let position = world.is_caused(ADJUST, "a");
    world.settled();
    world.wait();
    world.sends_one("site.curtail s 2", &failed());
    let id = Event::id_at("store", 1, position);
    world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(
        world.settled(),
        ["a 2 site.curtail: skipped, 1 attempts, down"]
    );
}

#[test]
fn what_is_given_up_after_a_restart_is_kept_with_its_command() {
    let mut world = World::new(1);
    let position = world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    world.commit();
    world.restart();
    let id = Event::id_at("store", 1, position);
    world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(
        world.settled(),
        ["a 1 site.curtail: skipped, 1 attempts, -"]
    );
}

#[test]
fn attempts_at_a_command_of_before_a_restart_do_not_count_for_the_next_one() {
    let mut world = World::new(1);
    world.is_caused(CURTAIL, "a");
    world.sends_one("site.curtail s 1", &failed());
    world.commit();
    world.is_caused(RELEASE, "a");
    world.restart();
    world.wait();
    let begun = world.now.wall;
    world.sends_one("site.release s 2", &Attempt::Delivered);
    let record = world.outbox.take_record(world.now.mono, true).unwrap();
    let [settled] = &record.settled[..] else {
        panic!("{record:?}");
    };
    let tried = settled.tried.unwrap();
    assert_eq!((tried.first, tried.count), (begun, 1));
}
