//! The image, as far as that can be seen without a container engine.

use std::path::Path;
use std::process::Command;

use super::{PROGRAM, path_of, ran, said, text_of};
use crate::harness::World;

const FILE: &str = "container/Containerfile";

/// The instructions, each on one line, without comments.
fn instructions() -> Vec<String> {
    let text = text_of(FILE);
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn instruction(name: &str) -> String {
    let prefix = format!("{name} ");
    let lines = instructions();
    let mut found = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    found
        .next_back()
        .unwrap_or_else(|| panic!("no {name}"))
        .to_owned()
}

#[apply(test)]
fn a_linter_has_nothing_to_say_against_it() {
    let output = ran("hadolint", &[path_of(FILE)]);
    assert!(output.status.success(), "{}", said(&output));
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
