use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command as StdCommand;

use rustix::process::{Pid, Signal, test_kill_process};
use tempfile::TempDir;

use super::*;
use crate::delivery::sinks::testing::{event, large, reason, until};

/// A script in a directory of its own, which it finds in `$0`'s place.
struct Script {
    dir: TempDir,
    sink: ExecSink,
}

impl Script {
    fn new(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let draft = dir.path().join("draft");
        let path = dir.path().join("hook");
        let text = format!("#!/bin/sh\ncd '{}'\n{body}\n", dir.path().display());
        std::fs::write(&draft, text).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Copied by another process: a file that this one has open for writing
        // may be inherited by a child of another test, and cannot be run then.
        let copied = StdCommand::new("cp")
            .arg("-p")
            .args([&draft, &path])
            .status();
        assert!(copied.unwrap().success());
        let mut sink = ExecSink::new("exec:hook".to_owned(), path);
        sink.limit = Duration::from_secs(20);
        Self { dir, sink }
    }

    fn limit(mut self, limit: Duration) -> Self {
        self.sink.limit = limit;
        self
    }

    async fn deliver(&self) -> Attempt {
        self.sink
            .deliver(&[event("e1", "site.curtail", "s 1")], None)
            .await
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap_or_default()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn alive(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    // A zombie that nobody has waited for yet is no longer alive.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_ok() && !stat.unwrap_or_default().contains(") Z ")
}

#[tokio::test]
async fn the_program_gets_the_event_on_its_input_and_in_its_environment() {
    let script = Script::new(
        "cat > got\nprintf '%s|%s|%s|%s' \"$DISPATCHD_EVENT_TYPE\" \"$DISPATCHD_EVENT_ID\" \
         \"$DISPATCHD_EVENT_SUBJECT\" \"$DISPATCHD_EVENT_TERM\" > env",
    );
    assert_eq!(script.deliver().await, Attempt::Delivered);
    let got: serde_json::Value = serde_json::from_str(&script.read("got")).unwrap();
    assert_eq!(got["id"], "e1");
    assert_eq!(got["data"]["state"], "curtailed");
    assert_eq!(script.read("env"), "site.curtail|e1|s 1|2");
}

#[tokio::test]
async fn a_program_that_fails_at_first_is_asked_again() {
    let script = Script::new("[ -e once ] && exit 0\ntouch once\nexit 3");
    assert!(reason(script.deliver().await).contains("exit status: 3"));
    assert_eq!(script.deliver().await, Attempt::Delivered);
}

#[tokio::test]
async fn a_program_that_a_signal_ends_has_failed() {
    let script = Script::new("kill -SEGV $$");
    assert!(reason(script.deliver().await).contains("signal: 11"));
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let script = Script::new("sleep 1000 &\necho $! > child\n( sleep 1000 & echo $! > grandchild; wait ) &\necho $$ > self\nwait")
        .limit(Duration::from_secs(2));
    let attempt = script.deliver().await;
    assert!(reason(attempt).contains("still running after 2s"));
    for file in ["self", "child", "grandchild"] {
        let pid = script.read(file);
        assert!(!pid.is_empty(), "{file} never started");
        until(&format!("the {file} is gone"), || !alive(&pid)).await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_takes_its_processes_along() {
    let script = Script::new("sleep 1000 &\necho $! > child\nmv child ready\nwait");
    let ready = script.path().join("ready");
    tokio::select! {
        attempt = script.deliver() => panic!("it ended: {attempt:?}"),
        () = until("the child runs", || ready.exists()) => {}
    }
    let pid = script.read("ready");
    until("the child is gone", || !alive(&pid)).await;
}

#[tokio::test]
async fn a_process_left_behind_with_standard_error_open_does_not_hold_up_the_attempt() {
    let script = Script::new("sleep 1000 &\necho $! > child\nexit 0");
    assert_eq!(script.deliver().await, Attempt::Delivered);
    let pid = script.read("child");
    // It succeeded, so what it left running on purpose keeps running.
    assert!(alive(&pid));
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_that_prints_a_lot_is_not_stopped_by_a_full_pipe() {
    let script =
        Script::new("yes 'on and on' | head -c 3000000 >&2\nyes | head -c 3000000\nexit 0");
    assert_eq!(script.deliver().await, Attempt::Delivered);
}

#[tokio::test]
async fn a_program_that_does_not_read_its_input_is_judged_by_how_it_ends() {
    let large = [large(1 << 20)];
    let script = Script::new("exit 0");
    assert_eq!(script.sink.deliver(&large, None).await, Attempt::Delivered);
    let script = Script::new("exec 0<&-\nsleep 0.1\nexit 0");
    assert_eq!(script.sink.deliver(&large, None).await, Attempt::Delivered);
    let script = Script::new("exit 7");
    assert!(reason(script.sink.deliver(&large, None).await).contains("exit status: 7"));
}

#[tokio::test]
async fn a_program_that_vanished_fails_the_attempt() {
    let script = Script::new("exit 0");
    std::fs::remove_file(script.path().join("hook")).unwrap();
    assert!(reason(script.deliver().await).contains("cannot be run"));
}

#[tokio::test]
async fn a_subject_with_a_nul_can_still_be_delivered() {
    let script = Script::new("printf '%s' \"$DISPATCHD_EVENT_SUBJECT\" > env");
    let events = [event("e1", "site.curtail", "a\0b")];
    assert_eq!(script.sink.deliver(&events, None).await, Attempt::Delivered);
    assert_eq!(script.read("env"), "a\u{fffd}b");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_known_without_running_it() {
    let script = Script::new("echo ran > ran");
    assert_eq!(script.sink.probe().await, Ok(()));
    let hook = script.path().join("hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644)).unwrap();
    let reason = script.sink.probe().await.unwrap_err();
    assert!(reason.contains("Permission denied"), "{reason}");
    std::fs::remove_file(&hook).unwrap();
    let reason = script.sink.probe().await.unwrap_err();
    assert!(reason.contains("No such file"), "{reason}");
    assert_eq!(script.read("ran"), "");
}
