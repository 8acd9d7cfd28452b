//! Every form that the upstream's documents show is read.

use serde_json::json;

use super::*;
use crate::model::Kilowatts;
use crate::voltus::Unreadable;

fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

fn full() -> Value {
    json!({
        "id": "dkmq", "authorized": true, "test": false,
        "start_time": "2026-11-24T10:00:00.123456-05:00", "end_time": "2026-11-24T16:30:00+00:00",
        "creation_time": "2026-11-24T09:00:00Z", "modification_number": 3,
        "program": {"id": 867, "name": "Peak", "timezone": "America/New_York", "market": "pjm",
                    "program_type": "something_new"},
        "sites": [{"id": "s1", "name": "Plant", "customer_location_id": "", "commitment": 12, "drop_by": 11}],
        "metadata": {"reason": {"code": 4}}, "a_field_of_the_future": [1, 2]
    })
}

fn without(field: &str) -> Value {
    let mut value = full();
    value.as_object_mut().unwrap().remove(field);
    value
}

fn with(field: &str, value: Value) -> Value {
    let mut dispatch = full();
    dispatch[field] = value;
    dispatch
}

fn list(dispatches: &[Value]) -> (Arc<List>, Problems) {
    let body = json!({"dispatches": dispatches, "page": 0, "perPage": 0});
    read_list(body.to_string().as_bytes()).unwrap()
}

fn counts(problems: &Problems) -> &Unreadable {
    problems.counts()
}

/// The first dispatch of a list, which could be read in part.
fn in_part(list: &List) -> (&Dispatch, UnreadParts) {
    match &list.readings()[0] {
        Reading::InPart { dispatch, unread } => (dispatch, *unread),
        other => panic!("{other:?}"),
    }
}

/// Reads one dispatch, which must be readable.
fn read(value: Value) -> Dispatch {
    match list(&[value]).0.readings()[0].clone() {
        Reading::Dispatch(dispatch) => (*dispatch).clone(),
        odd => panic!("{odd:?}"),
    }
}

#[test]
fn a_list_of_fields_is_not_taken_for_an_object() {
    for body in ["[[]]", "[[], 0, 0]", " [[{}]]"] {
        assert!(read_list(body.as_bytes()).is_err(), "{body}");
    }
    assert!(read_error(br#"["no such dispatch", "Not Found"]"#).is_none());
    let (list, problems) = list(&[
        json!(["dkmq"]),
        with("sites", json!([["s1", "Plant", "", 12]])),
    ]);
    assert_eq!((list.nameless(), list.readings().len()), (1, 1));
    assert_eq!(
        (counts(&problems).dispatches, counts(&problems).sites),
        (1, 1)
    );
}

#[test]
fn a_full_dispatch_is_read() {
    let dispatch = read(full());
    assert_eq!(
        dispatch.start_time.to_rfc3339(),
        "2026-11-24T15:00:00.123456+00:00"
    );
    assert_eq!(dispatch.modification_number, Some(3));
    assert_eq!(dispatch.program.id, Some(867));
    assert_eq!(
        dispatch.program.program_type.as_deref(),
        Some("something_new")
    );
    assert_eq!(dispatch.sites[0].commitment, Some(Kilowatts(12.0)));
    assert_eq!(dispatch.metadata, json!({"reason": {"code": 4}}));
}

#[test]
fn what_older_answers_lack_is_absent() {
    for field in ["end_time", "creation_time", "modification_number"] {
        let absent = read(without(field));
        let null = read(with(field, Value::Null));
        assert_eq!(absent, null);
    }
    let old = read(without("program"));
    assert_eq!(old.program, Program::default());
    assert!(!read(without("test")).test);
    assert_eq!(read(without("metadata")).metadata, json!({}));
}

#[test]
fn an_answer_by_id_is_read_bare_and_wrapped() {
    let wrapped = json!({"dispatches": [full()], "page": 0, "perPage": 0});
    for body in [full(), wrapped] {
        let (reading, _) = read_dispatch_answer(body.to_string().as_bytes(), &id("dkmq")).unwrap();
        assert!(matches!(reading, Reading::Dispatch(_)));
    }
}

#[test]
fn an_answer_about_another_dispatch_is_none() {
    let error = read_dispatch_answer(full().to_string().as_bytes(), &id("other")).unwrap_err();
    assert_eq!(error, ApiError::Another(id("other")));
    for body in [json!({"dispatches": []}), json!([]), json!(7), json!({})] {
        let error = read_dispatch_answer(body.to_string().as_bytes(), &id("dkmq")).unwrap_err();
        assert!(matches!(error, ApiError::Unreadable(_)), "{body}");
    }
}

#[test]
fn a_commitment_may_be_null_absent_or_under_its_old_name() {
    let commitment = |site: Value| read(with("sites", json!([site]))).sites[0].commitment;
    assert_eq!(commitment(json!({"id": "a"})), None);
    assert_eq!(commitment(json!({"id": "a", "commitment": null})), None);
    assert_eq!(
        commitment(json!({"id": "a", "commitment": null, "drop_by": 7.5})),
        Some(Kilowatts(7.5))
    );
    assert_eq!(
        commitment(json!({"id": "a", "commitment": 0, "drop_by": 7})),
        Some(Kilowatts(0.0))
    );
}

#[test]
fn a_commitment_is_read_to_the_last_digit() {
    let body = r#"{"dispatches": [{"id": "d", "authorized": true, "start_time": "2026-11-24T10:00:00Z",
        "sites": [{"id": "s", "commitment": 193.48468308761142}]}]}"#;
    let (list, _) = read_list(body.as_bytes()).unwrap();
    let Some(Reading::Dispatch(dispatch)) = list.readings().first() else {
        panic!("{list:?}");
    };
    let commitment = dispatch.sites[0].commitment.unwrap();
    assert_eq!(commitment.0.to_string(), "193.48468308761142");
}

