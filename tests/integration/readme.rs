//! What the README says can be done, is done: each of its commands is run, with
//! nothing changed but what [`Place::substitutions`] lists.

pub mod blocks;
mod place;

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::wait_until;
use blocks::{sections, spans};
use place::{Place, need_programs_of};

/// Commands that cannot be run here, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("cargo test", "this is it"),
    (
        "cargo run --release --example simulate",
        "a build of minutes; `.ci/run` simulates",
    ),
];

fn page(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap()
}

fn is_left_out(command: &str) -> bool {
    LEFT_OUT.iter().any(|(out, _)| command.starts_with(out))
}

/// Runs all that is below a heading: in order, as a reader would, with a
/// terminal of its own for whatever does not end by itself.
async fn follow(heading: &str) {
    let sections = sections(&page("README.md"));
    let section = sections.iter().find(|section| section.heading == heading);
    let section = section.unwrap_or_else(|| panic!("{heading:?} has no command any more"));
    let blocks = section.blocks.iter();
    let commands: Vec<String> = blocks
        .filter(|block| block.language == "sh")
        .flat_map(|block| block.commands())
        .filter(|command| !is_left_out(command))
        .collect();
    need_programs_of(&commands);
    let mut place = Place::new().await;
    for command in commands {
        place.run(&command).await;
    }
    place.leave().await;
}

/// The sections that are followed below; no other has a command, and all of the last
/// one's are left out.
const FOLLOWED: [&str; 6] = [
    "Try it",
    "Against the stand-in on this machine",
    "Against Voltus's sandbox",
    "Against production",
    "Connecting your sites",
    "For contributors",
];

#[apply(test)]
fn no_command_of_the_readme_is_left_out_but_this_very_run() {
    let page = page("README.md");
    let with_commands: Vec<String> = sections(&page)
        .into_iter()
        .filter(|section| section.blocks.iter().any(|block| block.language == "sh"))
        .map(|section| section.heading)
        .collect();
    assert_eq!(with_commands, FOLLOWED);
    for (command, _) in LEFT_OUT {
        assert!(page.contains(command), "{command} need not be left out");
    }
}

#[apply(test)]
async fn the_demo_and_the_tests_can_be_tried() {
    follow(FOLLOWED[0]).await;
}

#[apply(test)]
async fn a_newcomer_gets_to_a_curtailed_site_on_this_machine() {
    follow(FOLLOWED[1]).await;
}

#[apply(test)]
async fn the_acceptance_tests_run_on_a_sandbox() {
    follow(FOLLOWED[2]).await;
}

#[apply(test)]
async fn the_way_to_production_can_be_gone() {
    follow(FOLLOWED[3]).await;
}

#[apply(test)]
async fn sites_are_connected_as_it_says() {
    follow(FOLLOWED[4]).await;
}

#[apply(test)]
async fn the_receiver_in_python_is_told_to_curtail() {
    let sections = sections(&page("README.md"));
    let mut blocks = sections.iter().flat_map(|section| &section.blocks);
    let program = blocks.find(|block| block.language == "python").unwrap();
    let mut place = Place::new().await;
    let receiver = place.python(&program.text);
    let (_, command) = program
        .text
        .lines()
        .next()
        .unwrap()
        .split_once("; ")
        .unwrap();
    place.run(command).await;
    wait_until("it prints that", async || {
        receiver.said().contains("site.curtail site-")
    })
    .await;
    place.leave().await;
}

/// Asks a daemon and its state file, as whoever reads the text between the
/// blocks would.
#[apply(test)]
async fn what_is_to_be_typed_in_passing_works_as_well() {
    let typed: Vec<String> = spans(&page("README.md"))
        .into_iter()
        .filter(|span| span.starts_with("curl ") || span.starts_with("sqlite3 "))
        .collect();
    assert!(typed.len() >= 3, "{typed:?}");
    need_programs_of(&typed);
    let mut place = Place::new().await;
    place.run("dispatchd sandbox").await;
    place.run("dispatchd run").await;
    for command in typed {
        place.run(&command).await;
    }
    place.leave().await;
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
    ];
    for command in commands {
        all.push_str(&run(&[command, "--help"]));
    }
    all
}

/// Options of other programs, where they are named in passing.
const OF_OTHERS: [&str; 3] = ["--add-host", "--format", "--secret"];

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
        .filter(|span| !span.starts_with("cargo "))
    {
        named.extend(options(span));
    }
    assert!(named.len() > 25, "{named:?}");
    let deploy = sections(&page("deploy/README.md"));
    for block in deploy.iter().flat_map(|section| &section.blocks) {
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
