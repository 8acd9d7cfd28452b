//! What a program of an `exec:` sink can get at, and what becomes of it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use rustix::process::geteuid;

use crate::harness::{Setup, World, dispatch, in_ms, need, wait_for};

/// In every secret that these tests give to the daemon.
const SECRET: &str = "hush-9c41";

/// A user and a group without any rights.
const NOBODY: u32 = 65_534;

/// A daemon whose only sink is a program with this script. Its folder is the
/// script's working directory.
fn running(world: &World, script: &str) -> Setup {
    let path = world.path("program");
    std::fs::write(&path, format!("#!/bin/sh\ncat > event\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.setup().sink(format!("exec:{}", path.display()))
}

/// Lets the program run, and gives what it wrote to `file`. It must write to
/// `file.new` first and then move that.
async fn written(world: &World, setup: &Setup, file: &str) -> String {
    let daemon = setup.ready().await;
    world.put(dispatch("d", 0, in_ms(3_600_000), None));
    assert_eq!(daemon.poll().await.status, 200);
    let path = world.path(file);
    let text = wait_for("the program writes", async || {
        std::fs::read_to_string(&path).ok()
    });
    let text = text.await;
    daemon.wait_until_delivered().await;
    text
}

#[apply(test)]
async fn a_program_gets_four_variables_and_its_events() {
    let world = World::new().await;
    let secret_url = format!("https://hooks.example/dispatch-listener/{SECRET}");
    let setup = running(&world, "env > seen.new; mv seen.new seen")
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", "/nowhere")
        .variable("LANG", "C.UTF-8")
        .variable("TZ", "UTC")
        .variable("DISPATCHD_PUBLIC_URL", secret_url)
        .variable("DISPATCHD_NODE", SECRET)
        .variable("VOLTUS_API_KEY_FILE_OLD", SECRET)
        .variable("VOLTUS_TOKEN", SECRET)
        .variable("PGPASSWORD", SECRET)
        .variable("AWS_SECRET_ACCESS_KEY", SECRET)
        .variable("https_proxy", format!("http://me:{SECRET}@127.0.0.1:1"));
    let seen = written(&world, &setup, "seen").await;
    assert!(!seen.contains(SECRET), "{seen}");
    let names: BTreeSet<&str> = seen
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        // The shell's own.
        .filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .collect();
    let wanted = [
        "DISPATCHD_EVENT_ID",
        "DISPATCHD_EVENT_SUBJECT",
        "DISPATCHD_EVENT_TERM",
        "DISPATCHD_EVENT_TYPE",
        "HOME",
        "LANG",
        "PATH",
        "TZ",
    ];
    assert_eq!(names, BTreeSet::from(wanted));
    assert!(seen.contains("\nTZ=UTC\n"), "{seen}");
}

/// The script reads what the system shows of the daemon, as the program itself
/// and as a process that it leaves behind, which has another parent.
fn spying(world: &World) -> Setup {
    let read = "for file in environ task/$daemon/environ; do
            cat /proc/$daemon/$file && echo readable
        done
        cat < /proc/$daemon/mem && echo readable";
    let script = format!(
        "daemon=$PPID
        ( {read} ) > direct 2>&1
        ( ( sleep 0.2; {read} ) > orphan.new 2>&1; mv orphan.new orphan ) &"
    );
    running(world, &script)
        .variable("PATH", "/usr/bin:/bin")
        .variable("VOLTUS_API_KEY", SECRET)
        .variable("DISPATCHD_SINK_SECRET", SECRET)
        .variable("PGPASSWORD", SECRET)
        .variable("OTEL_EXPORTER_OTLP_HEADERS", format!("x-api-key={SECRET}"))
}

/// Root may read what is left of the environment, with some capabilities that
/// it has; the secrets are not in it, and the memory is closed.
#[apply(test)]
async fn a_program_cannot_read_the_daemons_secrets() {
    let world = World::with_key(SECRET).await;
    let setup = spying(&world);
    let orphan = written(&world, &setup, "orphan").await;
    let direct = std::fs::read_to_string(world.path("direct")).unwrap();
    for seen in [direct, orphan] {
        assert!(!seen.contains(SECRET), "{seen}");
        assert!(
            seen.contains("/mem: Permission denied"),
            "the memory is open: {seen}"
        );
    }
}

#[apply(test)]
async fn a_program_of_a_user_cannot_read_the_daemons_environment() {
    need("root's right to act as another user", geteuid().is_root());
    let world = World::with_key(SECRET).await;
    std::os::unix::fs::chown(world.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let setup = spying(&world).user(NOBODY);
    let orphan = written(&world, &setup, "orphan").await;
    let direct = std::fs::read_to_string(world.path("direct")).unwrap();
    for seen in [direct, orphan] {
        assert!(
            !seen.contains(SECRET) && !seen.contains("readable"),
            "{seen}"
        );
        assert!(seen.contains("environ: Permission denied"), "{seen}");
    }
}

#[apply(test)]
async fn a_program_gets_no_descriptor_of_the_daemon() {
    let world = World::with_key(SECRET).await;
    let key = world.path("key-of-the-api");
    std::fs::write(&key, SECRET).unwrap();
    let script = "readlink /proc/$$/fd/* > seen.new
        ( cat < /proc/$PPID/fd/7 ) >> seen.new 2>&1
        mv seen.new seen";
    let setup = running(&world, script)
        .variable("PATH", "/usr/bin:/bin")
        .inheriting(&key)
        .with("--api-key-file", "/dev/fd/7");
    let seen = written(&world, &setup, "seen").await;
    assert!(
        !seen.contains(SECRET) && !seen.contains("key-of-the-api"),
        "{seen}"
    );
    let path = |name: &str| world.path(name).display().to_string();
    let own = ["pipe:", "/dev/null", &path("program"), &path("seen.new")];
    let (refused, descriptors): (Vec<&str>, Vec<&str>) =
        seen.lines().partition(|line| line.contains("fd/7"));
    assert!(
        refused.len() == 1 && refused[0].contains("Permission denied"),
        "{seen}"
    );
    for descriptor in descriptors {
        assert!(own.iter().any(|own| descriptor.starts_with(own)), "{seen}");
    }
}

/// Of the programs that a leader has started none may act on when it is no more.
#[apply(test)]
async fn a_program_dies_with_a_daemon_that_is_killed() {
    let world = World::new().await;
    let script = "echo $$ > pid.new; mv pid.new pid; exec sleep 1000";
    let setup = running(&world, script).variable("PATH", "/usr/bin:/bin");
    let mut daemon = setup.ready().await;
    world.put(dispatch("d", 0, in_ms(3_600_000), None));
    assert_eq!(daemon.poll().await.status, 200);
    let pid = wait_for("the program runs", async || {
        std::fs::read_to_string(world.path("pid")).ok()
    });
    let stat = format!("/proc/{}/stat", pid.await.trim());
    let sleeps = std::fs::read_to_string(&stat);
    assert!(sleeps.is_ok_and(|stat| !stat.contains(") Z ")));
    daemon.kill();
    wait_for("the program is gone", async || {
        let stat = std::fs::read_to_string(&stat);
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    })
    .await;
}
