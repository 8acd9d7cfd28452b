//! Every option that takes a duration or a number, at its bounds and far beyond:
//! a value is taken, or refused with status 2 and a line that names the option.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rustix::process::Signal;

use crate::harness::{Daemon, World, dispatch, in_ms, site_of};

/// The longest duration that is taken, in seconds: ten years.
const LONGEST: u64 = 10 * 31_557_600;

/// The commands that have options, and what else each needs to run.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("run", &[]),
    ("check", &[]),
    ("sandbox", &[]),
    ("status", &[]),
    ("verify", &[]),
    ("scenario", &["basic", "--print"]),
    ("webhook", &["list"]),
    ("demo", &[]),
];

/// An option of a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Opt {
    command: &'static str,
    with: &'static [&'static str],
    name: String,
    variable: Option<String>,
}

impl Opt {
    /// The command with this option set to `value`.
    fn set(&self, folder: &Path, value: &str) -> Output {
        let option = format!("{}={value}", self.name);
        let arguments = [&[self.command], self.with, &[option.as_str()]].concat();
        run(folder, &arguments, &[])
    }

    /// The command with the option's variable set to `value`, if it has one.
    fn set_variable(&self, folder: &Path, value: &str) -> Option<Output> {
        let variable = self.variable.as_deref()?;
        let arguments = [&[self.command], self.with].concat();
        Some(run(folder, &arguments, &[(variable, value)]))
    }
}

/// Runs the program to its end, with nobody to ask and nothing kept. One that
/// starts for good is ended after a while.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        .env("VOLTUS_API_URL", "http://127.0.0.1:9")
        .env("DISPATCHD_STATUS_URL", "http://127.0.0.1:9")
        .env("DISPATCHD_STATE", ":memory:")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .timeout(Duration::from_secs(20))
        .args(arguments);
    command.output().unwrap()
}

/// The options whose value the help calls `kind`.
fn options(kind: &str) -> BTreeSet<Opt> {
    let folder = tempfile::tempdir().unwrap();
    let mut found = BTreeSet::new();
    for (command, with) in COMMANDS {
        let help = run(folder.path(), &[command, "--help"], &[]);
        let help = String::from_utf8(help.stdout).unwrap();
        // What belongs to an option stands between its name and the next one.
        for block in help.split("\n      --").skip(1) {
            let head = block.lines().next().unwrap();
            let Some((name, _)) = head.split_once(&format!(" <{kind}>")) else {
                continue;
            };
            let variable = block.split_once("[env: ").map(|(_, rest)| {
                let end = rest.find(['=', ']']).unwrap();
                rest[..end].to_owned()
            });
            found.insert(Opt {
                command,
                with,
                name: format!("--{name}"),
                variable,
            });
        }
    }
    found
}

/// It did not panic. If it was refused, that was one line which names the option.
fn check(output: &Output, option: &Opt, value: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let about = format!("{option:?} {value}: {said}");
    assert!(!said.contains("panicked"), "{about}");
    if output.status.code() == Some(2) {
        assert_eq!(said.lines().count(), 1, "{about}");
        assert!(said.contains(&option.name), "{about}");
    }
}

/// It was refused with one line which names the option.
fn refused(output: &Output, option: &Opt, value: &str) {
    check(output, option, value);
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert_eq!(code, Some(2), "{option:?} {value}: {said}");
}

#[apply(test)]
fn no_option_takes_a_duration_of_more_than_ten_years() {
    let folder = tempfile::tempdir().unwrap();
    let options = options("D");
    let named = |command, name| {
        let mut found = options.iter();
        found.any(|option| option.command == command && option.name == name)
    };
    for (command, name) in [
        ("run", "--poll-interval"),
        ("run", "--pre-curtail"),
        ("run", "--webhook-deadline"),
        ("run", "--retain"),
        ("check", "--retain"),
        ("scenario", "--start-in"),
        ("scenario", "--length"),
        ("verify", "--timeout"),
    ] {
        assert!(named(command, name), "the help names {command} {name}");
    }
    for option in &options {
        for value in [
            "300000y",
            "11y",
            "10y 1s",
            "10years 1ns",
            "18446744073709551615s",
            "99999999999999999999y",
            "-1s",
            "1e3s",
            "",
        ] {
            refused(&option.set(folder.path(), value), option, value);
        }
        if let Some(output) = option.set_variable(folder.path(), "300000y") {
            refused(&output, option, "300000y");
        }
    }
}

