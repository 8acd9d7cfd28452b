//! The listener under attack, and an API that has gone mad.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::harness::{Raw, Setup, World, dispatch, hint, in_ms, now, wait_until};

#[apply(test)]
async fn six_hundred_half_open_connections_delay_no_webhook_and_are_ended_in_30_s() {
    dispatchd::system::allow_open_files(16_384).unwrap();
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut peers = join_all((0..600).map(|_| Raw::connect(daemon.listener))).await;
    let opened = now();
    for (number, peer) in peers.iter_mut().enumerate() {
        match number % 3 {
            0 => {}
            1 => peer.say("POST /dispatch-listener HTTP/1.1\r\nHost:").await,
            _ => peer.begin_chunks().await,
        }
    }
    world.put(dispatch("d", 0, in_ms(60_000), None));
    let answer = tokio::time::timeout(Duration::from_secs(3), daemon.webhook("d")).await;
    assert_eq!(answer.expect("an answer in time").status, 200);
    // Some get a status first, and the connection is closed for all.
    join_all(peers.iter_mut().map(Raw::end)).await;
    let took = now() - opened;
    assert!(took.num_seconds() < 30, "{took}");
}

#[apply(test)]
async fn a_flood_of_junk_ids_costs_no_more_than_the_budget_and_delays_no_healing() {
    let world = World::new().await;
    let setup = world.setup().polling("1s").with("--api-rate", 240);
    let daemon = setup.with("--peer-rate", 0).ready().await;
    let before = world.sandbox.requests().len();
    let end = tokio::time::sleep(Duration::from_secs(5));
    let flood = join_all((0..16).map(async |client| {
        for junk in 0.. {
            let body = hint(&format!("/2022-04-15/dispatches/junk-{client}-{junk}"));
            let sent = daemon.http.post(daemon.webhook_url()).body(body);
            // Whatever it is answered.
            let _ = sent.send().await;
        }
    }));
    let healing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.put(dispatch("real", 0, in_ms(60_000), None));
        let lost = now();
        wait_until("the real one is healed", async || {
            daemon.entry("real").await.is_some()
        })
        .await;
        let took = now() - lost;
        assert!(took.num_milliseconds() < 2500, "{took}");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = end => {}
        _ = flood => unreachable!("it never ends"),
        () = healing => unreachable!("it never ends"),
    }
    assert!(daemon.entry("real").await.is_some());
    // A quarter of a minute's budget at once, and five seconds of the rest.
    let asked = world.sandbox.requests().len() - before;
    assert!(asked <= 60 + 5 * 3 + 2, "{asked} requests");
}

/// An API that answers every request with `head`, and then with `body` as long
/// as anybody reads.
async fn mad_api(head: String, body: &'static [u8], pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head.clone();
            tasks.spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() && !body.is_empty() {
                    sent = stream.write_all(body).await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    format!("http://{address}")
}

/// Waits until a poll of this API has failed, and gives the reason. Memory stays
/// bounded meanwhile.
async fn fails(world: &World, url: &str) -> String {
    let setup = Setup::new(url, world.folder().to_owned());
    let daemon = setup.polling("1s").start().await;
    let polled = async || daemon.health().await["sync"]["last_poll"].clone();
    wait_until("a poll has ended", async || {
        assert!(daemon.memory("VmHWM") < 400 * 1024);
        polled().await != json!(null)
    })
    .await;
    let poll = polled().await;
    assert_eq!(poll["ok"], false);
    poll["error"].as_str().unwrap().to_owned()
}

#[apply(test)]
async fn an_answer_of_400_mb_is_refused_and_memory_stays_bounded() {
    let world = World::new().await;
    let chunk = Box::leak(vec![b' '; 1 << 20].into_boxed_slice());
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 419430400\r\n\r\n".to_owned();
    let url = mad_api(announced, chunk, Duration::ZERO).await;
    assert!(fails(&world, &url).await.contains("--api-max-body"));
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned();
    let url = mad_api(endless, chunk, Duration::ZERO).await;
    let world = World::new().await;
    assert!(fails(&world, &url).await.contains("--api-max-body"));
}

#[apply(test)]
async fn a_wrong_content_length_is_a_failed_poll() {
    let world = World::new().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"dispatches\":[]}".to_owned();
    let url = mad_api(head, b"", Duration::ZERO).await;
    let reason = fails(&world, &url).await;
    assert!(reason.contains("cannot be reached"), "{reason}");
    let world = World::new().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"dispatches\":[]}".to_owned();
    let url = mad_api(head, b"", Duration::ZERO).await;
    let reason = fails(&world, &url).await;
    assert!(reason.contains("cannot be read"), "{reason}");
}
