//! What is asked of the API, for whom, and within which budget (rule R9).

use super::*;

#[test]
fn a_failed_fetch_is_refused_and_a_poll_follows_at_once() {
    let mut world = World::polled();
    world.now = 5000;
    world.webhook("w", "a");
    let (asked, _) = world.question();
    world.answer(asked, Err(down()));
    assert_eq!(world.outcomes(), [("w", "unavailable")]);
    world.list(vec![dispatch("a", 100)]);
    world.commit();
    assert!(world.knows("a"));
}

#[test]
fn a_webhook_waits_no_longer_than_its_deadline_and_a_poll_follows() {
    let mut world = World::polled();
    world.until(10_000);
    world.webhook("w", "a");
    let (slow, _) = world.question();
    world.until(14_999);
    assert!(world.outcomes().is_empty());
    world.until(15_000);
    assert_eq!(world.outcomes(), [("w", "unavailable")]);
    assert_eq!(world.question().1, Question::List);
    // What comes late is taken in all the same.
    world.answer(slow, Ok(found(dispatch("a", 100))));
    world.commit();
    assert!(world.knows("a"));
    assert!(world.outcomes().is_empty(), "nobody is answered twice");
}

#[test]
fn a_404_is_an_answer_only_for_what_the_schedule_does_not_hold() {
    let mut world = World::polled();
    world.webhook("stranger", "x");
    world.gone("x");
    assert_eq!(world.outcomes(), [("stranger", "unknown")]);

    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit();
    world.outcomes();
    world.now = 5000;
    world.step([]);
    world.gone("x");
    world.webhook("live", "a");
    world.gone("a");
    assert_eq!(world.outcomes(), [("live", "unavailable")]);
    assert_eq!(
        world.question().1,
        Question::List,
        "the poller looks at once"
    );
}

#[test]
fn a_404_for_what_is_over_is_settled() {
    let mut world = World::polled();
    let cancelled = Dispatch {
        authorized: false,
        ..dispatch("a", 100)
    };
    world.webhook("w", "a");
    world.found(cancelled);
    world.commit();
    world.webhook("again", "a");
    world.gone("a");
    assert_eq!(world.outcomes(), [("w", "settled"), ("again", "settled")]);
}

fn unreadable(text: &str) -> Answer {
    Answer::Found(Reading::Unreadable {
        id: id(text),
        reason: "no start_time".into(),
    })
}

#[test]
fn a_webhook_whose_look_up_shows_a_lower_number_is_fetched_once_more_and_then_refused() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(numbered(5, dispatch("a", 100)));
    world.commit();
    world.outcomes();
    world.now = 5000;
    world.webhook("w", "a");
    world.found(numbered(3, dispatch("a", 200)));
    assert!(world.outcomes().is_empty());
    world.found(numbered(3, dispatch("a", 200)));
    assert_eq!(world.outcomes(), [("w", "unavailable")]);
    assert_eq!(world.health().rewinds, 0);
}

#[test]
fn a_lower_number_is_taken_over_ten_seconds_later_though_no_webhook_comes() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(numbered(5, dispatch("a", 100)));
    world.commit();
    let lower = || numbered(3, dispatch("a", 200));
    let mut asked = Vec::new();
    for _ in 0..1000 {
        world.until(world.now + 50);
        for (question, what) in std::mem::take(&mut world.asked) {
            let answer = match what {
                Question::List => list(vec![lower()]),
                Question::Dispatch(_) => {
                    asked.push(world.now);
                    found(lower())
                }
            };
            world.answer(question, Ok(answer));
            world.commit_all();
        }
    }
    assert_eq!(world.health().rewinds, 1);
    let (first, last) = (asked[0], asked[asked.len() - 1]);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!((9_900..=10_100).contains(&(last - first)), "{asked:?}");
}

