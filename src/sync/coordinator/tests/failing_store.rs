//! What is kept, and what the log says, while nothing can be stored.

use super::*;
use crate::model::Kilowatts;
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
    let dispatches = [curtails(&shell, "plant", 3), curtails(&shell, "zulu", 300)];
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
    assert!(lines()[1].contains("zulu"), "{:?}", lines());
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

fn due(command: &str) -> [(String, String); 1] {
    [(command.to_owned(), "plant".to_owned())]
}

/// One whose first poll has found these dispatches. They are stored.
fn with_stored(dispatches: impl FnOnce(&Shell) -> Vec<Dispatch>) -> Shell {
    let mut shell = Shell::polling(Duration::from_secs(3600), 240, &["slow"]);
    let poll = shell.asked();
    shell.committed(10);
    let dispatches = dispatches(&shell);
    shell.step(10, [list(poll, &dispatches)]);
    shell.committed(10);
    shell
}

#[test]
fn a_command_that_a_poll_brought_is_due_until_the_api_takes_it_back() {
    let mut shell = with_stored(|_| Vec::new());
    // Its id is that of its site.
    let active = Dispatch {
        id: id("plant"),
        ..curtails(&shell, "plant", 1)
    };
    let cancelled = Dispatch {
        authorized: false,
        ..active.clone()
    };
    shell.polls(std::slice::from_ref(&active));
    for _ in 0..3 {
        shell.commit_fails(10, "the disk is full");
        assert_eq!(shell.due(), due("site.curtail"));
        // It is tried once more.
        shell.step(1100, []);
    }
    shell.commit_fails(10, "the disk is full");
    // An empty list cancels nothing (rule R3).
    shell.polls(&[]);
    shell.commit_fails(10, "the disk is full");
    assert_eq!(shell.due(), due("site.curtail"));
    // A webhook says it.
    let webhook = Input::Webhook {
        id: cancelled.id.clone(),
        waiter: 7,
    };
    shell.step(1100, [webhook]);
    let asked = shell.asked();
    if shell.committing().is_some() {
        shell.commit_fails(10, "the disk is full");
    }
    let found = Answer::Found(Reading::Dispatch(Arc::new(cancelled)));
    shell.step(1100, [told(asked, found)]);
    shell.commit_fails(10, "the disk is full");
    assert_eq!(shell.due(), []);
}

#[test]
fn what_the_clock_ends_releases_no_site_that_an_unwritten_dispatch_holds() {
    let mut shell = with_stored(|shell| {
        vec![Dispatch {
            end_time: Some(shell.now.wall + TimeDelta::seconds(100)),
            ..curtails(shell, "plant", -1)
        }]
    });
    let longer = Dispatch {
        id: id("longer"),
        ..curtails(&shell, "plant", 20)
    };
    let first = curtails(&shell, "plant", -1);
    let first = Dispatch {
        end_time: Some(shell.now.wall + TimeDelta::seconds(100)),
        ..first
    };
    shell.polls(&[first, longer]);
    for _ in 0..100 {
        shell.commit_fails(10, "the disk is full");
        assert_eq!(shell.due(), due("site.adjust"));
        shell.step(1100, []);
    }
}

#[test]
fn what_a_poll_changed_of_a_stored_dispatch_stays_due() {
    let over = |it: &mut Dispatch, now| it.end_time = Some(now);
    let cancelled = |it: &mut Dispatch, _| it.authorized = false;
    let less = |it: &mut Dispatch, _| {
        let site = Site {
            commitment: Some(Kilowatts(500.0)),
            ..Site::clone(&it.sites[0])
        };
        it.sites = vec![Arc::new(site)];
    };
    let changes: [fn(&mut Dispatch, DateTime<Utc>); 3] = [over, cancelled, less];
    let commands = ["site.release", "site.release", "site.adjust"];
    for (change, command) in changes.into_iter().zip(commands) {
        let mut shell = with_stored(|shell| vec![curtails(shell, "plant", -1)]);
        let mut changed = curtails(&shell, "plant", -1);
        change(&mut changed, shell.now.wall);
        shell.polls(std::slice::from_ref(&changed));
        for _ in 0..3 {
            shell.commit_fails(10, "the disk is full");
            assert_eq!(shell.due(), due(command));
            shell.step(1100, []);
        }
        // The disk takes a small commit again, and what the poll said is in none.
        shell.committed(10);
        assert_eq!(shell.due(), due(command));
        shell.polls(&[changed]);
        shell.committed(10);
        assert_eq!(shell.due(), []);
    }
}

#[test]
fn all_that_is_due_is_named_however_many_starts_there_are() {
    let mut shell = Shell::chunks_of_one();
    let poll = shell.asked();
    shell.committed(10);
    let dispatches = ["a", "b", "c"].map(|site| curtails(&shell, site, 5));
    shell.step(10, [list(poll, &dispatches)]);
    shell.committed(10);
    shell.step(6000, []);
    shell.commit_fails(10, "the disk is full");
    let sites: Vec<String> = shell.due().into_iter().map(|(_, site)| site).collect();
    assert_eq!(sites, ["a", "b", "c"]);
}

#[test]
fn an_order_that_could_not_be_stored_is_not_due() {
    let mut shell = with_stored(|_| Vec::new());
    let order = an_order(&shell);
    shell.step(1100, [Input::Override { order, waiter: 1 }]);
    for _ in 0..3 {
        assert!(shell.committing().is_some());
        shell.commit_fails(10, "the disk is full");
        assert_eq!(shell.due(), []);
        shell.step(1100, []);
    }
}

