//! The stream as a listener sees it.

use std::time::Duration;

use chrono::DateTime;
use http_body_util::BodyExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use warp::Filter as _;

use super::*;
use crate::http::{Bounds, serve};
use crate::status::testing::view;
use crate::store::{Batch, MemoryStore};

/// Longer than any test should need.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many events the tests' channel holds: few, so that they soon lag.
const HELD: usize = 4;

fn event(position: u64, event_type: &str, data: &Value) -> Event {
    Event {
        position,
        term: 1,
        id: Event::id_at("ab12", 1, position),
        event_type: event_type.into(),
        subject: "mill".into(),
        time: DateTime::UNIX_EPOCH,
        sequence: position,
        unconditional: false,
        origin: None,
        data: RawValue::from_string(data.to_string()).unwrap().into(),
    }
}

/// A stream, and the daemon behind it.
struct Rig {
    stream: EventStream,
    store: StoreHandle,
    view: watch::Sender<View>,
    live: broadcast::Sender<Event>,
    stop: CancellationToken,
    position: u64,
}

impl Rig {
    fn new() -> Self {
        let kept = MemoryStore::new("ab12", DateTime::UNIX_EPOCH);
        let (_, store) = StoreHandle::start(kept.clone(), kept).unwrap();
        let (view, seen) = watch::channel(view([]));
        let (live, _) = broadcast::channel(HELD);
        let stop = CancellationToken::new();
        let stream = EventStream::new(
            "ab12".into(),
            store.clone(),
            seen,
            live.clone(),
            stop.clone(),
        );
        Self {
            stream,
            store,
            view,
            live,
            stop,
            position: 0,
        }
    }

    /// Commits an event, and shows it as the driver does.
    async fn happen(&mut self, event_type: &str) {
        self.happen_with(event_type, &json!({"a": 1})).await;
    }

    async fn happen_with(&mut self, event_type: &str, data: &Value) {
        self.position += 1;
        let event = event(self.position, event_type, data);
        let batch = Batch {
            term: 1,
            events: vec![event.clone()],
            ..Batch::default()
        };
        self.store.commit(Box::new(batch)).await.unwrap();
        self.view.send_modify(|view| view.position = event.position);
        let _ = self.live.send(event);
    }

    fn open(&self, query: &str, last: Option<&str>) -> Response {
        let last = last.map(|last| ("last-event-id".parse().unwrap(), last.parse().unwrap()));
        self.stream.open(query, &HeaderMap::from_iter(last), None)
    }

    fn listen(&self, query: &str, last: Option<&str>) -> Listener {
        let reply = self.open(query, last);
        assert_eq!(reply.status(), 200);
        Listener {
            reply,
            text: String::new(),
        }
    }
}

struct Listener {
    reply: Response,
    text: String,
}

impl Listener {
    /// The next block. `None` once the stream has ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENCE, self.reply.body_mut().frame())
                .await
                .unwrap()?;
            let data = frame.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The positions of the next events, behind the opening.
    async fn positions(&mut self, count: usize) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.len() < count {
            let block = self.block().await.unwrap();
            if block.contains("data: ") {
                let id = block
                    .lines()
                    .find_map(|line| line.strip_prefix("id: ab12-1-"));
                positions.push(id.unwrap().parse().unwrap());
            }
        }
        positions
    }
}

#[tokio::test]
async fn without_a_last_event_only_what_happens_from_now_is_shown() {
    let mut rig = Rig::new();
    rig.happen("site.curtail").await;
    let mut listener = rig.listen("", None);
    let headers = listener.reply.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    let opening = listener.block().await.unwrap();
    assert_eq!(opening, "retry: 2000\nid: ab12-1");
    rig.happen("site.release").await;
    let block = listener.block().await.unwrap();
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines[..2], ["id: ab12-1-2", "event: site.release"]);
    let data = lines[2].strip_prefix("data: ").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let shown = event(2, "site.release", &json!({"a": 1}));
    assert_eq!(data, serde_json::to_value(shown).unwrap());
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_listener_goes_on_where_it_left_off_without_gap_or_double() {
    let mut rig = Rig::new();
    for _ in 0..100 {
        rig.happen("site.adjust").await;
    }
    for (query, last) in [
        ("", Some("40")),
        ("", Some("ab12-40")),
        ("last_event_id=ab12-40", None),
    ] {
        let mut listener = rig.listen(query, last);
        let opening = listener.block().await.unwrap();
        assert_eq!(opening, "retry: 2000\nid: ab12-40");
        // Shown late: the listener finds these in the store as well.
        for position in 99..=100 {
            let late = event(position, "site.adjust", &json!({"a": 1}));
            rig.live.send(late).unwrap();
        }
        assert_eq!(
            listener.positions(60).await,
            (41..=100).collect::<Vec<u64>>()
        );
    }
    let mut listener = rig.listen("", Some("100"));
    rig.happen("site.release").await;
    assert_eq!(listener.positions(1).await, [101]);
}