#[test]
fn a_webhook_about_what_cannot_be_read_is_fetched_once_more_and_then_refused() {
    let shown = |doubts| Reading::InPart {
        dispatch: Arc::new(dispatch("a", 100)),
        unread: doubts,
    };
    let unreadable = Reading::Unreadable {
        id: id("a"),
        reason: "start_time: it is no time".into(),
    };
    let sites = UnreadParts {
        sites: true,
        ..UnreadParts::default()
    };
    let metadata = UnreadParts {
        metadata: true,
        ..UnreadParts::default()
    };
    let cases = [
        (unreadable, "unavailable"),
        // A site may be missing.
        (shown(sites), "unavailable"),
        (shown(metadata), "settled"),
    ];
    for (reading, outcome) in cases {
        let mut world = World::polled();
        world.webhook("w", "a");
        while let Some((asked, question)) = world.asked.pop() {
            assert_eq!(question, Question::Dispatch(id("a")));
            world.answer(asked, Ok(Answer::Found(reading.clone())));
            world.commit_all();
        }
        assert_eq!(world.outcomes(), [("w", outcome)], "{reading:?}");
    }
}

/// When the second poll of a world is due, in milliseconds.
fn second_poll() -> u64 {
    let mut world = World::polled();
    while world.asked.is_empty() {
        world.until(world.now + 50);
    }
    world.now
}

#[test]
fn a_webhook_whose_look_up_says_more_than_the_list_that_overtook_it_is_fetched_again() {
    let whole = || with_site(dispatch("a", 100));
    let in_part = Reading::InPart {
        dispatch: Arc::new(dispatch("a", 100)),
        unread: UnreadParts {
            sites: true,
            ..UnreadParts::default()
        },
    };
    let due = second_poll();
    let mut world = World::polled();
    world.until(due - 1000);
    world.webhook("w", "a");
    let (look_up, _) = world.question();
    world.until(due);
    let (asked, question) = world.question();
    assert_eq!(question, Question::List);
    let overtaking = Answer::List(Arc::new(List::new(vec![in_part], 0)));
    world.answer(asked, Ok(overtaking));
    world.commit_all();
    world.answer(look_up, Ok(found(whole())));
    world.commit_all();
    assert!(world.outcomes().is_empty());
    world.found(whole());
    world.commit_all();
    assert_eq!(world.outcomes(), [("w", "settled")]);
    let held = world.coordinator.view().schedule.get(&id("a")).unwrap();
    assert_eq!(held.dispatch.sites.len(), 1);
}

#[test]
fn a_webhook_whose_look_up_says_what_the_list_that_overtook_it_said_is_settled() {
    let due = second_poll();
    let mut world = World::polled();
    world.until(due - 1000);
    world.webhook("w", "a");
    let (look_up, _) = world.question();
    world.until(due);
    world.list(vec![dispatch("a", 100)]);
    world.commit_all();
    world.answer(look_up, Ok(found(dispatch("a", 100))));
    world.commit_all();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

/// The clock brought a change of the dispatch in the same step, the answer did not.
#[test]
fn a_404_settles_nothing_because_the_dispatch_starts_at_that_moment() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 5));
    world.commit();
    world.outcomes();
    world.until(5_100);
    world.commit_fails();
    world.asked.clear();
    world.webhook("live", "a");
    world.gone("a");
    world.commit_all();
    assert_eq!(world.outcomes(), [("live", "unavailable")]);
}

#[test]
fn a_second_fetch_that_shows_something_new_settles_the_webhook() {
    let mut world = World::polled();
    world.webhook("w", "a");
    let (asked, _) = world.question();
    world.answer(asked, Ok(unreadable("a")));
    world.found(dispatch("a", 100));
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

/// The seconds at which `a` was looked up until `seconds`, with every question
/// answered by `answer`.
fn looked_up(world: &mut World, seconds: u64, answer: impl Fn(&Question) -> Answer) -> Vec<u64> {
    let mut at = Vec::new();
    while world.now < seconds * 1000 {
        world.until(world.now + 100);
        for (asked, question) in std::mem::take(&mut world.asked) {
            if question != Question::List {
                at.push(world.now.div_euclid(1000));
            }
            let answer = answer(&question);
            world.answer(asked, Ok(answer));
            world.commit_all();
        }
    }
    at
}

#[test]
fn a_webhook_whose_look_up_shows_nothing_new_has_its_dispatch_looked_up_again_twice() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit();
    world.outcomes();
    world.now = 5000;
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    assert_eq!(
        world.outcomes(),
        [("w", "settled")],
        "it is answered at once"
    );
    let same = |question: &Question| match question {
        Question::List => list(vec![dispatch("a", 100)]),
        Question::Dispatch(_) => found(dispatch("a", 100)),
    };
    assert_eq!(looked_up(&mut world, 100, same), [7, 11]);
}

