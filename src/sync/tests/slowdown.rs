//! An API that fails, and a machine that was suspended (rules R4 and R9).

use super::*;
use crate::registration::tests::Log;
use crate::voltus::KeySource;

/// Asks for look-ups of `ids` ids at a time whenever it can, for so long, while
/// every request fails with `error`. Gives how many look-ups and polls went out.
fn requests_in_vain(world: &mut World, millis: u64, ids: u64, error: &ApiError) -> (usize, usize) {
    let (mut look_ups, mut polls) = (0, 0);
    let end = world.now + millis;
    let mut number = 0;
    while world.now < end {
        for _ in 0..ids {
            number += 1;
            world.webhook("w", &format!("d{}", number % 50));
        }
        world.until(world.now + 100);
        for (asked, question) in std::mem::take(&mut world.asked) {
            match question {
                Question::List => polls += 1,
                Question::Dispatch(_) => look_ups += 1,
            }
            world.answer(asked, Err(error.clone()));
        }
        while !world.commits.is_empty() {
            world.commit();
        }
    }
    (look_ups, polls)
}

#[test]
fn an_api_that_fails_as_a_whole_is_not_asked_for_every_webhook() {
    for error in [
        down(),
        ApiError::TimedOut("the API".into()),
        ApiError::Status {
            status: 502,
            message: String::new(),
            retry_after: None,
        },
    ] {
        let mut world = World::polled();
        let (look_ups, polls) = requests_in_vain(&mut world, 60_000, 1, &error);
        assert!((3..=15).contains(&look_ups), "{error}: {look_ups} look-ups");
        assert!((3..=13).contains(&polls), "{error}: {polls} polls");
        assert!(world.health().slowed_down.is_some());
        // Whoever waits is told in time when to come back.
        world.replies.clear();
        world.webhook("late", "d");
        world.until(world.now + 5000);
        let (_, outcome) = world.replies.last().unwrap();
        let WaiterReply::Unavailable { retry_after, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(*retry_after >= Duration::from_secs(1), "{retry_after:?}");
    }
}

#[test]
fn registration_is_slowed_down_with_everything_else_and_slows_it_down_too() {
    let mut world = World::polled();
    world.now = 10_000;
    for (text, resource) in [("a", true), ("b", false)] {
        let issued = at(world.now).mono;
        let result = Err(ApiError::Unreachable("refused".into()));
        if resource {
            world.step([Input::Registered { issued, result }]);
        } else {
            world.webhook("w", text);
            assert!(world.asked.is_empty(), "the gap is a second at most");
        }
    }
    world.step([Input::Token { waiter: "leave" }]);
    assert!(world.outcomes().is_empty());
    world.until(12_000);
    // The gap that the look-up opens holds up the registration, or the other
    // way around.
    let went = world.outcomes().len() + world.asked.len();
    assert!((1..=2).contains(&went), "{went}");
    for (asked, question) in std::mem::take(&mut world.asked) {
        if let Question::Dispatch(id) = question {
            world.answer(asked, Ok(Answer::Gone(id)));
        }
    }
    for _ in 0..3 {
        let issued = at(world.now).mono;
        world.step([Input::Registered {
            issued,
            result: Ok(()),
        }]);
    }
    assert!(world.health().slowed_down.is_none());
}

#[test]
fn a_poll_by_hand_comes_at_once_while_requests_are_slowed_down_and_not_while_silence_was_asked_for()
{
    let mut world = World::polled();
    world.now = 10_000;
    requests_in_vain(&mut world, 20_000, 1, &down());
    world.replies.clear();
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![]);
    world.commit();
    assert_eq!(world.outcomes(), [("hand", "settled")]);

    let mut world = World::polled();
    world.now = 10_000;
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let retry_after = Some(Duration::from_secs(100));
    world.answer(asked, Err(ApiError::TooFast { retry_after }));
    world.outcomes();
    world.step([Input::Poll { waiter: "hand" }]);
    assert_eq!(world.outcomes(), [("hand", "unavailable")]);
    world.until(109_000);
    assert!(world.asked.is_empty());
}

