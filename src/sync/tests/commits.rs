//! Who is answered when, and what a failing disk costs (rule R5).

use super::*;
use crate::registration::tests::Log;

#[test]
fn a_webhook_is_answered_only_once_its_dispatch_is_on_disk() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    assert!(world.outcomes().is_empty());
    assert!(!world.knows("a"), "readers see what is committed");
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
    assert!(world.knows("a"));
    assert_eq!(world.event_types(), ["dispatch.created"]);
}

#[test]
fn webhooks_that_wait_share_a_commit() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    // While the first commit is under way, two more arrive.
    world.webhook("second", "b");
    world.found(dispatch("b", 100));
    world.webhook("third", "c");
    world.found(dispatch("c", 100));
    assert_eq!(world.commits.len(), 1);
    world.commit();
    assert_eq!(world.outcomes(), [("first", "settled")]);
    assert_eq!(world.commits.len(), 1);
    assert_eq!(world.commits[0].entries.len(), 2);
    world.commit();
    assert_eq!(world.outcomes().len(), 2);
}

#[test]
fn what_changes_nothing_waits_for_the_commit_that_it_was_compared_with() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    world.webhook("second", "a");
    world.found(dispatch("a", 100));
    assert!(world.outcomes().is_empty());
    world.commit();
    assert_eq!(
        world.outcomes(),
        [("first", "settled"), ("second", "settled")]
    );
    assert!(world.commits.is_empty(), "a duplicate costs no commit");
}

#[test]
fn a_failed_commit_keeps_nothing_and_fails_those_who_wait() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit_fails();
    assert_eq!(world.outcomes(), [("w", "unavailable")]);
    assert!(!world.knows("a"));
    assert!(world.health().store_error.is_some());
    // The poll that it asked for heals it once the disk is well again.
    world.until(1000);
    world.commit();
    assert_eq!(world.health().store_error, None);
    // Failures ask for a poll at most every five seconds.
    world.until(4999);
    assert!(world.asked.is_empty());
    world.until(5000);
    world.list(vec![dispatch("a", 100)]);
    world.commit();
    assert!(world.knows("a"));
}

#[test]
fn what_was_built_on_a_commit_that_failed_is_taken_in_anew() {
    let mut world = World::polled();
    world.webhook("first", "a");
    world.found(dispatch("a", 100));
    // This changes nothing in what is being written.
    world.webhook("second", "a");
    world.found(dispatch("a", 100));
    world.commit_fails();
    assert_eq!(world.outcomes(), [("first", "unavailable")]);
    assert_eq!(world.commits[0].entries.len(), 1);
    world.commit();
    assert_eq!(world.outcomes(), [("second", "settled")]);
    assert!(world.knows("a"));
    assert_eq!(world.event_types(), ["dispatch.created"]);
}

#[test]
fn a_disk_that_fails_is_tried_again_every_second_until_it_takes_writes() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("a", 1)]);
    world.commit();
    world.until(1000);
    world.commit_fails();
    world.asked.clear();
    assert!(world.event_types().len() == 1, "the start is not announced");
    world.until(1900);
    assert!(world.commits.is_empty());
    let as_of = world.coordinator.view().as_of;
    assert!(as_of < wall(1), "readers know that the start is not shown");
    world.until(2000);
    world.commit();
    assert_eq!(world.event_types()[1..], ["dispatch.started"]);
}

#[test]
fn what_readers_see_is_as_of_now_while_nothing_comes_due() {
    for dispatches in [vec![], vec![dispatch("a", 100)]] {
        let mut world = World::new();
        world.step([]);
        world.list(dispatches);
        world.commit();
        world.until(5000);
        assert_eq!(world.coordinator.view().as_of, wall(5));
    }
}

#[test]
fn at_a_start_readers_know_that_what_came_due_meanwhile_is_not_shown_yet() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("a", 1)]);
    world.commit();
    let stored = world.store.load().unwrap();
    let again = Coordinator::<u64>::new(settings(240), stored, Vec::new(), at(5_000), 7);
    let view = again.view();
    assert_eq!(
        view.schedule.get(&id("a")).unwrap().phase,
        crate::model::Phase::Scheduled
    );
    assert!(view.as_of < wall(1), "{}", view.as_of);
}

#[test]
fn staleness_is_written_with_what_a_webhook_brings_at_that_moment() {
    let mut world = World::polled();
    world.until(89_000);
    // The poll hangs.
    world.asked.clear();
    world.webhook("w", "a");
    world.now = 90_000;
    world.found(dispatch("a", 1000));
    world.commit();
    assert_eq!(world.event_types(), ["dispatch.created", "sync.stale"]);
}

impl World {
    /// Its first poll shows a dispatch, and what time it was at the API when the answer
    /// came. It is taken in after so many milliseconds. Gives the first number.
    fn first_number(clock: ApiClock, millis: u64) -> u64 {
        let mut world = Self::new();
        world.step([]);
        let (asked, _) = world.question();
        let result = Ok(ApiResponse {
            answer: list(vec![dispatch("a", 100)]),
            problems: Problems::default(),
            stamp: Stamp {
                age: Duration::ZERO,
                clock: Some(clock),
            },
        });
        world.now = millis;
        world.step([Input::Response { asked, result }]);
        world.commit();
        world.events[0].position
    }
}

fn micros(seconds: i64) -> u64 {
    u64::try_from(wall(seconds).timestamp_micros()).unwrap()
}

#[test]
fn event_numbers_begin_above_the_clock_of_the_api_if_this_machine_s_is_wrong() {
    let clock = ApiClock {
        showed: wall(86_400),
        came: at(0),
    };
    assert!(World::first_number(clock, 0) > micros(86_400));
}

