//! The unit, as systemd's own tools see it, and what it allows, held against
//! what the daemon does. systemd itself does not run here.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, geteuid};

use super::{PROGRAM, ran, said, text_of, tool};
use crate::harness::{Daemon, Process, World, wait_for, wait_until};

const UNIT: &str = "systemd/dispatchd.service";

/// Ten times the exposure that `systemd-analyze security` may find, of 100. What
/// is left is the network, which the daemon is for.
const EXPOSURE: &str = "11";

/// The values of a setting, in their order.
fn settings<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    let prefix = format!("{name}=");
    let lines = unit.lines().map(str::trim_end);
    lines
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

/// The unit with the program that was built, in a folder of its own.
fn unit_to_check(folder: &Path) -> String {
    let unit = super::adapted(&text_of(UNIT), &[("/usr/local/bin/dispatchd", PROGRAM)]);
    let path = folder.join("dispatchd.service");
    std::fs::write(&path, unit).unwrap();
    path.to_str().unwrap().to_owned()
}

#[apply(test)]
fn systemd_understands_all_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit_to_check(folder.path());
    let output = ran("systemd-analyze", &["verify", "--man=no", &unit]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "");
}

#[apply(test)]
fn the_service_is_exposed_as_little_as_a_network_service_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit_to_check(folder.path());
    let threshold = format!("--threshold={EXPOSURE}");
    let arguments = ["security", "--offline=true", &threshold, &unit];
    let output = ran("systemd-analyze", &arguments);
    assert!(output.status.success(), "{}", said(&output));
}

/// The unit's environment, with what systemd would put in place of `%d` and
/// `%S`, and credentials in `world`'s folder.
fn environment(world: &World) -> Vec<(String, String)> {
    let unit = text_of(UNIT);
    let here = world.folder().display().to_string();
    for credential in settings(&unit, "LoadCredential") {
        let (name, _) = credential.split_once(':').unwrap();
        std::fs::write(world.path(name), format!("{name}-value\n")).unwrap();
    }
    std::fs::create_dir_all(world.path("dispatchd")).unwrap();
    let file = text_of("systemd/dispatchd.env");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let from_file = lines.filter(|line| !line.is_empty());
    settings(&unit, "Environment")
        .into_iter()
        .chain(from_file)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let value = value.replace("%d", &here).replace("%S", &here);
            (name.to_owned(), value)
        })
        .collect()
}

/// What the operator decides, and what the test puts in the place of the world
/// outside.
fn in_this_world(world: &World) -> [(&'static str, String); 5] {
    [
        ("DISPATCHD_SINKS", "none".to_owned()),
        // The sandbox sends the handshake there, and nobody is there.
        ("DISPATCHD_PUBLIC_URL", "http://127.0.0.1:1".to_owned()),
        ("VOLTUS_API_URL", world.sandbox.url()),
        ("DISPATCHD_LISTEN", "127.0.0.1:0".to_owned()),
        ("DISPATCHD_STATUS_LISTEN", "127.0.0.1:0".to_owned()),
    ]
}

#[apply(test)]
async fn the_units_environment_starts_a_daemon_that_keeps_its_state_and_reloads() {
    let world = World::with_key("api-key-value").await;
    let unit = text_of(UNIT);
    let [command] = settings(&unit, "ExecStart")[..] else {
        panic!("one command");
    };
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/dispatchd"));
    // systemd gives it no terminal.
    let mut run = Command::new("setsid");
    run.arg(PROGRAM).env_clear().args(words).current_dir("/");
    run.envs(environment(&world)).envs(in_this_world(&world));
    let mut daemon = Daemon::of(Process::spawn(&mut run)).await;
    daemon.wait_until_ready().await;
    assert!(world.path("dispatchd/dispatchd.db").exists());
    let url = format!("{}/webhook-secret-value", daemon.webhook_url());
    let handshake = r#"{"event":{"name":""},"resource":""}"#;
    let answer = crate::harness::ask(daemon.http.post(url).body(handshake)).await;
    assert_eq!(answer.status, 200);
    let [reload] = settings(&unit, "ExecReload")[..] else {
        panic!("one command");
    };
    // systemd reads the quotes much as a shell does, and knows $MAINPID. A small system
    // has no /bin/kill.
    let reload = format!("PATH=/nowhere; {reload}");
    let sent = Command::new("/bin/sh")
        .args(["-c", &reload])
        .env("MAINPID", daemon.id().to_string())
        .status();
    assert!(sent.unwrap().success(), "{reload}");
    daemon.wait_for_log("--webhook-secret-file").await;
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
}

#[apply(test)]
async fn a_service_whose_operator_has_not_chosen_where_commands_go_does_not_start() {
    let world = World::with_key("api-key-value").await;
    let mut decided = environment(&world);
    for (variable, decision) in [
        ("DISPATCHD_PUBLIC_URL", "http://127.0.0.1:1"),
        ("DISPATCHD_SINKS", "none"),
    ] {
        let mut run = Command::new(PROGRAM);
        run.arg("run").env_clear().envs(decided.clone());
        let output = run.current_dir(world.folder()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let named = format!("the variable {variable} is empty");
        assert!(said(&output).contains(&named), "{}", said(&output));
        decided.push((variable.to_owned(), decision.to_owned()));
    }
}

/// The README says what to change for a systemd that does not know `%d`.
#[apply(test)]
fn the_unit_for_an_older_systemd_has_no_folder_that_it_does_not_know() {
    let page = text_of("README.md");
    let (_, script) = page.split_once("sudo sed -i '").unwrap();
    let (script, _) = script.split_once('\'').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unit = unit_to_check(folder.path());
    let edited = Command::new("sed").args(["-i", script, &unit]).status();
    assert!(edited.unwrap().success());
    let text = std::fs::read_to_string(&unit).unwrap();
    let used: Vec<&str> = settings(&text, "Environment");
    assert!(!used.concat().contains("%d"), "{used:?}");
    let key = "VOLTUS_API_KEY_FILE=/run/credentials/%n/api-key";
    assert!(used.contains(&key), "{used:?}");
    let output = ran("systemd-analyze", &["verify", "--man=no", &unit]);
    assert_eq!(said(&output), "");
}

/// The system calls in a set of systemd's, sets in it included. A name that is
/// no set is itself.
fn expand(name: &str, into: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        into.insert(name.to_owned());
        return;
    }
    let output = ran("systemd-analyze", &["--no-pager", "syscall-filter", name]);
    let listed = said(&output);
    for line in listed.lines().skip(1) {
        let call = line.trim();
        if !call.is_empty() && !call.starts_with('#') {
            expand(call, into);
        }
    }
}

/// What the unit allows, as its lines say one after the other.
fn allowed_calls() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in settings(&text_of(UNIT), "SystemCallFilter") {
        let (denied, line) = match line.strip_prefix('~') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let mut calls = BTreeSet::new();
        line.split_whitespace()
            .for_each(|name| expand(name, &mut calls));
        if denied {
            allowed.retain(|call| !calls.contains(call));
        } else {
            allowed.extend(calls);
        }
    }
    allowed
}

