//! Wrong usage ends with status 2 and one line that names the option; a right
//! one ends with 0.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Process, Setup, World, ask, wait_for};

/// Runs the program to its end. One that wrongly starts is ended.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        // Nobody outside is to hear of one that wrongly starts.
        .env("VOLTUS_API_URL", "http://127.0.0.1:9")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .timeout(Duration::from_secs(20));
    command.args(arguments).output().unwrap()
}

/// It was refused with one line on standard error. Gives that.
fn refusal(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.ends_with('\n') && !said.contains("panicked"), "{said}");
    said
}

#[apply(test)]
fn a_wrong_option_is_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--colour"], "--colour"),
        (&["extra"], "extra"),
        (&["--poll-interval"], "--poll-interval"),
        (&["--poll-interval", "soon"], "--poll-interval"),
        (&["--poll-interval", "30"], "--poll-interval"),
        (&["--poll-interval", "-5s"], "--poll-interval"),
        (&["--poll-interval", ""], "--poll-interval"),
        (&["--poll-interval", "50ms"], "--poll-interval"),
        (&["--poll-interval", "0s"], "--poll-interval"),
        (
            &["--poll-interval", "99999999999999999999s"],
            "--poll-interval",
        ),
        (&["--webhook-deadline", "1ms"], "--webhook-deadline"),
        (&["--webhook-deadline", "never"], "--webhook-deadline"),
        (&["--pre-curtail", "early"], "--pre-curtail"),
        (&["--retain", "1 fortnight"], "--retain"),
        (&["--listen", "localhost"], "--listen"),
        (&["--listen", "127.0.0.1:99999"], "--listen"),
        (&["--listen", ":5000"], "--listen"),
        (&["--status-listen", "nowhere:1"], "--status-listen"),
        (&["--status-listen", "0.0.0.0:0"], "--status-listen"),
        (&["--status-listen", "[::]:0"], "--status-listen"),
        (
            &["--listen", "127.0.0.1:7", "--status-listen", "127.0.0.1:7"],
            "--status-listen",
        ),
        (&["--api-url", "api.voltus.co"], "--api-url"),
        (&["--api-url", "ftp://api.voltus.co"], "--api-url"),
        (&["--api-url", "https://"], "--api-url"),
        (
            &["--api-url", "https://u:p@api.voltus.co", "--api-key", "k"],
            "--api-url",
        ),
        (
            &["--api-url", "https://api.voltus.co/?a=b", "--api-key", "k"],
            "--api-url",
        ),
        (&["--api-url", "https://api.voltus.co"], "--api-key"),
        (&["--api-key", "a", "--api-key-file", "b"], "--api-key"),
        (&["--api-key", "a\nb"], "--api-key"),
        (&["--api-key-file", "no-such-file"], "--api-key-file"),
        (&["--api-rate", "0"], "--api-rate"),
        (&["--api-rate", "-1"], "--api-rate"),
        (&["--api-max-body", "lots"], "--api-max-body"),
        (&["--api-max-body", "0"], "--api-max-body"),
        (&["--api-version", "../x"], "--api-version"),
        (&["--api-version", ""], "--api-version"),
        (&["--peer-rate", "many"], "--peer-rate"),
        (&["--webhook-secret", "a/b"], "--webhook-secret"),
        (&["--webhook-secret", ".."], "--webhook-secret"),
        (
            &["--webhook-secret-file", "no-such-file"],
            "--webhook-secret",
        ),
        (
            &["--webhook-secret", "a", "--webhook-secret-file", "b"],
            "--webhook-secret",
        ),
        (&["--status-token-file", "no-such-file"], "--status-token"),
        (&["--sink-secret-file", "no-such-file"], "--sink-secret"),
        (&["--sink", "carrier-pigeon"], "--sink"),
        (&["--sink", "exec:/no/such/program"], "--sink"),
        (
            &[
                "--sink",
                concat!("exec:", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            ],
            "--sink",
        ),
        (&["--sink", "http://"], "--sink"),
        (&["--sink", "mqtt://broker"], "--sink"),
        (&["--sink", "stdout", "--sink", "stdout"], "--sink"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--state", "/no/such/folder/state.db"], "--state"),
        (&["--state", "/"], "--state"),
        (
            &["--poll-interval", "1s", "--poll-interval", "2s"],
            "--poll-interval",
        ),
    ];
    for (arguments, option) in cases {
        let arguments: Vec<&str> = ["run"].iter().chain(*arguments).copied().collect();
        let said = refusal(&run(folder.path(), &arguments, &[]));
        assert!(said.contains(option), "{arguments:?}: {said}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no trace is left"
    );
}

#[apply(test)]
fn a_wrong_variable_is_told_by_its_option() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value, option) in [
        ("DISPATCHD_POLL_INTERVAL", "soon", "--poll-interval"),
        ("DISPATCHD_POLL_INTERVAL", "50ms", "--poll-interval"),
        ("DISPATCHD_LISTEN", "here", "--listen"),
        ("DISPATCHD_STATUS_LISTEN", "0.0.0.0:0", "--status-listen"),
        ("DISPATCHD_API_RATE", "0", "--api-rate"),
        ("DISPATCHD_API_MAX_BODY", "big", "--api-max-body"),
        ("DISPATCHD_PEER_RATE", "-1", "--peer-rate"),
        ("DISPATCHD_WEBHOOK_DEADLINE", "5", "--webhook-deadline"),
        ("DISPATCHD_PRE_CURTAIL", "x", "--pre-curtail"),
        ("DISPATCHD_RETAIN", "x", "--retain"),
        ("DISPATCHD_SINKS", "stdout,smoke", "--sink"),
        ("DISPATCHD_WEBHOOK_SECRET", "a b", "--webhook-secret"),
        (
            "DISPATCHD_WEBHOOK_SECRET_FILE",
            "no-such-file",
            "--webhook-secret",
        ),
        ("DISPATCHD_LOG_FORMAT", "xml", "--log-format"),
        ("DISPATCHD_STATE", "/no/such/folder/x", "--state"),
        ("VOLTUS_API_URL", "x", "--api-url"),
        ("VOLTUS_API_URL", "https://api.voltus.co", "--api-key"),
        ("VOLTUS_API_KEY_FILE", "no-such-file", "--api-key-file"),
        ("RUST_LOG", "=/=", "RUST_LOG"),
    ] {
        let said = refusal(&run(folder.path(), &["run"], &[(name, value)]));
        assert!(said.contains(option), "{name}={value}: {said}");
    }
}

