//! A message names what is wrong as the operator wrote it, says why, and what to
//! write instead.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

use crate::harness::{Upstream, World, raw_answer};

/// Runs the program to its end, with its only line on standard error.
fn told(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        // Nobody outside is to hear of one that wrongly starts.
        .env("VOLTUS_API_URL", "http://127.0.0.1:9")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .timeout(Duration::from_secs(20));
    let Output { status, stderr, .. } = command.args(arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    (status.code().unwrap(), said.trim_end().to_owned())
}

/// The same, while the servers of this process answer.
async fn told_by(
    folder: &Path,
    arguments: &[&str],
    variables: &[(&'static str, &'static str)],
) -> (i32, String) {
    let folder = folder.to_owned();
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let variables = variables.to_vec();
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        told(&folder, &arguments, &variables)
    });
    running.await.unwrap()
}

/// The command line is refused with exactly this.
fn refused(arguments: &[&str], variables: &[(&str, &str)], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::write(folder.path().join("odd"), "a b").unwrap();
    let (status, said) = told(folder.path(), arguments, variables);
    assert_eq!(said, format!("dispatchd: {expected}"), "{arguments:?}");
    assert_eq!(status, 2, "{arguments:?}");
}

#[apply(test)]
fn a_slip_of_the_pen_is_answered_with_what_may_be_meant() {
    let run = "See `dispatchd run --help`";
    let unknown = format!("unknown option `--pol-interval`: did you mean `--poll-interval`? {run}");
    refused(&["run", "--pol-interval", "5s"], &[], &unknown);
    refused(
        &["statsu"],
        &[],
        "unknown command `statsu`: did you mean `status`? See `dispatchd --help`",
    );
    refused(
        &["webhook", "lst"],
        &[],
        "unknown command `lst`: did you mean `list`? See `dispatchd webhook --help`",
    );
    refused(
        &["run", "extra"],
        &[],
        "unknown argument `extra`; see `dispatchd run --help`",
    );
    refused(
        &["scenario", "bsic", "--print"],
        &[],
        "TEST: `bsic` is not one of basic, ancillary, two, abutting, overlapping, cancelled, setpoints, setpoints-none, setpoints-abutting, setpoints-incomplete",
    );
    refused(
        &["scenario"],
        &[],
        "<TEST> is missing; see `dispatchd scenario --help`",
    );
}

#[apply(test)]
fn a_value_that_cannot_be_used_is_told_with_one_that_can() {
    let number = "cannot be used: it must be a whole number from 1 to 4294967295";
    refused(
        &["run", "--api-rate", "0"],
        &[],
        &format!("--api-rate: `0` {number}"),
    );
    refused(
        &["run"],
        &[("DISPATCHD_API_RATE", "many")],
        &format!("--api-rate: `many` {number} (set by the variable DISPATCHD_API_RATE)"),
    );
    refused(
        &["run", "--api-max-body", "lots"],
        &[],
        "--api-max-body: `lots` cannot be used: write a number and its unit, such as 128MiB",
    );
    refused(
        &["verify", "--program-id", "-1"],
        &[],
        "--program-id: `-1` cannot be used: it must be a whole number from 0 to 9223372036854775807",
    );
    refused(
        &["run"],
        &[("DISPATCHD_CURTAIL_ON_TEST", "flase")],
        "--curtail-on-test: `flase` cannot be used: write true or false (set by the variable DISPATCHD_CURTAIL_ON_TEST)",
    );
    refused(
        &["run", "--state", "/tmp"],
        &[],
        "--state: /tmp is a folder; name a file in it, such as /tmp/dispatchd.db",
    );
}

