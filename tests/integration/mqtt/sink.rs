//! The MQTT sink by itself, against a real broker.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use dispatchd::delivery::sinks::{HttpClients, SinkContext, SinkSecrets, SinkSpec};
use dispatchd::delivery::{Attempt, Sink};
use dispatchd::model::Event;
use dispatchd::trust::Trust;
use rcgen::{CertificateParams, KeyPair};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::CURTAIL;
use crate::certificates::Authority;
use crate::harness::{Broker, Message, Subscriber, World, dispatch, in_ms, now, wait_for};

/// A sink together with what keeps it alive.
struct Running {
    sink: Arc<dyn Sink>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    fn start(url: &str) -> Self {
        let context = SinkContext {
            clock: Arc::new(now),
            trust: Trust::endless(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            http: HttpClients::default(),
        };
        let spec = SinkSpec::parse(url, &SinkSecrets::none()).unwrap();
        Self {
            sink: spec.build(&context).unwrap(),
            tasks: context.tasks,
            stop: context.stop,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(Duration::from_secs(20), self.tasks.wait())
            .await
            .unwrap();
    }

    /// How many connections it has made.
    fn connections(&self) -> u64 {
        *self.sink.connections().unwrap().borrow()
    }

    async fn deliver(&self, id: &str, event_type: &str, subject: &str) -> Attempt {
        self.sink
            .deliver(&[event(id, event_type, subject)], None)
            .await
    }

    async fn delivered(&self, id: &str, event_type: &str, subject: &str) {
        wait_for(&format!("{id} is delivered"), async || {
            let attempt = self.deliver(id, event_type, subject).await;
            (attempt == Attempt::Delivered).then_some(())
        })
        .await;
    }
}

fn event(id: &str, event_type: &str, subject: &str) -> Event {
    Event {
        position: 1,
        term: 2,
        id: id.into(),
        event_type: event_type.into(),
        subject: subject.into(),
        time: DateTime::UNIX_EPOCH,
        sequence: 3,
        unconditional: false,
        origin: None,
        data: data(r#"{"state":"curtailed"}"#.to_owned()),
    }
}

fn data(json: String) -> Arc<Box<RawValue>> {
    Arc::new(RawValue::from_string(json).unwrap())
}

/// An event whose payload has about `bytes` bytes.
fn large(bytes: usize) -> Event {
    Event {
        data: data(format!("{:?}", "x".repeat(bytes))),
        ..event("e-large", "site.curtail", "s1")
    }
}

fn reason(attempt: Attempt) -> String {
    match attempt {
        Attempt::Failed { reason, .. } | Attempt::Unreachable { reason } => reason,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[apply(test)]
async fn events_arrive_on_their_topics_and_sites_keep_their_last() {
    let broker = Broker::start().await;
    let running = Running::start(&broker.sink());
    let early = Subscriber::start(broker.port).await;
    running.delivered("e1", "dispatch.created", "dkmq").await;
    running.delivered("e2", "site.curtail", "s/+#1").await;
    running.delivered("e3", "site.release", "s/+#1").await;
    running.delivered("e4", "sync.stale", "dispatchd").await;
    for (id, topic) in [
        ("e1", "plant/dispatch/dkmq"),
        ("e2", "plant/site/s%2F%2B%231"),
        ("e3", "plant/site/s%2F%2B%231"),
        ("e4", "plant/sync"),
    ] {
        let message = early.wait(|m| m.id() == id).await;
        assert_eq!(message.topic, topic);
        assert_eq!(
            message.content_type,
            "application/cloudevents+json; charset=utf-8"
        );
    }

    let late = Subscriber::start(broker.port).await;
    let kept = late.wait(|m| m.topic == "plant/site/s%2F%2B%231").await;
    assert_eq!((kept.id().as_str(), kept.retained), ("e3", true));
    let status = late.wait(|m| m.topic == "plant/status").await;
    assert_eq!((status.payload.as_str(), status.retained), ("online", true));
    // All that is retained comes before anything new.
    running.delivered("e5", "sync.recovered", "dispatchd").await;
    late.wait(|m| m.id() == "e5").await;
    let others = |m: &Message| m.retained && !m.topic.starts_with("plant/s");
    assert!(!late.seen().iter().any(others));
    running.stop().await;
}

#[apply(test)]
async fn many_sites_at_once_are_all_confirmed() {
    // More than the broker takes unconfirmed, and more than wait in the queue.
    let broker = Broker::with("max_inflight_messages 20").await;
    let running = Running::start(&broker.sink());
    running.delivered("e0", "site.curtail", "s0").await;
    let attempts = (1..1000).map(|n| {
        let running = &running;
        async move {
            let site = format!("s{n}");
            running.deliver("e1", "site.curtail", &site).await
        }
    });
    let attempts = futures_util::future::join_all(attempts).await;
    assert!(attempts.iter().all(|a| *a == Attempt::Delivered));
    running.stop().await;
}

#[apply(test)]
async fn a_broker_that_restarts_is_found_again() {
    let mut broker = Broker::start().await;
    let running = Running::start(&broker.sink());
    running.delivered("e1", "site.curtail", "s1").await;
    broker.kill();
    let failure = reason(running.deliver("e2", "site.release", "s1").await);
    assert!(!failure.is_empty());
    broker.restart().await;
    running.delivered("e2", "site.release", "s1").await;
    let subscriber = Subscriber::start(broker.port).await;
    let kept = subscriber.wait(|m| m.topic == "plant/site/s1").await;
    assert_eq!(kept.id(), "e2");
    subscriber.wait(|m| m.payload == "online").await;
    running.stop().await;
}

#[apply(test)]
async fn the_last_will_tells_of_a_daemon_that_was_killed() {
    let broker = Broker::start().await;
    let url = broker.sink();
    let subscriber = Subscriber::start(broker.port).await;
    // A runtime of its own, whose end closes the connection without a word.
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(async {
            let running = Running::start(&url);
            running.delivered("e1", "site.curtail", "s1").await;
            running
        });
        runtime.shutdown_background();
        drop(running);
    });
    subscriber.wait(|m| m.payload == "online").await;
    subscriber.wait(|m| m.payload == "offline").await;
    doomed.join().unwrap();
    let late = Subscriber::start(broker.port).await;
    let status = late.wait(|m| m.topic == "plant/status").await;
    assert_eq!(
        (status.payload.as_str(), status.retained),
        ("offline", true)
    );
}

#[apply(test)]
async fn a_daemon_that_stops_says_so_after_its_last_event() {
    let broker = Broker::start().await;
    let subscriber = Subscriber::start(broker.port).await;
    let running = Running::start(&broker.sink());
    running.delivered("e1", "site.curtail", "s1").await;
    running.stop().await;
    subscriber.wait(|m| m.payload == "offline").await;
    let seen = subscriber.seen();
    let place = |what: &dyn Fn(&Message) -> bool| seen.iter().position(what).unwrap();
    assert!(place(&|m| m.id() == "e1") < place(&|m| m.payload == "offline"));
}

#[apply(test)]
async fn an_event_too_large_for_the_broker_fails_alone() {
    let broker = Broker::with("max_packet_size 3000").await;
    let running = Running::start(&broker.sink());
    running.delivered("e1", "site.curtail", "s1").await;
    let failure = reason(running.sink.deliver(&[large(4000)], None).await);
    assert!(failure.contains("at most 3000"), "{failure}");
    let deep = "x".repeat(70_000);
    assert!(matches!(
        running.deliver("e2", "site.curtail", &deep).await,
        Attempt::Failed { .. }
    ));
    // At the first try: the connection never broke.
    let next = running.deliver("e3", "site.curtail", "s1").await;
    assert_eq!(next, Attempt::Delivered);
    running.stop().await;
}

#[apply(test)]
async fn an_event_that_the_broker_refuses_fails_with_its_reason() {
    let broker = Broker::with("acl").await;
    let running = Running::start(&broker.sink());
    running.delivered("e1", "dispatch.created", "d1").await;
    let failure = reason(running.deliver("e2", "site.curtail", "s1").await);
    assert!(
        failure.contains("the broker refused the event: not authorized"),
        "{failure}"
    );
    running.stop().await;
}

#[apply(test)]
async fn a_password_opens_the_broker_and_shows_nowhere() {
    let broker = Broker::with("password").await;
    let url = |password: &str| format!("mqtt://me:{password}@127.0.0.1:{}/plant", broker.port);
    let running = Running::start(&url("open%2Fsesame"));
    running.delivered("e1", "site.curtail", "s1").await;
    assert!(!running.sink.name().contains("sesame"));
    running.stop().await;

    let running = Running::start(&url("wrong-word"));
    let failure = reason(running.deliver("e2", "site.curtail", "s1").await);
    assert!(failure.contains("refused"), "{failure}");
    assert!(!failure.contains("wrong-word"), "{failure}");
    running.stop().await;
}

#[apply(test)]
async fn two_daemons_with_one_prefix_are_told_so() {
    let broker = Broker::start().await;
    let one = Running::start(&broker.sink());
    one.delivered("e1", "site.curtail", "s1").await;
    let other = Running::start(&broker.sink());
    let mut heard = String::new();
    for _ in 0..1000 {
        let attempt = one.deliver("e2", "site.release", "s1").await;
        if attempt != Attempt::Delivered {
            heard = reason(attempt);
        }
        if heard.contains("same prefix") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(heard.contains("same prefix"), "{heard}");
    one.stop().await;
    other.stop().await;
}

#[apply(test)]
async fn only_a_broker_without_a_connection_is_unreachable() {
    let mut broker = Broker::with("acl").await;
    let running = Running::start(&broker.sink());
    running.delivered("e1", "dispatch.created", "d1").await;
    let refused = running.deliver("e2", "site.curtail", "s1").await;
    assert!(matches!(refused, Attempt::Failed { .. }), "{refused:?}");
    broker.kill();
    let mut last = Attempt::Delivered;
    for _ in 0..1000 {
        last = running.deliver("e3", "dispatch.ended", "d1").await;
        if matches!(last, Attempt::Unreachable { .. }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(last, Attempt::Unreachable { .. }), "{last:?}");
    let made = running.connections();
    broker.restart().await;
    running.delivered("e3", "dispatch.ended", "d1").await;
    assert!(running.connections() > made);
    running.stop().await;
}

#[apply(test)]
async fn tls_takes_a_broker_that_the_system_trusts_and_no_other() {
    let world = World::new().await;
    let authority = Authority::new("ca");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let path = |name: &str| world.path(name).display().to_string();
    let (trusted, shown, secret) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    std::fs::write(&trusted, &authority.pem).unwrap();
    std::fs::write(&shown, certificate.pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    let broker = Broker::with(&format!("certfile {shown}\nkeyfile {secret}")).await;
    let url = broker.sink().replace("mqtt://", "mqtts://");

    let running = Running::start(&url);
    let failure = reason(running.deliver("e1", CURTAIL, "s1").await);
    assert!(failure.contains("certificate"), "{failure}");
    running.stop().await;

    // Another process, since what the system trusts is read from the environment.
    let setup = world.setup().sink(&url).variable("SSL_CERT_FILE", trusted);
    let daemon = setup.ready().await;
    world.put(dispatch("d", 0, in_ms(-1000), None));
    assert_eq!(daemon.poll().await.status, 200);
    daemon.wait_until_delivered().await;
    let sink = &daemon.health().await["delivery"][0];
    assert!(sink["delivered"].as_u64().unwrap() >= 2, "{sink}");
}
