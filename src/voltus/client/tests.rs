use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::SecretString;

use super::*;
use crate::clock::SystemClock;
use crate::voltus::connections::Connections;
use crate::voltus::testing::{Seen, Server, answer, empty_list};
use crate::voltus::{Admin, RedirectRefusal, WebhookUrl};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn settings(base: &str) -> ClientSettings {
    ClientSettings {
        base: base.parse().unwrap(),
        version: "2022-04-15".into(),
        max_body: 1 << 20,
    }
}

fn key() -> Arc<ApiKey> {
    let key = SecretString::from("the-key");
    Arc::new(ApiKey::fixed(&key).unwrap())
}

async fn server(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Server {
    Server::start((LOCALHOST, 0), answer).await
}

fn client(server: &Server) -> Client<SystemClock> {
    let settings = settings(&format!("http://{}", server.address));
    Client::new(&settings, key(), SystemClock::new()).unwrap()
}

fn paths(server: &Server) -> Vec<String> {
    server
        .seen()
        .iter()
        .map(|seen| seen.path().to_owned())
        .collect()
}

fn redirect(status: &str, to: &str) -> String {
    answer(status, &format!("location: {to}\r\n"), "")
}

/// Looks a name up: one address, and another one once the name has moved.
struct Moving(Arc<AtomicBool>);

impl Resolve for Moving {
    fn resolve(&self, _: Name) -> Resolving {
        let host = if self.0.load(Ordering::SeqCst) {
            ELSEWHERE
        } else {
            LOCALHOST
        };
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(host, 0)));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

#[tokio::test]
async fn when_the_name_moves_and_the_old_address_answers_503_the_new_one_is_asked_next() {
    let moved = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&moved);
    let old = server(move |_| {
        if gone.load(Ordering::SeqCst) {
            answer("503 Service Unavailable", "", "{}")
        } else {
            empty_list()
        }
    })
    .await;
    let port = old.address.port();
    let new = Server::start((ELSEWHERE, port), |_| empty_list()).await;
    let resolver = Arc::new(Moving(Arc::clone(&moved)));
    let build = move || {
        crate::http::client_builder()
            .no_proxy()
            .tls_certs_only([])
            .dns_resolver(Arc::clone(&resolver))
            .build()
    };
    let connections = Connections::new(build, Duration::ZERO).unwrap();
    let settings = settings(&format!("http://api.test:{port}"));
    let clock = SystemClock::new();
    let client = Client {
        transport: Transport::over(connections, &settings, key(), clock).unwrap(),
        max_body: settings.max_body,
        reader: SharedReader::default(),
    };
    for _ in 0..3 {
        client.ask(Question::List).await.unwrap();
    }
    assert_eq!(
        old.connections(),
        [0, 0, 0],
        "good polls keep the connection"
    );
    moved.store(true, Ordering::SeqCst);
    client.ask(Question::List).await.unwrap_err();
    client.ask(Question::List).await.unwrap();
    assert_eq!(new.connections(), [0]);
}