#[test]
fn of_a_site_named_twice_the_larger_commitment_counts() {
    let sites = json!([{"id": "a", "commitment": 3}, {"id": "a", "commitment": 5}, {"id": "a"}]);
    let dispatch = read(with("sites", sites));
    assert_eq!(dispatch.sites.len(), 1);
    assert_eq!(dispatch.sites[0].commitment, Some(Kilowatts(5.0)));
}

#[test]
fn another_order_of_sites_is_no_change() {
    let one = read(with("sites", json!([{"id": "a"}, {"id": "b"}])));
    let other = read(with("sites", json!([{"id": "b"}, {"id": "a"}])));
    assert_eq!(one, other);
}

#[test]
fn a_site_that_cannot_be_told_is_left_out_and_that_is_a_doubt() {
    let sites = json!([{"id": "a"}, {"name": "no id"}, 7, {"id": "b", "commitment": "much"}]);
    let (list, problems) = list(&[with("sites", sites)]);
    let (dispatch, unread) = in_part(&list);
    assert_eq!(dispatch.sites.len(), 2);
    assert_eq!(dispatch.sites[1].commitment, None);
    assert!(unread.sites && !unread.names);
    assert_eq!((counts(&problems).sites, counts(&problems).amounts), (2, 1));
}

#[test]
fn sites_that_are_no_list_are_in_doubt_and_the_rest_of_the_dispatch_is_used() {
    let bad = [
        json!(null),
        json!({}),
        json!("a"),
        json!(7),
        json!({"id": "a"}),
    ];
    let bad = bad.into_iter().map(|bad| with("sites", bad));
    for bad in bad.chain([without("sites")]) {
        let (list, problems) = list(&[bad]);
        let (dispatch, unread) = in_part(&list);
        assert_eq!(dispatch.modification_number, Some(3));
        assert!(dispatch.sites.is_empty() && unread.sites);
        assert_eq!(counts(&problems).sites, 1);
    }
    assert!(read(with("sites", json!([]))).sites.is_empty());
}