#[tokio::test]
async fn a_place_in_another_store_starts_from_the_first_event() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.happen("site.adjust").await;
    }
    for last in ["cd34-2", "cd34-1-2"] {
        let mut listener = rig.listen("", Some(last));
        assert_eq!(listener.positions(3).await, [1, 2, 3], "{last}");
    }
    assert_eq!(rig.open("", Some("yesterday")).status(), 400);
    assert_eq!(rig.open("type=sites", None).status(), 400);
}

#[tokio::test]
async fn a_place_that_a_restored_backup_has_not_reached_goes_on_with_the_next_event() {
    let mut rig = Rig::new();
    rig.happen("site.adjust").await;
    let mut listeners = ["9", "ab12-9", "ab12-1-9"].map(|last| rig.listen("", Some(last)));
    rig.happen("site.release").await;
    for listener in &mut listeners {
        assert_eq!(listener.positions(1).await, [2]);
    }
}

#[tokio::test]
async fn who_is_slow_is_caught_up_and_holds_up_nobody() {
    let mut rig = Rig::new();
    let mut slow = rig.listen("", None);
    let mut quick = rig.listen("", None);
    for position in 1..=200 {
        rig.happen("site.adjust").await;
        assert_eq!(quick.positions(1).await, [position]);
    }
    assert_eq!(slow.positions(200).await, (1..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_filter_lets_only_its_types_pass() {
    let mut rig = Rig::new();
    let mut live = rig.listen("type=site.", None);
    for event_type in [
        "dispatch.created",
        "site.curtail",
        "sync.stale",
        "site.release",
    ] {
        rig.happen(event_type).await;
    }
    assert_eq!(live.positions(2).await, [2, 4]);
    let mut stored = rig.listen("type=sync,dispatch.created", Some("0"));
    assert_eq!(stored.positions(2).await, [1, 3]);
}

#[tokio::test]
async fn there_are_so_many_places_and_each_is_given_back() {
    let rig = Rig::new();
    let mut listeners: Vec<Listener> = (0..LISTENERS).map(|_| rig.listen("", None)).collect();
    let refused = rig.open("", None);
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    listeners.pop();
    let freed = Arc::clone(&rig.stream.places).acquire_owned();
    drop(tokio::time::timeout(PATIENCE, freed).await.unwrap());
    assert_eq!(rig.open("", None).status(), 200);
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_is_alive() {
    let rig = Rig::new();
    let (chunks, queue) = mpsc::channel(QUEUE);
    let feed = Feed {
        store_id: "ab12".into(),
        store: rig.store.clone(),
        live: rig.live.subscribe(),
        filter: Filter::default(),
        after: 0,
        chunks,
        heartbeat: tokio::time::interval(Duration::from_millis(5)),
    };
    rig.stream.tasks.spawn(feed.run(rig.stop.clone(), None));
    let mut listener = Listener {
        reply: streamed(queue),
        text: String::new(),
    };
    listener.block().await.unwrap();
    for _ in 0..3 {
        assert_eq!(listener.block().await.unwrap(), ": still here");
    }
}

#[tokio::test]
async fn every_stream_ends_when_the_daemon_stops() {
    let rig = Rig::new();
    let mut listener = rig.listen("", None);
    listener.block().await.unwrap();
    rig.stop.cancel();
    assert_eq!(listener.block().await, None);
}

/// Such a connection would never end by itself.
#[tokio::test]
async fn a_listener_that_reads_nothing_does_not_hold_up_the_end() {
    let mut rig = Rig::new();
    let stream = rig.stream.clone();
    let routes = warp::any()
        .and(warp::ext::optional::<Hangup>())
        .map(move |hangup| stream.open("", &HeaderMap::new(), hangup));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let service = warp::service(routes);
    let serving = serve(socket, service, Bounds::default(), rig.stop.clone());
    let serving = rig.stream.tasks.spawn(serving);
    let mut deaf = TcpStream::connect(address).await.unwrap();
    deaf.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    while rig.live.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    // More than any socket's buffers take.
    let much = json!("x".repeat(1 << 20));
    for _ in 0..32 {
        rig.happen_with("site.adjust", &much).await;
    }
    rig.stop.cancel();
    tokio::time::timeout(PATIENCE, serving)
        .await
        .unwrap()
        .unwrap();
    drop(deaf);
}