/// The names of the system calls in what strace wrote.
fn calls_in(trace: &str) -> BTreeSet<&str> {
    let lines = trace.lines();
    let calls = lines.filter_map(|line| {
        let call = line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let end =
            call.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')?;
        let (name, rest) = call.split_at(end);
        let is_call = rest.starts_with('(') || rest.starts_with(" resumed");
        (is_call && !name.is_empty()).then_some(name)
    });
    calls.collect()
}

/// A daemon that takes webhooks, polls, writes, runs a program and calls a
/// receiver does nothing that the unit's filter would deny.
#[apply(test)]
async fn the_units_filter_denies_no_system_call_that_the_daemon_makes() {
    let mut strace = tool("strace");
    let allowed = allowed_calls();
    let world = World::new().await;
    let trace = world.path("trace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace);
    if geteuid().is_root() {
        // As under systemd: files need not be given away then, and are not.
        strace.args(["-u", "nobody"]);
    }
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(world.folder(), open.clone()).unwrap();
    let program = world.path("program");
    std::fs::write(&program, "#!/bin/sh\ncat >> seen\n").unwrap();
    std::fs::set_permissions(&program, open).unwrap();
    let sink = format!("exec:{}", program.display());
    strace
        .arg(PROGRAM)
        .args(["run", "--state", "state.db", "--sink", &sink]);
    strace.args([
        "--sink",
        "http://127.0.0.1:1/in",
        "--poll-interval",
        "500ms",
    ]);
    strace
        .env_clear()
        .envs(in_this_world(&world))
        .current_dir(world.folder());
    let mut daemon = Daemon::of(Process::spawn(&mut strace)).await;
    daemon.wait_until_ready().await;
    world.known(&daemon, "d").await;
    wait_until("the program has run", async || world.path("seen").exists()).await;
    assert_eq!(daemon.get("/metrics").await.status, 200);
    world.wait_for_polls(2).await;
    // strace passes no signal on: whom it watches must be told.
    let children = format!("/proc/{0}/task/{0}/children", daemon.id());
    let child = std::fs::read_to_string(children).unwrap();
    let kill = |signal: &str| Command::new("kill").args([signal, child.trim()]).status();
    assert!(kill("-HUP").unwrap().success());
    daemon.wait_for_log("as was asked for").await;
    assert!(kill("-TERM").unwrap().success());
    let ended = wait_for("the end", async || daemon.ended()).await;
    assert_eq!(ended.code(), Some(0));

    let trace = std::fs::read_to_string(trace).unwrap();
    let made = calls_in(&trace);
    assert!(made.len() > 40 && made.contains("execve"), "{made:?}");
    assert!(allowed.len() > 200, "{allowed:?}");
    let denied: Vec<&&str> = made
        .iter()
        .filter(|call| !allowed.contains(**call))
        .collect();
    assert!(denied.is_empty(), "the filter would deny {denied:?}");
    for address in ["AF_NETLINK", "AF_PACKET"] {
        assert!(!trace.contains(&format!("socket({address}")), "{address}");
    }
}
