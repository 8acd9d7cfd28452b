//! Webhooks that come to a standby, with a leader on loopback.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;

use super::*;
use crate::clock::SystemClock;
use crate::http::{Bounds, Endpoint, refusal, serve};
use crate::model::WEBHOOK_PATH;

const SECRET: &str = "of the store";

/// A hint to look at this dispatch.
fn webhook(id: &str) -> Value {
    let resource = format!("/2022-04-15/dispatches/{id}");
    json!({"event": {"name": "dispatch.update"}, "resource": resource})
}

/// Listeners that end with the test.
#[derive(Default)]
struct Rig {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    async fn serve(&self, routes: Endpoint) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = warp::service(routes);
        let stop = self.stop.clone();
        self.tasks
            .spawn(serve(listener, service, Bounds::default(), stop));
        address
    }

    /// A leader with the leader's gate, which answers by the name of the dispatch, and
    /// the names of those that came. One peer may ask once.
    async fn leader(&self, store_secret: Option<&str>) -> (String, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Gate {
            secret: Some(Secret::fixed("of-the-leader".into())),
            fellows: store_secret.and_then(Fellows::new),
            peers: Arc::new(Peers::new(NonZeroU32::new(1), false)),
            traffic: Arc::new(Traffic::default()),
            counts_passed_on: true,
            tracer: Tracer::off(),
            clock: SystemClock::new(),
            notices: Notices::default(),
        });
        let names = Arc::clone(&seen);
        let routes = gate.routes(move |webhook: Webhook| {
            let names = Arc::clone(&names);
            async move {
                let Hint::Dispatch(id) = webhook.hint else {
                    return (Answered::Accepted, json_reply(StatusCode::OK, &json!({})));
                };
                names.lock().unwrap().push(id.as_str().to_owned());
                match id.as_str() {
                    "unknown" => {
                        let reply = refusal(StatusCode::NOT_FOUND, "no such dispatch");
                        (Answered::Rejected, reply)
                    }
                    "later" => {
                        let after = Duration::from_secs(77);
                        let status = StatusCode::SERVICE_UNAVAILABLE;
                        (
                            Answered::Failed,
                            come_back(status, "not settled yet", after),
                        )
                    }
                    "slow" => std::future::pending().await,
                    "long" => {
                        let body = json!({"status": "x".repeat(20_000)});
                        (Answered::Accepted, json_reply(StatusCode::OK, &body))
                    }
                    _ => {
                        let reply = json_reply(StatusCode::OK, &json!({"status": "settled"}));
                        (Answered::Accepted, reply)
                    }
                }
            }
        });
        (format!("http://{}", self.serve(routes).await), seen)
    }

    async fn standby(&self, leadership: Leadership) -> Standby {
        let traffic = Arc::new(Traffic::default());
        let (_, leader) = watch::channel(leadership);
        let forward = Forward {
            leader,
            holder: "me".into(),
            secret: Some(Secret::fixed("s3cret".into())),
            store_secret: SECRET.into(),
            peers: Arc::new(Peers::new(None, false)),
            traffic: Arc::clone(&traffic),
            deadline: Duration::from_secs(2),
            tracer: Tracer::off(),
            clock: SystemClock::new(),
        };
        let address = self.serve(forward.routes()).await;
        Standby { address, traffic }
    }

    async fn standby_of(&self, advertise: &str) -> Standby {
        self.standby(led_by("other", Some(advertise))).await
    }
}

fn led_by(holder: &str, advertise: Option<&str>) -> Leadership {
    Leadership::Standby {
        leader: Some(LeaseRow {
            term: 7,
            holder: holder.into(),
            beat: 1,
            node: "a".into(),
            advertise: advertise.map(Into::into),
            since: chrono::DateTime::UNIX_EPOCH,
            fingerprint: "".into(),
            given_back: false,
            server: "".into(),
        }),
    }
}

struct Standby {
    address: SocketAddr,
    traffic: Arc<Traffic>,
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

impl Standby {
    fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let client = client().unwrap();
        let url = format!("http://{}{path}", self.address);
        client.post(url).body(body.to_string())
    }

