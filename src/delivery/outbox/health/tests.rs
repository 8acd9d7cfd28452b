//! Statements about what operators and the log are told of a sink.

use chrono::TimeDelta;

use super::*;

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