#[test]
fn what_is_due_behind_a_commit_that_does_not_end_is_named_and_the_store_is_said_to_fail() {
    let (log, _guard) = Log::here();
    let mut shell = with_stored(|shell| vec![curtails(shell, "plant", 60)]);
    shell.begin_commit();
    let error = |shell: &Shell| shell.coordinator.view().health.store_error.clone();
    shell.step(4_900, []);
    assert_eq!(error(&shell), None, "a large commit takes seconds");
    for _ in 0..100 {
        shell.step(1_000, []);
    }
    assert_eq!(shell.due(), due("site.curtail"));
    let reason = error(&shell).unwrap();
    assert!(reason.contains("has not ended for 1m 44s"), "{reason}");
    assert_eq!(log.lines("has not ended").len(), 2, "once a minute");
    // It ends all the same, and then the next one, with the start.
    shell.committed(0);
    assert_eq!(error(&shell), None);
    shell.committed(0);
    assert_eq!(shell.due(), []);
}

#[test]
fn what_goes_whatever_was_told_is_due_until_it_is_written() {
    // Its list was to tell all sites once more.
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    let mut stored = store.clone().load().unwrap();
    stored.commits_lost = true;
    let mut shell = Shell::on(
        settings(Duration::from_secs(3600), 240),
        stored,
        vec![],
        start(),
    );
    let poll = shell.asked();
    let over = Dispatch {
        end_time: Some(shell.now.wall - TimeDelta::seconds(1)),
        ..curtails(&shell, "plant", -60)
    };
    shell.step(10, [list(poll, std::slice::from_ref(&over))]);
    for _ in 0..3 {
        shell.commit_fails(10, "the disk is full");
        assert_eq!(shell.due(), due("site.release"));
        // Something small has room.
        shell.step(1100, []);
        shell.committed(10);
        assert_eq!(shell.due(), due("site.release"));
        shell.polls(std::slice::from_ref(&over));
    }
    shell.committed(10);
    assert_eq!(shell.due(), []);
}

#[test]
fn time_goes_on_for_what_a_commit_that_failed_had_though_nothing_is_written_any_more() {
    let mut shell = with_stored(|_| Vec::new());
    let end = shell.now.wall + TimeDelta::seconds(300);
    let soon = Dispatch {
        end_time: Some(end),
        ..curtails(&shell, "plant", 200)
    };
    shell.polls(&[soon]);
    shell.commit_fails(10, "the disk is full");
    shell.step(1100, []);
    shell.committed(10);
    assert_eq!(shell.due(), []);
    shell.step(150_000, []);
    assert_eq!(shell.due(), due("site.curtail"));
    shell.step(110_000, []);
    assert_eq!(shell.due(), []);
}

#[test]
fn what_is_told_against_an_answer_that_is_in_no_commit_is_to_be_taken_back() {
    let mut shell = with_stored(|shell| vec![curtails(shell, "plant", 200)]);
    let cancelled = Dispatch {
        authorized: false,
        ..curtails(&shell, "plant", 200)
    };
    shell.polls(&[cancelled]);
    shell.commit_fails(10, "the disk is full");
    shell.step(1100, []);
    shell.committed(10);
    assert_eq!(shell.due(), []);
    // By what is stored it starts.
    shell.step(200_000, []);
    assert!(shell.events().contains(&"site.curtail"));
    shell.committed(10);
    assert_eq!(shell.due(), due("site.release"));
}

#[test]
fn a_deletion_that_was_not_stored_is_made_with_the_next_commit() {
    let mut shell = with_stored(|_| Vec::new());
    shell.step(310_000, []);
    assert!(shell.committing().unwrap().forget_before.is_some());
    shell.commit_fails(10, "the disk is full");
    shell.step(1100, []);
    assert!(shell.committing().unwrap().forget_before.is_some());
}

#[test]
fn what_an_answer_told_is_due_behind_each_commit_that_does_not_end() {
    let mut shell = with_stored(|_| Vec::new());
    for site in ["a", "b"] {
        let dispatches = [curtails(&shell, site, 1)];
        shell.polls(&dispatches);
        for _ in 0..7 {
            shell.step(1_000, []);
        }
        let due = shell.due();
        assert!(due.iter().any(|(_, named)| named == site), "{due:?}");
        shell.commit_fails(10, "the disk is full");
    }
}

#[test]
fn the_log_says_why_the_store_fails_also_after_a_commit_that_took_long() {
    let (log, _guard) = Log::here();
    let mut shell = Shell::with_a_dispatch();
    for _ in 0..7 {
        shell.step(1_000, []);
    }
    assert_eq!(log.lines("a commit has not ended").len(), 1);
    shell.commit_fails(10, "the disk is full");
    assert_eq!(log.lines("nothing can be written; webhooks").len(), 1);
}

#[test]
fn a_list_that_was_asked_for_before_a_lost_answer_takes_nothing_from_what_is_due() {
    let mut shell = with_stored(|_| Vec::new());
    shell.step(60_000, [Input::Poll { waiter: 1 }]);
    let poll = shell.asked();
    let id = id("for-plant");
    shell.step(1100, [Input::Webhook { id, waiter: 7 }]);
    let look_up = shell.asked();
    assert_ne!(look_up, poll);
    let found = Reading::Dispatch(Arc::new(curtails(&shell, "plant", 1)));
    shell.step(2000, [told(look_up, Answer::Found(found))]);
    shell.commit_fails(10, "the disk is full");
    assert_eq!(shell.due(), due("site.curtail"));
    shell.step(1100, [list(poll, &[])]);
    shell.committed(10);
    assert_eq!(shell.due(), due("site.curtail"));
}
