//! Answers that a cache has kept (rule R2).

use super::*;

/// The answer as a cache has kept it for so many seconds.
fn kept(answer: Answer, age: u64) -> Result<ApiResponse, ApiError> {
    Ok(ApiResponse {
        answer,
        problems: Problems::default(),
        stamp: Stamp {
            age: Duration::from_secs(age),
            clock: None,
        },
    })
}

fn cancelled(text: &str) -> Dispatch {
    Dispatch {
        authorized: false,
        ..dispatch(text, 1000)
    }
}

#[test]
fn an_answer_from_a_cache_changes_nothing_that_a_later_request_brought() {
    for (age, counts) in [(0, true), (1, true), (19, true), (21, false), (600, false)] {
        let mut world = World::polled();
        world.until(10_000);
        world.webhook("w", "a");
        world.found(cancelled("a"));
        world.commit();
        // The look-up was issued at 10 s, and this one is at 30 s.
        world.until(29_999);
        world.asked.clear();
        world.now = 30_000;
        world.webhook("w", "a");
        let (asked, _) = world.question();
        let result = kept(found(dispatch("a", 1000)), age);
        world.step([Input::Response { asked, result }]);
        while !world.commits.is_empty() {
            world.commit();
        }
        let entry = world.coordinator.view().schedule.get(&id("a")).unwrap();
        assert_eq!(entry.dispatch.authorized, counts, "{age}");
        assert_eq!(world.health().outdated, u64::from(!counts), "{age}");
    }
}

#[test]
fn a_webhook_is_settled_by_a_look_up_from_a_cache_that_brings_something_new() {
    let mut world = World::polled();
    world.until(10_000);
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let result = kept(found(dispatch("a", 1000)), 5);
    world.step([Input::Response { asked, result }]);
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

#[test]
fn a_list_from_a_cache_answers_no_webhook_and_is_news_where_nothing_newer_is_known() {
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    let mut world = World::with(8, &store);
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    world.step(["a", "b", "c"].map(|text| Input::Webhook {
        id: id(text),
        waiter: text,
    }));
    let (asked, _) = world.asked.remove(1);
    let result = kept(list(vec![dispatch("b", 100)]), 80);
    world.step([Input::Response { asked, result }]);
    world.commit();
    assert!(world.knows("b"));
    assert!(world.outcomes().is_empty());
    assert_eq!(world.health().polls_succeeded, 2);
}

#[test]
fn a_list_that_is_older_than_three_intervals_is_a_failed_poll() {
    for (age, succeeded) in [(90, 2), (91, 1), (u64::MAX, 1)] {
        let mut world = World::polled();
        world.step([Input::Poll { waiter: "hand" }]);
        let (asked, _) = world.question();
        let result = kept(list(vec![dispatch("a", 100)]), age);
        world.step([Input::Response { asked, result }]);
        world.commit();
        assert_eq!(world.health().polls_succeeded, succeeded);
        assert_eq!(world.health().polls_failed, 2 - succeeded);
        assert!(world.knows("a"), "what it shows is news all the same");
        let hand = if succeeded == 2 {
            "settled"
        } else {
            "unavailable"
        };
        assert_eq!(world.outcomes(), [("hand", hand)]);
    }
}

#[test]
fn a_list_from_a_cache_that_shows_a_dispatch_after_the_first_404_saves_it_from_the_second() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 1000));
    world.commit();
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    // Asked within the same second as the list.
    world.gone("a");
    world.until(world.now + 5000);
    world.asked.clear();
    world.step([Input::Poll { waiter: "hand" }]);
    let (asked, _) = world.question();
    let result = kept(list(vec![dispatch("a", 1000)]), 2);
    world.step([Input::Response { asked, result }]);
    world.commit();
    world.until(world.now + 4999);
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    world.until(world.now + 1);
    world.gone("a");
    while !world.commits.is_empty() {
        world.commit();
    }
    assert_eq!(world.event_types(), ["dispatch.created"]);
    world.until(world.now + 10_000);
    world.gone("a");
    world.commit();
    assert_eq!(
        world.event_types(),
        ["dispatch.created", "dispatch.cancelled"]
    );
}

#[test]
fn a_webhook_that_a_cache_answers_has_its_dispatch_looked_up_again_two_seconds_later() {
    let mut world = World::polled();
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let result = kept(Answer::Gone(id("a")), 1);
    world.step([Input::Response { asked, result }]);
    world.until(2000);
    let (_, question) = world.question();
    assert!(matches!(question, Question::Dispatch(_)), "{question:?}");
}

#[test]
fn a_check_that_a_cache_answers_with_what_was_known_before_is_repeated_every_ten_seconds() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 1000));
    world.commit();
    world.until(20_000);
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    // The cache has kept it from before the list that lacks it.
    let mut checks = 0;
    let end = world.now + 25_000;
    while world.now < end {
        if let Some(at) = world
            .asked
            .iter()
            .position(|(_, call)| matches!(call, Question::Dispatch(_)))
        {
            let (asked, _) = world.asked.remove(at);
            let result = kept(found(dispatch("a", 1000)), 19);
            world.step([Input::Response { asked, result }]);
            checks += 1;
        }
        while !world.commits.is_empty() {
            world.commit();
        }
        world.until(world.now + 100);
    }
    assert_eq!(checks, 3);
    assert_eq!(world.event_types(), ["dispatch.created"]);
}
