//! Against a real broker, mosquitto, where there is one.

mod broker;

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::broker::{Broker, Message, Subscriber};
use super::*;
use crate::delivery::sinks::spec::Kind;
use crate::delivery::sinks::testing::{at, event, large, reason};
use crate::delivery::sinks::{SinkSecrets, SinkSpec};

/// A sink together with what keeps it alive.
struct Running {
    sink: MqttSink,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    fn start(port: u16) -> Self {
        Self::at(&format!("mqtt://127.0.0.1:{port}/plant"), LIMIT)
    }

    fn at(url: &str, limit: Duration) -> Self {
        let spec = SinkSpec::parse(url, &SinkSecrets::none()).unwrap();
        let context = SinkContext {
            clock: Arc::new(|| at(0)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let Kind::Mqtt(target) = spec.kind() else {
            panic!("{url} is no MQTT sink");
        };
        let name = spec.name().to_owned();
        let sink = MqttSink::with_limit(name, target, &context, limit).unwrap();
        Self {
            sink,
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

    async fn deliver(&self, id: &str, event_type: &str, subject: &str) -> Attempt {
        self.sink.deliver(&[event(id, event_type, subject)]).await
    }

    async fn delivered(&self, id: &str, event_type: &str, subject: &str) {
        let mut attempt = failed("not tried yet");
        for _ in 0..500 {
            attempt = self.deliver(id, event_type, subject).await;
            if attempt == Attempt::Delivered {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{id} was never delivered: {attempt:?}");
    }
}

/// Starts a broker, or ends the test when there is none on this machine.
macro_rules! broker {
    ($options:expr) => {
        match Broker::start($options).await {
            Some(broker) => broker,
            None => {
                println!("left out: there is no mosquitto on this machine");
                return;
            }
        }
    };
}

// Below the macro, which it uses.
mod tls;

#[tokio::test]
async fn events_arrive_on_their_topics_and_sites_keep_their_last() {
    let broker = broker!("");
    let running = Running::start(broker.port);
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

#[tokio::test]
async fn many_sites_at_once_are_all_confirmed() {
    // More than the broker takes unconfirmed, and more than wait in the queue.
    let broker = broker!("max_inflight_messages 20");
    let running = Running::start(broker.port);
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

#[tokio::test]
async fn a_broker_that_restarts_is_found_again() {
    let mut broker = broker!("");
    let running = Running::start(broker.port);
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

#[tokio::test]
async fn the_last_will_tells_of_a_daemon_that_was_killed() {
    let broker = broker!("");
    let port = broker.port;
    let subscriber = Subscriber::start(port).await;
    // A runtime of its own, whose end closes the connection without a word.
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(async {
            let running = Running::start(port);
            running.delivered("e1", "site.curtail", "s1").await;
            running
        });
        runtime.shutdown_background();
        drop(running);
    });
    subscriber.wait(|m| m.payload == "online").await;
    subscriber.wait(|m| m.payload == "offline").await;
    doomed.join().unwrap();
    let late = Subscriber::start(port).await;
    let status = late.wait(|m| m.topic == "plant/status").await;
    assert_eq!(
        (status.payload.as_str(), status.retained),
        ("offline", true)
    );
}

#[tokio::test]
async fn a_daemon_that_stops_says_so_after_its_last_event() {
    let broker = broker!("");
    let subscriber = Subscriber::start(broker.port).await;
    let running = Running::start(broker.port);
    running.delivered("e1", "site.curtail", "s1").await;
    running.stop().await;
    subscriber.wait(|m| m.payload == "offline").await;
    let seen = subscriber.seen();
    let place = |what: &dyn Fn(&Message) -> bool| seen.iter().position(what).unwrap();
    assert!(place(&|m| m.id() == "e1") < place(&|m| m.payload == "offline"));
}

#[tokio::test]
async fn an_event_too_large_for_the_broker_fails_alone() {
    let broker = broker!("max_packet_size 3000");
    let running = Running::start(broker.port);
    running.delivered("e1", "site.curtail", "s1").await;
    let failure = reason(running.sink.deliver(&[large(4000)]).await);
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

#[tokio::test]
async fn an_event_that_the_broker_refuses_fails_with_its_reason() {
    let broker = broker!("acl");
    let running = Running::start(broker.port);
    running.delivered("e1", "dispatch.created", "d1").await;
    let failure = reason(running.deliver("e2", "site.curtail", "s1").await);
    assert!(failure.contains("NotAuthorized"), "{failure}");
    running.stop().await;
}

#[tokio::test]
async fn a_password_opens_the_broker_and_shows_nowhere() {
    let broker = broker!("password");
    let url = |password: &str| format!("mqtt://me:{password}@127.0.0.1:{}/plant", broker.port);
    let running = Running::at(&url("open%2Fsesame"), LIMIT);
    running.delivered("e1", "site.curtail", "s1").await;
    assert!(!running.sink.name().contains("sesame"));
    running.stop().await;

    let running = Running::at(&url("wrong-word"), LIMIT);
    let failure = reason(running.deliver("e2", "site.curtail", "s1").await);
    assert!(failure.contains("refused"), "{failure}");
    assert!(!failure.contains("wrong-word"), "{failure}");
    running.stop().await;
}

#[tokio::test]
async fn two_daemons_with_one_prefix_are_told_so() {
    let broker = broker!("");
    let one = Running::start(broker.port);
    one.delivered("e1", "site.curtail", "s1").await;
    let other = Running::start(broker.port);
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

#[tokio::test]
async fn nobody_there_is_a_failure_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let running = Running::start(port);
    let failure = reason(running.deliver("e1", "site.curtail", "s1").await);
    assert!(failure.contains("Connection refused"), "{failure}");
    running.stop().await;
}

/// Takes connections, answers CONNECT and nothing else; tells what it got.
async fn deaf_broker() -> (u16, mpsc::UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            tasks.spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                // CONNACK: success, no properties.
                let _ = stream.write_all(&[0x20, 3, 0, 0, 0]).await;
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    let _ = tell.send((number, text));
                }
            });
        }
    });
    (port, told)
}

#[tokio::test]
async fn what_was_given_up_is_never_sent_again() {
    let (port, mut told) = deaf_broker().await;
    let url = format!("mqtt://127.0.0.1:{port}/plant");
    let running = Running::at(&url, Duration::from_millis(300));
    let failure = reason(running.deliver("old-one", "site.curtail", "s1").await);
    assert!(failure.contains("did not confirm"), "{failure}");
    // Until it is connected anew, attempts fail at once.
    let mut on_second = String::new();
    for _ in 0..100 {
        let attempt = running.deliver("new-one", "site.release", "s1").await;
        assert_ne!(attempt, Attempt::Delivered);
        while let Ok((number, text)) = told.try_recv() {
            if number > 0 {
                on_second.push_str(&text);
            }
        }
        if on_second.contains("new-one") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(on_second.contains("new-one"), "{on_second:?}");
    assert!(!on_second.contains("old-one"), "{on_second:?}");
    running.stop().await;
}

/// A broker that confirms what is published, but for topics with `silent` in
/// them.
async fn choosy_broker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(confirm(stream));
        }
    });
    port
}