#[test]
fn a_webhook_that_brought_something_new_has_nothing_looked_up_again() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit();
    let same = |question: &Question| match question {
        Question::List => list(vec![dispatch("a", 100)]),
        Question::Dispatch(_) => found(dispatch("a", 100)),
    };
    assert_eq!(looked_up(&mut world, 60, same), [0; 0]);
}

#[test]
fn the_first_read_after_a_create_may_be_404_and_is_made_again() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.gone("a");
    assert_eq!(world.outcomes(), [("w", "unknown")]);
    let there = |question: &Question| match question {
        Question::List => list(vec![]),
        Question::Dispatch(_) => found(dispatch("a", 100)),
    };
    assert_eq!(looked_up(&mut world, 10, there), [2], "it has caught up");
    assert!(world.knows("a"));
    assert_eq!(world.health().heals, 0, "a webhook brought it");
}

#[test]
fn what_most_of_a_list_lacks_is_shown_and_not_looked_up() {
    let mut world = World::new();
    world.step([]);
    let all = || (0..30).map(|n| dispatch(&format!("d{n}"), 1000)).collect();
    world.list(all());
    world.commit();
    let empty = |_: &Question| list(vec![]);
    assert_eq!(looked_up(&mut world, 100, empty), [0; 0]);
    let schedule = world.coordinator.view().schedule;
    assert_eq!(schedule.mass_absence().map(|mass| mass.absent), Some(30));
    assert_eq!(schedule.in_doubt(crate::model::DoubtKind::Absent), 30);
}

#[test]
fn a_check_that_fails_is_made_again_after_ten_seconds() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit();
    let mut at = Vec::new();
    while world.now < 65_000 {
        world.until(world.now + 100);
        for (asked, question) in std::mem::take(&mut world.asked) {
            let result = match question {
                Question::List => Ok(list(vec![])),
                Question::Dispatch(_) => {
                    at.push(world.now);
                    Err(ApiError::TimedOut("the API".into()))
                }
            };
            world.answer(asked, result);
            world.commit_all();
        }
    }
    let apart = at.windows(2).map(|two| two[1] - two[0]);
    assert!(
        apart.clone().all(|apart| (9_900..=10_200).contains(&apart)),
        "{at:?}"
    );
    assert!(apart.count() >= 2, "{at:?}");
}

#[test]
fn when_more_wait_than_the_budget_allows_one_list_answers_those_it_contains() {
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    let mut world = World::with(8, &store);
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    assert!(world.asked.is_empty());
    // Two at once: one is kept for the poll.
    world.step(["a", "b", "c"].map(|text| Input::Webhook {
        id: id(text),
        waiter: text,
    }));
    let questions: Vec<_> = world
        .asked
        .iter()
        .map(|(_, question)| question.clone())
        .collect();
    assert_eq!(questions, [Question::Dispatch(id("a")), Question::List]);
    let (asked, _) = world.asked.remove(1);
    let shown = ["b", "quiet", "calm"].map(|text| dispatch(text, 100));
    world.answer(asked, Ok(list(shown.to_vec())));
    world.commit();
    assert_eq!(world.outcomes(), [("b", "settled")]);
    assert_eq!(world.health().heals, 2, "a webhook waited for `b` alone");
    // The list says nothing of c: it is no 404, it takes too long.
    world.until(25_000);
    assert_eq!(
        world.outcomes(),
        [("a", "unavailable"), ("c", "unavailable")]
    );
}

