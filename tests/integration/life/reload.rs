//! SIGHUP where there is no terminal: keys and secrets are read again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rustix::process::Signal;
use sha2::Sha256;

use crate::harness::{Daemon, Receiver, Setup, Signed, World, ask, hint, wait_for, wait_until};

const OPTIONS: [(&str, &str); 4] = [
    ("--api-key-file", "key"),
    ("--webhook-secret-file", "webhook"),
    ("--sink-secret-file", "sink"),
    ("--status-token-file", "token"),
];

/// A daemon without a terminal, as under a service manager, wherever the tests
/// are run.
fn alone(world: &World) -> Setup {
    world.setup().wrapped(&["setsid"])
}

/// Writes what each file says: its name, and `suffix`.
fn write_all(world: &World, suffix: &str) {
    for (_, file) in OPTIONS {
        std::fs::write(world.path(file), format!("{file}-{suffix}\n")).unwrap();
    }
}

async fn reload(daemon: &Daemon) {
    let before = daemon.log().len();
    daemon.signal(Signal::HUP);
    wait_until("it has read and polled", async || {
        let log = daemon.log();
        let since = log.get(before..).unwrap_or_default();
        since.iter().any(|line| line.contains("as was asked for"))
    })
    .await;
}

/// What the log says of an option's file since the last SIGHUP.
fn told(daemon: &Daemon, option: &str) -> String {
    let log = daemon.log();
    let since = log.rsplit(|line| line.contains("SIGHUP received")).next();
    // A poll that fails may name the option, too.
    let about_it = |line: &&String| {
        let words = [": read again", ": cannot be used"];
        line.contains(option) && words.iter().any(|words| line.contains(words))
    };
    let mut lines = since.unwrap().iter().filter(about_it);
    let told = lines.next().expect(option).clone();
    assert!(lines.next().is_none(), "one line: {log:?}");
    told
}

fn is_signed_with(signed: &Signed, secret: &str) -> bool {
    let text = |name: &str| signed.head[name].to_str().unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes());
    mac.update(&signed.body);
    text("webhook-signature") == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[apply(test)]
async fn a_sighup_polls_at_once_and_the_daemon_goes_on() {
    let world = World::new().await;
    let mut daemon = alone(&world).ready().await;
    let polls = world.polls().len();
    reload(&daemon).await;
    assert_eq!(world.polls().len(), polls + 1);
    assert!(daemon.ended().is_none());
    daemon.wait_for_log("SIGHUP: nothing to reload").await;
    world.sandbox.down(true);
    daemon.signal(Signal::HUP);
    daemon
        .wait_for_log("the poll that was asked for did not succeed")
        .await;
    assert_eq!(daemon.get("/healthz").await.status, 200);
}

#[apply(test)]
async fn every_file_is_read_again_and_what_it_says_counts_from_then_on() {
    let world = World::with_key("key-new").await;
    let receiver = Receiver::new().await;
    write_all(&world, "old");
    let mut setup = alone(&world).variable("RUST_LOG", "trace");
    for (option, file) in OPTIONS {
        setup = setup.with(option, file);
    }
    let daemon = setup.sink(receiver.sink()).start().await;
    wait_until("the old key is refused", async || {
        world.polls().iter().any(|poll| poll.status == Some(401))
    })
    .await;
    write_all(&world, "new");
    reload(&daemon).await;
    assert_eq!(
        world.polls().last().unwrap().key.as_deref(),
        Some("key-new")
    );

    let status = async |token: &str| {
        let request = daemon.http.get(daemon.status_url("/status"));
        ask(request.bearer_auth(token)).await.status
    };
    assert_eq!(status("token-old").await, 401);
    assert_eq!(status("token-new").await, 200);

    let id = "d";
    world.put(crate::harness::dispatch(
        id,
        1,
        crate::harness::in_ms(3_600_000),
        None,
    ));
    let post = async |secret: &str| {
        let url = format!("{}/{secret}", daemon.webhook_url());
        let request = daemon.http.post(url);
        let body = hint(&format!("/2022-04-15/dispatches/{id}"));
        ask(request.body(body)).await.status
    };
    assert_eq!(post("webhook-old").await, 404);
    assert_eq!(post("webhook-new").await, 200);
    let signed = wait_for("a delivery", async || receiver.signed().pop()).await;
    assert!(is_signed_with(&signed, "sink-new"), "{signed:?}");

    for (option, _) in OPTIONS {
        let told = told(&daemon, option);
        let (api_key, changed) = (option == "--api-key-file", "another value now");
        // A refused key is read again without being told to.
        assert!(told.contains(changed) || api_key, "{told}");
    }
    reload(&daemon).await;
    for (option, _) in OPTIONS {
        assert!(told(&daemon, option).contains("the same value"), "{option}");
    }
    let log = daemon.log().join("\n");
    for (_, file) in OPTIONS {
        for value in [format!("{file}-old"), format!("{file}-new")] {
            assert!(!log.contains(&value), "{value} is in the log");
        }
    }
}