#[apply(test)]
fn an_empty_secret_is_refused_by_the_name_that_it_was_given_under() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, " \n").unwrap();
    let empty = empty.to_str().unwrap();
    for (option, variable) in [
        ("--api-key", "VOLTUS_API_KEY"),
        ("--webhook-secret", "DISPATCHD_WEBHOOK_SECRET"),
        ("--sink-secret", "DISPATCHD_SINK_SECRET"),
        ("--status-token", "DISPATCHD_STATUS_TOKEN"),
    ] {
        for value in ["", " ", "\t"] {
            let said = refusal(&run(folder.path(), &["run", option, value], &[]));
            assert!(said.contains(&format!("{option}: ")), "{said}");
            assert!(!said.contains(variable), "{said}");
        }
        let said = refusal(&run(folder.path(), &["run"], &[(variable, "")]));
        assert!(said.contains(&format!("{variable} is empty")), "{said}");
        let (file, file_variable) = (format!("{option}-file"), format!("{variable}_FILE"));
        for said in [
            refusal(&run(folder.path(), &["run", &file, empty], &[])),
            refusal(&run(folder.path(), &["run"], &[(&file_variable, empty)])),
        ] {
            assert!(said.contains(&format!("{file}: ")), "{said}");
            assert!(said.contains(empty), "{said}");
        }
        refusal(&run(folder.path(), &["run", &file, ""], &[]));
        refusal(&run(folder.path(), &["run"], &[(&file_variable, "")]));
    }
    // The commands that ask a daemon or the API, too.
    let said = refusal(&run(folder.path(), &["status", "--status-token", ""], &[]));
    assert!(said.contains("--status-token: "), "{said}");
    let said = refusal(&run(
        folder.path(),
        &["webhook", "list", "--api-key", ""],
        &[],
    ));
    assert!(said.contains("--api-key: "), "{said}");
    // What a file holds is told by the file's option.
    std::fs::write(folder.path().join("odd"), "a/b").unwrap();
    let said = refusal(&run(
        folder.path(),
        &["run", "--webhook-secret-file", "odd"],
        &[],
    ));
    assert!(said.contains("--webhook-secret-file: "), "{said}");
}

