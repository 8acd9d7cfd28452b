//! SIGTERM and SIGINT.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    Manner, Raw, Receiver, World, ask, dispatch, hint, in_ms, now, site_of, wait_until,
};

#[tokio::test]
async fn a_signal_ends_the_daemon_with_0_and_commands_no_site() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new().await;
        let mut daemon = world.setup().ready().await;
        world.put(dispatch("d", 0, in_ms(-1000), None));
        assert_eq!(daemon.webhook("d").await.status, 200);
        daemon.wait_for_event(&site_of("d"), "site.curtail").await;
        assert_eq!(daemon.stop(signal).await.code(), Some(0));
        assert_eq!(daemon.types_of(&site_of("d")), ["site.curtail"]);
    }
}

#[tokio::test]
async fn a_webhook_that_is_under_way_is_answered_before_the_end_and_counted() {
    let world = World::new().await;
    let mut daemon = world.setup().ready().await;
    world.put(dispatch("d", 0, in_ms(60_000), None));
    world.faults(json!({"api_delay_ms": 1000}));
    let body = hint("/2022-04-15/dispatches/d");
    let webhook = ask(daemon.http.post(daemon.webhook_url()).body(body));
    let (answer, status) = tokio::join!(webhook, async {
        wait_until("it is being looked at", async || {
            world.look_ups("d").len() == 1
        })
        .await;
        daemon.stop(Signal::TERM).await
    });
    assert_eq!((answer.status, status.code()), (200, Some(0)));
    let told = daemon.wait_for_log("finished while stopping").await;
    assert!(told.contains(": 1 webhooks answered, "), "{told}");
    world.sandbox.down(true);
    let daemon = world.setup().start().await;
    assert_eq!(daemon.phase("d").await, "scheduled");
}

#[tokio::test]
async fn a_delivery_that_is_under_way_is_finished_and_others_are_left_for_the_next_start() {
    let world = World::new().await;
    let (slow, down) = (Receiver::new().await, Receiver::new().await);
    slow.behave(Manner::Slow(Duration::from_secs(1)));
    down.behave(Manner::Fails);
    let setup = world.setup().sink(slow.sink()).sink(down.sink());
    let mut daemon = setup.ready().await;
    world.known(&daemon, "d").await;
    wait_until("both are asked", async || {
        slow.asked() == 1 && down.asked() >= 1
    })
    .await;
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    let told = daemon.wait_for_log("finished while stopping").await;
    assert!(
        told.contains(" 1 events delivered; 1 deliveries are left for the next start"),
        "{told}"
    );
    assert_eq!(slow.types_of("d"), ["dispatch.created"]);
    down.behave(Manner::Takes);
    let _daemon = setup.start().await;
    wait_until("the other has it too", async || {
        down.types_of("d") == ["dispatch.created"]
    })
    .await;
    assert_eq!(slow.taken().len(), 1, "what was finished is not repeated");
}

#[tokio::test]
async fn whatever_hangs_the_end_comes_within_ten_seconds_and_the_waiting_are_told_to_come_back() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let mut daemon = world
        .setup()
        .with("--webhook-deadline", "50s")
        .sink(receiver.sink())
        .ready()
        .await;
    receiver.behave(Manner::Hangs);
    world.known(&daemon, "a").await;
    wait_until("a delivery hangs", async || receiver.asked() == 1).await;
    world.faults(json!({"api_delay_ms": 60_000}));
    world.put(dispatch("b", 0, in_ms(60_000), None));
    let mut half = Raw::connect(daemon.listener).await;
    half.say("POST /dispatch-listener HTTP/1.1\r\n").await;
    let body = hint("/2022-04-15/dispatches/b");
    let webhook = ask(daemon.http.post(daemon.webhook_url()).body(body));
    let (answer, (took, code)) = tokio::join!(webhook, async {
        wait_until("the webhook hangs", async || world.look_ups("b").len() == 1).await;
        let told = now();
        let code = daemon.stop(Signal::TERM).await.code();
        (now() - told, code)
    });
    assert_eq!((answer.status, code), (503, Some(0)));
    assert!(!answer.header("retry-after").is_empty());
    // A little for a busy machine, and for looking only now and then.
    assert!(took.num_milliseconds() < 10_500, "{took}");
    let told = daemon.wait_for_log("finished while stopping").await;
    assert!(told.contains(": 1 webhooks answered, "), "{told}");
    daemon.wait_for_log("some requests took too long").await;
}