#[apply(test)]
async fn a_file_that_cannot_be_used_leaves_the_value_from_before_and_is_told_of() {
    let world = World::with_key("key-old").await;
    write_all(&world, "old");
    let mut setup = alone(&world);
    for (option, file) in OPTIONS {
        setup = setup.with(option, file);
    }
    let daemon = setup.start().await;
    daemon.wait_for_log("status is told at").await;
    std::fs::remove_file(world.path("key")).unwrap();
    std::fs::write(world.path("webhook"), "no/path").unwrap();
    std::fs::write(world.path("sink"), "whsec_no base64!").unwrap();
    std::fs::write(world.path("token"), "\n").unwrap();
    reload(&daemon).await;
    for (option, _) in OPTIONS {
        let told = told(&daemon, option);
        assert!(
            told.contains("ERROR") && told.contains("the value from before stays"),
            "{told}"
        );
    }
    assert_eq!(
        world.polls().last().unwrap().key.as_deref(),
        Some("key-old")
    );
    let request = daemon.http.get(daemon.status_url("/status"));
    assert_eq!(ask(request.bearer_auth("token-old")).await.status, 200);
    let url = format!("{}/webhook-old", daemon.webhook_url());
    let handshake = r#"{"event":{"name":""},"resource":""}"#;
    assert_eq!(ask(daemon.http.post(url).body(handshake)).await.status, 200);
}

#[apply(test)]
async fn the_registration_follows_another_webhook_secret() {
    let world = World::new().await;
    // The port must be known beforehand, as it is where a proxy stands in front.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let url = |secret: &str| format!("http://{listen}/dispatch-listener/{secret}");
    let registered = async |secret: &str| {
        wait_until("that alone is registered", async || {
            let webhooks = world.sandbox.webhooks();
            webhooks.len() == 1 && webhooks[0].url == url(secret)
        })
        .await;
    };
    std::fs::write(world.path("webhook"), "first").unwrap();
    let setup = alone(&world)
        .with("--listen", listen)
        .with("--webhook-secret-file", "webhook");
    let mut daemon = setup
        .clone()
        .with("--public-url", format!("http://{listen}"))
        .start()
        .await;
    registered("first").await;
    std::fs::write(world.path("webhook"), "second").unwrap();
    reload(&daemon).await;
    registered("second").await;
    let metrics = daemon.http.get(daemon.status_url("/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let counted = "dispatchd_api_requests_total{kind=\"registration\",status=\"2xx\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(counted));
    // Each time a look, the registration and another look, and one deletion.
    assert!(count.unwrap().parse::<f64>().unwrap() >= 7.0, "{count:?}");
    assert!(told(&daemon, "--webhook-secret-file").contains("the registration follows"));
    daemon.stop(Signal::TERM).await;

    // One that has the secret in it cannot follow, so the secret stays as well.
    let daemon = setup.with("--public-url", url("second")).start().await;
    std::fs::write(world.path("webhook"), "third").unwrap();
    reload(&daemon).await;
    let told = told(&daemon, "--webhook-secret-file");
    assert!(told.contains("--public-url"), "{told}");
    let handshake = r#"{"event":{"name":""},"resource":""}"#;
    let answer = ask(daemon.http.post(url("second")).body(handshake)).await;
    assert_eq!(answer.status, 200);
}