async fn confirm(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let mut length = 0;
        for place in 0..4 {
            let byte = stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match kind >> 4 {
            // CONNECT: CONNACK with success and no properties.
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await?,
            // PUBLISH: PUBACK.
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let name = String::from_utf8_lossy(&body[2..2 + topic]).into_owned();
                if !name.contains("silent") {
                    let number = &body[2 + topic..4 + topic];
                    stream.write_all(&[0x40, 2, number[0], number[1]]).await?;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn subjects_that_are_never_confirmed_hold_up_no_other() {
    let port = choosy_broker().await;
    let url = format!("mqtt://127.0.0.1:{port}/plant");
    let limit = Duration::from_secs(2);
    let running = Running::at(&url, limit);
    running.delivered("e0", "site.curtail", "s0").await;
    let connections = *running.sink.connections.borrow();
    let silent = (0..256).map(|n| {
        let running = &running;
        async move {
            let site = format!("silent-{n}");
            running.deliver("e1", "site.curtail", &site).await
        }
    });
    let silent = futures_util::future::join_all(silent);
    let others = async {
        // Longer than those that hang.
        for n in 0..150 {
            let site = format!("s{n}");
            let attempt = running.deliver("e2", "site.curtail", &site);
            let attempt = timeout(Duration::from_secs(1), attempt).await;
            assert_eq!(attempt, Ok(Attempt::Delivered));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (silent, ()) = tokio::join!(silent, others);
    assert!(silent.iter().all(|a| matches!(a, Attempt::Failed { .. })));
    // They failed alone: the connection is still the same.
    assert_eq!(*running.sink.connections.borrow(), connections);
    running.stop().await;
}

#[tokio::test]
async fn only_a_broker_without_a_connection_is_unreachable() {
    let mut broker = broker!("acl");
    let running = Running::start(broker.port);
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
    let made = *running.sink.connections.borrow();
    broker.restart().await;
    running.delivered("e3", "dispatch.ended", "d1").await;
    assert!(*running.sink.connections.borrow() > made);
    running.stop().await;
}