/// Two ways in which each of these could be set and be empty, without a secret.
#[apply(test)]
fn an_option_or_a_variable_that_is_empty_is_refused_by_its_name_and_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (option, variable) in [
        ("--public-url", "DISPATCHD_PUBLIC_URL"),
        ("--api-url", "VOLTUS_API_URL"),
        ("--api-version", "VOLTUS_API_VERSION"),
        ("--state", "DISPATCHD_STATE"),
        ("--sink", "DISPATCHD_SINKS"),
        ("--status-host", "DISPATCHD_STATUS_HOSTS"),
        ("--poll-interval", "DISPATCHD_POLL_INTERVAL"),
        ("--listen", "DISPATCHD_LISTEN"),
        ("--api-rate", "DISPATCHD_API_RATE"),
        ("--log-format", "DISPATCHD_LOG_FORMAT"),
    ] {
        for value in ["", " "] {
            for command in ["run", "check"] {
                let said = refusal(&run(folder.path(), &[command, option, value], &[]));
                let expected = format!("{option}: is empty; give a value, or leave the option out");
                assert!(said.contains(&expected), "{command} {said}");
            }
            let said = refusal(&run(folder.path(), &["run"], &[(variable, value)]));
            let expected =
                format!("{option}: the variable {variable} is empty; give it a value, or unset it");
            assert!(said.contains(&expected), "{said}");
        }
    }
    // Those of other commands.
    for (arguments, name) in [
        (&["sandbox", "--api-key", ""][..], "--api-key: is empty"),
        (&["sandbox", "--listen", ""], "--listen: is empty"),
        (&["status", "--status-url", ""], "--status-url: is empty"),
        (&["outbox", "list", "--sink", ""], "--sink: is empty"),
        (&["outbox", "skip", ""], "EVENT_ID: is empty"),
        (&["webhook", "delete", ""], "ID: is empty"),
        (&["scenario", "--file", ""], "--file: is empty"),
        (&["verify", "--start-in", ""], "--start-in: is empty"),
    ] {
        let said = refusal(&run(folder.path(), arguments, &[]));
        assert!(said.contains(name), "{arguments:?}: {said}");
    }
    // An option that is right wins over a variable that is empty.
    let arguments = ["run", "--api-url", "http://127.0.0.1:9", "--sink", "none"];
    let arguments = [&arguments[..], &["--state", "/"]].concat();
    let empty = [("VOLTUS_API_URL", ""), ("DISPATCHD_SINKS", "")];
    let said = refusal(&run(folder.path(), &arguments, &empty));
    assert!(!said.contains("is empty"), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "no trace is left: {left:?}");
}

#[apply(test)]
fn everything_that_is_wrong_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "run",
        "--poll-interval",
        "1ms",
        "--api-url",
        "https://api.voltus.co",
        "--sink",
        "smoke",
    ];
    let said = refusal(&run(folder.path(), &arguments, &[]));
    for option in ["--poll-interval", "--api-key", "--sink"] {
        assert!(said.contains(option), "{said}");
    }
}

#[apply(test)]
fn neither_help_nor_a_refusal_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = [
        ("VOLTUS_API_KEY", "hush-1"),
        ("DISPATCHD_WEBHOOK_SECRET", "hush-2/"),
        ("DISPATCHD_STATUS_TOKEN", "hush-3"),
        ("DISPATCHD_SINK_SECRET", "hush-4"),
        ("DISPATCHD_SINKS", "http://user:hush-5@host:bad/"),
    ];
    let help = run(folder.path(), &["run", "--help"], &secrets);
    assert_eq!(help.status.code(), Some(0));
    let told = String::from_utf8(help.stdout).unwrap();
    assert!(told.contains("--poll-interval") && told.contains("DISPATCHD_POLL_INTERVAL"));
    assert!(!told.contains("hush"), "{told}");
    let said = refusal(&run(folder.path(), &["run"], &secrets));
    assert!(!said.contains("hush"), "{said}");
}

