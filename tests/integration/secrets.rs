//! Secrets stay where they are.

use rustix::process::Signal;

use crate::harness::{World, ask, dispatch, hint, in_ms, wait_until};

const KEY: &str = "key-4f1c";
const WEBHOOK: &str = "webhook-9a2e";
const TOKEN: &str = "token-77b0";
const SINK: &str = "sinksecret-c3d5";
const PASSWORD: &str = "password-e8f6";
const QUERY: &str = "query-1d2c";

#[apply(test)]
async fn no_secret_is_in_any_log_or_answer() {
    let world = World::with_key(KEY).await;
    let mut daemon = world
        .setup()
        .variable("RUST_LOG", "trace")
        .with("--api-key", KEY)
        .with("--webhook-secret", WEBHOOK)
        .with("--status-token", TOKEN)
        .with("--sink-secret", SINK)
        .sink(format!(
            "http://user:{PASSWORD}@127.0.0.1:1/in?token={QUERY}"
        ))
        .sink(format!("mqtt://user:{PASSWORD}@127.0.0.1:1/plant"))
        .start()
        .await;
    let secret_url = format!("{}/{WEBHOOK}", daemon.webhook_url());
    let mut answers = Vec::new();
    wait_until("the first poll has ended", async || {
        let path = daemon.status_url("/status");
        let asked = daemon.http.get(path).bearer_auth(TOKEN).send().await;
        asked.unwrap().text().await.unwrap().contains("\"fresh\"")
    })
    .await;
    world.put(dispatch("a", 0, in_ms(200), Some(in_ms(3_600_000))));
    for (url, body) in [
        (secret_url.clone(), hint("/2022-04-15/dispatches/a")),
        (secret_url.clone(), hint("/2022-04-15/dispatches/none")),
        (secret_url, "{".into()),
        (daemon.webhook_url(), hint("/2022-04-15/dispatches/a")),
        (format!("{}/wrong", daemon.webhook_url()), String::new()),
    ] {
        let answer = daemon.http.post(url).body(body).send().await.unwrap();
        answers.push(answer.text().await.unwrap());
    }
    // The API refuses, and breaks off: errors name what they are about.
    world.sandbox.down(true);
    for path in [
        "/status",
        "/schedule",
        "/schedule/a",
        "/sites",
        "/sites/site-a",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/",
        "/none",
    ] {
        let request = daemon.http.get(daemon.status_url(path));
        for request in [request.try_clone().unwrap().bearer_auth(TOKEN), request] {
            let answer = request.send().await.unwrap();
            answers.push(format!("{:?}", answer.headers()));
            answers.push(answer.text().await.unwrap());
        }
    }
    let poll = daemon
        .http
        .post(daemon.status_url("/poll"))
        .bearer_auth(TOKEN);
    answers.push(poll.send().await.unwrap().text().await.unwrap());
    wait_until("both sinks have failed", async || {
        let asked = daemon.http.get(daemon.status_url("/status"));
        let answer = ask(asked.bearer_auth(TOKEN)).await.json;
        let sinks = answer["delivery"].as_array().unwrap().clone();
        let log = daemon.log().join("\n");
        sinks.iter().all(|sink| sink["failed_attempts"] != 0)
            && log.matches("be delivered").count() >= 2
    })
    .await;
    assert!(daemon.stop(Signal::TERM).await.success());
    answers.extend(daemon.log());
    assert!(answers.len() > 100, "the log is at trace");
    for secret in [KEY, WEBHOOK, TOKEN, SINK, PASSWORD, QUERY] {
        for text in &answers {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
