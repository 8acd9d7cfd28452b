//! What is kept, and what the log says, while nothing can be stored.

use super::*;
use crate::registration::tests::Log;
use crate::store::{SinkRecord, StoreError};

impl Shell {
    fn commit_fails(&mut self, millis: u64, what: &str) {
        let what = what.to_owned();
        let error = StoreError::Damaged { what };
        self.step(millis, [Input::Committed(Err(error))]);
    }
}

fn written(shell: &Shell) -> Vec<SinkRecord> {
    shell.committing().unwrap().sinks.clone()
}

#[test]
fn what_was_delivered_is_written_down_with_the_next_commit_if_the_first_one_fails() {
    let mut shell = Shell::with_a_dispatch();
    shell.committed(10);
    let attempt = shell.attempts()[0];
    shell.attempted(attempt, Attempt::Delivered);
    shell.step(1000, []);
    let first = written(&shell);
    assert_eq!(first.len(), 1);
    shell.commit_fails(10, "the disk is full");
    shell.step(1100, []);
    assert_eq!(written(&shell), first);
}

#[test]
fn the_log_says_once_a_minute_that_nothing_can_be_written() {
    let (log, _guard) = Log::here();
    let lines = || log.lines("nothing can be written").len();
    let mut shell = Shell::with_a_dispatch();
    shell.commit_fails(10, "the disk is full");
    assert_eq!(lines(), 1);
    // It is tried every second.
    for what in ["the disk is full", "the disk is gone", "the disk is full"] {
        shell.step(1100, []);
        shell.commit_fails(10, what);
        assert_eq!(lines(), 1, "{what}");
    }
}

#[test]
fn each_command_that_cannot_be_sent_is_logged_once() {
    let (log, _guard) = Log::here();
    let lines = || log.lines("commands are due and cannot be sent");
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let dispatches = [curtails(&shell, "plant", 3), curtails(&shell, "north", 300)];
    shell.step(10, [list(poll, &dispatches)]);
    shell.committed(10);
    shell.coordinator.trust_until(shell.now.mono);
    shell.step(0, []);
    assert_eq!(lines().len(), 0);
    for _ in 0..4 {
        shell.step(70_000, []);
        assert_eq!(lines().len(), 1);
    }
    // Now there are two. The other one is new.
    shell.step(70_000, []);
    assert_eq!(lines().len(), 2);
    assert!(lines()[1].contains("north"), "{:?}", lines());
}
