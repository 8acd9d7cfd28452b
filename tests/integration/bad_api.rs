//! An API that answers what no API should. Each answer changes nothing in the
//! schedule, is told in `/status`, and the next good one is taken.

use std::time::Duration;

use dispatchd::sandbox::{Ending, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Daemon, World, dispatch, in_ms, wait_for, wait_until};

/// What went wrong with the last poll, if anything did.
async fn poll_error(daemon: &Daemon) -> Option<String> {
    let health = daemon.health().await;
    health["sync"]["last_poll"]["error"]
        .as_str()
        .map(str::to_owned)
}

/// The error of a poll that fails from now on.
async fn fail_poll(daemon: &Daemon) -> String {
    let answer = daemon.poll().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    poll_error(daemon).await.unwrap()
}

fn ok(body: impl Into<bytes::Bytes>) -> RawAnswer {
    RawAnswer::json(StatusCode::OK, body)
}

/// Each with a word that its error must have.
fn bad_answers() -> Vec<(&'static str, RawAnswer, &'static str)> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let page = "<html><body>Bad gateway</body></html>";
    vec![
        (
            "html",
            RawAnswer::html(StatusCode::OK, page),
            "cannot be read",
        ),
        (
            "a proxy's error",
            RawAnswer::html(StatusCode::BAD_GATEWAY, page),
            "502",
        ),
        ("empty", ok(""), "cannot be read"),
        ("null", ok("null"), "cannot be read"),
        ("an empty object", ok("{}"), "cannot be read"),
        ("a bare list", ok("[]"), "cannot be read"),
        ("a list in a list", ok("[[]]"), "cannot be read"),
        ("no list", ok(r#"{"dispatches": {}}"#), "cannot be read"),
        (
            "null for the list",
            ok(r#"{"dispatches": null}"#),
            "cannot be read",
        ),
        (
            "half of it",
            ok(r#"{"dispatches": [{"id": "a"#),
            "cannot be read",
        ),
        (
            "broken off",
            ok(r#"{"dispatches": []"#).ending(Ending::BreaksOff),
            "cannot be reached",
        ),
        ("deep", ok(deep.clone()), "cannot be read"),
        (
            "an error",
            RawAnswer::json(
                StatusCode::INTERNAL_SERVER_ERROR,
                r#"{"message": "oh", "type": "x"}"#,
            ),
            "oh",
        ),
        (
            "404 for the list",
            RawAnswer::json(
                StatusCode::NOT_FOUND,
                r#"{"message": "gone", "type": "Not Found"}"#,
            ),
            "404",
        ),
        (
            "no content",
            RawAnswer::json(StatusCode::NO_CONTENT, ""),
            "204",
        ),
        (
            "forbidden",
            RawAnswer::json(StatusCode::FORBIDDEN, "{}"),
            "key",
        ),
    ]
}

#[apply(test)]
async fn a_bad_list_changes_nothing_and_the_next_good_one_is_taken() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.known(&daemon, "known").await;
    let revision = daemon.revision().await;
    for (number, (name, answer, word)) in bad_answers().into_iter().enumerate() {
        world.list_answers(Some(answer));
        let error = fail_poll(&daemon).await;
        assert!(error.contains(word), "{name}: {error}");
        assert_eq!(daemon.revision().await, revision + number as u64, "{name}");
        assert_eq!(daemon.phase("known").await, "scheduled", "{name}");
        world.list_answers(None);
        let id = format!("after-{number}");
        world.put(dispatch(&id, 0, in_ms(60_000), None));
        assert_eq!(daemon.poll().await.status, 200, "after {name}");
        assert_eq!(poll_error(&daemon).await, None);
        assert_eq!(daemon.phase(&id).await, "scheduled", "after {name}");
    }
}

#[apply(test)]
async fn a_bad_answer_by_id_is_answered_503_and_changes_nothing() {
    use dispatchd::sandbox::Question;
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.known(&daemon, "d").await;
    let revision = daemon.revision().await;
    let other = dispatch("other", 9, in_ms(60_000), None).to_string();
    let without_start = r#"{"id": "d", "modification_number": 9}"#;
    let html_404 = RawAnswer::html(StatusCode::NOT_FOUND, "<html></html>");
    let mut answers: Vec<RawAnswer> = bad_answers()
        .into_iter()
        .map(|(_, answer, _)| answer)
        // Here a 404 in the API's own words is an answer like any other.
        .filter(|answer| answer.status != StatusCode::NOT_FOUND)
        .collect();
    answers.extend([ok(other), ok(without_start), html_404]);
    for answer in answers {
        let question = Question::Id("d".into());
        world
            .sandbox
            .override_answer(question, Some(answer.clone()));
        assert_eq!(daemon.webhook("d").await.status, 503, "{answer:?}");
        assert_eq!(daemon.revision().await, revision, "{answer:?}");
    }
    world
        .sandbox
        .override_answer(Question::Id("d".into()), None);
    world.put(dispatch("d", 2, in_ms(60_000), None));
    assert_eq!(daemon.webhook("d").await.status, 200);
    assert_eq!(daemon.revision().await, revision + 1);
}

#[apply(test)]
async fn nothing_is_asked_while_the_api_wants_to_be_left_alone() {
    let world = World::new().await;
    let setup = world.setup().polling("200ms");
    let daemon = setup.with("--webhook-deadline", "500ms").ready().await;
    world.known(&daemon, "known").await;
    let revision = daemon.revision().await;
    let mut slow_down = RawAnswer::json(
        StatusCode::TOO_MANY_REQUESTS,
        r#"{"message": "slow down", "type": "x"}"#,
    );
    slow_down.headers.push(("retry-after".into(), "3".into()));
    world.list_answers(Some(slow_down));
    wait_until("the daemon is told to wait", async || {
        poll_error(&daemon)
            .await
            .is_some_and(|error| error.contains("429"))
    })
    .await;
    let asked = world.sandbox.requests().len();
    let told = world.polls().last().unwrap().at;
    world.list_answers(None);
    // Neither a webhook nor somebody who asks for a poll makes it ask.
    let answer = daemon.webhook("known").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(daemon.poll().await.status, 503);
    assert_eq!(daemon.revision().await, revision);
    let next = wait_for("the next request", async || {
        world.sandbox.requests().get(asked).cloned()
    })
    .await;
    // The two clocks begin to count at slightly different moments.
    assert!(
        next.at - told >= chrono::TimeDelta::milliseconds(2950),
        "{told} {next:?}"
    );
    daemon.wait_until_ready().await;
}

#[apply(test)]
async fn the_key_does_not_travel_with_a_redirect() {
    let world = World::new().await;
    let elsewhere = World::new().await;
    let daemon = world.setup().ready().await;
    for status in [
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        let mut redirect = RawAnswer::json(status, "{}");
        let location = format!("{}/2022-04-15/dispatches", elsewhere.sandbox.url());
        redirect.headers.push(("location".into(), location));
        world.list_answers(Some(redirect));
        let error = fail_poll(&daemon).await;
        assert!(error.contains("redirect"), "{error}");
        world.list_answers(None);
        assert_eq!(daemon.poll().await.status, 200);
    }
    assert!(elsewhere.sandbox.requests().is_empty());
}

#[apply(test)]
async fn a_rotated_key_is_read_from_its_file_without_a_restart() {
    let world = World::with_key("n3w-key").await;
    std::fs::write(world.path("key"), "old-key\n").unwrap();
    let setup = world.setup().with("--api-key-file", "key").polling("200ms");
    let daemon = setup.start().await;
    wait_until("the key is refused", async || {
        poll_error(&daemon)
            .await
            .is_some_and(|error| error.contains("--api-key"))
    })
    .await;
    assert_eq!(daemon.get("/readyz").await.status, 503);
    std::fs::write(world.path("key"), "n3w-key\n").unwrap();
    daemon.wait_until_ready().await;
    assert_eq!(poll_error(&daemon).await, None);
    let log = daemon.log().join("\n");
    assert!(
        !log.contains("n3w-key") && !log.contains("old-key"),
        "{log}"
    );
}

#[apply(test)]
async fn a_dispatch_that_cannot_be_read_harms_no_other_and_keeps_its_last_state() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.known(&daemon, "was-good").await;
    let before = daemon.entry("was-good").await.unwrap();
    world.put(json!({"id": "was-good", "start_time": "noon"}));
    world.put(json!({"id": "never-good", "sites": 7}));
    world.put(dispatch("good", 0, in_ms(60_000), None));
    let mut deep = dispatch("deep", 0, in_ms(60_000), None);
    deep["metadata"] = json!({"x": "DEEP"});
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let list = json!({"dispatches": [
        world.sandbox.get("was-good"), world.sandbox.get("never-good"), deep,
        17, null, "x", world.sandbox.get("good"),
    ]});
    let list = list.to_string().replace("\"DEEP\"", &nested);
    world.list_answers(Some(ok(list)));
    for _ in 0..3 {
        assert_eq!(daemon.poll().await.status, 200);
    }
    assert_eq!(daemon.phase("good").await, "scheduled");
    let after = daemon.entry("was-good").await.unwrap();
    for field in ["phase", "start_time", "modification_number"] {
        assert_eq!(after[field], before[field]);
    }
    assert_eq!(daemon.phase("never-good").await, "");
    let unreadable = &daemon.health().await["sync"]["unreadable_dispatches"];
    assert!(unreadable.as_u64() >= Some(1), "{unreadable}");
    assert!(
        daemon
            .log()
            .iter()
            .any(|line| line.contains("was-good") && line.contains("could not be read"))
    );
}

#[apply(test)]
async fn a_list_longer_than_allowed_is_refused() {
    let world = World::new().await;
    let setup = world.setup().with("--api-max-body", "4096");
    let daemon = setup.ready().await;
    world.known(&daemon, "d").await;
    world.list_answers(Some(ok(" ".repeat(5000))));
    let error = fail_poll(&daemon).await;
    assert!(error.contains("--api-max-body"), "{error}");
    world.list_answers(None);
    assert_eq!(daemon.poll().await.status, 200);
}

#[apply(test)]
async fn an_api_that_trickles_holds_up_no_webhook() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    world.list_answers(Some(ok("{").ending(Ending::Hangs)));
    let polling = daemon.poll();
    let telling = async {
        wait_until("the poll is under way", async || world.polls().len() == 2).await;
        let told = tokio::time::timeout(Duration::from_secs(5), world.known(&daemon, "d"));
        told.await.expect("an answer in time");
    };
    tokio::select! {
        answer = polling => panic!("the poll cannot have ended: {answer:?}"),
        () = telling => {}
    }
    assert_eq!(
        daemon.health().await["sync"]["last_poll"]["error"],
        Value::Null
    );
}