#[test]
fn a_suspend_with_the_network_down_is_blindness_at_once() {
    let mut world = World::polled();
    world.until(10_000);
    // Eight hours, which both clocks count.
    world.now += 8 * 3_600_000;
    assert_eq!(world.health().state(at(world.now).mono), State::Stale);
    world.step([]);
    world.commit();
    assert_eq!(world.event_types(), ["sync.stale"]);
}

/// The waiters that were told to go on.
fn settled(world: &mut World) -> usize {
    let outcomes = std::mem::take(&mut world.replies);
    let settled = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == WaiterReply::Granted);
    settled.count()
}

#[test]
fn redirects_take_tokens_of_the_budget_and_leave_the_one_that_is_kept_for_a_poll() {
    let mut world = World::polled();
    world.now = 10_000;
    world.step((0..1000).map(|_| Input::Redirect { waiter: "redirect" }));
    let at_once = settled(&mut world);
    assert!((1..=60).contains(&at_once), "{at_once}");
    assert_eq!(settled(&mut world), 0);
    // A due poll finds its token all the same.
    world.step([Input::Poll { waiter: "hand" }]);
    let asked = world.asked.iter().map(|(_, question)| question.clone());
    assert_eq!(asked.collect::<Vec<_>>(), [Question::List]);
    world.until(world.now + 60_000);
    let in_a_minute = at_once + settled(&mut world);
    assert!((100..=240).contains(&in_a_minute), "{in_a_minute}");
}

#[test]
fn a_redirect_waits_for_no_pause_of_a_slowdown_but_for_silence_and_for_none_at_the_end() {
    let mut world = World::polled();
    world.now = 10_000;
    requests_in_vain(&mut world, 20_000, 1, &down());
    world.replies.clear();
    world.step([Input::Redirect { waiter: "redirect" }]);
    assert_eq!(settled(&mut world), 1);

    world.now += 60_000;
    let issued = at(world.now).mono;
    let retry_after = Some(Duration::from_secs(120));
    let result = Err(ApiError::TooFast { retry_after });
    world.step([Input::Registered { issued, result }]);
    world.replies.clear();
    world.step([Input::Redirect { waiter: "redirect" }]);
    world.until(world.now + 100_000);
    assert_eq!(settled(&mut world), 0, "the API asked for silence");
    world.coordinator.stop();
    world.step([]);
    let outcomes = std::mem::take(&mut world.replies);
    assert!(
        outcomes
            .iter()
            .any(|(waiter, outcome)| *waiter == "redirect"
                && matches!(outcome, WaiterReply::Unavailable { .. })),
        "{outcomes:?}"
    );
}

#[test]
fn readers_see_since_when_requests_are_slowed_down_why_and_until_when() {
    let mut world = World::polled();
    world.now = 10_000;
    assert_eq!(world.health().slowed_down, None);
    let issued = at(world.now).mono;
    let fail = |error| Input::Registered {
        issued,
        result: Err(error),
    };
    world.step([fail(down())]);
    let begun = at(world.now).wall;
    let slow = world.health().slowed_down.clone().unwrap();
    assert_eq!((slow.since, slow.good_answers_needed), (begun, 3));
    assert_eq!(*slow.reason, *down().to_string());
    assert_eq!(slow.silent_until, None);
    let gap = slow.next_request - begun;
    assert!(
        gap > TimeDelta::zero() && gap <= TimeDelta::seconds(1),
        "{gap}"
    );
    // A failure that counts later is the reason then; one that does not is none.
    world.now += 60_000;
    let retry_after = Some(Duration::from_secs(120));
    world.step([fail(ApiError::TooFast { retry_after })]);
    world.step([fail(ApiError::KeyRefused {
        status: 401,
        key: KeySource::default(),
    })]);
    let slow = world.health().slowed_down.clone().unwrap();
    assert_eq!(slow.since, begun);
    assert!(slow.reason.contains("429"), "{slow:?}");
    let until = at(world.now).wall + TimeDelta::seconds(120);
    assert_eq!(slow.silent_until, Some(until));
    assert_eq!(slow.next_request, until);
    world.until(world.now + 121_000);
    let slow = world.health().slowed_down.clone().unwrap();
    assert_eq!((slow.silent_until, slow.since), (None, begun));
}

