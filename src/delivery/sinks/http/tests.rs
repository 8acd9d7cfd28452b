use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use warp::Filter;

use super::*;
use crate::delivery::sinks::testing::{at, event, reason};
use crate::delivery::sinks::{SinkContext, SinkSecrets, SinkSpec};
use crate::http::{Bounds, serve};
use crate::trust::Trust;

type Answer = http::Response<String>;

/// A receiver on a port of its own that answers what the test wants.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes, String)>>>,
    _stop: DropGuard,
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
    let mut builder = http::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body("words that nobody reads".to_owned()).unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Receiver {
    async fn start(answer: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> Self {
        let (listener, address) = listen().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let query =
            warp::query::raw().or_else(|_| async { Ok::<_, warp::Rejection>((String::new(),)) });
        let filter = warp::post()
            .and(warp::path("in"))
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes())
            .and(query)
            .map(move |headers, body, query| {
                log.lock().unwrap().push((headers, body, query));
                answer()
            });
        let stop = CancellationToken::new();
        let served = serve(
            listener,
            warp::service(filter),
            Bounds::default(),
            stop.clone(),
        );
        TaskTracker::new().spawn(served);
        Self {
            address,
            seen,
            _stop: stop.drop_guard(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    fn requests(&self) -> Vec<(HeaderMap, Bytes, String)> {
        self.seen.lock().unwrap().clone()
    }
}

fn sink(url: &str, secrets: &SinkSecrets) -> Arc<dyn Sink> {
    let context = SinkContext {
        trust: Trust::endless(),
        clock: Arc::new(|| at(1_614_265_330)),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        http: HttpClients::default(),
    };
    SinkSpec::parse(url, secrets)
        .unwrap()
        .build(&context)
        .unwrap()
}

fn impatient(address: SocketAddr) -> HttpSink {
    let url = format!("http://{address}/in?token=hush");
    limited(url, Duration::from_secs(2), Duration::from_millis(300))
}

fn limited(url: String, connect: Duration, total: Duration) -> HttpSink {
    let target = HttpTarget {
        url: SecretString::from(url),
        credentials: None,
        batch: false,
        key: None,
    };
    let clients = HttpClients::connecting_within(connect);
    let sink = HttpSink::new("h".to_owned(), &target, Arc::new(|| at(0)), &clients).unwrap();
    HttpSink {
        limits: Limits { connect, total },
        ..sink
    }
}

async fn attempt(receiver: &Receiver) -> Attempt {
    sink(&receiver.url(), &SinkSecrets::none())
        .deliver(&[event("e-1", "site.curtail", "s1")], None)
        .await
}

#[tokio::test]
async fn an_event_arrives_as_a_cloudevent() {
    let receiver = Receiver::start(|| answer(202, &[])).await;
    assert_eq!(attempt(&receiver).await, Attempt::Delivered);
    let (headers, body, query) = receiver.requests().remove(0);
    assert_eq!(
        headers["content-type"],
        "application/cloudevents+json; charset=utf-8"
    );
    let agent = concat!("dispatchd/", env!("CARGO_PKG_VERSION"));
    assert_eq!(headers["user-agent"], agent);
    assert!(!headers.contains_key("webhook-signature"));
    assert!(!headers.contains_key("authorization"));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["specversion"], &body["id"]),
        (&"1.0".into(), &"e-1".into())
    );
    assert_eq!(query, "");
}

#[tokio::test]
async fn a_signed_event_can_be_verified_by_others() {
    let receiver = Receiver::start(|| answer(200, &[])).await;
    let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let secrets = SinkSecrets::signing(&secret).unwrap();
    let sink = sink(&receiver.url(), &secrets);
    let events = [event("e-1", "site.curtail", "s1")];
    assert_eq!(sink.deliver(&events, None).await, Attempt::Delivered);
    let (headers, body, _) = receiver.requests().remove(0);
    assert_eq!(headers["webhook-id"], "e-1");
    assert_eq!(headers["webhook-timestamp"], "1614265330");
    // The body and its signature, computed with another implementation of HMAC.
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        concat!(
            r#"{"specversion":"1.0","id":"e-1","source":"dispatchd","type":"site.curtail","#,
            r#""subject":"s1","time":"2027-01-15T08:00:00Z","datacontenttype":"application/json","#,
            r#""sequence":3,"term":2,"data":{"state":"curtailed"}}"#
        )
    );
    assert_eq!(
        headers["webhook-signature"],
        "v1,vUVqPpjYBv6dGOaO5dykDGayL/G/oh1A4I00ago8uOs="
    );
}

