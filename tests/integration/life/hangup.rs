//! SIGHUP: from a terminal that is closed, by hand, and where it is ignored.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Setup, World, dispatch, in_ms, open_terminal, wait_for, wait_until};

/// A daemon that a person has started in a terminal: it has nothing else for
/// its events and its log.
struct InTerminal {
    child: Child,
    drawn: Arc<Mutex<Vec<u8>>>,
    screen: Option<OwnedFd>,
}

impl InTerminal {
    /// Starts `setup`, whose prefix must make the terminal the controlling one.
    async fn start(setup: &Setup) -> Self {
        let (screen, line) = open_terminal();
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut command = setup.command();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (into, mut from) = (Arc::clone(&drawn), File::from(screen.try_clone().unwrap()));
        drop((command, line));
        // It ends with the daemon's address, so that the screen can be closed.
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
                into.extend_from_slice(&buffer[..length]);
                if String::from_utf8_lossy(&into).contains("events go to") {
                    return;
                }
            }
        });
        let daemon = Self {
            child: child.unwrap(),
            drawn,
            screen: Some(screen),
        };
        wait_until("the daemon says where it is", async || {
            reading.is_finished()
        })
        .await;
        daemon
    }

    /// Where its status is told.
    fn status(&self) -> String {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = String::from_utf8_lossy(&drawn);
        let (_, behind) = drawn.split_once("status is told at ").expect(&drawn);
        let address = behind.split(['\r', '\x1b']).next().unwrap();
        address.trim().to_owned()
    }

    async fn is_ready(&self) -> bool {
        let http = dispatchd::http::client_builder()
            .no_proxy()
            .build()
            .unwrap();
        let answer = http.get(format!("{}/readyz", self.status())).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    fn close(&mut self) {
        self.screen = None;
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.unwrap(), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        wait_for("its end", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[apply(test)]
async fn when_its_terminal_is_closed_the_daemon_ends_and_frees_port_and_file() {
    let world = World::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let setup = world.setup().with("--listen", listen).polling("200ms");
    // It has events to tell, on a terminal that is gone.
    world.put(dispatch("a", 0, in_ms(-1000), None));
    let mut daemon = InTerminal::start(&setup.clone().wrapped(&["setsid", "--ctty"])).await;
    wait_until("it is ready", async || daemon.is_ready().await).await;
    daemon.close();
    assert_eq!(daemon.ended().await.code(), Some(0));
    let again = setup.ready().await;
    assert_eq!(again.phase("a").await, "active");
}

#[apply(test)]
async fn a_sighup_by_hand_ends_a_daemon_that_has_a_terminal() {
    let world = World::new().await;
    let setup = world.setup().wrapped(&["setsid", "--ctty"]);
    let mut daemon = InTerminal::start(&setup).await;
    daemon.signal(Signal::HUP);
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[apply(test)]
async fn a_sighup_that_was_ignored_at_the_start_stays_ignored() {
    let world = World::new().await;
    let setup = world.setup().wrapped(&["setsid", "nohup"]);
    let mut daemon = setup.ready().await;
    let polls = world.polls().len();
    for _ in 0..3 {
        daemon.signal(Signal::HUP);
    }
    // What is asked for after it comes after it.
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(world.polls().len(), polls + 1, "it asked for no poll");
    assert!(daemon.ended().is_none());
    let log = daemon.log().join("\n");
    assert!(!log.contains("SIGHUP received"), "{log}");
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
}

#[apply(test)]
async fn a_daemon_that_ignores_sighup_goes_on_when_its_terminal_is_closed() {
    let world = World::new().await;
    let ignoring = [
        "setsid",
        "--ctty",
        "sh",
        "-c",
        "trap '' HUP; exec \"$@\"",
        "sh",
    ];
    // Each poll has something for the log, which goes nowhere.
    let setup = world.setup().polling("100ms").wrapped(&ignoring);
    let setup = setup.variable("RUST_LOG", "trace");
    let mut daemon = InTerminal::start(&setup).await;
    wait_until("it is ready", async || daemon.is_ready().await).await;
    daemon.close();
    world.put(dispatch("a", 0, in_ms(-1000), None));
    world.wait_for_polls(5).await;
    assert!(daemon.is_ready().await);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
}