#[tokio::test]
async fn a_redirect_on_the_api_s_own_host_is_followed_with_the_key() {
    for (status, asked) in [
        // A permanent one need not be asked again.
        ("301 Moved Permanently", 5),
        ("308 Permanent Redirect", 5),
        ("302 Found", 6),
        ("307 Temporary Redirect", 6),
    ] {
        let server = server(move |seen| match seen.path() {
            "/2022-04-15/dispatches" => redirect(status, "/2027-01-01/dispatches"),
            "/2022-04-15/dispatches/d" => redirect(status, "/2027-01-01/dispatches/d"),
            "/2027-01-01/dispatches" => empty_list(),
            _ => answer(
                "404 Not Found",
                "",
                r#"{"message": "no", "type": "Not Found"}"#,
            ),
        })
        .await;
        let client = client(&server);
        client.ask(Question::List).await.unwrap();
        client.ask(Question::List).await.unwrap();
        let id = DispatchId::new("d").unwrap();
        let gone = client.ask(Question::Dispatch(id.clone())).await.unwrap();
        assert_eq!(gone.answer, Answer::Gone(id));
        let seen = server.seen();
        assert!(seen.len() <= asked, "{status}: {:?}", paths(&server));
        for seen in seen {
            assert!(seen.head.contains("x-voltus-api-key: the-key"), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_remembered_redirect_is_forgotten_when_it_leads_nowhere() {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let server = server(
        move |seen| match (seen.path(), is_back.load(Ordering::SeqCst)) {
            ("/2022-04-15/dispatches", false) => {
                redirect("301 Moved Permanently", "/2027-01-01/dispatches")
            }
            ("/2022-04-15/dispatches", true) | ("/2027-01-01/dispatches", false) => empty_list(),
            _ => answer("410 Gone", "", ""),
        },
    )
    .await;
    let client = client(&server);
    client.ask(Question::List).await.unwrap();
    back.store(true, Ordering::SeqCst);
    client.ask(Question::List).await.unwrap_err();
    client.ask(Question::List).await.unwrap();
}

#[tokio::test]
async fn a_redirect_to_anywhere_else_is_not_followed_and_the_key_stays() {
    let other = Server::start((ELSEWHERE, 0), |_| empty_list()).await;
    let to = format!("http://{}/2022-04-15/dispatches", other.address);
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let to = to.clone();
        let server = server(move |_| redirect(status, &to)).await;
        let error = client(&server).ask(Question::List).await.unwrap_err();
        let ApiError::Redirect { refusal, .. } = &error else {
            panic!("{error}");
        };
        let origin = format!("http://{}", other.address);
        assert_eq!(*refusal, RedirectRefusal::OtherOrigin(origin));
        assert!(error.to_string().contains("--api-url"), "{error}");
    }
    assert!(other.seen().is_empty());
}

/// A limiter that allows so many requests, then none any more.
fn allowing(allowed: usize) -> (RedirectLimiter, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let limiter = RedirectLimiter::new(move || {
        let before = count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(before < allowed)
    });
    (limiter, asked)
}

#[tokio::test]
async fn each_redirect_that_is_followed_asks_the_limiter_first() {
    let server = server(|seen| match seen.path() {
        "/2022-04-15/dispatches" => redirect("302 Found", "/a/dispatches"),
        "/a/dispatches" => redirect("307 Temporary Redirect", "/b/dispatches"),
        "/2022-04-15/webhooks/w" => redirect("308 Permanent Redirect", "/v2/webhooks/w"),
        "/2022-04-15/dispatches/d" => redirect("302 Found", "http://127.0.0.2:1/d"),
        _ => empty_list(),
    })
    .await;
    let mut client = client(&server);
    let (limiter, asked) = allowing(3);
    client.limit_redirects(limiter);
    client.ask(Question::List).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // One that is not followed costs nothing.
    let id = DispatchId::new("d").unwrap();
    client.ask(Question::Dispatch(id)).await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // The second one of the next list is not allowed any more, and not sent.
    let sent = server.seen().len();
    let error = client.ask(Question::List).await.unwrap_err();
    assert!(error.to_string().contains("is stopping"), "{error}");
    assert_eq!(server.seen().len(), sent + 2);

    // The registration's, too.
    let settings = settings(&format!("http://{}", server.address));
    let mut admin = Admin::new(&settings, key(), SystemClock::new()).unwrap();
    let (limiter, asked) = allowing(1);
    admin.limit_redirects(limiter);
    assert!(admin.delete(&"w".parse().unwrap()).await.unwrap());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_that_the_limiter_does_not_allow_in_time_is_told_by_the_option() {
    let server = server(|_| redirect("302 Found", "/a/dispatches")).await;
    let mut transport = client(&server).transport;
    transport.limit_redirects(RedirectLimiter::new(std::future::pending));
    let left = Duration::from_millis(50);
    let refusal = transport.wait_for_limiter(left).await.unwrap_err();
    assert_eq!(refusal, RedirectRefusal::NoBudget);
    let error = ApiError::Redirect {
        status: 302,
        refusal,
    };
    assert!(error.to_string().contains("--api-rate"), "{error}");
}

#[tokio::test]
async fn redirects_in_a_circle_end_after_three() {
    let server = server(|_| redirect("302 Found", "/2022-04-15/dispatches")).await;
    let error = client(&server).ask(Question::List).await.unwrap_err();
    assert!(error.to_string().contains("after 3 others"), "{error}");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_registration_is_repeated_elsewhere_only_where_the_redirect_says_so() {
    let server = server(|seen| match seen.path() {
        "/2022-04-15/webhooks" => redirect("301 Moved Permanently", "/v2/webhooks"),
        "/2022-04-15/webhooks/w" => redirect("308 Permanent Redirect", "/v2/webhooks/w"),
        _ => answer("200 OK", "", "[]"),
    })
    .await;
    let settings = settings(&format!("http://{}", server.address));
    let admin = Admin::new(&settings, key(), SystemClock::new()).unwrap();
    let url = WebhookUrl::new("https://plant.test/dispatch-listener");
    let error = admin.register(&url).await.unwrap_err();
    assert!(error.to_string().contains("not a GET"), "{error}");
    assert!(admin.delete(&"w".parse().unwrap()).await.unwrap());
    assert_eq!(
        paths(&server),
        [
            "/2022-04-15/webhooks",
            "/2022-04-15/webhooks/w",
            "/v2/webhooks/w"
        ]
    );
}

#[tokio::test]
async fn requests_ask_for_a_fresh_answer_and_tell_how_old_it_is() {
    let server = server(|_| {
        let headers = "age: 60\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        answer("200 OK", headers, r#"{"dispatches": []}"#)
    })
    .await;
    let told = client(&server).ask(Question::List).await.unwrap();
    assert_eq!(told.stamp.age, Duration::from_secs(60));
    assert!(!told.stamp.clock_agrees(SystemClock::new().now()));
    assert!(server.seen()[0].head.contains("cache-control: no-cache"));
}

#[tokio::test]
async fn no_connection_and_a_broken_one_are_told_apart() {
    let broken = server(|_| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()).await;
    let refused = {
        let gone = server(|_| String::new()).await;
        settings(&format!("http://{}", gone.address))
    };
    let client = Client::new(&refused, key(), SystemClock::new()).unwrap();
    let error = client.ask(Question::List).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable(_)), "{error}");
    let client = self::client(&broken);
    let asking = client.ask(Question::List);
    let ending = async {
        while broken.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(broken);
    };
    let (answer, ()) = tokio::join!(asking, ending);
    let error = answer.unwrap_err();
    assert!(matches!(error, ApiError::Interrupted(_)), "{error}");
}