    async fn answer(&self, body: &Value) -> Answer {
        let path = format!("{WEBHOOK_PATH}/s3cret");
        read(self.post(&path, body)).await
    }

    async fn sends(&self, id: &str) -> Answer {
        self.answer(&webhook(id)).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let after = answer.headers().get(RETRY_AFTER);
    Answer {
        status: answer.status().as_u16(),
        retry_after: after.map(|after| after.to_str().unwrap().to_owned()),
        body: answer.json().await.unwrap(),
    }
}

fn assert_come_back(answer: &Answer, error: &str) {
    assert_eq!((answer.status, &answer.body["error"]), (503, &json!(error)));
    assert_eq!(answer.retry_after.as_deref(), Some("5"));
}

const NOBODY: &str = "this daemon stands by and knows no leader";
const SILENT: &str = "the leader does not answer";

#[tokio::test]
async fn the_leaders_answer_is_that_of_the_standby() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let standby = rig.standby_of(&format!("{leader}/")).await;
    let settled = standby.sends("d").await;
    assert_eq!(
        (settled.status, &settled.body["status"]),
        (200, &json!("settled"))
    );
    let unknown = standby.sends("unknown").await;
    assert_eq!(
        (unknown.status, &unknown.body["error"]),
        (404, &json!("no such dispatch"))
    );
    let later = standby.sends("later").await;
    assert_eq!(
        (later.status, later.retry_after.as_deref()),
        (503, Some("77"))
    );
    assert_eq!(later.body["error"], "not settled yet");
    let handshake = json!({"event": {"name": ""}, "resource": ""});
    assert_eq!(standby.answer(&handshake).await.status, 200);
    let other = json!({"event": {"name": "x"}, "resource": "/2022-04-15/programs/7"});
    assert_eq!(standby.answer(&other).await.status, 200);
    assert_eq!(*seen.lock().unwrap(), ["d", "unknown", "later"]);
    let counted = Answered::ALL.map(|answered| standby.traffic.counted(answered));
    assert_eq!(counted, [2, 1, 1, 1, 0]);
    assert_eq!(standby.traffic.passed_on(), 5);
}

/// The leader of this test lets one peer ask 1,000 times at once.
#[tokio::test]
async fn the_leader_sets_no_limit_for_what_a_standby_passes_on() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let standby = rig.standby_of(&leader).await;
    let client = client().unwrap();
    let ask = async || {
        let url = format!("http://{}{WEBHOOK_PATH}/s3cret", standby.address);
        let sent = client.post(url).body(webhook("d").to_string()).send();
        sent.await.unwrap().status().as_u16()
    };
    for _ in 0..11 {
        let asked = (0..100).map(|_| ask());
        let statuses = futures_util::future::join_all(asked).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1100);
    // A stranger has another token, and needs the secret in the path.
    let wrong = Fellows::new("of another store").unwrap().token();
    let stranger = client
        .post(format!("{leader}{WEBHOOK_PATH}"))
        .header(PASSED_ON, wrong)
        .body(webhook("d").to_string());
    assert_eq!(read(stranger).await.status, 404);
}

#[tokio::test]
async fn what_is_no_webhook_is_not_passed_on() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let standby = rig.standby_of(&leader).await;
    assert_eq!(standby.answer(&json!({"event": 7})).await.status, 400);
    let long =
        json!({"event": {"name": "x".repeat(70_000)}, "resource": "/2022-04-15/dispatches/d"});
    assert_eq!(standby.answer(&long).await.status, 413);
    let lost = read(standby.post(WEBHOOK_PATH, &webhook("d"))).await;
    assert_eq!(lost.status, 404);
    let url = format!("http://{}{WEBHOOK_PATH}/s3cret", standby.address);
    assert_eq!(read(client().unwrap().get(url)).await.status, 405);
    assert!(seen.lock().unwrap().is_empty());
    let counted = Answered::ALL.map(|answered| standby.traffic.counted(answered));
    assert_eq!(counted, [0, 0, 2, 0, 1]);
}

