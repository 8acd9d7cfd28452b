use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::*;

fn parse(text: &str) -> Result<SinkSpec, SinkSpecError> {
    SinkSpec::parse(text, &SinkSecrets::none())
}

fn http(text: &str) -> (String, HttpTarget) {
    let spec = parse(text).unwrap();
    match spec.kind {
        Kind::Http(target) => (spec.name, target),
        _ => panic!("{text} is no HTTP sink"),
    }
}

fn mqtt(text: &str) -> (String, MqttTarget) {
    let spec = parse(text).unwrap();
    match spec.kind {
        Kind::Mqtt(target) => (spec.name, target),
        _ => panic!("{text} is no MQTT sink"),
    }
}

#[test]
fn the_words_name_themselves() {
    for word in ["stdout", "none"] {
        assert_eq!(parse(word).unwrap().name(), word);
    }
}

#[test]
fn an_unknown_kind_is_told_all_known_ones() {
    let error = parse("kafka://me:pw@host/topic?k=pw")
        .unwrap_err()
        .to_string();
    assert!(error.contains("`kafka://host/topic`"), "{error}");
    assert!(error.contains("exec:PATH"), "{error}");
    assert!(!error.contains("pw"), "{error}");
}

#[test]
fn a_query_reaches_the_receiver_without_batch_and_the_name_without_values() {
    let (name, target) = http("https://h.example/in/a%20b?x=1%2B1&batch=true&tok=s3cret&bare");
    assert!(target.batch);
    assert_eq!(
        target.url.expose_secret(),
        "https://h.example/in/a%20b?x=1%2B1&tok=s3cret&bare"
    );
    assert_eq!(name, "https://h.example/in/a%20b?x&tok&…");
}

#[test]
fn a_lone_batch_leaves_no_question_mark() {
    let (name, target) = http("http://h/in?batch=true#part");
    assert_eq!(target.url.expose_secret(), "http://h/in");
    assert_eq!(name, "http://h/in");
    assert!(!http("http://h/in?batch=false").1.batch);
    assert!(matches!(
        parse("http://h/in?batch=yes"),
        Err(SinkSpecError::Batch { .. })
    ));
}

#[test]
fn user_and_password_leave_the_url() {
    let (name, target) = http("http://me:p%40ss@h:81/in");
    assert_eq!(name, "http://h:81/in");
    assert_eq!(target.url.expose_secret(), "http://h:81/in");
    let credentials = target.credentials.unwrap();
    assert_eq!(credentials.user.expose_secret(), "me");
    assert_eq!(credentials.password.expose_secret(), "p@ss");
}

#[test]
fn neither_debug_nor_errors_show_a_secret() {
    let spec = parse("http://me:hush@h/in?token=hush").unwrap();
    assert_eq!(format!("{spec:?}"), r#"SinkSpec("http://h/in?token")"#);
    for text in [
        "http://me:hush@/in?token=hush",
        "http://me:hush@h:99999/in",
        "http://me:hu@hush@h:x/?a=hush",
        "mqtt://me:hush@h",
        "mqtt://me:hush@h/a?token=hush",
        "mqtt://me:%ff%fehush@h/a",
        "ftp://me:hush@h/",
        "me:hush@h",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

#[test]
fn mqtt_has_the_ports_everyone_expects() {
    let (name, target) = mqtt("mqtt://broker/plant7/");
    assert_eq!(name, "mqtt://broker:1883/plant7");
    assert_eq!((target.tls, target.port), (false, 1883));
    assert_eq!(target.prefix, "plant7");
    assert!(target.credentials.is_none());

    let (name, target) = mqtt("mqtts://u:p%2Fw@[::1]:9/a/b%20c");
    assert_eq!(name, "mqtts://[::1]:9/a/b c");
    assert!(target.tls);
    assert_eq!(
        (target.host.as_str(), target.prefix.as_str()),
        ("::1", "a/b c")
    );
    assert_eq!(target.credentials.unwrap().password.expose_secret(), "p/w");
}

#[test]
fn a_prefix_must_be_able_to_begin_a_topic() {
    for text in [
        "mqtt://h",
        "mqtt://h/",
        "mqtt://h/a/%2B",
        "mqtt://h/a/#",
        "mqtt://h/$SYS/a",
        "mqtt://h/a%00",
        "mqtt://h/a?retain=true",
    ] {
        assert!(
            matches!(parse(text), Err(SinkSpecError::Prefix { .. })),
            "{text}"
        );
    }
    assert!(matches!(parse("mqtt:///a"), Err(SinkSpecError::Url { .. })));
}

/// What was told to a sink is kept by its name, so that this must not change it.
#[test]
fn discovery_is_asked_for_in_the_query_and_is_no_part_of_the_name() {
    let (name, target) = mqtt("mqtt://broker/plant7?discovery=homeassistant");
    assert_eq!(name, mqtt("mqtt://broker/plant7").0);
    assert!(target.discovery && !mqtt("mqtt://broker/plant7").1.discovery);
    assert_eq!(target.prefix, "plant7");
    // Daemons that take turns must agree on it.
    let receiver = |text| parse(text).unwrap().receiver();
    assert_ne!(
        receiver("mqtt://broker/plant7?discovery=homeassistant"),
        receiver("mqtt://broker/plant7")
    );
    for text in ["mqtt://h/a?discovery=openhab", "mqtt://h/a?discovery="] {
        let refused = parse(text);
        assert!(
            matches!(refused, Err(SinkSpecError::Discovery { .. })),
            "{text}"
        );
    }
}

#[test]
fn a_program_that_cannot_be_run_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook");
    let text = format!("exec:{}", path.display());
    let reason = |text: &str| match parse(text) {
        Err(SinkSpecError::Program { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(&text).contains("No such file"));
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    assert!(reason(&text).contains("this user may not execute it"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(parse(&text).unwrap().name(), text);
    assert!(reason(&format!("exec:{}", dir.path().display())).contains("not a file"));
    assert!(reason("exec:").contains("no path"));
}

#[test]
fn one_name_serves_one_sink() {
    let texts = ["stdout", "http://a:b@h/in", "wrong", "http://c:d@h/in"];
    let errors = SinkSpec::parse_all(texts, &SinkSecrets::none()).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(matches!(&errors[1], SinkSpecError::Twice { name } if name == "http://h/in"));
    let two = SinkSpec::parse_all(["stdout", "none"], &SinkSecrets::none()).unwrap();
    assert_eq!(two.len(), 2);
}
