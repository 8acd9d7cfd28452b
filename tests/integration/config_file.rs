//! The configuration file: what wins over what, what is wrong with it, and what a
//! daemon that runs from one does.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Daemon, Process, Receiver, World, dispatch, in_ms, wait_until};

/// Something to be given to the program: arguments and variables.
type Given<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

/// The program with `DISPATCHD_CONFIG` at the world's `d.toml`, in another folder.
fn command(world: &World, (arguments, variables): Given<'_>) -> Command {
    let elsewhere = world.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchd"));
    command
        .env_clear()
        .env("DISPATCHD_CONFIG", world.path("d.toml"))
        .envs(variables.iter().copied())
        .args(arguments)
        .current_dir(elsewhere);
    command
}

/// Runs the program to its end, while the servers of this process answer.
async fn run(world: &World, given: Given<'_>) -> Output {
    let mut command = assert_cmd::Command::from_std(command(world, given));
    command.timeout(Duration::from_secs(20));
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines of `dispatchd check` about the configuration.
async fn checked(world: &World, given: Given<'_>) -> String {
    let (arguments, variables) = given;
    let arguments = [&["check"], arguments].concat();
    let output = run(world, (&arguments, variables)).await;
    let lines = text(&output.stdout);
    let about = lines
        .lines()
        .filter(|line| line.contains(" configuration: "));
    about.collect::<Vec<_>>().join("\n")
}

/// The line that refuses the configuration.
async fn refused(world: &World, given: Given<'_>) -> String {
    let output = run(world, given).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"));
    said
}

/// A file with what stands out of a test's way, and with these lines.
fn write(world: &World, lines: &str) {
    let url = world.sandbox.url();
    let common = "listen = \"127.0.0.1:0\"\nstatus-listen = \"127.0.0.1:0\"\nstate = \"s.db\"\n";
    let text = format!("api-url = \"{url}\"\n{common}{lines}");
    std::fs::write(world.path("d.toml"), text).unwrap();
}

/// The first line that [`write`] leaves to the test.
const FIRST: usize = 5;

async fn started(world: &World, arguments: &[&str]) -> Daemon {
    let arguments = [&["run"], arguments].concat();
    Daemon::of(Process::spawn(&mut command(world, (&arguments, &[])))).await
}

#[apply(test)]
async fn command_line_then_environment_then_file_then_default() {
    let world = World::new().await;
    let variable = [("DISPATCHD_POLL_INTERVAL", "3m")];
    let option = ["--poll-interval", "4m"];
    write(&world, "");
    assert!(checked(&world, (&[], &[])).await.contains("every 30s,"));
    write(&world, "poll-interval = \"2m\"\n");
    assert!(checked(&world, (&[], &[])).await.contains("every 2m,"));
    let by_variable = checked(&world, (&[], &variable)).await;
    assert!(by_variable.contains("every 3m,"), "{by_variable}");
    let by_option = checked(&world, (&option, &variable)).await;
    assert!(by_option.contains("every 4m,"), "{by_option}");
}

#[apply(test)]
async fn lists_are_replaced_as_a_whole_and_that_is_told() {
    let world = World::new().await;
    let variable = [("DISPATCHD_SINKS", "http://a.example/x,http://b.example/x")];
    let file = world.path("d.toml");
    let file = file.display();
    write(&world, "");
    let said = checked(&world, (&[], &[])).await;
    assert!(said.ends_with(&format!(", events to stdout; options from {file}")));
    write(&world, "sink = [\"stdout\", \"http://c.example/x\"]\n");
    let said = checked(&world, (&[], &[])).await;
    assert!(said.contains("events to stdout, http://c.example/x;"));
    let said = checked(&world, (&[], &variable)).await;
    assert!(said.contains("events to http://a.example/x, http://b.example/x;"));
    assert!(said.ends_with(&format!(
        "; the variable DISPATCHD_SINKS replaces the 2 sinks of {file}"
    )));
    write(&world, "[[sink]]\nto = \"http://c.example/x\"\n");
    let daemon = started(&world, &["--sink", "none"]).await;
    let replaced = format!("--sink replaces the sink of {file}");
    daemon.wait_for_log(&replaced).await;

    let names = [("DISPATCHD_STATUS_HOSTS", "a.example")];
    write(&world, "status-host = [\"a b\"]\n");
    let said = checked(&world, (&[], &[])).await;
    assert!(said.contains(":5: status-host: `a b` is not"), "{said}");
    assert!(checked(&world, (&[], &names)).await.starts_with("ok "));
}

#[apply(test)]
async fn an_option_without_a_value_can_be_turned_off_by_its_variable() {
    let world = World::new().await;
    let open = ["--status-listen", "0.0.0.0:0"];
    let variable = "DISPATCHD_ALLOW_REMOTE_STATUS";
    write(&world, "allow-remote-status = true\n");
    assert!(checked(&world, (&open, &[])).await.starts_with("ok "));
    let off = [(variable, "false")];
    assert!(checked(&world, (&open, &off)).await.starts_with("failed "));
    let on = [open[0], open[1], "--allow-remote-status"];
    assert!(checked(&world, (&on, &off)).await.starts_with("ok "));
    write(&world, "allow-remote-status = false\n");
    assert!(checked(&world, (&open, &[])).await.starts_with("failed "));
    let on = [(variable, "true")];
    assert!(checked(&world, (&open, &on)).await.starts_with("ok "));
}

#[apply(test)]
async fn a_key_from_elsewhere_wins_over_the_one_that_the_file_names() {
    let world = World::with_key("right").await;
    std::fs::write(world.path("key"), "wrong").unwrap();
    write(&world, "api-key-file = \"key\"\n");
    let about_key = async |given| {
        let output = run(&world, given).await;
        let lines = text(&output.stdout);
        let line = lines.lines().find(|line| line.contains(" key: "));
        line.unwrap().to_owned()
    };
    let path = world.path("key");
    let said = about_key((&["check"], &[])).await;
    let expected = format!("the key of api-key-file {}", path.display());
    assert!(
        said.starts_with("failed key: ") && said.contains(&expected),
        "{said}"
    );
    let variable = [("VOLTUS_API_KEY", "right")];
    let said = about_key((&["check"], &variable)).await;
    assert!(said.starts_with("ok key: "), "{said}");
    let said = about_key((&["check", "--api-key", "right"], &[])).await;
    assert!(said.starts_with("ok key: "), "{said}");
    std::fs::write(&path, "right").unwrap();
    let said = about_key((&["check"], &[])).await;
    assert!(said.starts_with("ok key: "), "{said}");
}

#[apply(test)]
async fn all_that_is_wrong_is_told_at_once_with_file_and_line() {
    let world = World::new().await;
    write(
        &world,
        "poll-interval = \"1ms\"\n\
         pol-interval = \"5s\"\n\
         api-rate = 0\n\
         api-key = \"hush\"\n\
         webhook-secret-file = \"missing\"\n\
         public-url = \"ftp://hush.example\"\n\
         node = 5\n\
         retain = 30d\n\
         \n\
         [[sink]]\n\
         to = \"http//a.example:8002/events\"\n\
         events = [\"site.curtail\"]\n\
         [[sink]]\n\
         to = \"http://a.example/x\"\n\
         [[sink]]\n\
         to = \"http://a.example/x\"\n",
    );
    let file = world.path("d.toml");
    let at = |line: usize| format!("{}:{}: ", file.display(), FIRST + line);
    let missing = world.path("missing");
    let expected = [
        format!("{}poll-interval: must be 100ms at least", at(0)),
        format!(
            "{}unknown option `pol-interval`: did you mean `poll-interval`?",
            at(1)
        ),
        format!("{}api-rate: `0` cannot be used: it must be", at(2)),
        format!("{}api-key: a secret does not belong in this file; ", at(3)),
        format!(
            "{}webhook-secret-file: the file {} cannot be read",
            at(4),
            missing.display()
        ),
        format!("{}node: is a whole number and must be a string", at(6)),
        format!("{}is not TOML: ", at(7)),
        format!(
            "{}sink: sink `http//a.example:…` is of no known kind",
            at(10)
        ),
        format!("{}sink: `events`: of the commands site.curtail,", at(11)),
        format!(
            "{}sink: the sink of line {} is called `http://a.example/x` too; give each sink a `name`",
            at(14),
            FIRST + 12
        ),
    ];
    let said = refused(&world, (&["run"], &[])).await;
    let output = run(&world, (&["check"], &[])).await;
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{lines}");
    let last = text(&output.stderr);
    assert!(
        last.ends_with("1 of 8 checks failed: configuration\n"),
        "{last}"
    );
    for problem in &expected {
        assert!(said.contains(problem), "{problem}: {said}");
        let line = format!("failed configuration: {problem}");
        let told = lines.lines().filter(|told| told.starts_with(&line));
        assert_eq!(told.count(), 1, "{line}: {lines}");
    }
    let failed = lines.lines().filter(|line| line.starts_with("failed "));
    assert_eq!(failed.count(), expected.len(), "{lines}");
    assert!(!said.contains("hush") && !lines.contains("hush"), "{said}");
    assert!(world.sandbox.requests().is_empty());
}

/// An option whose value cannot be read is not missing: to say so would mislead.
#[apply(test)]
async fn what_follows_from_a_fault_in_the_file_is_not_told_as_another_one() {
    let world = World::new().await;
    for (lines, count) in [
        (
            "api-key-fiel = \"key\"\n[[sink]]\nto = \"none\"\nnaem = \"x\"\n",
            2,
        ),
        ("api-key = \"hush\"\nnode = 5\n", 2),
        ("api-key-file = key\n", 1),
    ] {
        write(&world, lines);
        let options = ["run", "--api-url", "https://api.voltus.co"];
        let said = refused(&world, (&options, &[])).await;
        assert_eq!(said.matches("d.toml:").count(), count, "{said}");
        assert!(!said.contains("needs a key"), "{said}");
    }
    for lines in ["status-token = \"hush\"\n", "allow-remote-status = 1\n"] {
        write(&world, lines);
        let options = ["run", "--status-listen", "0.0.0.0:0"];
        let said = refused(&world, (&options, &[])).await;
        assert!(!said.contains("can be reached from elsewhere"), "{said}");
    }
}

#[apply(test)]
async fn a_file_that_cannot_be_read_is_told_by_the_name_that_it_was_given_under() {
    let world = World::new().await;
    let missing = world.path("d.toml");
    let why = format!("the file {} cannot be read: ", missing.display());
    let said = refused(&world, (&["run"], &[])).await;
    assert!(
        said.starts_with(&format!("dispatchd: --config: {why}")),
        "{said}"
    );
    assert!(
        said.ends_with("(set by the variable DISPATCHD_CONFIG)\n"),
        "{said}"
    );
    let path = missing.to_str().unwrap();
    let said = refused(&world, (&["run", "--config", path], &[])).await;
    assert!(said.contains(&why) && !said.contains("variable"), "{said}");
    for unusable in ["/", "/dev/zero"] {
        let said = refused(&world, (&["run", "--config", unusable], &[])).await;
        assert!(said.starts_with("dispatchd: --config: the file "), "{said}");
    }
    for (arguments, variables) in [
        (&["run", "--config", ""][..], &[][..]),
        (&["run"], &[("DISPATCHD_CONFIG", "")]),
    ] {
        let said = refused(&world, (arguments, variables)).await;
        assert!(
            said.contains("--config: ") && said.contains("is empty"),
            "{said}"
        );
    }
    // The command line wins over the environment here too.
    write(&world, "");
    let options = ["run", "--config", "/no/such/file"];
    let said = refused(&world, (&options, &[])).await;
    assert!(said.contains("/no/such/file"), "{said}");
}

#[apply(test)]
async fn bytes_that_are_no_configuration_are_refused_in_one_line() {
    let world = World::new().await;
    let program = std::fs::read(env!("CARGO_BIN_EXE_dispatchd")).unwrap();
    let nested = [b"a = ".to_vec(), vec![b'['; 100_000]].concat();
    for bytes in [
        &program[..1_000_000],
        b"\0\x01\x02",
        b"\xff\xfe[",
        b"\"a\\nb\" = \"\\u0000\"",
        b"retain = \"\x1b[31m\"",
        &nested,
        "sink = [\"\u{202e}\"]".as_bytes(),
    ] {
        std::fs::write(world.path("d.toml"), bytes).unwrap();
        let said = refused(&world, (&["run"], &[])).await;
        assert!(said.contains("d.toml:"), "{said}");
        assert!(!said.trim_end().chars().any(char::is_control), "{said:?}");
    }
}

#[apply(test)]
async fn a_daemon_delivers_to_the_sinks_of_its_file_and_finds_its_files_beside_it() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let program = world.path("program");
    std::fs::write(&program, "#!/bin/sh\ncat >> \"$0.got\"\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let sink = receiver.sink();
    write(
        &world,
        &format!("[[sink]]\nto = \"exec:program\"\n[[sink]]\nto = \"{sink}\"\n"),
    );
    let daemon = started(&world, &[]).await;
    daemon.wait_for_log("configuration file").await;
    daemon.wait_until_ready().await;
    world.put(dispatch("a", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("a").await.status, 200);
    wait_until("both got it", async || {
        let got = std::fs::read_to_string(world.path("program.got"));
        got.is_ok_and(|got| got.contains("site.curtail"))
            && receiver.types_of("site-a").contains(&"site.curtail".into())
    })
    .await;
    assert!(world.path("s.db").exists());
}

#[apply(test)]
async fn a_failure_of_the_start_says_which_line_it_is_about() {
    let world = World::new().await;
    write(&world, "");
    std::fs::write(world.path("s.db"), "my diary\n".repeat(100)).unwrap();
    let said = refused(&world, (&["run"], &[])).await;
    let line = format!("(set in {}:4)\n", world.path("d.toml").display());
    assert!(said.contains("--state ") && said.ends_with(&line), "{said}");
}

#[apply(test)]
async fn other_commands_take_from_the_file_what_they_share_with_the_daemon() {
    let world = World::with_key("right").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let status = free.local_addr().unwrap();
    drop(free);
    let url = world.sandbox.url();
    std::fs::write(world.path("key"), "right").unwrap();
    std::fs::write(world.path("token"), "token-1").unwrap();
    let lines = format!(
        "api-url = \"{url}\"\napi-key-file = \"key\"\nstatus-token-file = \"token\"\n\
         listen = \"127.0.0.1:0\"\nstatus-listen = \"{status}\"\nstate = \":memory:\"\n\
         sink = \"none\"\n"
    );
    std::fs::write(world.path("d.toml"), &lines).unwrap();
    let _daemon = started(&world, &[]).await;
    for arguments in [
        &["status", "--json"][..],
        &["outbox", "list", "--json"],
        &["webhook", "list"],
    ] {
        let output = run(&world, (arguments, &[])).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    }
    // What is wrong with other options does not keep an operator from asking.
    let broken = format!("{lines}poll-interval = 5\nzebra = 1\n");
    std::fs::write(world.path("d.toml"), broken).unwrap();
    let output = run(&world, (&["status"], &[])).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let broken = lines.replace("status-token-file", "status-token-fiel");
    std::fs::write(world.path("d.toml"), broken).unwrap();
    let said = refused(&world, (&["status"], &[])).await;
    assert!(said.contains("did you mean `status-token-file`?"), "{said}");
    // These are not configured by it.
    let output = run(&world, (&["scenario", "basic", "--print"], &[])).await;
    assert_eq!(output.status.code(), Some(0));
    std::fs::write(world.path("d.toml"), "zebra").unwrap();
    let output = run(&world, (&["completions", "bash"], &[])).await;
    assert_eq!(output.status.code(), Some(0));
}

#[apply(test)]
async fn a_reload_tells_what_changed_in_the_file_and_ends_no_daemon() {
    let world = World::new().await;
    write(&world, "poll-interval = \"1h\"\nsink = \"none\"\n");
    let mut under_setsid = Command::new("setsid");
    let run = command(&world, (&["run"], &[]));
    under_setsid
        .env_clear()
        .envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(run.get_current_dir().unwrap_or(Path::new("/")))
        .arg(run.get_program())
        .args(run.get_args());
    let mut daemon = Daemon::of(Process::spawn(&mut under_setsid)).await;
    daemon.wait_until_ready().await;
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("read again; it says the same").await;

    write(
        &world,
        "poll-interval = \"2h\"\nnode = \"n\"\nsink = \"none\"\n",
    );
    daemon.signal(Signal::HUP);
    let said = daemon.wait_for_log("changed since the start").await;
    assert!(
        said.contains("changed since the start: node, poll-interval; to use it,"),
        "{said}"
    );

    let line = format!("d.toml:{FIRST}: ");
    let told = |log: Vec<String>| log.iter().filter(|said| said.contains(&line)).count();
    for broken in ["poll-interval = 2\n", "[[", "zebra = true\n"] {
        write(&world, broken);
        let before = told(daemon.log());
        daemon.signal(Signal::HUP);
        wait_until("the fault is told", async || told(daemon.log()) > before).await;
    }
    std::fs::remove_file(world.path("d.toml")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("cannot be read").await;
    assert_eq!(daemon.poll().await.status, 200);
    assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
}
