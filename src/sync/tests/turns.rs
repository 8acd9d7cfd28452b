//! Who has the next turn: webhooks, checks, repeated look-ups, and lists where tokens are
//! short (rule R9).

use super::*;

/// What was asked, in that order.
fn questions(world: &World) -> Vec<Question> {
    let questions = world.asked.iter().map(|(_, question)| question.clone());
    questions.collect()
}

/// A coordinator with this budget whose first poll has found nothing, 20 seconds ago.
fn with_budget(rate: u32) -> World {
    let mut world = World::with(rate, &MemoryStore::new("test", DateTime::UNIX_EPOCH));
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    assert!(world.asked.is_empty());
    world
}

#[test]
fn checks_and_look_ups_that_are_repeated_take_turns() {
    let all = ["a", "b", "c", "d"].map(|text| dispatch(text, 1000));
    let mut world = World::new();
    world.step([]);
    world.list(all.to_vec());
    world.commit();
    // Their webhooks bring nothing new: both are looked up again two seconds later.
    for text in ["c", "d"] {
        world.webhook("w", text);
        world.found(dispatch(text, 1000));
    }
    world.now = 1000;
    world.step([Input::Poll { waiter: "hand" }]);
    world.now = 2000;
    world.list(all[2..].to_vec());
    let turns = ["a", "c", "b", "d"].map(|text| Question::Dispatch(id(text)));
    assert_eq!(questions(&world), turns);
}

#[test]
fn what_a_list_lacks_is_looked_up_though_a_commit_is_under_way() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 1000));
    world.commit();
    world.webhook("w", "b");
    world.found(dispatch("b", 1000));
    assert_eq!(world.commits.len(), 1, "it takes long");
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![dispatch("b", 1000)]);
    assert_eq!(questions(&world), [Question::Dispatch(id("a"))]);
}

#[test]
fn a_webhook_that_finds_no_token_is_answered_by_a_list_though_one_came_two_seconds_ago() {
    let mut world = with_budget(8);
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    world.outcomes();
    world.until(22_000);
    world.webhook("w", "a");
    world.list(vec![dispatch("a", 100)]);
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

#[test]
fn a_webhook_behind_junk_that_no_list_shows_is_answered_by_the_next_list() {
    let mut world = with_budget(60);
    world.step((0..40).map(|number| Input::Webhook {
        id: id(&format!("junk{number}")),
        waiter: "junk",
    }));
    let list_at = |world: &World| {
        let mut questions = world.asked.iter();
        questions.position(|(_, question)| *question == Question::List)
    };
    let (asked, _) = world.asked.remove(list_at(&world).unwrap());
    world.answer(asked, Ok(list(vec![])));
    world.commit();
    world.until(20_500);
    world.webhook("w", "real");
    // Long before the junk is given up.
    world.until(23_000);
    let (asked, _) = world.asked.remove(list_at(&world).unwrap());
    world.answer(asked, Ok(list(vec![dispatch("real", 100)])));
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

#[test]
fn a_webhook_that_waits_for_a_token_is_told_to_come_back_as_soon_as_the_daemon_stops() {
    let mut world = with_budget(8);
    world.step(["a", "b"].map(|text| Input::Webhook {
        id: id(text),
        waiter: text,
    }));
    assert_eq!(questions(&world)[0], Question::Dispatch(id("a")));
    world.coordinator.stop();
    world.step([]);
    // The other one's look-up is under way.
    assert_eq!(world.outcomes(), [("b", "unavailable")]);
}

#[test]
fn whoever_waits_for_the_next_poll_is_told_at_once_that_the_daemon_stops() {
    let mut world = with_budget(240);
    world.step([Input::Poll { waiter: "first" }]);
    assert_eq!(questions(&world), [Question::List]);
    world.step([Input::Poll { waiter: "second" }]);
    world.coordinator.stop();
    world.step([]);
    assert_eq!(world.outcomes(), [("second", "unavailable")]);
}

#[test]
fn what_has_time_gets_a_token_at_full_speed_and_none_while_the_api_fails() {
    let mut world = World::polled();
    world.now = 10_000;
    world.step([Input::SpareToken { waiter: "early" }]);
    assert_eq!(world.outcomes(), [("early", "granted")]);
    let issued = at(world.now).mono;
    let result = Err(down());
    world.step([Input::Registered { issued, result }]);
    world.step([Input::SpareToken { waiter: "late" }]);
    world.until(20_000);
    assert!(world.outcomes().is_empty());
}

#[test]
fn what_has_time_waits_while_a_webhook_waits_for_its_look_up() {
    let mut world = with_budget(6000);
    // So many are not looked up at once, whatever the budget.
    world.step((0..65).map(|number| Input::Webhook {
        id: id(&format!("d{number}")),
        waiter: "w",
    }));
    world.step([Input::SpareToken { waiter: "late" }]);
    assert_eq!(world.asked.len(), 64);
    assert!(world.outcomes().is_empty());
    let (asked, _) = world.asked.remove(0);
    world.answer(asked, Ok(found(dispatch("d0", 100))));
    assert_eq!(world.outcomes(), [("late", "granted")]);
}

#[test]
fn a_webhook_whose_deadline_has_passed_takes_no_token() {
    let mut world = with_budget(8);
    world.step(["a", "b"].map(|text| Input::Webhook {
        id: id(text),
        waiter: text,
    }));
    world.until(26_000);
    assert_eq!(
        world.outcomes(),
        [("a", "unavailable"), ("b", "unavailable")]
    );
    world.until(60_000);
    let questions = questions(&world);
    assert!(
        !questions.contains(&Question::Dispatch(id("b"))),
        "{questions:?}"
    );
}
