//! More connections than there are places, none of which asks anything.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Daemon, Raw, World, ask, dispatch, hint, in_ms, wait_for, wait_until};

/// More than there are places.
const MANY: usize = 4200;

const DISPATCH: &str = "/2022-04-15/dispatches/d";

fn own(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// Opens [`MANY`] connections, each from the address that `from` gives, and
/// lets each say `words`.
async fn besiege(daemon: &Daemon, from: impl Fn(usize) -> u8, words: &str) -> Vec<Raw> {
    // Each costs this process a file, and other tests run beside.
    dispatchd::system::allow_open_files(16_384).unwrap();
    let mut peers = Vec::new();
    // No more at once than the system's backlog holds.
    for first in (0..MANY).step_by(100) {
        let some = first..(first + 100).min(MANY);
        let connecting = some.map(async |number| {
            let mut peer = Raw::connect_from(own(from(number)), daemon.listener).await;
            peer.try_to_say(words).await;
            peer
        });
        peers.extend(join_all(connecting).await);
    }
    peers
}

/// A client whose connections come from `last`.
fn client_of(last: u8) -> reqwest::Client {
    let client = dispatchd::http::client_builder()
        .no_proxy()
        .local_address(own(last));
    client.build().unwrap()
}

/// Webhooks from `last` are answered at once, each on a connection of its own.
async fn assert_answered(world: &World, daemon: &Daemon, last: u8) {
    world.put(dispatch("d", 1, in_ms(60_000), None));
    for number in 0..10 {
        let webhook = client_of(last).post(daemon.webhook_url());
        let webhook = ask(webhook.body(hint(DISPATCH)));
        // A little for a busy machine; idle connections end by themselves after 15 s.
        let answer = tokio::time::timeout(Duration::from_secs(5), webhook).await;
        let answer = answer.unwrap_or_else(|_| panic!("webhook {number} is not answered"));
        assert_eq!(answer.status, 200, "webhook {number}");
    }
}

async fn metric(daemon: &Daemon, series: &str) -> f64 {
    let answer = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let text = answer.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.expect(series).trim().parse().unwrap()
}

#[apply(test)]
async fn idle_connections_of_one_address_keep_no_other_from_being_answered() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let _peers = besiege(&daemon, |_| 1, "").await;
    assert_answered(&world, &daemon, 2).await;
    // And the address itself is served, too, once its idle connections give way: after
    // a burst faster than a quarter of a second none does at first.
    wait_until("the address itself is served", async || {
        let webhook = client_of(1).post(daemon.webhook_url());
        let answer = webhook.body(hint(DISPATCH)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert_answered(&world, &daemon, 1).await;
    daemon.wait_for_log("closed the longest idle").await;
    let lines = daemon.log();
    let told = lines.iter().filter(|line| line.contains("longest idle"));
    assert_eq!(told.count(), 1, "one line a minute: {lines:?}");
    let open = metric(&daemon, "dispatchd_connections{listener=\"webhooks\"}").await;
    assert!((1024.0..4096.0).contains(&open), "{open}");
    // Where the burst is faster than a quarter of a second, none is idle for long
    // enough to give way, and newcomers are turned away instead.
    let cut = |reason: &str| {
        format!(r#"dispatchd_connections_cut_total{{listener="webhooks",reason="{reason}"}}"#)
    };
    let gave_way = metric(&daemon, &cut("gave_way")).await;
    let turned_away = metric(&daemon, &cut("turned_away")).await;
    assert!(gave_way + turned_away >= MANY as f64 - 4096.0);
}

#[apply(test)]
async fn idle_connections_of_many_addresses_keep_no_other_from_being_answered() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let _peers = besiege(&daemon, |number| 10 + (number % 100) as u8, "").await;
    assert_answered(&world, &daemon, 2).await;
}

#[apply(test)]
async fn half_sent_heads_keep_nobody_from_being_answered() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let words = "POST /dispatch-listener HTTP/1.1\r\nHost:";
    let _peers = besiege(&daemon, |number| 10 + (number % 3) as u8, words).await;
    assert_answered(&world, &daemon, 2).await;
}

#[apply(test)]
async fn half_sent_bodies_take_no_place_of_a_webhook_that_waits() {
    let world = World::new().await;
    let daemon = world.setup().with("--peer-rate", 0).ready().await;
    let words =
        "POST /dispatch-listener HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{\"event\":";
    let _peers = besiege(&daemon, |number| 10 + (number % 3) as u8, words).await;
    assert_answered(&world, &daemon, 2).await;
}

#[apply(test)]
async fn behind_a_proxy_all_connections_of_one_address_have_places_and_are_answered() {
    let world = World::new().await;
    let setup = world.setup().flag("--trust-forwarded-for");
    let daemon = setup.ready().await;
    let _peers = besiege(&daemon, |_| 1, "").await;
    assert_answered(&world, &daemon, 1).await;
    let open = metric(&daemon, "dispatchd_connections{listener=\"webhooks\"}").await;
    assert!(open >= 4000.0, "{open}");
}

#[apply(test)]
async fn a_peer_that_does_not_read_its_answers_is_closed() {
    let world = World::new().await;
    let daemon = world.setup().ready().await;
    let mut peer = Raw::connect_from(own(1), daemon.status).await;
    // Each answer is longer than ten kilobytes.
    let asks = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let asking = async {
        peer.try_to_say(&asks).await;
        std::future::pending::<()>().await;
    };
    let stalled = r#"dispatchd_connections_cut_total{listener="status",reason="stalled"}"#;
    let closed = wait_until("it is closed", async || {
        metric(&daemon, stalled).await == 1.0
    });
    tokio::select! {
        () = asking => unreachable!("it never ends"),
        () = closed => {}
    }
    daemon.wait_for_log("did not read their answers").await;
}

#[apply(test)]
async fn when_all_places_of_a_peer_are_busy_it_is_told_to_come_again_and_others_are_served() {
    dispatchd::system::allow_open_files(16_384).unwrap();
    let world = World::new().await;
    let setup = world.setup().with("--webhook-deadline", "30s");
    let daemon = setup.with("--peer-rate", 0).ready().await;
    world.faults(json!({"api_delay_ms": 15000}));
    let body = hint("/2022-04-15/dispatches/none");
    let webhook = format!(
        "POST /dispatch-listener HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut busy = Vec::new();
    for _ in 0..21 {
        let connecting = (0..100).map(async |_| {
            let mut peer = Raw::connect_from(own(1), daemon.listener).await;
            peer.try_to_say(&webhook).await;
            peer
        });
        busy.extend(join_all(connecting).await);
    }
    // Whoever gets a place keeps it, until there is none.
    let turned_away = wait_for("a connection is turned away", async || {
        let mut peer = Raw::connect_from(own(1), daemon.listener).await;
        peer.try_to_say(&webhook).await;
        let head = tokio::time::timeout(Duration::from_millis(100), peer.head()).await;
        busy.push(peer);
        head.ok().filter(|head| head.starts_with("HTTP/1.1 503 "))
    })
    .await;
    assert!(turned_away.contains("retry-after: 1\r\n"), "{turned_away}");
    let handshake = json!({"event": {"name": ""}, "resource": ""}).to_string();
    let http = dispatchd::http::client_builder().no_proxy();
    let http = http.local_address(own(2)).build().unwrap();
    let asked = ask(http.post(daemon.webhook_url()).body(handshake));
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    assert_eq!(answer.expect("an answer at once").status, 200);
    daemon.wait_for_log("answered new connections 503").await;
}