#[apply(test)]
fn help_and_version_end_with_0_and_no_command_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["sandbox", "--help"],
    ] {
        let output = run(folder.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert_eq!(run(folder.path(), &[], &[]).status.code(), Some(2));
    let said = refusal(&run(folder.path(), &["fly"], &[]));
    assert!(said.contains("fly"), "{said}");
    let said = refusal(&run(
        folder.path(),
        &["sandbox", "--drop-webhooks", "2"],
        &[],
    ));
    assert!(said.contains("--drop-webhooks"), "{said}");
}

/// Starts a daemon on a file that it must not touch, and gives its one line.
async fn refused_on(setup: &Setup, file: &Path) -> String {
    let before = std::fs::read(file).unwrap();
    let mut process = setup.spawn();
    let status = wait_for("the end of the process", async || process.ended()).await;
    assert_eq!(std::fs::read(file).unwrap(), before, "the file was touched");
    // The last words may take a moment to be read.
    let said = wait_for("a last word", async || process.log().pop()).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert_eq!(process.log().len(), 1, "{:?}", process.log());
    assert!(said.contains("--state"), "{said}");
    said
}

#[apply(test)]
async fn a_state_file_that_is_not_ours_to_use_is_left_as_it_was() {
    let world = World::new().await;
    let file = world.path("state.db");
    let setup = world.setup();
    let refused = |word: &'static str| {
        let (setup, file) = (&setup, &file);
        async move {
            let said = refused_on(setup, file).await;
            assert!(said.contains(word), "{word}: {said}");
        }
    };

    std::fs::write(&file, "my diary\n".repeat(100)).unwrap();
    refused("not a state file").await;
    std::fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch("CREATE TABLE diary (day TEXT)")
        .unwrap();
    drop(other);
    refused("not a state file").await;
    std::fs::remove_file(&file).unwrap();

    let mut daemon = setup.ready().await;
    refused("another dispatchd").await;
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));

    let elsewhere = World::new().await;
    let said = refused_on(
        &setup.clone().with("--api-url", elsewhere.sandbox.url()),
        &file,
    )
    .await;
    assert!(said.contains(&world.sandbox.url()), "{said}");

    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[100..].fill(0x5a);
    std::fs::write(&file, damaged).unwrap();
    refused("damaged").await;
    std::fs::write(&file, whole).unwrap();

    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 999).unwrap();
    drop(newer);
    refused("newer").await;
}

#[apply(test)]
async fn a_port_that_is_taken_is_a_failure_at_run_time() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for option in ["--listen", "--status-listen"] {
        let mut process = world.setup().with(option, address).spawn();
        let status = wait_for("the end of the process", async || process.ended()).await;
        assert_eq!(status.code(), Some(1));
        let said = wait_for("a last word", async || process.log().pop()).await;
        assert!(said.contains(&format!("{option} {address}")), "{said}");
    }
}

#[apply(test)]
async fn no_webhook_is_answered_before_both_listeners_are_bound() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let setup = world.setup().with("--listen", listen);
    let setup = setup.with("--status-listen", taken.local_addr().unwrap());
    let mut process = setup.spawn();
    let http = dispatchd::http::client_builder()
        .no_proxy()
        .build()
        .unwrap();
    while process.ended().is_none() {
        let url = format!("http://{listen}/dispatch-listener");
        let answer = http.post(url).body("{}").send().await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(process.ended().unwrap().code(), Some(1));
}

#[apply(test)]
async fn the_sandbox_runs_by_itself_and_takes_faults() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        .args(["sandbox", "--listen", "127.0.0.1:0"]);
    command.args(["--api-key", "k", "--drop-webhooks", "0.5"]);
    let mut sandbox = Process::spawn(&mut command);
    let url = wait_for("the sandbox says where it is", async || {
        let log = sandbox.log();
        let line = log.iter().find(|line| line.contains("answers at"))?;
        Some(line.rsplit_once(' ')?.1.to_owned())
    })
    .await;
    let http = dispatchd::http::client_builder()
        .no_proxy()
        .build()
        .unwrap();
    let faults = http.put(format!("{url}/control/faults"));
    let faults = ask(faults.json(&json!({"api_delay_ms": 1}))).await.json;
    assert_eq!(
        (&faults["drop_webhooks"], &faults["api_delay_ms"]),
        (&json!(0.5), &json!(1))
    );
    let list = http.get(format!("{url}/2022-04-15/dispatches"));
    assert_eq!(ask(list.try_clone().unwrap()).await.status, 401);
    let list = ask(list.header("x-voltus-api-key", "k")).await;
    assert_eq!(list.json["dispatches"][0]["id"], "asdf");
    assert_eq!(sandbox.stop(Signal::TERM).await.code(), Some(0));
}
