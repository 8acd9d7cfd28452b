//! SIGTERM and SIGINT.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::{
    Manner, Raw, Receiver, World, ask, dispatch, hint, in_ms, need, now, site_of, wait_until,
};

#[apply(test)]
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

#[apply(test)]
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
    assert!(told.contains(": 1 webhook answered, "), "{told}");
    world.sandbox.down(true);
    let daemon = world.setup().start().await;
    assert_eq!(daemon.phase("d").await, "scheduled");
}

#[apply(test)]
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
        told.contains(" 1 event delivered; 1 delivery is left for the next start"),
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

#[apply(test)]
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
    assert!(told.contains(": 1 webhook answered, "), "{told}");
    daemon.wait_for_log("some requests took too long").await;
}

/// A program that notes its begin and its end, and takes so many seconds.
fn program(world: &World, seconds: u32) -> PathBuf {
    let path = world.path("program");
    let notes = world.path("notes");
    let text = format!(
        "#!/bin/sh\necho begin >> {notes}\nsleep {seconds}\necho end >> {notes}\n",
        notes = notes.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn notes(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.path("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[apply(test)]
async fn a_program_that_runs_for_five_seconds_is_finished_and_not_run_again() {
    let world = World::new().await;
    let program = program(&world, 5);
    let setup = world.setup().sink(format!("exec:{}", program.display()));
    let mut daemon = setup.ready().await;
    world.known(&daemon, "d").await;
    wait_until("it runs", async || notes(&world) == ["begin"]).await;
    let told = now();
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    let took = (now() - told).num_milliseconds();
    assert_eq!(notes(&world), ["begin", "end"]);
    assert!((3000..9000).contains(&took), "{took}");

    let daemon = setup.start().await;
    wait_until("it is known to be delivered", async || {
        daemon.health().await["delivery"][0]["pending"] == 0
    })
    .await;
    daemon.wait_until_ready().await;
    assert_eq!(notes(&world), ["begin", "end"], "it is not run again");
}

#[apply(test)]
async fn a_program_that_runs_for_longer_is_ended_in_time_and_run_again_at_the_next_start() {
    let world = World::new().await;
    let program = program(&world, 60);
    let setup = world.setup().sink(format!("exec:{}", program.display()));
    let mut daemon = setup.ready().await;
    world.known(&daemon, "d").await;
    wait_until("it runs", async || notes(&world) == ["begin"]).await;
    let told = now();
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    let took = (now() - told).num_milliseconds();
    assert!((8000..10_500).contains(&took), "{took}");
    let _daemon = setup.start().await;
    wait_until("it runs again", async || notes(&world).len() == 2).await;
    assert_eq!(notes(&world), ["begin", "begin"]);
}

#[apply(test)]
async fn with_many_deliveries_pending_those_under_way_are_finished_and_no_other_begins() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave(Manner::Slow(Duration::from_millis(200)));
    let mut daemon = world.setup().sink(receiver.sink()).ready().await;
    // One subject, so that they go out one after the other.
    for number in 1..=150 {
        world.put(dispatch("d", number, in_ms(3_600_000 + number), None));
        assert_eq!(daemon.webhook("d").await.status, 200);
    }
    // Webhooks go on coming while it stops.
    let (url, http) = (daemon.webhook_url(), daemon.http.clone());
    let flood = TaskTracker::new();
    let flooding = CancellationToken::new();
    for _ in 0..8 {
        let (url, http) = (url.clone(), http.clone());
        let body = hint("/2022-04-15/dispatches/d");
        let sending = async move {
            // It fails once nobody listens any more.
            while http.post(&url).body(body.clone()).send().await.is_ok() {}
        };
        let sending = flooding.clone().run_until_cancelled_owned(sending);
        flood.spawn(sending);
    }
    let (told, asked) = (now(), receiver.asked());
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    let took = (now() - told).num_milliseconds();
    flooding.cancel();
    assert!(took < 9000, "{took}");
    let begun = receiver.asked();
    assert!(begun < 150, "all were delivered before: no test");
    // One more may begin while the signal is on its way.
    assert!(begun <= asked + 1, "{asked} before, {begun} after");
    wait_until("all that began is finished", async || {
        receiver.taken().len() == begun
    })
    .await;
    let left = daemon.wait_for_log("finished while stopping").await;
    assert!(left.contains("are left for the next start"), "{left}");
}

/// Has the system's resolver ask a server that never answers. Only root can
/// arrange that.
#[apply(test)]
async fn a_name_look_up_that_hangs_does_not_hold_up_the_end() {
    let server = UdpSocket::bind("127.7.7.53:53").await;
    need("the right to bind port 53", server.is_ok());
    let server = server.unwrap();
    let world = World::new().await;
    let resolver = world.path("resolv.conf");
    let text = "nameserver 127.7.7.53\noptions timeout:30 attempts:5\n";
    std::fs::write(&resolver, text).unwrap();
    let mount = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
    let resolver = resolver.display().to_string();
    let wrapper = [
        "/usr/bin/unshare",
        "--mount",
        "/bin/sh",
        "-c",
        mount,
        &resolver,
    ];
    let mut probe = Command::new(wrapper[0]);
    let probe = probe.args(&wrapper[1..]).arg("/bin/true").status();
    let may_mount = probe.is_ok_and(|status| status.success());
    need("mount namespaces, or the right to make one", may_mount);
    let setup = world.setup().wrapped(&wrapper);
    let mut daemon = setup
        .with("--api-url", "http://api.plant.test:1")
        .with("--api-key", "some-key")
        .start()
        .await;
    // The name is being looked up.
    let mut query = [0; 512];
    let asked = server.recv(&mut query);
    timeout(Duration::from_secs(20), asked)
        .await
        .unwrap()
        .unwrap();
    let told = now();
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    let took = (now() - told).num_milliseconds();
    assert!(took < 10_500, "{took}");
}
