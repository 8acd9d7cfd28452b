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

impl Shell {
    /// A poll by hand, after the pause of the one before, shows these dispatches. The
    /// commit of it begins.
    fn polls(&mut self, dispatches: &[Dispatch]) {
        self.step(60_000, [Input::Poll { waiter: 1 }]);
        let poll = self.asked();
        if self.coordinator.writing.is_under_way() {
            self.commit_fails(10, "the disk is full");
        }
        self.step(1100, [list(poll, dispatches)]);
        assert!(self.committing().is_some());
    }
}

#[test]
fn a_command_that_a_poll_brought_is_due_until_a_list_says_otherwise() {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    shell.step(10, [list(poll, &[])]);
    shell.committed(10);
    let curtail = [("site.curtail".to_owned(), "plant".to_owned())];
    // Its id is that of its site.
    let active = Dispatch {
        id: id("plant"),
        ..curtails(&shell, "plant", -1)
    };
    shell.polls(std::slice::from_ref(&active));
    for _ in 0..3 {
        shell.commit_fails(10, "the disk is full");
        assert_eq!(shell.due(), curtail);
        // It is tried once more.
        shell.step(1100, []);
    }
    shell.commit_fails(10, "the disk is full");
    shell.polls(&[]);
    shell.commit_fails(10, "the disk is full");
    assert_eq!(shell.due(), [], "it is cancelled");
}

#[test]
fn a_release_that_a_poll_brought_stays_due_although_the_dispatch_is_stored() {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let active = curtails(&shell, "plant", -1);
    shell.step(10, [list(poll, std::slice::from_ref(&active))]);
    shell.committed(10);
    let over = Dispatch {
        end_time: Some(shell.now.wall),
        ..active
    };
    shell.polls(&[over]);
    for _ in 0..3 {
        shell.commit_fails(10, "the disk is full");
        assert_eq!(
            shell.due(),
            [("site.release".to_owned(), "plant".to_owned())]
        );
        shell.step(1100, []);
    }
    shell.committed(10);
    assert_eq!(shell.due(), []);
}
