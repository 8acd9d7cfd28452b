//! The disk turned bad.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Daemon, World, dispatch, in_ms, need, wait_until};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&at)
            .output()
            .is_ok_and(|output| output.status.success());
        need("the right to mount a file system", mounted);
        Self(at)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state.db")
    }

    /// Takes all space that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Expects that nothing is promised, and that the reason is told.
async fn promises_nothing(world: &World, daemon: &Daemon, id: &str) {
    world.put(dispatch(id, 0, in_ms(3_600_000), None));
    let answer = daemon.webhook(id).await;
    assert_eq!(answer.status, 503, "{}", answer.json);
    assert!(!answer.header("retry-after").is_empty());
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let reason = ready.json["reason"].as_str().unwrap();
    assert!(reason.contains("the state"), "{reason}");
    assert_eq!(daemon.entry(id).await, None, "readers see what is on disk");
}

#[apply(test)]
async fn a_full_disk_is_told_and_nothing_is_promised_until_there_is_space() {
    let world = World::new().await;
    let disk = SmallDisk::mount(world.path("disk"), "size=8m");
    let setup = world.setup().polling("300ms");
    let daemon = setup.with("--state", disk.state().display()).start().await;
    daemon.wait_until_ready().await;
    world.put(dispatch("before", 0, in_ms(3_600_000), None));
    assert_eq!(daemon.webhook("before").await.status, 200);

    let filler = disk.fill();
    // What is left of the last page may take a commit or two.
    wait_until("the disk is full", async || {
        let id = format!("filling{}", world.sandbox.requests().len());
        world.put(dispatch(&id, 0, in_ms(3_600_000), None));
        daemon.webhook(&id).await.status == 503
    })
    .await;
    promises_nothing(&world, &daemon, "during").await;

    // Small commits may still succeed now and then. The log does not tell of each.
    for id in ["now", "too"] {
        world.put(dispatch(id, 0, in_ms(-1000), None));
        assert_eq!(daemon.webhook(id).await.status, 503);
        let due = "commands are due and cannot be sent";
        daemon.wait_for_log(due).await;
        let log = daemon.log();
        let lines = log.iter().filter(|line| line.contains(due));
        assert_eq!(lines.count(), 1, "{log:?}");
    }

    std::fs::remove_file(filler).unwrap();
    daemon.wait_until_ready().await;
    wait_until("what was refused is healed", async || {
        daemon.entry("during").await.is_some()
    })
    .await;
    assert_eq!(daemon.webhook("during").await.status, 200);
}

#[apply(test)]
async fn a_state_file_that_is_removed_or_cut_short_under_way_is_told() {
    let damages: [fn(&Path); 2] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, "").unwrap(),
    ];
    for damage in damages {
        let world = World::new().await;
        let state = world.path("state.db");
        let setup = world.setup().polling("300ms");
        let mut daemon = setup.with("--state", state.display()).start().await;
        daemon.wait_until_ready().await;
        damage(&state);
        promises_nothing(&world, &daemon, "lost").await;
        assert!(daemon.stop(Signal::TERM).await.success());
    }
}

/// A number of `GET /metrics`.
async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let answer = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let text = answer.unwrap().text().await.unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find_map(|(found, value)| (found == name).then_some(value));
    value.unwrap().parse().unwrap()
}

#[apply(test)]
async fn a_reader_that_holds_the_state_file_is_warned_about_and_the_log_shrinks_when_it_ends() {
    const LONG: u64 = 8 << 20;
    let world = World::new().await;
    let daemon = world.setup().sink("none").ready().await;
    let log = world.path("state.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    let reader = rusqlite::Connection::open(world.path("state.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events")
        .unwrap();
    let mut number = 0;
    let mut change = async || {
        number += 1;
        let mut changed = dispatch("large", number, in_ms(3_600_000), None);
        changed["metadata"] = json!({"note": "x".repeat(1 << 20), "number": number});
        world.put(changed);
        assert_eq!(daemon.webhook("large").await.status, 200);
    };
    while length() < LONG {
        change().await;
    }
    let warned = || {
        let log = daemon.log();
        let lines = log
            .iter()
            .filter(|line| line.contains("within one transaction"));
        lines.count()
    };
    // It takes a minute, and up to fifteen seconds to be noticed.
    for _ in 0..100 {
        if warned() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(warned(), 1);
    wait_until("it is counted", async || {
        metric(&daemon, "dispatchd_store_log_held").await == 1.0
    })
    .await;
    assert!(metric(&daemon, "dispatchd_store_log_bytes").await >= LONG as f64);
    change().await;
    assert!(length() >= LONG);

    reader.execute_batch("COMMIT").unwrap();
    wait_until("the log is short again", async || length() < LONG / 8).await;
    wait_until("it is counted", async || {
        metric(&daemon, "dispatchd_store_log_held").await == 0.0
    })
    .await;
    change().await;
    assert_eq!(warned(), 1);
}

#[apply(test)]
async fn a_state_file_that_is_vacuumed_under_way_takes_commits_as_before() {
    let world = World::new().await;
    let mut daemon = world.setup().sink("none").ready().await;
    let state = world.path("state.db");
    for number in 1..=4 {
        let mut large = dispatch("large", number, in_ms(3_600_000), None);
        large["metadata"] = json!({"note": "x".repeat(1 << 20)});
        world.put(large);
        assert_eq!(daemon.webhook("large").await.status, 200);
    }
    let operator = rusqlite::Connection::open(&state).unwrap();
    let fold = "PRAGMA wal_checkpoint(TRUNCATE)";
    let shrink = |sql: &str| {
        operator.execute_batch(sql).unwrap();
        let _ = operator.query_row(fold, [], |_| Ok(()));
        std::fs::metadata(&state).unwrap().len()
    };
    let before = shrink("");
    // Nobody needs these any more: so the file gets shorter.
    let after = shrink("DELETE FROM events; DELETE FROM history; VACUUM");
    assert!(after < before, "{after}, {before}");
    world.known(&daemon, "after").await;
    assert!(daemon.stop(Signal::TERM).await.success());
    let daemon = world.setup().sink("none").ready().await;
    assert_eq!(daemon.phase("after").await, "scheduled");
}

#[apply(test)]
async fn a_read_only_disk_ends_the_start() {
    let world = World::new().await;
    let disk = SmallDisk::mount(world.path("disk"), "size=1m,ro");
    let setup = world.setup();
    let mut process = setup.with("--state", disk.state().display()).spawn();
    wait_until("it ends", async || process.ended().is_some()).await;
    assert_eq!(process.ended().unwrap().code(), Some(2));
    let log = process.log().join("\n");
    assert!(
        log.contains("--state") && log.contains("Read-only"),
        "{log}"
    );
}

#[apply(test)]
async fn a_damaged_state_file_ends_the_start_and_is_left_alone() {
    let world = World::new().await;
    let state = world.path("state.db");
    let setup = world.setup().with("--state", state.display());
    let mut daemon = setup.start().await;
    daemon.wait_until_ready().await;
    assert!(daemon.stop(Signal::TERM).await.success());
    let mut bytes = std::fs::read(&state).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(&state, &bytes).unwrap();

    let mut process = setup.spawn();
    wait_until("it ends", async || process.ended().is_some()).await;
    assert_eq!(process.ended().unwrap().code(), Some(2));
    let log = process.log().join("\n");
    let told = [
        "--state",
        "damaged",
        "restore",
        &state.display().to_string(),
    ];
    for part in told {
        assert!(log.contains(part), "{log}");
    }
    assert_eq!(std::fs::read(&state).unwrap(), bytes, "{}", json!(log));
}
