use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::voltus::testing::{Server, empty_list};

fn build() -> Result<reqwest::Client, reqwest::Error> {
    crate::http::client_builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
}

async fn server() -> Server {
    Server::start((Ipv4Addr::LOCALHOST.into(), 0), |_| empty_list()).await
}

async fn ask(connections: &Connections, server: &Server, now: Duration) {
    let (client, _) = connections.client(now).await;
    let answer = client.get(format!("http://{}/", server.address)).send();
    answer.await.unwrap().bytes().await.unwrap();
}

#[tokio::test]
async fn no_request_is_begun_on_a_connection_that_is_too_old() {
    let server = server().await;
    let at = Duration::from_secs;
    let mut connections = Connections::new(build, at(0)).unwrap();
    connections.longest_use = at(10);
    for now in [0, 5, 9, 10, 19, 20, 3600] {
        ask(&connections, &server, at(now)).await;
    }
    assert_eq!(server.connections(), [0, 0, 0, 1, 1, 2, 3]);
    // A request of a minute more, and it is not yet five minutes.
    assert!(LONGEST_USE + at(60) <= at(300));
}

#[tokio::test]
async fn what_was_given_up_is_used_by_no_later_request() {
    let server = server().await;
    let now = Duration::ZERO;
    let connections = Connections::new(build, now).unwrap();
    connections.moved_to(Some("http://api.test/v2".parse().unwrap()));
    ask(&connections, &server, now).await;
    connections.give_up();
    connections.give_up();
    for _ in 0..3 {
        ask(&connections, &server, now).await;
    }
    assert_eq!(server.connections(), [0, 1, 1, 1]);
    assert_eq!(
        connections.client(now).await.1,
        None,
        "redirects are forgotten"
    );
}

#[tokio::test]
async fn many_who_need_a_new_connection_prepare_one_together() {
    let built = Arc::new(Mutex::new(0));
    let count = Arc::clone(&built);
    let counted = move || {
        *count.lock().unwrap() += 1;
        build()
    };
    let connections = Connections::new(counted, Duration::ZERO).unwrap();
    connections.give_up();
    let many = (0..20).map(|_| connections.client(Duration::ZERO));
    futures_util::future::join_all(many).await;
    assert_eq!(*built.lock().unwrap(), 2);
}

#[tokio::test]
async fn where_no_new_connection_can_be_prepared_the_old_one_is_used_on() {
    let server = server().await;
    let works = Arc::new(AtomicBool::new(true));
    let working = Arc::clone(&works);
    let builds = move || {
        if working.load(Ordering::SeqCst) {
            build()
        } else {
            crate::http::client_builder().user_agent("\n").build()
        }
    };
    let connections = Connections::new(builds, Duration::ZERO).unwrap();
    works.store(false, Ordering::SeqCst);
    ask(&connections, &server, Duration::ZERO).await;
    connections.give_up();
    ask(&connections, &server, Duration::ZERO).await;
    works.store(true, Ordering::SeqCst);
    connections.give_up();
    ask(&connections, &server, Duration::ZERO).await;
    assert_eq!(server.connections(), [0, 0, 1]);
}