#[apply(test)]
fn a_url_without_its_scheme_is_told_with_it_and_leads_nobody_to_production() {
    for (written, better) in [
        ("127.0.0.1:5050", "http://127.0.0.1:5050"),
        ("localhost:5050", "http://localhost:5050"),
        ("sandbox.voltus.co", "https://sandbox.voltus.co"),
        ("ftp://somewhere", "https://sandbox.voltus.co"),
    ] {
        refused(
            &["run", "--api-url", written],
            &[],
            &format!("--api-url: `{written}` is not an http or https URL; write {better}"),
        );
    }
    refused(
        &["status", "--status-url", "127.0.0.1:5001"],
        &[],
        "--status-url: `127.0.0.1:5001` is not an http or https URL; write http://127.0.0.1:5001",
    );
    // What may be a password is not repeated.
    let folder = tempfile::tempdir().unwrap();
    for (option, value) in [
        ("--api-url", "me:hush@host"),
        ("--api-url", "postgres://me:hush@host/db"),
        ("--state", "postgres://me:hush@host/db?sslmode=prefer"),
        ("--state", "mysql://me:hush@host/db"),
        ("--state", "postgres:/me:hush@host/db"),
        ("--state", "postgress://me:hush@host/db"),
        ("--state", "postgres://me:p@hush@host/db?sslmode=disable"),
        ("--state", "postgres://me:p?hush@host/db"),
        ("--public-url", "me:hush@host"),
    ] {
        let (status, said) = told(folder.path(), &["run", option, value], &[]);
        assert_eq!(status, 2, "{said}");
        assert!(
            said.starts_with(&format!("dispatchd: {option}: ")),
            "{said}"
        );
        assert!(!said.contains("hush"), "{said}");
    }
}

#[apply(test)]
fn the_option_or_variable_that_was_used_is_named_and_no_other() {
    let empty = "the file empty is empty; write the secret into it";
    refused(
        &["run", "--webhook-secret-file", "empty"],
        &[],
        &format!("--webhook-secret-file: {empty}"),
    );
    refused(
        &["run"],
        &[("DISPATCHD_WEBHOOK_SECRET_FILE", "empty")],
        &format!(
            "--webhook-secret-file: {empty} (set by the variable DISPATCHD_WEBHOOK_SECRET_FILE)"
        ),
    );
    let characters =
        "the secret may have letters, digits and - . _ ~ only, since it stands in a path";
    refused(
        &["run", "--webhook-secret-file", "odd"],
        &[],
        &format!("--webhook-secret-file: {characters}"),
    );
    refused(
        &["run"],
        &[("DISPATCHD_WEBHOOK_SECRET", "a b")],
        &format!("--webhook-secret: {characters} (set by the variable DISPATCHD_WEBHOOK_SECRET)"),
    );
    refused(
        &["run"],
        &[("VOLTUS_API_KEY", "a"), ("VOLTUS_API_KEY_FILE", "b")],
        "--api-key: the variable VOLTUS_API_KEY and the variable VOLTUS_API_KEY_FILE are both given; give one of them",
    );
    refused(
        &["run"],
        &[("DISPATCHD_STATE", "/no/such/folder/x")],
        "--state /no/such/folder/x: cannot be opened: No such file or directory (os error 2); check that its folder exists and that this user may write to folder and file (set by the variable DISPATCHD_STATE)",
    );
    // Both commands read the token in the same way.
    for command in ["run", "status"] {
        refused(
            &[command],
            &[("DISPATCHD_STATUS_TOKEN", "a\tb\u{7f}")],
            "--status-token: the token has a character that cannot stand in an HTTP header; use printable ASCII (set by the variable DISPATCHD_STATUS_TOKEN)",
        );
    }
}

/// A web server that is something else than was asked for.
async fn web_server() -> Upstream {
    Upstream::new(|_| raw_answer("404 Not Found", "", "<html>nothing here</html>")).await
}

#[apply(test)]
async fn a_server_that_is_not_the_api_is_told_by_its_url_with_the_options_to_look_at() {
    let server = web_server().await;
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["webhook", "list"][..],
        &["webhook", "delete", "asdf"],
        &["scenario", "basic"],
    ] {
        let arguments = [arguments, &["--api-url", &url]].concat();
        let (status, said) = told_by(folder.path(), &arguments, &[]).await;
        let expected =
            "answered 404, and not in the API's words: is --api-url right, and --api-version?";
        assert!(said.contains(&format!("{url}/2022-04-15/")), "{said}");
        assert!(said.ends_with(expected), "{said}");
        assert_eq!(status, 1, "{said}");
    }
}

