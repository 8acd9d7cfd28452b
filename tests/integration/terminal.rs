//! `dispatchd status` in a terminal, which it gets no other way than people do.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{
    COLUMNS, Daemon, World, dispatch, in_ms, open_terminal, wait_for, wait_until,
};

/// A command that has a terminal, and what it has drawn there.
struct Terminal {
    child: Child,
    drawn: Arc<Mutex<Vec<u8>>>,
    // While it is open, so is the terminal.
    _screen: OwnedFd,
}

impl Terminal {
    fn run(daemon: &Daemon, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (screen, line) = open_terminal();
        let mut command = Command::new(crate::deploy::PROGRAM);
        command.env_clear().env("TERM", "xterm-256color");
        command.env("DISPATCHD_STATUS_URL", daemon.status_url(""));
        command
            .envs(variables.iter().copied())
            .arg("status")
            .args(arguments);
        let end = |line: &File| Stdio::from(line.try_clone().unwrap());
        let child = command
            .stdin(end(&line))
            .stdout(end(&line))
            .stderr(end(&line))
            .spawn()
            .unwrap();
        let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (into, mut from) = (Arc::clone(&drawn), File::from(screen.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error, when nobody has the other end open any more.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
                into.extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            child,
            drawn,
            _screen: screen,
        }
    }

    fn drawn(&self) -> String {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&drawn).into_owned()
    }

    /// Waits for its end, which is a good one, and gives all that was drawn.
    async fn done(mut self) -> String {
        let ended = wait_for("the end", async || self.child.try_wait().unwrap()).await;
        assert!(ended.success(), "{}", self.drawn());
        // The last of it may be on its way yet.
        wait_until("all is drawn", async || self.drawn().contains("CURTAILED ")).await;
        self.drawn()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is seen of it: no colours, and nothing else that steers a terminal.
fn seen(drawn: &str) -> String {
    let mut seen = String::new();
    let mut rest = drawn;
    while let Some((before, behind)) = rest.split_once('\x1b') {
        seen.push_str(before);
        let end = behind.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &behind[end + 1..];
    }
    seen + rest
}

/// A daemon that has something to show: names that are long and wide.
async fn at_work(world: &World) -> Daemon {
    let daemon = world.setup().sink("http://127.0.0.1:1/in").ready().await;
    let id = "d".repeat(64);
    let mut long = dispatch(&id, 0, in_ms(-1000), None);
    for (site, name) in [("s1", "水処理施設".repeat(12)), ("s2", "x".repeat(200))] {
        let site =
            json!({"id": site, "name": name, "customer_location_id": name, "commitment": 12});
        long["sites"].as_array_mut().unwrap().push(site);
    }
    long["program"]["name"] = json!("プログラム".repeat(20));
    world.put(long);
    assert_eq!(daemon.webhook(&id).await.status, 200);
    wait_until("a delivery has failed", async || {
        daemon.health().await["delivery"][0]["last_error"].is_string()
    })
    .await;
    daemon
}

#[apply(test)]
async fn a_terminal_gets_colours_unless_it_wants_none() {
    let world = World::new().await;
    let daemon = at_work(&world).await;
    let coloured = Terminal::run(&daemon, &[], &[]).done().await;
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    for without in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = Terminal::run(&daemon, &[], &[without]).done().await;
        assert!(!plain.contains('\x1b'), "{without:?}: {plain:?}");
    }
}

#[apply(test)]
async fn no_line_is_wider_than_80_columns_whatever_the_names() {
    let world = World::new().await;
    let daemon = at_work(&world).await;
    let drawn = seen(&Terminal::run(&daemon, &[], &[]).done().await);
    assert!(drawn.contains('水'), "{drawn}");
    for line in drawn.lines() {
        let width = unicode_width::UnicodeWidthStr::width(line.trim_end_matches('\r'));
        assert!(width <= usize::from(COLUMNS), "{width}: {line}");
    }
}

#[apply(test)]
async fn a_watch_draws_in_the_same_place_and_ends_when_interrupted() {
    let world = World::new().await;
    let daemon = at_work(&world).await;
    let watch = Terminal::run(&daemon, &["--watch"], &[]);
    let draws = async |times: usize| {
        wait_until("it has drawn anew", async || {
            watch.drawn().matches("\x1b[H\x1b[2J").count() >= times
        })
        .await;
    };
    draws(2).await;
    let id = i32::try_from(watch.child.id()).ok().and_then(Pid::from_raw);
    kill_process(id.unwrap(), Signal::INT).unwrap();
    watch.done().await;
}
