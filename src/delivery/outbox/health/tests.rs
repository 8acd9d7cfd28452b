//! Statements about what operators and the log are told of a sink.

use chrono::TimeDelta;

use super::*;
use crate::registration::tests::Log;

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now {
        wall: DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + mono,
        mono,
    }
}

fn refused(id: &str) -> RefusedEvent {
    RefusedEvent {
        id: id.into(),
        subject: "d".into(),
        event_type: "dispatch.created".into(),
        reason: "400".into(),
        since: at(0).wall,
    }
}

#[test]
fn conditions_have_the_names_of_the_contract() {
    let names = SinkCondition::ALL.map(SinkCondition::name);
    assert_eq!(names, ["ok", "retrying", "failing", "paused"]);
}

#[test]
fn a_refused_event_is_told_once() {
    let mut book = HealthBook::new("sink");
    let key: Key = "dispatch/d".into();
    assert!(book.refuse(&key, refused("1")));
    assert!(!book.refuse(&key, refused("1")));
    assert!(book.refuse(&key, refused("2")), "it is another one");
    assert_eq!(book.health.refused.len(), 1);
}

#[test]
fn the_log_names_the_subject_that_fails_and_all_if_nobody_is_there() {
    let mut book = HealthBook::new("sink");
    book.probed(Err("no such file".to_owned()));
    assert_eq!(book.latest(), ("all", "no such file"));
    let key: Key = "dispatch/d".into();
    let order = book.subject_failed(None, &key, &"400".into());
    assert_eq!(book.latest(), ("dispatch/d", "400"));
    book.unreachable("connection refused", true, at(0));
    assert_eq!(book.latest(), ("all", "connection refused"));
    book.reached();
    book.subject_recovered(order, &key);
    assert_eq!(book.latest(), ("all", "no such file"));
}

#[test]
fn a_sink_is_paused_only_by_three_answers_of_410_over_a_minute() {
    let key: Key = "site/s".into();
    for (answers, expected) in [
        (&[0, 1, 2][..], SinkCondition::Retrying),
        (&[0, 60], SinkCondition::Retrying),
        (&[0, 30, 60], SinkCondition::Paused),
    ] {
        let mut book = HealthBook::new("sink");
        book.subject_failed(None, &key, &"410".into());
        for seconds in answers {
            book.failed(true, at(*seconds));
        }
        book.advance(at(90).mono);
        assert_eq!(book.health.condition, expected, "{answers:?}");
    }
}

#[test]
fn ten_refused_events_are_named_and_those_are_kept_up_to_date() {
    let mut book = HealthBook::new("sink");
    let key = |number: usize| -> Key { format!("dispatch/{number}").into() };
    for number in 0..NAMED {
        assert!(book.refuse(&key(number), refused("1")));
    }
    assert!(!book.refuse(&key(NAMED), refused("1")), "there is no room");
    assert!(book.refuse(&key(0), refused("2")));
    assert_eq!(book.health.refused.len(), NAMED);
    assert_eq!(&*book.health.refused[0].id, "2");
}

#[test]
fn the_log_tells_each_condition_at_most_once_a_minute_and_the_end_of_what_it_told() {
    let (log, _guard) = Log::here();
    let mut book = HealthBook::new("sink");
    let key: Key = "site/s".into();
    let mut order = None;
    let mut told = Vec::new();
    for (seconds, fails) in [
        (0, true),
        (1, true),
        (2, false),
        (3, true),
        (4, false),
        (60, true),
        (65, false),
    ] {
        if fails {
            order = Some(book.subject_failed(order, &key, &"400".into()));
        } else if let Some(order) = order.take() {
            book.subject_recovered(order, &key);
        }
        if let Some(news) = book.advance(at(seconds).mono) {
            told.push((seconds, news.condition, news.failed_for.as_secs()));
            book.log(news, None);
        }
    }
    let (retrying, ok) = (SinkCondition::Retrying, SinkCondition::Ok);
    assert_eq!(
        told,
        [(0, retrying, 0), (2, ok, 2), (60, retrying, 0), (65, ok, 5)]
    );
    assert_eq!(log.lines("an event could not be delivered").len(), 2);
    assert_eq!(log.lines("no event fails at the sink any more").len(), 2);
}

#[test]
fn events_attempts_and_subjects_that_fail_are_counted() {
    let mut book = HealthBook::new("sink");
    book.delivered(3);
    book.delivered(2);
    assert_eq!(
        (book.health.delivered, book.health.delivered_attempts),
        (5, 2)
    );
    for subject in ["site/s", "site/t"] {
        book.subject_failed(None, &subject.into(), &"400".into());
    }
    book.advance(at(0).mono);
    assert_eq!(book.health.failing_subjects, 2);
}