#[tokio::test]
async fn without_a_leader_who_can_be_asked_a_webhook_must_come_again() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let mut given_back = led_by("other", Some(&leader));
    if let Leadership::Standby { leader: Some(row) } = &mut given_back {
        row.given_back = true;
    }
    for leadership in [
        Leadership::Standby { leader: None },
        led_by("other", None),
        led_by("other", Some("no URL")),
        led_by("me", Some(&leader)),
        given_back,
        Leadership::Suspended { term: 7 },
        Leadership::Deposed { term: 7, by: None },
    ] {
        let standby = rig.standby(leadership).await;
        assert_come_back(&standby.sends("d").await, NOBODY);
        assert_eq!(standby.traffic.counted(Answered::Failed), 1);
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_webhook_is_never_passed_on_twice() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let second = rig.standby_of(&leader).await;
    let first = rig.standby_of(&format!("http://{}", second.address)).await;
    // The second one is a fellow, so that its answer counts.
    assert_come_back(&first.sends("d").await, NOBODY);
    assert_eq!(first.traffic.counted(Answered::Failed), 1);
    assert_eq!(second.traffic.passed_on(), 0);
    assert_eq!(second.traffic.received(), 0, "it is counted once");
    let path = format!("{WEBHOOK_PATH}/s3cret");
    let claimed = second.post(&path, &webhook("d")).header(PASSED_ON, "x");
    assert_come_back(&read(claimed).await, NOBODY);
    assert!(seen.lock().unwrap().is_empty());
}

/// A 200 is a promise of the leader alone.
#[tokio::test]
async fn an_answer_of_anybody_else_is_none() {
    let rig = Rig::default();
    let (stranger, _) = rig.leader(Some("of another store")).await;
    let (alone, _) = rig.leader(None).await;
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let page = warp::any().map(|| json_reply(StatusCode::OK, &json!({"status": "settled"})));
    let page = format!("http://{}", rig.serve(page.boxed()).await);
    let target = format!("{leader}{WEBHOOK_PATH}");
    let redirect = warp::any().map(move || {
        let mut reply = Response::default();
        *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
        let headers = reply.headers_mut();
        headers.insert(http::header::LOCATION, target.parse().unwrap());
        reply
    });
    let redirect = format!("http://{}", rig.serve(redirect.boxed()).await);
    for advertise in [stranger, alone, page, redirect] {
        let standby = rig.standby_of(&advertise).await;
        assert_come_back(&standby.sends("d").await, SILENT);
    }
    assert!(seen.lock().unwrap().is_empty(), "no redirect is followed");
    let standby = rig.standby_of(&leader).await;
    assert_come_back(&standby.sends("long").await, SILENT);
}

#[tokio::test]
async fn a_leader_that_hangs_or_is_gone_is_not_waited_for() {
    let rig = Rig::default();
    let (leader, seen) = rig.leader(Some(SECRET)).await;
    let standby = rig.standby_of(&leader).await;
    assert_come_back(&standby.sends("slow").await, SILENT);
    assert_eq!(*seen.lock().unwrap(), ["slow"], "it is asked once");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let standby = rig.standby_of(&format!("http://{address}")).await;
    assert_come_back(&standby.sends("d").await, SILENT);
}

/// The operator of the standby must find the wrong option, which is the leader's.
#[test]
fn whoever_reads_the_log_learns_which_address_is_wrong_and_where_to_correct_it() {
    let leader = || Leader {
        node: "plant-a".into(),
        advertise: "http://10.0.0.9:5000".into(),
    };
    for reason in [
        NotPassedOn::Twice(Some(leader())),
        NotPassedOn::Unreachable(leader(), "connection refused".into()),
        NotPassedOn::TooSlow(leader(), Duration::from_secs(5)),
        NotPassedOn::Stranger(leader(), StatusCode::OK),
    ] {
        let text = reason.to_string();
        let named = "the leader plant-a (--advertise http://10.0.0.9:5000)";
        assert!(text.contains(named), "{text}");
        assert!(text.contains("correct it there"), "{text}");
    }
}