#[test]
fn junk_ids_do_not_delay_the_healing_of_a_real_dispatch() {
    let mut world = World::polled();
    world.until(5000);
    for number in 0..1000 {
        world.webhook("junk", &format!("junk{number}"));
    }
    world.webhook("real", "real");
    let lists: Vec<Asked> = world
        .asked
        .iter()
        .filter(|(_, question)| *question == Question::List)
        .map(|(asked, _)| *asked)
        .collect();
    assert_eq!(lists.len(), 1, "the kept token goes to a poll at once");
    world.answer(lists[0], Ok(list(vec![dispatch("real", 100)])));
    world.commit();
    assert!(world.knows("real"));
}

#[test]
fn whoever_asks_the_api_something_else_needs_the_budgets_leave() {
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    let mut world = World::with(8, &store);
    world.step([]);
    world.list(vec![]);
    world.commit();
    world.until(20_000);
    let leave = ["first", "second", "third"].map(|waiter| Input::Token { waiter });
    world.step(leave);
    // The last token there is is kept for the poll.
    assert_eq!(world.outcomes(), [("first", "granted")]);
    world.until(41_000);
    assert_eq!(world.outcomes(), [("second", "granted")]);
}

#[test]
fn nothing_is_asked_while_the_api_wants_to_be_left_alone() {
    let mut world = World::polled();
    world.until(5000);
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let slow_down = ApiError::TooFast {
        retry_after: Some(Duration::from_secs(60)),
    };
    world.answer(asked, Err(slow_down));
    assert_eq!(world.outcomes(), [("w", "unavailable")]);
    world.webhook("early", "b");
    world.step([Input::Poll { waiter: "hand" }]);
    assert_eq!(
        world.outcomes(),
        [("early", "unavailable"), ("hand", "unavailable")]
    );
    world.until(64_999);
    assert!(world.asked.is_empty());
    world.until(65_000);
    assert_eq!(world.question().1, Question::List);
}

#[test]
fn a_poll_by_hand_is_answered_after_a_poll_that_was_issued_later() {
    let mut world = World::new();
    world.step([]);
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    assert!(
        world.outcomes().is_empty(),
        "that one was under way already"
    );
    world.list(vec![dispatch("a", 100)]);
    assert!(world.outcomes().is_empty());
    world.commit();
    assert_eq!(world.outcomes(), [("hand", "settled")]);
}

#[test]
fn a_list_that_was_asked_for_before_the_start_answers_nobody_who_came_since() {
    let mut world = World::new();
    let poll = world.coordinator.polled_at(at(0));
    world.now = 900;
    let webhook = Input::Webhook {
        id: id("a"),
        waiter: "w",
    };
    world.step([webhook, Input::Poll { waiter: "hand" }]);
    // No poll beside the one under way.
    let look_up = world.question();
    assert_eq!(look_up.1, Question::Dispatch(id("a")));
    world.answer(poll, Ok(list(vec![dispatch("a", 100)])));
    assert_eq!(world.commits[0].entries.len(), 1);
    world.commit();
    assert!(world.outcomes().is_empty(), "{:?}", world.outcomes());
    let (second, question) = world.question();
    assert_eq!(question, Question::List);
    world.answer(second, Ok(list(vec![dispatch("a", 100)])));
    world.commit_all();
    assert_eq!(world.outcomes(), [("hand", "settled")]);
    world.answer(look_up.0, Ok(found(dispatch("a", 100))));
    world.commit_all();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

#[test]
fn the_record_tells_when_the_api_was_asked_before_the_start() {
    let mut world = World::new();
    let poll = world.coordinator.polled_at(at(100));
    world.now = 900;
    world.step([]);
    world.now = 1000;
    world.answer(poll, Ok(list(vec![dispatch("a", 100)])));
    let told = world.commits[0].states[0].told;
    assert_eq!((told.asked, told.answered), (at(100).wall, at(1000).wall));
}