/// The time service sets it while the daemon is loading its state.
#[test]
fn a_clock_that_is_set_right_after_an_answer_came_leads_to_no_lower_number() {
    // When the answer came, our clock was a day ahead.
    let clock = ApiClock {
        showed: wall(0),
        came: Now {
            wall: wall(86_400),
            mono: at(0).mono,
        },
    };
    assert!(World::first_number(clock, 5_000) > micros(5));
}

#[test]
fn the_log_counts_what_the_first_list_has_also_what_it_does_not_name() {
    let (log, _guard) = Log::here();
    let mut world = World::new();
    world.step([]);
    let (asked, _) = world.question();
    let readings = ["a", "b", "c"].map(|text| Reading::Dispatch(Arc::new(dispatch(text, 100))));
    let all = List::new(readings.to_vec(), 2);
    world.answer(asked, Ok(Answer::List(Arc::new(all))));
    world.commit();
    let lines = log.lines("the first poll succeeded");
    assert!(lines[0].contains("dispatches=5"), "{lines:?}");
}

/// What was built on a commit that nobody knows of any more is as unknown.
#[test]
fn a_coordinator_whose_commit_is_refused_for_good_promises_and_writes_nothing_more() {
    let refusals = [
        StoreError::Fenced,
        StoreError::Replaced("another server".into()),
        StoreError::Closed,
    ];
    for error in refusals {
        let mut world = World::polled();
        world.webhook("first", "a");
        world.found(dispatch("a", 100));
        // The one changes nothing in what is being written, the other does.
        world.webhook("second", "a");
        world.found(dispatch("a", 100));
        world.webhook("third", "b");
        world.found(dispatch("b", 100));
        let refused = [Input::Committed(Err(error))];
        let effects = world.coordinator.step(at(world.now), refused);
        assert!(matches!(effects[..], [Effect::End(_)]), "{effects:?}");
        let later = world.coordinator.step(at(60_000), []);
        assert!(later.is_empty(), "{later:?}");
    }
}

#[test]
fn an_order_that_comes_in_the_commit_in_which_the_sites_last_one_ends_is_stored() {
    let mut world = World::polled();
    world.order("first", 1);
    world.commit();
    // The site has no dispatch: without an order nothing is kept of it.
    world.now = 1_500;
    world.order("second", 600);
    world.commit();
    assert_eq!(
        world.outcomes(),
        [("first", "settled"), ("second", "settled")]
    );
    let stored = World::with(240, &world.store);
    let plan = stored.coordinator.view().plan;
    assert_eq!(plan.overridden().count(), 1);
    let site = plan.get(&SiteId::new("s").unwrap()).unwrap();
    let order = site.site_override.as_ref().unwrap();
    assert_eq!(order.until, wall(600));
}

#[test]
fn what_is_dropped_and_comes_back_in_one_commit_is_not_dropped() {
    let over = |text| Dispatch {
        end_time: Some(wall(20)),
        ..dispatch(text, 10)
    };
    let mut world = World::new();
    world.step([]);
    world.list(vec![with_site(over("a")), over("b")]);
    world.commit_all();
    world.now = 21_000;
    world.step([]);
    world.commit_all();
    // Both have been over for long enough, and a list lacks them.
    world.now = 31 * 24 * 3_600_000;
    world.step([]);
    world.commit_all();
    world.webhook("w", "a");
    let responses = std::mem::take(&mut world.asked).into_iter();
    let responses: Vec<_> = responses
        .map(|(asked, question)| {
            let answer = match question {
                Question::List => list(vec![]),
                Question::Dispatch(_) => found(with_site(dispatch("a", 10))),
            };
            let result = Ok(ApiResponse {
                answer,
                problems: Problems::default(),
                stamp: Stamp::default(),
            });
            Input::Response { asked, result }
        })
        .collect();
    assert_eq!(responses.len(), 2);
    world.step(responses);
    assert_eq!(world.commits[0].pruned, [id("b")]);
    assert!(world.commits[0].forgotten.is_empty());
}

#[test]
fn events_that_were_kept_long_enough_are_let_go_every_hour() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("a", 100_000)]);
    world.commit();
    let retain = TimeDelta::days(30);
    let mut before = Vec::new();
    for minute in 0..150 {
        world.now = minute * 60_000;
        world.step([]);
        while !world.commits.is_empty() {
            let batch = world.commits.remove(0);
            before.extend(batch.forget_before.map(|time| (minute, time + retain)));
            if batch.forget_before.is_some() {
                let newest = world.events.last().map(|event| event.position);
                assert_eq!(Some(batch.delivered), newest, "no sink waits for any");
            }
            let result = world.store.commit(&batch);
            world.step([Input::Committed(result)]);
        }
    }
    let minutes: Vec<u64> = before.iter().map(|(minute, _)| *minute).collect();
    assert_eq!(minutes, [5, 65, 125]);
    assert!(
        before
            .iter()
            .all(|(minute, time)| *time == at(minute * 60_000).wall)
    );
}

#[test]
fn readers_see_all_dispatches_by_id_whether_they_are_over_or_not() {
    let mut world = World::new();
    world.step([]);
    let over = Dispatch {
        end_time: Some(wall(2)),
        ..dispatch("b", 1)
    };
    world.list(vec![dispatch("a", 100), over, dispatch("c", 100)]);
    world.commit();
    world.until(3000);
    world.commit_all();
    let view = world.coordinator.view();
    let entries = view.schedule.entries();
    let ids: Vec<_> = entries.map(|entry| entry.id().clone()).collect();
    assert_eq!(ids, ["a", "b", "c"].map(id));
}