#[tokio::test]
async fn a_batch_is_one_request_and_keeps_its_id_when_it_comes_again() {
    let receiver = Receiver::start(|| answer(200, &[])).await;
    let secrets = SinkSecrets::signing(&SecretString::from("words")).unwrap();
    let sink = sink(&format!("{}?batch=true&k=v", receiver.url()), &secrets);
    assert_eq!(sink.batch(), 100);
    let two = [
        event("e-1", "dispatch.created", "d1"),
        event("e-2", "dispatch.started", "d1"),
    ];
    for events in [&two[..], &two[..], &two[1..]] {
        assert_eq!(sink.deliver(events, None).await, Attempt::Delivered);
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    let id = |n: usize| requests[n].0["webhook-id"].to_str().unwrap().to_owned();
    assert!(id(0).starts_with("batch_"));
    assert_eq!(id(0), id(1));
    assert_eq!(id(2), "e-2");
    let (headers, body, query) = &requests[0];
    assert_eq!(
        headers["content-type"],
        "application/cloudevents-batch+json; charset=utf-8"
    );
    let body: Vec<serde_json::Value> = serde_json::from_slice(body).unwrap();
    assert_eq!(body.len(), 2);
    assert_eq!(query, "k=v");
}

#[tokio::test]
async fn user_and_password_become_basic_authentication() {
    let receiver = Receiver::start(|| answer(500, &[])).await;
    let url = receiver.url().replace("http://", "http://me:p%40ss@");
    let sink = sink(&url, &SinkSecrets::none());
    let failure = sink
        .deliver(&[event("e-1", "site.curtail", "s1")], None)
        .await;
    assert!(!format!("{failure:?}{}", sink.name()).contains("p@ss"));
    // The base64 of `me:p@ss`.
    assert_eq!(
        receiver.requests()[0].0["authorization"],
        "Basic bWU6cEBzcw=="
    );
}

#[tokio::test]
async fn a_receiver_that_is_gone_wants_no_more() {
    let receiver = Receiver::start(|| answer(410, &[])).await;
    assert!(matches!(
        attempt(&receiver).await,
        Attempt::Failed { gone: true, .. }
    ));
}

#[tokio::test]
async fn a_busy_receiver_is_left_alone_for_as_long_as_it_asks() {
    let receiver = Receiver::start(|| answer(429, &[("retry-after", "7")])).await;
    let asked = Attempt::Failed {
        reason: "the receiver answered 429 Too Many Requests".to_owned(),
        retry_after: Some(Duration::from_secs(7)),
        gone: false,
    };
    assert_eq!(attempt(&receiver).await, asked);

    // 30 seconds after what the clock shows.
    let date = "Thu, 25 Feb 2021 15:02:40 GMT";
    let receiver = Receiver::start(move || answer(503, &[("retry-after", date)])).await;
    let Attempt::Failed { retry_after, .. } = attempt(&receiver).await else {
        panic!("a 503 is a failure");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again() {
    for status in [400, 404, 500] {
        let receiver = Receiver::start(move || answer(status, &[])).await;
        let reason = reason(attempt(&receiver).await);
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let other = Receiver::start(|| answer(200, &[])).await;
    let url = other.url();
    let receiver = Receiver::start(move || answer(307, &[("location", &url)])).await;
    assert!(reason(attempt(&receiver).await).contains("not followed"));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up() {
    // Takes connections and says nothing.
    let (_listener, address) = listen().await;
    let sink = impatient(address);
    let reason = reason(
        sink.deliver(&[event("e-1", "site.curtail", "s1")], None)
            .await,
    );
    assert_eq!(reason, "no answer within 300ms");
}

#[tokio::test]
async fn nobody_there_is_a_failure_that_tells_why_and_not_where() {
    let (listener, address) = listen().await;
    drop(listener);
    let sink = impatient(address);
    let reason = reason(
        sink.deliver(&[event("e-1", "site.curtail", "s1")], None)
            .await,
    );
    assert!(reason.contains("Connection refused"), "{reason}");
    assert!(!reason.contains("hush"), "{reason}");
}

#[tokio::test]
async fn an_answer_counts_from_its_status_however_slow_or_long_its_body() {
    let (listener, address) = listen().await;
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nsome";
        stream.write_all(head).await.unwrap();
        // And no more, until the other side is gone.
        while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    });
    let sink = impatient(address);
    let attempt = sink
        .deliver(&[event("e-1", "site.curtail", "s1")], None)
        .await;
    assert_eq!(attempt, Attempt::Delivered);
}

fn is_unreachable(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Unreachable { .. })
}

#[tokio::test]
async fn only_a_receiver_without_a_connection_is_unreachable() {
    let one = [event("e-1", "site.curtail", "s1")];
    // Nobody listens; nobody has that name; somebody does not speak TLS.
    let (listener, refused) = listen().await;
    drop(listener);
    let (_mute, no_tls) = listen().await;
    for url in [
        format!("http://{refused}/in"),
        "http://no-such-host.invalid/in".to_owned(),
        format!("https://{no_tls}/in"),
    ] {
        let sink = limited(
            url.clone(),
            Duration::from_millis(500),
            Duration::from_secs(10),
        );
        let attempt = sink.deliver(&one, None).await;
        assert!(is_unreachable(&attempt), "{url}: {attempt:?}");
    }
    // It hangs; it hangs up.
    let (_listener, address) = listen().await;
    let hung = impatient(address).deliver(&one, None).await;
    assert!(!is_unreachable(&hung), "{hung:?}");
    let (listener, address) = listen().await;
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let hung = impatient(address).deliver(&one, None).await;
    assert!(!is_unreachable(&hung), "{hung:?}");
    for status in [301, 400, 410, 500, 503] {
        let receiver = Receiver::start(move || answer(status, &[])).await;
        let answered = attempt(&receiver).await;
        assert!(!is_unreachable(&answered), "{answered:?}");
    }
}

/// A listener whose queue is full, so that the system drops new connections.
#[tokio::test]
async fn a_receiver_too_busy_for_new_connections_is_slow_and_not_down() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let sink = Arc::new(limited(
        format!("http://{address}/in"),
        Duration::from_secs(2),
        Duration::from_secs(10),
    ));
    let one = [event("e-1", "site.curtail", "s1")];

    let slow = Arc::clone(&sink);
    let events = one.clone();
    let slow = TaskTracker::new().spawn(async move { slow.deliver(&events, None).await });
    let (mut first, _) = listener.accept().await.unwrap();
    let _ = first.read(&mut [0; 4096]).await;
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = timeout(
        Duration::from_millis(100),
        tokio::net::TcpStream::connect(address),
    )
    .await
    {
        queue.push(stream);
    }
    let (attempt, _) = tokio::join!(sink.deliver(&one, None), async {
        tokio::task::yield_now().await;
        // Or the other attempt would take this connection.
        let done = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        first.write_all(done).await.unwrap();
    });
    assert_eq!(slow.await.unwrap(), Attempt::Delivered);
    assert!(reason(attempt.clone()).contains("no connection within"));
    assert!(!is_unreachable(&attempt), "{attempt:?}");
    // Nobody is answered any more.
    let attempt = sink.deliver(&one, None).await;
    assert!(is_unreachable(&attempt), "{attempt:?}");
}

#[tokio::test]
async fn attempts_that_hang_hold_up_no_other() {
    let (listener, address) = listen().await;
    let (tell, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tasks.spawn(async move {
                let mut request = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut request).await {
                    if String::from_utf8_lossy(&request[..n]).contains("silent") {
                        let _ = tell.send(());
                        std::future::pending::<()>().await;
                    }
                    let done = b"HTTP/1.1 204 No Content\r\n\r\n";
                    let _ = stream.write_all(done).await;
                }
            });
        }
    });
    let sink = sink(&format!("http://{address}/in"), &SinkSecrets::none());
    let silent = [event("e-1", "site.curtail", "silent")];
    let hanging = futures_util::future::join_all((0..256).map(|_| sink.deliver(&silent, None)));
    let other = async {
        for _ in 0..256 {
            hangs.recv().await.unwrap();
        }
        let one = [event("e-2", "site.curtail", "s1")];
        sink.deliver(&one, None).await
    };
    // Those that hang are given up after the limit of an attempt.
    tokio::select! {
        _ = hanging => panic!("they hold it up"),
        other = other => assert_eq!(other, Attempt::Delivered),
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_known_without_a_request() {
    let (listener, address) = listen().await;
    let sink = impatient(address);
    assert_eq!(sink.probe().await, Ok(()));
    drop(listener);
    let reason = sink.probe().await.unwrap_err();
    assert!(reason.contains("refused"), "{reason}");
}
