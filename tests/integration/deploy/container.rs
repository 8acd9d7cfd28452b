//! The image, as far as that can be seen without a container engine.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{PROGRAM, path_of, ran, said, text_of};
use crate::harness::{Daemon, Process, World};

const FILE: &str = "container/Containerfile";

/// The small one, of what `deploy/container/rootfs` puts together.
const MINIMAL: &str = "container/Containerfile.minimal";

/// The instructions of a file, each on one line, without comments.
fn instructions_of(file: &str) -> Vec<String> {
    let text = text_of(file);
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn instructions() -> Vec<String> {
    instructions_of(FILE)
}

fn instruction(name: &str) -> String {
    instruction_of(FILE, name)
}

/// The last one of this name.
fn instruction_of(file: &str, name: &str) -> String {
    let prefix = format!("{name} ");
    let lines = instructions_of(file);
    let mut found = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    found
        .next_back()
        .unwrap_or_else(|| panic!("no {name}"))
        .to_owned()
}

#[apply(test)]
fn a_linter_has_nothing_to_say_against_it() {
    let output = ran("hadolint", &[FILE, MINIMAL].map(path_of));
    assert!(output.status.success(), "{}", said(&output));
}

/// What is said of how an image is run holds for both.
#[apply(test)]
fn the_small_image_is_run_as_the_other_one() {
    for name in [
        "LABEL",
        "USER",
        "VOLUME",
        "WORKDIR",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ] {
        assert_eq!(instruction_of(MINIMAL, name), instruction(name), "{name}");
    }
    let environment = instruction_of(MINIMAL, "ENV");
    for variable in instruction("ENV").split_whitespace() {
        assert!(environment.contains(variable), "{variable}: {environment}");
    }
}

#[apply(test)]
fn it_copies_what_is_there_and_runs_as_nobody_in_particular() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut copied = 0;
    for line in instructions() {
        let Some(copy) = line.strip_prefix("COPY ") else {
            continue;
        };
        let mut sources: Vec<&str> = copy.split_whitespace().collect();
        sources.pop();
        if !copy.starts_with("--from=") {
            for source in sources {
                assert!(root.join(source).exists(), "{source} in {line}");
                copied += 1;
            }
        }
    }
    assert!(copied >= 3);
    let (user, group) = instruction("USER")
        .split_once(':')
        .map(|(user, group)| {
            let id = |text: &str| text.parse::<u32>().unwrap();
            (id(user), id(group))
        })
        .unwrap();
    assert!(user > 0 && group > 0);
    assert_eq!(instruction("ENTRYPOINT"), r#"["dispatchd"]"#);
}

/// The commands of the README that begin with `start`.
fn commands(start: &str) -> Vec<String> {
    let page = text_of("README.md");
    let blocks = crate::readme::blocks::blocks(&page);
    let commands = blocks.iter().flat_map(|block| block.commands());
    commands
        .filter(|command| command.starts_with(start))
        .map(|command| command.replace("\\\n", " "))
        .collect()
}

/// The values of an option of a command, in their order.
fn values<'c>(command: &'c str, option: &str) -> Vec<&'c str> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1]).collect()
}

#[apply(test)]
fn the_image_is_built_in_the_format_that_has_a_health_check() {
    let build = commands("sudo podman build");
    assert_eq!(build.len(), 2);
    for build in &build {
        assert_eq!(values(build, "--format"), ["docker"]);
        let [file] = values(build, "-f")[..] else {
            panic!("one file: {build}");
        };
        assert!([FILE, MINIMAL].iter().any(|known| file.ends_with(known)));
    }
    assert!(text_of(FILE).contains("podman build --format docker "));
}

#[apply(test)]
async fn the_containers_environment_starts_a_daemon_that_reads_its_secrets_again() {
    let [run] = &commands("sudo podman run")[..] else {
        panic!("one command");
    };
    let world = World::with_key("api-key-value").await;
    // A folder is mounted: a file that replaces another one in it is seen inside.
    let mounts = values(run, "-v");
    assert_eq!(
        mounts,
        [
            "dispatchd:/var/lib/dispatchd",
            "/etc/dispatchd:/etc/dispatchd:ro"
        ]
    );
    let here = world.folder().display().to_string();
    let mut environment: std::collections::BTreeMap<&str, String> = values(run, "-e")
        .into_iter()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name, value.replace("/etc/dispatchd", &here)))
        .collect();
    for name in ["api-key", "webhook-secret"] {
        std::fs::write(world.path(name), format!("{name}-value\n")).unwrap();
        let file = world.path(name).display().to_string();
        assert!(environment.values().any(|value| *value == file), "{name}");
    }
    environment.insert("VOLTUS_API_URL", world.sandbox.url());
    let public = environment.insert("DISPATCHD_PUBLIC_URL", "http://127.0.0.1:1".to_owned());
    assert!(public.is_some_and(|url| url.starts_with("https://")));
    assert!(environment.contains_key("DISPATCHD_SINKS"));
    // Without a terminal, as `podman run -d` starts it.
    let mut started = Command::new("setsid");
    started.arg(PROGRAM).env_clear().envs(environment);
    started.args(["run", "--state", "state.db"]);
    started.args(["--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0"]);
    started.current_dir(world.folder());
    let daemon = Daemon::of(Process::spawn(&mut started)).await;
    daemon.wait_until_ready().await;
    std::fs::write(world.path("fresh"), "another\n").unwrap();
    std::fs::rename(world.path("fresh"), world.path("webhook-secret")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("it holds another value now").await;
}

#[apply(test)]
async fn its_health_check_tells_a_daemon_that_answers_from_one_that_does_not() {
    let check = instruction("HEALTHCHECK");
    let (_, command) = check.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    let world = World::new().await;
    let daemon = world.setup().with("--status-token", "t0ken").start().await;
    let check = async |url: String, token: &'static str| {
        let folder = Path::new(PROGRAM).parent().unwrap();
        let path = std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")]);
        let mut run = Command::new(&command[0]);
        run.args(&command[1..])
            .env_clear()
            .env("PATH", path.unwrap());
        // What the container has told the daemon, the check is told as well.
        run.env("DISPATCHD_STATUS_TOKEN", token)
            .env("DISPATCHD_STATUS_URL", url);
        let ran = tokio::task::spawn_blocking(move || run.output().unwrap()).await;
        let output = ran.unwrap();
        assert!(
            output.stdout.is_empty(),
            "it keeps customers' data to itself"
        );
        output.status.success()
    };
    assert!(check(daemon.status_url(""), "t0ken").await);
    assert!(!check(daemon.status_url(""), "another").await);
    assert!(!check("http://127.0.0.1:1".to_owned(), "t0ken").await);
}
