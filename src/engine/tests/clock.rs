//! A wall clock that was ahead and came back (rule R4).

use super::*;

const DAY: i64 = 24 * 3600;

fn list(dispatches: Vec<Dispatch>) -> Answer {
    let readings = dispatches.into_iter().map(Arc::new);
    let readings = readings.map(Reading::Dispatch).collect();
    Answer::List(Arc::new(List::new(readings, 0)))
}

impl World {
    fn poll(&mut self, now: i64, answer: &Answer) -> Vec<String> {
        self.now = now;
        let asked = self.ask();
        self.answer(now, asked, answer.clone())
    }
}

#[test]
fn the_next_answer_undoes_an_end_that_passed_on_a_clock_that_was_ahead() {
    let mut world = World::new();
    // The same list each time: it is read once, and shared.
    let same = list(vec![dispatch(-10, Some(3600))]);
    world.poll(0, &same);
    world.poll(1, &same);
    assert_eq!(world.clock(DAY), ["ended"]);
    assert!(world.clock(3).is_empty(), "the clock alone undoes nothing");
    assert_eq!(world.poll(4, &same), ["updated phase", "started"]);
    assert_eq!(world.schedule.next_due(), Some(at(3600)));
    assert!(world.poll(5, &same).is_empty());
    assert_eq!(world.clock(3600), ["ended"]);
}

#[test]
fn a_list_taken_in_while_the_clock_was_ahead_settles_nothing() {
    for agrees in [false, true] {
        let mut world = World::new();
        let same = list(vec![dispatch(-10, Some(3600))]);
        world.poll(0, &same);
        // An API without a Date agrees with any clock.
        world.clock_agrees = agrees;
        assert_eq!(world.poll(DAY, &same), ["ended"]);
        world.poll(DAY + 1, &same);
        // Once more by an answer whose Date is wrong, before one that is right.
        world.clock_agrees = false;
        assert!(world.poll(3, &same).is_empty());
        world.clock_agrees = true;
        assert_eq!(world.poll(4, &same), ["updated phase", "started"]);
    }
}

#[test]
fn a_start_and_an_end_that_passed_too_early_are_undone_together() {
    let mut world = World::new();
    world.list(0, vec![dispatch(7200, Some(9000))]);
    assert_eq!(world.clock(DAY), ["started", "ended"]);
    assert_eq!(
        world.list(3, vec![dispatch(7200, Some(9000))]),
        ["updated phase"]
    );
    assert_eq!(world.phase(), Phase::Scheduled);
    assert_eq!(world.clock(7200), ["started"]);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert!(entry.over_since.is_none());
}

#[test]
fn an_open_dispatch_that_started_too_early_waits_for_its_start_again() {
    let mut world = World::new();
    world.list(0, vec![dispatch(7200, None)]);
    assert_eq!(world.clock(7200), ["started"]);
    assert_eq!(world.look_up(1, dispatch(7200, None)), ["updated phase"]);
    assert_eq!(world.schedule.next_due(), Some(at(7200)));
}

#[test]
fn an_answer_whose_clock_does_not_agree_undoes_nothing() {
    let mut world = World::new();
    let noon = 12 * 3600;
    let same = || vec![dispatch(noon - 10, Some(noon + 3600))];
    world.list(noon, same());
    world.clock_agrees = false;
    // Two hours slow: the start is far ahead, on a clock that is wrong.
    assert!(world.list(noon - 7200, same()).is_empty());
    assert_eq!(world.phase(), Phase::Active);
    assert_eq!(world.clock(noon + 3600), ["ended"]);
    assert!(world.list(noon - 7200, same()).is_empty());
    assert_eq!(world.phase(), Phase::Ended);
}

#[test]
fn what_is_no_more_than_a_minute_ahead_stays_passed() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, Some(200))]);
    world.clock(200);
    assert!(world.list(140, vec![dispatch(100, Some(200))]).is_empty());
    assert_eq!(world.phase(), Phase::Ended);
    assert_eq!(
        world.list(139, vec![dispatch(100, Some(200))]),
        ["updated phase", "started"]
    );
}

#[test]
fn an_outdated_answer_undoes_nothing() {
    let mut world = World::new();
    let late = world.ask();
    world.look_up(0, dispatch(-10, Some(3600)));
    world.clock(DAY);
    world.answer_look_up(3, late, dispatch(-10, Some(3600)));
    assert_eq!(world.phase(), Phase::Ended);
}

#[test]
fn what_the_upstream_moves_later_is_undone_whatever_the_clocks_say() {
    let mut world = World::new();
    world.look_up(0, dispatch(-10, Some(5)));
    world.clock(5);
    world.clock_agrees = false;
    assert_eq!(
        world.look_up(6, dispatch(-10, Some(30))),
        ["updated phase end_time", "started"]
    );
}