#[test]
fn an_amount_that_cannot_be_read_is_unknown() {
    for (commitment, drop_by) in [
        ("\"5\"", "null"),
        ("true", "7"),
        ("{}", "7"),
        ("[5]", "null"),
        ("1e400", "7"),
        ("null", "\"5\""),
        ("null", "-1e999"),
        ("\"\\ud800\"", "null"),
    ] {
        let site = format!(r#"[{{"id": "a", "commitment": {commitment}, "drop_by": {drop_by}}}]"#);
        let body = json!({"dispatches": [with("sites", json!("SITES"))]}).to_string();
        let body = body.replace("\"SITES\"", &site);
        let (list, problems) = read_list(body.as_bytes()).unwrap();
        let Reading::Dispatch(dispatch) = &list.readings()[0] else {
            panic!("{list:?}");
        };
        assert_eq!(dispatch.sites[0].commitment, None, "{site}");
        assert_eq!(counts(&problems).amounts, 1, "{site}");
        assert_eq!(counts(&problems).total(), 1, "{site}");
    }
}

#[test]
fn details_that_cannot_be_read_are_in_doubt_and_reported() {
    let sites = |site: Value| with("sites", json!([site]));
    let cases = [
        (sites(json!({"id": "a", "name": {}})), "names"),
        (
            sites(json!({"id": "a", "customer_location_id": [1]})),
            "names",
        ),
        (with("program", json!("peak")), "program"),
        (with("program", json!({"id": "x", "name": 7})), "program"),
        (with("program", json!({"id": 1.5})), "program"),
        (with("program", json!({"market": false})), "program"),
        (with("creation_time", json!(12)), "creation_time"),
        (with("creation_time", json!("long ago")), "creation_time"),
    ];
    for (dispatch, what) in cases {
        let (list, problems) = list(std::slice::from_ref(&dispatch));
        let (_, unread) = in_part(&list);
        let expected = UnreadParts {
            names: what == "names",
            program: what == "program",
            creation_time: what == "creation_time",
            ..UnreadParts::default()
        };
        assert_eq!(unread, expected, "{dispatch}");
        assert_eq!(counts(&problems).details, 1, "{dispatch}");
        assert!(
            !list.readings()[0].leaves_open(),
            "a detail stops no webhook"
        );
    }
}

#[test]
fn a_reason_names_the_field_is_the_same_wherever_it_stands_and_is_bounded() {
    let long = "x".repeat(10_000);
    for (field, bad) in [
        ("start_time", json!("noon")),
        ("authorized", json!("yes")),
        ("end_time", json!(7)),
        ("test", json!(long)),
        ("modification_number", json!({})),
    ] {
        let bad = with(field, bad);
        let (one, problems) = list(std::slice::from_ref(&bad));
        let mut first = full();
        first["id"] = json!("first");
        let (other, _) = list(&[first, bad]);
        assert_eq!(one.get(&id("dkmq")), other.get(&id("dkmq")));
        let reason = &problems.detailed()[0].reason;
        assert!(reason.starts_with(field), "{reason}");
        assert!(reason.chars().count() <= 201, "{reason}");
    }
}

#[test]
fn one_unreadable_dispatch_does_not_spoil_a_list() {
    let bad = [
        with("start_time", json!("tomorrow")),
        with("authorized", json!("yes")),
        without("authorized"),
        without("start_time"),
        with("end_time", json!("2026-11-24")),
        with("modification_number", json!(1.5)),
    ];
    for bad in bad {
        let mut good = full();
        good["id"] = json!("good");
        let (list, problems) = list(&[bad, good]);
        assert!(matches!(list.readings()[0], Reading::Unreadable { .. }));
        assert!(matches!(list.readings()[1], Reading::Dispatch(_)));
        assert_eq!((list.nameless(), counts(&problems).dispatches), (0, 1));
        assert_eq!(counts(&problems).total(), 1);
    }
}

#[test]
fn an_element_without_a_usable_id_is_nameless() {
    for bad in [
        json!(null),
        json!([]),
        without("id"),
        with("id", json!("a/b")),
        with("id", json!("")),
    ] {
        let (list, _) = list(&[bad]);
        assert_eq!((list.readings().len(), list.nameless()), (0, 1));
    }
}

#[test]
fn what_decides_nothing_never_fails_a_dispatch() {
    for (field, value) in [
        ("program", json!({"id": "867", "name": 7})),
        ("program", json!({"id": 867.0, "name": null})),
        ("metadata", json!("free form")),
        ("modification_number", json!("3")),
        ("modification_number", json!("4")),
        ("modification_number", json!(4.0)),
    ] {
        read(with(field, value));
    }
}

#[test]
fn metadata_that_is_nested_too_deep_is_in_doubt_and_the_rest_of_the_dispatch_is_used() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = full().to_string().replace("{\"code\":4}", &deep);
    let body = format!("{{\"dispatches\":[{body}]}}");
    let (list, problems) = read_list(body.as_bytes()).unwrap();
    assert!(in_part(&list).1.metadata);
    assert_eq!(counts(&problems).details, 1);
}

#[test]
fn what_is_no_list_is_an_error() {
    let deep = format!("{{\"dispatches\":{}", "[".repeat(100_000));
    for body in [
        "",
        "<html></html>",
        "{}",
        "[]",
        "null",
        "{\"dispatches\":null}",
        "{\"dispatches\":{}}",
        "{\"dispatches\":[{\"id\":\"a\"",
        "{\"message\":\"hm\",\"type\":\"Not Found\"}",
        &deep,
    ] {
        assert!(read_list(body.as_bytes()).is_err(), "{body:.50}");
    }
}