#[apply(test)]
fn a_duration_is_taken_up_to_ten_years_and_refused_beyond_by_a_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let options: Vec<Opt> = options("D").into_iter().collect();
    // Seconds near the bound, and any at all.
    let seconds = prop_oneof![LONGEST - 2..LONGEST + 3, 0..2 * LONGEST, any::<u64>(),];
    let case = (0..options.len(), seconds, 0..1_000_000_000u32);
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let (place, seconds, nanos) = case.new_tree(&mut runner).unwrap().current();
        let option = &options[place];
        // One that would start for good is not what this is about.
        if option.command == "run" && seconds < LONGEST {
            continue;
        }
        let value = format!("{seconds}s {nanos}ns");
        let output = option.set(folder.path(), &value);
        if (seconds, nanos) > (LONGEST, 0) {
            refused(&output, option, &value);
        } else {
            check(&output, option, &value);
        }
    }
}

#[apply(test)]
fn no_number_makes_a_command_panic() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["N", "BYTES", "RATIO"] {
        let options = options(kind);
        assert!(!options.is_empty(), "the help has options with <{kind}>");
        for option in options {
            for value in [
                "-1",
                "18446744073709551616",
                "99999999999999999999999999EiB",
                "nan",
                "inf",
                "-0.1",
                "1.5x",
                "0x10",
                "5..4",
                "",
            ] {
                refused(&option.set(folder.path(), value), &option, value);
            }
        }
    }
}

/// It does its work: a webhook, a poll, a command, and a clean end.
async fn works(world: &World, mut daemon: Daemon, id: &str) {
    world.put(dispatch(id, 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook(id).await.status, 200);
    daemon.wait_for_event(&site_of(id), "site.curtail").await;
    let over = dispatch(id, 1, in_ms(-2000), Some(in_ms(-1000)));
    world.put(over);
    assert_eq!(daemon.poll().await.status, 200);
    daemon.wait_for_event(&site_of(id), "site.release").await;
    assert_eq!(daemon.get("/metrics").await.status, 200);
    assert_eq!(daemon.get("/readyz").await.status, 200);
    let health = daemon.health().await;
    assert_eq!(health["sync"]["state"], "fresh", "{health}");
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
}

#[apply(test)]
async fn a_daemon_works_with_every_option_at_its_bound() {
    let world = World::new().await;
    let durations = [
        ("--poll-interval", "100ms", "10y"),
        ("--pre-curtail", "0s", "10y"),
        ("--webhook-deadline", "5s", "10y"),
        ("--retain", "0s", "10y"),
        ("--api-rate", "3000", "4294967295"),
        ("--peer-rate", "0", "4294967295"),
        ("--api-max-body", "1MiB", "1TiB"),
    ];
    let setup = world.setup().with("--state", ":memory:");
    let (mut least, mut most) = (setup.clone(), setup.clone());
    for (option, low, high) in durations {
        least = least.with(option, low);
        most = most.with(option, high);
    }
    works(&world, least.ready().await, "least").await;
    works(&world, most.ready().await, "most").await;
    for (option, _, high) in durations {
        let daemon = setup.clone().with(option, high).ready().await;
        works(&world, daemon, option.trim_start_matches('-')).await;
    }
}

#[apply(test)]
async fn a_dispatch_of_any_time_is_taken_with_every_option_at_its_bound() {
    let world = World::new().await;
    let setup = ["--poll-interval", "--pre-curtail", "--retain"]
        .into_iter()
        .fold(world.setup(), |setup, option| setup.with(option, "10y"));
    let mut daemon = setup.ready().await;
    for (id, start, end) in [
        (
            "early",
            "0001-01-01T00:00:00Z",
            Some("0001-01-01T00:00:01Z"),
        ),
        ("late", "9999-12-31T23:59:58Z", Some("9999-12-31T23:59:59Z")),
        ("both", "0001-01-01T00:00:00Z", Some("9999-12-31T23:59:59Z")),
        ("open", "9999-12-31T23:59:59Z", None),
        ("offset", "9999-12-31T23:59:59-23:59", None),
    ] {
        let mut json = dispatch(id, 0, in_ms(0), None);
        json["start_time"] = start.into();
        json["end_time"] = end.map_or(serde_json::Value::Null, Into::into);
        world.put(json);
        assert_eq!(daemon.webhook(id).await.status, 200, "{id}");
    }
    assert_eq!(daemon.poll().await.status, 200);
    for path in ["/status", "/schedule", "/sites", "/metrics"] {
        assert_eq!(daemon.get(path).await.status, 200, "{path}");
    }
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
}