/// The registration was refused, since requests come too fast: not for so long.
fn silence(world: &mut World, seconds: u64) {
    let issued = at(world.now).mono;
    let retry_after = Some(Duration::from_secs(seconds));
    let result = Err(ApiError::TooFast { retry_after });
    world.step([Input::Registered { issued, result }]);
}

/// What was said to the last who was told to come back: why, and after how long.
fn told(world: &World) -> (&str, Duration) {
    match world.replies.last() {
        Some((
            _,
            WaiterReply::Unavailable {
                reason,
                retry_after,
            },
        )) => (reason, *retry_after),
        other => panic!("{other:?}"),
    }
}

const SILENCE: &str = "the API asked for no requests for a while";
const FAILS: &str = "the API fails, so it is asked less often";
const SLOW: &str = "it took too long";

#[test]
fn who_waited_in_vain_is_told_whether_the_api_wants_to_be_left_alone() {
    // For how long the API asks for silence while a webhook has five seconds left.
    let second = Duration::from_secs(1);
    for (seconds, reason, retry_after) in [
        (3, SLOW, second),
        // It may be asked again at that very moment.
        (5, SLOW, second),
        (60, SILENCE, second * 55),
    ] {
        let mut world = World::polled();
        world.now = 10_000;
        world.webhook("w", "a");
        silence(&mut world, seconds);
        world.until(15_000);
        assert_eq!(told(&world), (reason, retry_after), "{seconds}");
    }
}

#[test]
fn a_webhook_that_comes_after_the_silence_is_told_that_the_api_fails() {
    let mut world = World::polled();
    world.now = 10_000;
    let issued = at(world.now).mono;
    // Requests are half a minute apart by now.
    for _ in 0..20 {
        let result = Err(down());
        world.step([Input::Registered { issued, result }]);
    }
    silence(&mut world, 4);
    world.until(13_999);
    world.webhook("w", "a");
    assert_eq!(told(&world).0, SILENCE);
    assert!(slowed_down(&world).silent_until.is_some());
    world.until(14_000);
    world.webhook("w", "a");
    assert_eq!(told(&world).0, FAILS);
    assert_eq!(slowed_down(&world).silent_until, None);
}

fn slowed_down(world: &World) -> SlowedDown {
    world.health().slowed_down.clone().unwrap()
}

#[test]
fn readers_see_no_slowdown_after_a_failure_that_slows_nothing_down() {
    let mut world = World::polled();
    world.now = 10_000;
    let refused = || ApiError::KeyRefused {
        status: 401,
        key: KeySource::default(),
    };
    let issued = at(world.now).mono;
    let result = Err(refused());
    world.step([Input::Registered { issued, result }]);
    assert_eq!(world.health().slowed_down, None);
    world.webhook("w", "a");
    let (asked, _) = world.question();
    world.answer(asked, Err(refused()));
    assert_eq!(world.health().slowed_down, None);
}

#[test]
fn the_log_says_of_a_poll_that_failed_when_the_next_one_comes() {
    let (log, _guard) = Log::here();
    let mut world = World::polled();
    world.now = 10_000;
    world.step([Input::Poll { waiter: "hand" }]);
    let (asked, _) = world.question();
    let retry_after = Some(Duration::from_secs(120));
    world.answer(asked, Err(ApiError::TooFast { retry_after }));
    let lines = log.lines("a poll failed");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("next_try=in 2m"), "{lines:?}");
}

#[test]
fn a_silence_that_the_api_asked_for_is_named_as_the_reason_why_no_poll_succeeds() {
    let (log, _guard) = Log::here();
    let mut world = World::polled();
    world.now = 10_000;
    world.webhook("w", "a");
    let (asked, _) = world.question();
    let retry_after = Some(Duration::from_secs(600));
    world.answer(asked, Err(ApiError::TooFast { retry_after }));
    world.until(200_000);
    let health = world.health();
    assert_eq!(health.state(at(200_000).mono), State::Stale);
    let why = health.why_no_poll().into_owned();
    assert!(
        why.contains("asked for no requests until 2024-10-04T00:10:10Z"),
        "{why}"
    );
    let lines = log.lines("no poll has succeeded for");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains(&why), "{lines:?}");
}
