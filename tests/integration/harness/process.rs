//! A running dispatchd, seen as a process: what it says, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{now, wait_for};

/// An event, and when its line came out.
#[derive(Debug, Clone)]
pub struct Heard {
    /// UTC, read by this process.
    pub at: DateTime<Utc>,
    /// The line.
    pub event: Value,
}

impl Heard {
    /// A text in it, empty if there is none.
    pub fn text(&self, field: &str) -> &str {
        self.event[field].as_str().unwrap_or_default()
    }

    /// When the daemon says that it happened.
    pub fn time(&self) -> DateTime<Utc> {
        self.text("time").parse().unwrap()
    }
}

/// Lines that a thread collects.
type Lines<T> = Arc<Mutex<Vec<T>>>;

/// It is killed when it is dropped, and its log is shown if the test fails.
pub struct Process {
    child: Child,
    events: Lines<Heard>,
    log: Lines<String>,
}

impl Process {
    /// Starts the program with `command`'s arguments and environment.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let events = collect(child.stdout.take().unwrap(), |line| Heard {
            at: now(),
            event: serde_json::from_str(&line)
                .unwrap_or_else(|_| panic!("standard output is for events alone: {line}")),
        });
        let log = collect(child.stderr.take().unwrap(), |line| line);
        Self { child, events, log }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Heard> {
        copy(&self.events)
    }

    /// All of the log so far.
    pub fn log(&self) -> Vec<String> {
        copy(&self.log)
    }

    /// The system's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has, and all that it said is read.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().unwrap()?;
        // A program that it started may hold its log open for longer: not for ever.
        for _ in 0..2000 {
            if Arc::strong_count(&self.log) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(ended)
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.unwrap(), signal).unwrap();
    }

    /// Waits until the log has a line with `words` in it, and gives the last
    /// one.
    pub async fn wait_for_log(&self, words: &str) -> String {
        wait_for(&format!("{words:?} in the log"), async || {
            let log = self.log();
            log.into_iter().rev().find(|line| line.contains(words))
        })
        .await
    }

    /// Sends a signal and waits for the end.
    pub async fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        wait_for("the end of the process", async || self.ended()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log().join("\n"));
        }
    }
}

fn collect<T: Send + 'static>(
    from: impl Read + Send + 'static,
    read: impl Fn(String) -> T + Send + 'static,
) -> Lines<T> {
    let lines = Lines::default();
    let mine = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let line = read(line);
            mine.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    });
    lines
}

fn copy<T: Clone>(lines: &Lines<T>) -> Vec<T> {
    lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