#[apply(test)]
async fn a_server_that_is_not_the_daemon_is_told_from_one_that_wants_a_token() {
    let server = web_server().await;
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    for (url, answer) in [
        (server.url(), "it answered 404 Not Found"),
        (world.sandbox.url(), "it answered 401 Unauthorized"),
    ] {
        for command in [
            &["status"][..],
            &["outbox", "list"],
            &["outbox", "skip", "e"],
        ] {
            let arguments = [command, &["--status-url", &url]].concat();
            let (status, said) = told_by(folder.path(), &arguments, &[]).await;
            let expected = format!(
                "dispatchd: {url} is not the status listener of dispatchd: {answer}. Set --status-url to the daemon's status listener"
            );
            assert_eq!((status, said), (1, expected));
        }
    }
    let setup = world.setup().with("--status-token", "right");
    let daemon = setup.start().await;
    let url = daemon.status_url("");
    for (token, expected) in [
        (
            &[][..],
            "asks for its status token; give it as --status-token-file or --status-token",
        ),
        (
            &["--status-token", "wrong"],
            "refuses the status token; give the token that the daemon has",
        ),
    ] {
        let arguments = [&["status", "--status-url", &url], token].concat();
        let (status, said) = told_by(folder.path(), &arguments, &[]).await;
        assert_eq!(status, 1, "{said}");
        assert!(said.ends_with(expected), "{said}");
    }
}

#[apply(test)]
async fn a_key_that_is_refused_is_told_by_where_it_came_from() {
    let world = World::with_key("right").await;
    let url = world.sandbox.url();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "wrong").unwrap();
    for (arguments, variables, expected) in [
        (
            &["--api-key", "wrong"][..],
            &[][..],
            "the key of --api-key (401): set --api-key to a key that is valid there",
        ),
        (
            &[],
            &[("VOLTUS_API_KEY", "wrong")],
            "the key of VOLTUS_API_KEY (401): set VOLTUS_API_KEY to a key that is valid there",
        ),
        (
            &["--api-key-file", "key"],
            &[],
            "the key of --api-key-file key (401): write a key that is valid there to key",
        ),
        (
            &[],
            &[],
            "the sandbox's public key `secret` (401): set --api-key or --api-key-file to a key that is valid there",
        ),
    ] {
        let arguments = [&["webhook", "list", "--api-url", &url], arguments].concat();
        let (status, said) = told_by(folder.path(), &arguments, variables).await;
        assert_eq!(said, format!("dispatchd: the API refuses {expected}"));
        assert_eq!(status, 1);
    }
}

#[apply(test)]
async fn a_browser_that_is_turned_away_is_told_how_to_get_in() {
    let world = World::new().await;
    let open = world.setup().start().await;
    let closed = world.setup().with("--state", ":memory:");
    let closed = closed.with("--status-token", "t").start().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let visit = async |daemon: &crate::harness::Daemon, path: &str, host: Option<&str>| {
        let request = daemon.http.get(daemon.status_url(path));
        let request = request.header("accept", browser);
        let request = match host {
            Some(host) => request.header("host", host),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    };
    for path in ["/status", "/schedule", "/metrics"] {
        let (status, kind, text) = visit(&closed, path, None).await;
        assert_eq!((status, kind.as_str()), (401, "text/plain; charset=utf-8"));
        for way in [
            "enter the token",
            "--status-token-file",
            "Authorization: Bearer",
        ] {
            assert!(text.contains(way), "{way} in {text}");
        }
    }
    for path in ["/", "/status"] {
        let (status, kind, text) = visit(&open, path, Some("ops.example")).await;
        assert_eq!((status, kind.as_str()), (403, "text/plain; charset=utf-8"));
        for way in [
            "--status-host ops.example",
            "ssh -L ",
            "--status-token-file",
        ] {
            assert!(text.contains(way), "{way} in {text}");
        }
    }
    // A program is answered as before.
    let answer = closed.get("/status").await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.json["error"]
            .as_str()
            .unwrap()
            .contains("--status-token")
    );
}

#[apply(test)]
fn a_report_from_a_database_is_refused_with_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    let url = "postgres://me:s3cret@127.0.0.1/power";
    let (status, said) = told(folder.path(), &["report", "dkmq", "--state", url], &[]);
    assert_eq!(status, 2);
    assert!(said.contains("dispatchd state copy"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    // A file that is not there is named once.
    let (_, said) = told(
        folder.path(),
        &["report", "dkmq", "--state", "gone.db"],
        &[],
    );
    assert_eq!(said.matches("gone.db").count(), 1, "{said}");
}