#[test]
fn only_the_apis_own_error_body_counts_as_one() {
    assert!(read_error(br#"{"message":"no such dispatch","type":"Not Found"}"#).is_some());
    for other in [
        "",
        "<html>",
        "{\"message\":\"no Route matched\"}",
        "\"Not Found\"",
        "[]",
    ] {
        assert!(read_error(other.as_bytes()).is_none(), "{other}");
    }
}

/// A dispatch with more at its end and at the end of its only site.
fn with_more(dispatch: &str, site: &str) -> String {
    format!(
        r#"{{"id": "d", "authorized": true, "start_time": "2026-11-24T10:00:00Z",
        "sites": [{{"id": "s", "commitment": 5{site}}}]{dispatch}}}"#
    )
}

fn read_text_of(dispatch: &str) -> (Reading, Problems) {
    let (list, problems) =
        read_list(format!(r#"{{"dispatches": [{dispatch}]}}"#).as_bytes()).unwrap();
    (list.readings()[0].clone(), problems)
}

#[test]
fn fields_that_we_do_not_know_are_kept_as_they_came() {
    let body = with_more(
        r#", "new": {"b": 1e400, "a": 12345678901234567890.10}, "\u0061n\"other": null"#,
        r#", "point": [1.0,
            2]"#,
    );
    let (reading, problems) = read_text_of(&body);
    let dispatch = reading.dispatch().unwrap();
    assert_eq!(
        dispatch.extra.get("new").unwrap().get(),
        r#"{"b":1e400,"a":12345678901234567890.10}"#
    );
    assert_eq!(dispatch.extra.get("an\"other").unwrap().get(), "null");
    assert_eq!(dispatch.extra.fields().count(), 2);
    let site = &dispatch.sites[0];
    assert_eq!(site.extra.get("point").unwrap().get(), "[1.0,2]");
    assert_eq!(site.commitment, Some(Kilowatts(5.0)));
    assert!(problems.is_empty());
    let by_id = read_dispatch_answer(body.as_bytes(), &id("d")).unwrap().0;
    assert_eq!(by_id, reading);
    let odd = with_more("", r#", "name": {}, "point": 1"#);
    let site = &read_text_of(&odd).0.dispatch().unwrap().sites[0].clone();
    assert_eq!(site.extra.get("point").unwrap().get(), "1");
    let no_sites = body.replace("\"sites\"", "\"SITES\"");
    let read = read_text_of(&no_sites).0.dispatch().unwrap().clone();
    assert!(read.extra.get("SITES").is_some() && read.extra.get("new").is_some());
}

#[test]
fn another_order_and_spelling_of_unknown_fields_is_the_same_dispatch() {
    let one = with_more(
        r#", "a": {"x": 1, "y": "A"}, "b": 2"#,
        r#", "p": 1, "q": 2"#,
    );
    let other = with_more(
        r#", "b": 2.0, "a": {"y": "\u0041", "x": 1}"#,
        r#", "q": 2, "p": 1"#,
    );
    assert_eq!(read_text_of(&one).0, read_text_of(&other).0);
    let changed = with_more(
        r#", "b": 3, "a": {"x": 1, "y": "A"}"#,
        r#", "p": 1, "q": 2"#,
    );
    assert_ne!(read_text_of(&one).0, read_text_of(&changed).0);
}

#[test]
fn too_many_unknown_fields_are_dropped_as_a_whole_and_counted() {
    let half = "x".repeat(crate::model::EXTRA_MAX / 2);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let fits = with_more(
        &format!(r#", "a": "{}""#, &half[4..]),
        &format!(r#", "b": "{}""#, &half[2..]),
    );
    let (reading, problems) = read_text_of(&fits);
    assert_eq!(reading.dispatch().unwrap().extra.size(), half.len() - 1);
    assert!(problems.is_empty());
    for beyond in [
        with_more(
            &format!(r#", "a": "{half}""#),
            &format!(r#", "b": "{half}""#),
        ),
        with_more("", &format!(r#", "b": "{half}{half}""#)),
        with_more(&format!(r#", "b": {deep}"#), r#", "b": 1"#),
    ] {
        let (reading, problems) = read_text_of(&beyond);
        let Reading::Dispatch(dispatch) = reading else {
            panic!("the rest is used");
        };
        assert!(dispatch.extra.is_empty() && dispatch.sites[0].extra.is_empty());
        assert_eq!(dispatch.sites[0].commitment, Some(Kilowatts(5.0)));
        assert_eq!(
            (counts(&problems).extras, counts(&problems).total()),
            (1, 1)
        );
    }
}
