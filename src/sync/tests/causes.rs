//! What led to what, as whoever follows a webhook is told it.

use super::*;

/// Webhooks about these dispatches, by these names, that come at the same moment.
fn webhooks(world: &mut World, all: &[(&'static str, &str)]) {
    let webhooks = all.iter().map(|(waiter, text)| Input::Webhook {
        id: id(text),
        waiter: *waiter,
    });
    world.step(webhooks);
}

/// The requests that are under way, each with its dispatch.
fn under_way(world: &mut World) -> Vec<(Asked, Question)> {
    std::mem::take(&mut world.asked)
}

/// The responses come at the same moment: the dispatches are found.
fn all_found(world: &mut World, asked: &[Asked], texts: &[&str]) {
    let found = asked.iter().zip(texts).map(|(asked, text)| {
        let response = ApiResponse {
            answer: found(dispatch(text, 100)),
            problems: Problems::default(),
            stamp: Stamp::default(),
        };
        Input::Response {
            asked: *asked,
            result: Ok(response),
        }
    });
    let found: Vec<_> = found.collect();
    world.step(found);
}

fn responses(world: &World) -> Vec<(Asked, std::ops::Range<usize>, Vec<&'static str>)> {
    let responses = world.coordinator.responses_in_commit();
    let responses =
        responses.map(|(asked, events, waiters)| (asked, events, waiters.copied().collect()));
    responses.collect()
}

#[test]
fn a_request_is_told_with_those_who_wait_for_it() {
    let mut world = World::polled();
    webhooks(
        &mut world,
        &[("first", "a"), ("second", "a"), ("other", "b")],
    );
    let asked = under_way(&mut world);
    let [(a, _), (b, _)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    let waiting = |asked| world.coordinator.waiting_for(asked).copied();
    assert_eq!(waiting(*a).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(waiting(*b).collect::<Vec<_>>(), ["other"]);
    assert_eq!(waiting(Asked::default()).count(), 0);
}

#[test]
fn a_commit_tells_which_events_follow_from_which_response_and_who_waits_for_it() {
    let mut world = World::polled();
    webhooks(
        &mut world,
        &[("first", "a"), ("second", "a"), ("other", "b")],
    );
    let asked = under_way(&mut world);
    let asked: Vec<Asked> = asked.into_iter().map(|(asked, _)| asked).collect();
    assert_eq!(responses(&world), [], "nothing is written");
    all_found(&mut world, &asked, &["a", "b"]);
    let wanted = [
        (asked[0], 0..1, vec!["first", "second"]),
        (asked[1], 1..2, vec!["other"]),
    ];
    assert_eq!(responses(&world), wanted);
    let about = |place: usize| world.commits[0].events[place].subject.to_string();
    assert_eq!([about(0), about(1)], ["a", "b"]);
}

#[test]
fn what_is_built_on_a_commit_that_failed_is_told_with_the_next_one() {
    let mut world = World::polled();
    webhooks(&mut world, &[("first", "a")]);
    let first = under_way(&mut world)[0].0;
    all_found(&mut world, &[first], &["a"]);
    webhooks(&mut world, &[("second", "b")]);
    let second = under_way(&mut world)[0].0;
    all_found(&mut world, &[second], &["b"]);
    assert_eq!(responses(&world), [(first, 0..1, vec!["first"])]);
    world.commit_fails();
    world.until(world.now + 2000);
    assert_eq!(responses(&world), [(second, 0..1, vec!["second"])]);
}

#[test]
fn what_comes_due_follows_from_no_response() {
    let mut world = World::polled();
    world.webhook("w", "soon");
    world.found(dispatch("soon", 20));
    world.commit();
    while world.commits.iter().all(|batch| batch.events.is_empty()) {
        world.commit_all();
        world.until(world.now + 1000);
        assert!(world.now < 30_000, "it never started");
    }
    assert_eq!(&*world.commits[0].events[0].event_type, "dispatch.started");
    assert_eq!(responses(&world), []);
}
