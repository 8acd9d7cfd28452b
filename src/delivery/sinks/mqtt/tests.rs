//! Against brokers that this file makes. `tests/integration/mqtt` has those against a
//! real one.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock::SystemClock;
use crate::delivery::sinks::spec::Kind;
use crate::delivery::sinks::testing::{at, event, reason};
use crate::delivery::sinks::{HttpClients, SinkSecrets, SinkSpec};
use crate::trust::Trust;

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
        Self::trusting(url, limit, Trust::endless())
    }

    fn trusting(url: &str, limit: Duration, trust: Trust) -> Self {
        let spec = SinkSpec::parse(url, &SinkSecrets::none()).unwrap();
        let context = SinkContext {
            clock: Arc::new(|| at(0)),
            trust,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            http: HttpClients::default(),
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
        self.sink
            .deliver(&[event(id, event_type, subject)], None)
            .await
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
    let running = Running::at(&url, Duration::from_secs(2));
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
    let limit = Duration::from_secs(4);
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
        for n in 0..250 {
            let site = format!("s{n}");
            let attempt = running.deliver("e2", "site.curtail", &site);
            let attempt = timeout(limit / 2, attempt).await;
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
async fn without_trust_a_lost_connection_is_not_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let clock = SystemClock::new();
    let (renew, until) = watch::channel(Duration::MAX);
    let trust = Trust::renewed(until, clock);
    let url = format!("mqtt://127.0.0.1:{port}/plant");
    let running = Running::trusting(&url, LIMIT, trust);
    let (mut first, _) = listener.accept().await.unwrap();
    first.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
    let mut link = running.sink.link.clone();
    drop(
        link.wait_for(|link| matches!(link, Link::Up(_)))
            .await
            .unwrap(),
    );
    renew.send_replace(Duration::ZERO);
    // The connection stays: it is pushed off by nobody who does not lead.
    assert!(matches!(*running.sink.link.borrow(), Link::Up(_)));
    drop(first);
    let down = link.wait_for(|link| matches!(link, Link::Down(why) if why == link::SUSPENDED));
    assert!(timeout(LIMIT, down).await.unwrap().is_ok());
    let again = timeout(Duration::from_secs(1), listener.accept()).await;
    assert!(again.is_err(), "it connected again");
    renew.send_replace(Duration::MAX);
    timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_told_to_stop_lets_go_and_never_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for connected in [true, false] {
        let running = Running::start(port);
        let (mut broker, _) = listener.accept().await.unwrap();
        if connected {
            broker.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
            let mut link = running.sink.link.clone();
            let up = link.wait_for(|link| matches!(link, Link::Up(_))).await;
            drop(up.unwrap());
        }
        running.stop().await;
        let mut rest = Vec::new();
        let gone = timeout(LIMIT, broker.read_to_end(&mut rest)).await;
        assert!(gone.is_ok(), "the connection is still there");
        let again = timeout(Duration::from_millis(500), listener.accept()).await;
        assert!(again.is_err(), "it connected again");
    }
}
