//! Events that operators give up.

use super::*;
use crate::model::{HistoryItem, Phase, Route, SKIPPED, Source};

/// A coordinator with a sink at which the creation of `d` hangs, and that event's id.
fn with_pending() -> (World, Arc<str>) {
    with_pending_at(&["none"])
}

/// The same with several sinks.
fn with_pending_at(sinks: &[&'static str]) -> (World, Arc<str>) {
    let mut world = World::new();
    let stored = world.store.load().unwrap();
    let (route, position) = (Route::default(), stored.position);
    let outbox = |name: &&'static str| Outbox::new(&Named(name), &route, None, position, 0, at(0));
    let outboxes = sinks.iter().map(outbox).collect();
    world.coordinator = Coordinator::new(settings(240), stored, outboxes, at(0), 7);
    world.has_sink = true;
    world.step([]);
    world.list(vec![dispatch("d", 3600)]);
    world.commit_all();
    let id = Arc::clone(&world.events[0].id);
    (world, id)
}

fn skip(id: &Arc<str>) -> Input<&'static str> {
    skip_at(None, id)
}

fn skip_at(sink: Option<&str>, id: &Arc<str>) -> Input<&'static str> {
    Input::Skip {
        request: SkipRequest {
            event: id.to_string(),
            sink: sink.map(str::to_owned),
        },
        waiter: "operator",
    }
}

/// What is pending, as an operator sees it who asks for `sink`, or for all.
fn pending(world: &mut World, sink: Option<&str>) -> WaiterReply {
    let request = PendingRequest {
        sink: sink.map(str::to_owned),
        after: 0,
        limit: 10,
    };
    let waiter = "reader";
    world.step([Input::ListPending { request, waiter }]);
    world.replies.pop().unwrap().1
}

/// How many events are pending at each sink.
fn counts(pending: WaiterReply) -> Vec<(String, usize)> {
    let WaiterReply::Pending(sinks) = pending else {
        panic!("{pending:?}");
    };
    let counts = sinks.into_iter();
    let counts = counts.map(|one| (one.sink.to_string(), one.events.len()));
    counts.collect()
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

#[test]
fn pending_events_are_listed_of_the_sink_that_is_asked_for_or_of_all() {
    let (mut world, _) = with_pending_at(&["plant", "office"]);
    let of = |sink: &str| (sink.to_owned(), 1);
    assert_eq!(
        counts(pending(&mut world, None)),
        [of("plant"), of("office")]
    );
    assert_eq!(counts(pending(&mut world, Some("plant"))), [of("plant")]);
    assert_eq!(pending(&mut world, Some("other")), WaiterReply::Unknown);
    // That there is no sink is no mistake of who asks.
    let mut world = World::polled();
    assert_eq!(pending(&mut world, None), WaiterReply::Pending(vec![]));
}

#[test]
fn an_event_that_is_pending_at_several_sinks_is_given_up_only_where_the_operator_says() {
    let (mut world, event) = with_pending_at(&["plant", "office"]);
    world.step([skip(&event)]);
    let both = vec!["plant".into(), "office".into()];
    assert_eq!(
        world.replies.pop(),
        Some(("operator", WaiterReply::PendingAt(both)))
    );
    world.step([skip_at(Some("office"), &event)]);
    world.commit();
    assert_eq!(
        world.replies.pop(),
        Some(("operator", WaiterReply::Skipped(vec!["office".into()])))
    );
    let left = [("plant".to_owned(), 1), ("office".to_owned(), 0)];
    assert_eq!(counts(pending(&mut world, None)), left);
    // Now it is pending at one sink only, which need not be named.
    world.step([skip(&event)]);
    world.commit_all();
    assert_eq!(
        world.replies.pop(),
        Some(("operator", WaiterReply::Skipped(vec!["plant".into()])))
    );
}
