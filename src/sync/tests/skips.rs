//! Events that operators give up.

use super::*;
use crate::delivery::sinks::NoneSink;
use crate::model::{HistoryItem, Phase, Route, SKIPPED, Source};

/// A coordinator with a sink at which the creation of `d` hangs, and that event's id.
fn with_pending() -> (World, Arc<str>) {
    let mut world = World::new();
    let stored = world.store.load().unwrap();
    let outbox = Outbox::new(
        &NoneSink,
        &Route::default(),
        None,
        stored.position,
        0,
        at(0),
    );
    world.coordinator = Coordinator::new(settings(240), stored, vec![outbox], at(0), 7);
    world.has_sink = true;
    world.step([]);
    world.list(vec![dispatch("d", 3600)]);
    world.commit_all();
    let id = Arc::clone(&world.events[0].id);
    (world, id)
}

fn skip(id: &Arc<str>) -> Input<&'static str> {
    Input::Skip {
        request: SkipRequest {
            event: id.to_string(),
            sink: None,
        },
        waiter: "operator",
    }
}

fn lines(batch: &Batch) -> Vec<(DispatchId, HistoryItem)> {
    batch.skipped.clone()
}

#[test]
fn what_was_given_up_is_in_the_history_before_the_operator_is_answered() {
    let (mut world, event) = with_pending();
    world.step([skip(&event)]);
    assert!(world.replies.is_empty());
    let lines = lines(&world.commits[0]);
    assert_eq!(lines.len(), 1);
    let (of, line) = &lines[0];
    assert_eq!((of, line.phase), (&id("d"), Phase::Scheduled));
    assert_eq!(
        (&*line.event_type, line.source),
        (SKIPPED, Source::Operator)
    );
    assert_eq!((line.revision, line.at), (1, at(world.now).wall));
    let skipped = line.skipped.as_ref().unwrap();
    assert_eq!((&skipped.event, &*skipped.sink), (&event, "none"));
    world.commit();
    assert!(matches!(
        world.replies[..],
        [("operator", WaiterReply::Skipped(_))]
    ));
    world.until(world.now + 5000);
    assert!(world.commits.iter().all(|batch| batch.skipped.is_empty()));
}

#[test]
fn a_commit_that_fails_loses_nothing_of_what_was_given_up() {
    let (mut world, event) = with_pending();
    world.step([skip(&event)]);
    let before = lines(&world.commits[0]);
    world.commit_fails();
    assert!(world.replies.is_empty());
    world.until(world.now + 1500);
    assert_eq!(lines(&world.commits[0]), before);
    world.commit();
    assert!(matches!(
        world.replies[..],
        [("operator", WaiterReply::Skipped(_))]
    ));
}
