//! What a service manager is told, with this process in systemd's place.

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::harness::{Setup, World, dispatch, in_ms};

const PATIENCE: Duration = Duration::from_secs(30);

struct Manager(UnixDatagram);

impl Manager {
    fn new(world: &World) -> Self {
        Self(UnixDatagram::bind(world.path("notify")).unwrap())
    }

    /// A daemon that tells it, and that it watches.
    fn started(&self, setup: Setup) -> Setup {
        setup
            .variable(
                "NOTIFY_SOCKET",
                self.0
                    .local_addr()
                    .unwrap()
                    .as_pathname()
                    .unwrap()
                    .display(),
            )
            .variable("WATCHDOG_USEC", 2_000_000)
    }

    /// The next thing that it is told, all its lines.
    async fn next(&self) -> String {
        self.hears("").await
    }

    /// Waits until it is told that.
    async fn hears(&self, words: &str) -> String {
        let hearing = async {
            let mut buffer = vec![0; 4096];
            loop {
                let length = self.0.recv(&mut buffer).await.unwrap();
                let told = std::str::from_utf8(&buffer[..length]).unwrap();
                if told.contains(words) {
                    return told.to_owned();
                }
            }
        };
        // The watchdog is told something all the time.
        let heard = timeout(PATIENCE, hearing).await;
        heard.unwrap_or_else(|_| panic!("it is not told {words:?} in {PATIENCE:?}"))
    }
}

#[apply(test)]
async fn it_is_ready_once_it_listens_and_alive_while_the_api_is_down() {
    let world = World::new().await;
    let manager = Manager::new(&world);
    world.sandbox.down(true);
    let setup = manager.started(world.setup().polling("100ms"));
    let (daemon, first) = tokio::join!(setup.start(), manager.next());
    assert_eq!(first, "READY=1\n");
    assert_eq!(daemon.get("/readyz").await.status, 503);
    manager.hears("STATUS=stale (").await;
    for _ in 0..3 {
        manager.hears("WATCHDOG=1").await;
    }
    assert_eq!(daemon.get("/healthz").await.status, 200);
    world.sandbox.down(false);
    world.put(dispatch("d", 0, in_ms(-1000), None));
    manager
        .hears("STATUS=fresh; dispatches: 1 active, 0 scheduled; sites curtailed: 1; revision ")
        .await;
}

#[apply(test)]
async fn it_tells_when_it_reads_its_files_again_and_when_it_ends() {
    let world = World::new().await;
    let manager = Manager::new(&world);
    // A service manager gives it no terminal.
    let setup = world.setup().wrapped(&["setsid"]);
    let mut daemon = manager.started(setup).start().await;
    manager.hears("READY=1").await;
    daemon.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1").await;
    let (_, since) = reloading.split_once("MONOTONIC_USEC=").unwrap();
    assert!(since.trim().parse::<u64>().unwrap() > 0);
    manager.hears("READY=1").await;
    let (code, _) = tokio::join!(daemon.stop(Signal::TERM), manager.hears("STOPPING=1"));
    assert_eq!(code.code(), Some(0));
}

#[apply(test)]
async fn it_is_never_ready_where_it_cannot_run() {
    let world = World::new().await;
    let manager = Manager::new(&world);
    std::fs::write(
        world.path("state.db"),
        "no database at all, but long enough to tell",
    )
    .unwrap();
    let mut process = manager.started(world.setup()).spawn();
    let ended = crate::harness::wait_for("the end", async || process.ended()).await;
    assert_eq!(ended.code(), Some(2));
    let mut buffer = [0; 16];
    assert!(
        manager.0.try_recv(&mut buffer).is_err(),
        "it was told nothing"
    );
}
