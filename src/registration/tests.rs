//! The loop against a sandbox.

use std::sync::{LazyLock, Mutex};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use warp::Filter;

use super::*;
use crate::clock::SystemClock;
use crate::http::{Bounds, json_reply, serve};
use crate::sandbox::{Options, Sandbox};
use crate::voltus::{ApiKey, ClientSettings};

/// What is logged on this thread while it lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn here() -> (Self, tracing::subscriber::DefaultGuard) {
        // While there is one subscriber, `tracing` asks that of the thread which reaches a
        // line first, and may switch the line off for all. So there are two.
        static ANOTHER: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines with `words` in them.
    pub(crate) fn lines(&self, words: &str) -> Vec<String> {
        let log = self.0.lock().unwrap();
        let lines = String::from_utf8_lossy(&log);
        let with_words = lines.lines().filter(|line| line.contains(words));
        with_words.map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    sandbox: Sandbox,
    /// Where a listener answers every request with 200.
    receiver: String,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Rig {
    async fn new() -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let options = Options {
            seed: Some(1),
            ..Options::default()
        };
        let sandbox = Sandbox::start(options, bind().await.unwrap(), stop.clone()).unwrap();
        let listener = bind().await.unwrap();
        let receiver = format!("http://{}", listener.local_addr().unwrap());
        let routes = warp::any().map(|| json_reply(StatusCode::OK, &json!({})));
        let service = warp::service(routes);
        tasks.spawn(serve(listener, service, Bounds::default(), stop.clone()));
        Self {
            sandbox,
            receiver,
            tasks,
            stop,
        }
    }

    fn url(&self, secret: &str) -> String {
        format!("{}/dispatch-listener/{secret}", self.receiver)
    }

    /// Registers `url` with these events by hand.
    async fn register(&self, url: &str, events: &[&str]) {
        let events: Value = events.iter().map(|name| json!({"name": name})).collect();
        let client = crate::http::client_builder().no_proxy().build().unwrap();
        let answer = client
            .post(format!("{}/2022-04-15/webhooks", self.sandbox.url()))
            .header("x-voltus-api-key", "secret")
            .json(&json!({"url": url, "events": events}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Keeps a URL with this secret registered, until told of another.
    fn keep(&self, secret: &str) -> watch::Sender<WebhookUrl> {
        let settings = ClientSettings {
            base: self.sandbox.url().parse().unwrap(),
            version: "2022-04-15".into(),
            max_body: 1024,
        };
        let clock = SystemClock::new();
        let key = Arc::new(ApiKey::fixed(&"secret".into()).unwrap());
        let admin = Admin::new(&settings, key, clock).unwrap();
        let (sender, wanted) = watch::channel(WebhookUrl::new(self.url(secret)));
        let mut registration = Registration::new(admin, wanted, clock, 1);
        registration.pace = Pace {
            interval: Duration::from_millis(50),
            first_pause: Duration::from_millis(10),
        };
        self.tasks.spawn(registration.run(self.stop.clone()));
        sender
    }

    async fn until_registered(&self, urls: &[&str]) {
        let same = |sandbox: &Sandbox| {
            let there = sandbox.webhooks();
            there
                .iter()
                .map(|w| w.url.as_str())
                .eq(urls.iter().copied())
                && there.iter().all(|w| w.events.len() == 2)
        };
        let waiting = self.sandbox.wait_until(same);
        let held = tokio::time::timeout(PATIENCE, waiting).await;
        assert_eq!(held, Ok(true), "{:?}", self.sandbox.webhooks());
    }

    /// Returns once it was looked so many times more.
    async fn looks(&self, count: usize) {
        let asked = |sandbox: &Sandbox| {
            let requests = sandbox.requests();
            requests
                .iter()
                .filter(|r| r.path.ends_with("/webhooks"))
                .count()
        };
        let before = asked(&self.sandbox);
        let waiting = self
            .sandbox
            .wait_until(|sandbox| asked(sandbox) >= before + count);
        assert_eq!(tokio::time::timeout(PATIENCE, waiting).await, Ok(true));
    }
}

#[tokio::test]
async fn it_is_registered_once_and_again_when_it_is_gone() {
    let (log, _guard) = Log::here();
    let rig = Rig::new().await;
    let _wanted = rig.keep("s");
    rig.until_registered(&[&rig.url("s")]).await;
    let first = rig.sandbox.webhooks();
    rig.looks(3).await;
    assert_eq!(rig.sandbox.webhooks(), first, "it is never doubled");
    let client = crate::http::client_builder().no_proxy().build().unwrap();
    let path = format!("{}/2022-04-15/webhooks/{}", rig.sandbox.url(), first[0].id);
    let deleting = client.delete(path).header("x-voltus-api-key", "secret");
    assert_eq!(deleting.send().await.unwrap().status(), 200);
    rig.until_registered(&[&rig.url("s")]).await;
    assert_ne!(rig.sandbox.webhooks(), first);
    rig.looks(3).await;
    let [lost] = &*log.lines("registration was lost") else {
        panic!("{:?}", log.lines(""));
    };
    let url = format!("url={}/dispatch-listener/<hidden>", rig.receiver);
    for part in ["WARN", &url, "reason=\"the API does not list it any more\""] {
        assert!(lost.contains(part), "{part} in {lost}");
    }
    let made = log.lines("the webhook was registered");
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(
        made.iter()
            .all(|line| line.contains("INFO") && line.contains(&url))
    );
    assert!(log.lines("registered already").is_empty());
}

#[tokio::test]
async fn one_with_an_old_secret_or_without_an_event_is_replaced_and_others_stay() {
    let rig = Rig::new().await;
    let other = format!("{}/other", rig.receiver);
    let both = ["dispatch.create", "dispatch.update"];
    rig.register(&rig.url("old"), &both).await;
    rig.register(&other, &both).await;
    rig.register(&rig.url("new"), &both[..1]).await;
    let _wanted = rig.keep("new");
    rig.until_registered(&[&other, &rig.url("new")]).await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_stop_ends_it() {
    let rig = Rig::new().await;
    rig.sandbox
        .change_faults(&json!({"api_error_rate": 1.0}))
        .unwrap();
    let _wanted = rig.keep("s");
    rig.looks(3).await;
    assert!(rig.sandbox.webhooks().is_empty());
    rig.sandbox
        .change_faults(&json!({"api_error_rate": 0.0}))
        .unwrap();
    rig.until_registered(&[&rig.url("s")]).await;
    rig.stop.cancel();
    rig.tasks.close();
    tokio::time::timeout(PATIENCE, rig.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_url_that_becomes_another_is_registered_and_the_former_one_deleted() {
    let rig = Rig::new().await;
    let wanted = rig.keep("old");
    rig.until_registered(&[&rig.url("old")]).await;
    wanted.send_replace(WebhookUrl::new(rig.url("new")));
    rig.until_registered(&[&rig.url("new")]).await;
}
