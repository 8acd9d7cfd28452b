//! What the README says can be done, is done: all of its shell blocks are pasted one
//! after another, with nothing changed but what `Place::substitutions` lists.

pub mod blocks;
mod place;
mod signatures;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::harness::wait_until;
use blocks::{Block, blocks, headings, links, spans};
use place::{Place, need_programs_of};

/// Lines that are not run here, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    ("cargo test ", "this is it"),
    (
        "cargo install --path . --locked",
        "a build of minutes; the program is put where it would be",
    ),
    (
        "cargo run --release --example simulate -- --seeds",
        "a build of minutes; `.ci/run` simulates",
    ),
    (
        "cargo run --release --example simulate -- --seed 7",
        "the same",
    ),
    (
        "cargo run --release --example simulate -- --world leases",
        "the same",
    ),
    (
        "cargo run --release --example simulate -- --world daemons",
        "the same",
    ),
];

/// The line of the README by which a shell finds the program.
const PROFILE: &str = "export PATH=";

/// What a reader sees after the first block below a heading that has some words in it:
/// the heading, the words, who prints something (the block itself, or one of
/// `place::GOING_ON`), and a part of that.
const SEEN: [(&str, &str, &str, &str); 19] = [
    ("Install", "dispatchd --version", "", "dispatchd 0."),
    ("First run", "sleep 1\ndispatchd status", "", "CURTAILED"),
    (
        "First run",
        r#"-d '{"drop_webhooks":0}'"#,
        "",
        "heals     1 change found by polls",
    ),
    (
        "HTTP",
        "5050 --start-in 0s --length 1m",
        "the receiver",
        "site.curtail asdf 12",
    ),
    (
        "HTTP",
        "5050 --start-in 0s --length 1m",
        "the receiver",
        "site.curtail lkjh 40",
    ),
    ("HTTP", "dispatchd outbox list", "", "2 sites not told"),
    ("HTTP", "dispatchd outbox list", "", "site.adjust asdf"),
    ("HTTP", "dispatchd outbox list", "", "Connection refused"),
    // It has been started again.
    (
        "A program",
        "chmod +x site.sh",
        "the receiver",
        "site.adjust asdf",
    ),
    ("A program", "cat relays", "", "asdf off"),
    ("MQTT", "-v -C 2", "", r#"plant/site/asdf {"#),
    ("MQTT", "-v -C 2", "", r#"plant/site/lkjh {"#),
    (
        "Standard output",
        "--length 1m",
        "the daemon",
        r#"["site.curtail","asdf",null]"#,
    ),
    ("A sink for each controller", "cat relays", "", "plant-b"),
    ("A sink for each controller", "cat relays", "", "lkjh off"),
    ("Voltus's sandbox", "dispatchd status", "", "FRESH"),
    ("Voltus's sandbox", "key ID", "", "deleted"),
    ("Production", "dispatchd check", "", "ok registration"),
    ("Production", "dispatchd verify", "", "webhook"),
];

fn page(path: impl AsRef<Path>) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The blocks for a shell.
fn shell_blocks() -> Vec<Block> {
    let mut blocks = blocks(&page("README.md"));
    blocks.retain(|block| block.language == "sh");
    blocks
}

/// A block without the lines that are left out.
fn pasted(block: &Block) -> String {
    let is_left_out = |line: &&str| LEFT_OUT.iter().any(|(out, _)| line.starts_with(out));
    let lines = block.text.lines().filter(|line| !is_left_out(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// An empty place whose reader has done what the README says about `PATH`.
async fn place() -> Place {
    let page = page("README.md");
    let mut lines = page.lines().filter(|line| line.starts_with(PROFILE));
    Place::new(lines.next().unwrap()).await
}

#[apply(test)]
fn only_what_takes_a_build_is_left_out() {
    let page = page("README.md");
    for (line, reason) in LEFT_OUT {
        assert_eq!(
            page.matches(&format!("\n{line}")).count(),
            1,
            "{line}, {reason}"
        );
    }
}

#[apply(test)]
async fn all_that_the_readme_says_can_be_pasted_one_after_another() {
    let blocks = shell_blocks();
    need_programs_of(&page("README.md"));
    let mut place = place().await;
    let mut unseen = SEEN.to_vec();
    for block in &blocks {
        let said = place.paste(block, &pasted(block)).await;
        let (now, later): (Vec<_>, Vec<_>) =
            unseen.into_iter().partition(|(heading, words, ..)| {
                block.heading == *heading && block.text.contains(words)
            });
        unseen = later;
        for (_, _, by, part) in now {
            if by.is_empty() {
                assert!(said.contains(part), "{part} in {said}\n{}", block.text);
            } else {
                let running = place.of(by);
                wait_until(&format!("{by} prints {part}"), async || {
                    running.said().contains(part)
                })
                .await;
            }
        }
    }
    assert!(unseen.is_empty(), "no block shows {unseen:?}");
    // What a reader types in passing.
    let mut typed = spans(&page("README.md"));
    typed.retain(|span| span.starts_with("curl ") || span.starts_with("sqlite3 "));
    assert!(typed.len() >= 2, "{typed:?}");
    for command in typed {
        place.run(&command).await;
    }
    place.leave().await;
}

#[apply(test)]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut followed = 0;
    for from in ["README.md", "deploy/README.md", "deploy/3am.md"] {
        for (path, heading) in links(&page(from)) {
            let to = match path.as_str() {
                "" => Path::new(from).to_owned(),
                path => Path::new(from).parent().unwrap().join(path),
            };
            assert!(root.join(&to).exists(), "{from}: {path}");
            let found = heading.is_empty() || headings(&page(&to)).contains(&heading);
            assert!(found, "{from}: {path}#{heading}");
            followed += 1;
        }
    }
    assert!(followed > 25, "{followed}");
}

/// The help of every command.
fn help() -> String {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dispatchd"))
            .args(arguments)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let mut all = run(&["--help"]);
    let commands = [
        "run",
        "sandbox",
        "status",
        "webhook",
        "scenario",
        "verify",
        "check",
        "completions",
        "demo",
        "outbox",
        "report",
        "site",
        "state",
    ];
    for command in commands {
        all.push_str(&run(&[command, "--help"]));
    }
    all
}

/// How commands of other programs begin.
const OTHERS: [&str; 4] = ["cargo ", "kubectl ", "podman ", "sqlite3 "];

/// Options of other programs, where they are named in passing.
const OF_OTHERS: [&str; 4] = ["--add-host", "--format", "--health-cmd", "--secret"];

#[apply(test)]
fn every_option_that_is_named_exists() {
    let help = help();
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let options = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c| !is_part(c));
        words
            .filter(|word| word.starts_with("--") && word.len() > 3)
            .map(str::to_owned)
            .collect()
    };
    let known = options(&help);
    let mut named = BTreeSet::new();
    for span in spans(&page("README.md"))
        .iter()
        .chain(&spans(&page("deploy/README.md")))
        .filter(|span| !OTHERS.iter().any(|other| span.starts_with(other)))
    {
        named.extend(options(span));
    }
    assert!(named.len() > 25, "{named:?}");
    for block in blocks(&page("deploy/README.md")) {
        let ours = block
            .commands()
            .into_iter()
            .filter(|command| command.starts_with("dispatchd "));
        ours.for_each(|command| named.extend(options(&command)));
    }
    for option in named {
        let others = OF_OTHERS.contains(&option.as_str());
        assert!(known.contains(&option) || others, "{option} is no option");
    }
}
