//! What is in `deploy/` does what it says, as far as this machine has the tools
//! to see that.

mod container;
mod kubernetes;
mod machines;
mod prometheus;
mod proxy;
mod systemd;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::harness::need;

/// The program that was built.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dispatchd");

/// The path of a file in `deploy/`.
pub fn path_of(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("deploy").join(file)
}

/// A file in `deploy/`.
pub fn text_of(file: &str) -> String {
    std::fs::read_to_string(path_of(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    let bound = TcpListener::bind("127.0.0.1:0").unwrap();
    bound.local_addr().unwrap().port()
}

/// `text` with each of `changes` made at the one place where it can be.
fn adapted(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    })
}

/// A program that the test needs: the system's, or what `.ci/run` has put into the
/// folder of built things.
pub fn tool(name: &str) -> Command {
    let found = find(name);
    need(name, found.is_some());
    Command::new(found.unwrap())
}

/// Where such a program is.
pub fn find(name: &str) -> Option<PathBuf> {
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    let ours = target.join("tools/bin").join(name);
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .chain([ours])
        .find(|path| path.is_file())
}

/// What a tool says when it is run to its end.
pub fn ran(name: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    let output = tool(name).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All that it wrote.
pub fn said(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts.map(|part| String::from_utf8_lossy(part)).concat()
}

/// A server that is ended when this is dropped. What it says is shown if the
/// test fails.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let said = std::fs::File::create(&log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("{}:\n{said}", self.log.display());
        }
    }
}

/// All files in `deploy/` but pictures.
fn all_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(&path, found);
        } else if path.extension() != Some(OsStr::new("png")) {
            found.push(path);
        }
    }
}

/// The words of `text` that begin with one of `prefixes`.
fn words<'t>(text: &'t str, prefixes: &[&str], part: fn(char) -> bool) -> BTreeSet<&'t str> {
    let mut found = BTreeSet::new();
    for prefix in prefixes {
        for (at, _) in text.match_indices(prefix) {
            let word = &text[at..];
            let end = word.find(|c| !part(c)).unwrap_or(word.len());
            let before = text[..at].chars().next_back();
            if end > prefix.len() && !before.is_some_and(part) {
                found.insert(&word[..end]);
            }
        }
    }
    found
}

/// A secret that a command reads was written by a command above it.
#[apply(test)]
fn every_secret_is_made_before_it_is_installed() {
    let page = text_of("README.md");
    for (name, commands) in [("api-key", 2), ("webhook-secret", 2), ("status-token", 1)] {
        let written = page
            .find(&format!("> {name})"))
            .unwrap_or_else(|| panic!("no {name}"));
        // Where lines that read it begin.
        let mut uses = Vec::new();
        let mut at = 0;
        for line in page.split_inclusive('\n') {
            let reads = line.contains("install -m 0") || line.contains("--from-file=");
            if reads && line.contains(name) {
                uses.push(at);
            }
            at += line.len();
        }
        assert!(uses.len() >= commands, "{name}");
        assert!(uses.iter().all(|at| *at > written), "{name}");
    }
}

#[apply(test)]
fn the_page_for_the_night_explains_every_alert() {
    let alerts = text_of("prometheus/alerts.yml");
    let page = text_of("3am.md");
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let named = words(&page, &["Dispatchd"], is_part);
    let mut there = BTreeSet::new();
    for alert in alerts.split("- alert: ").skip(1) {
        let (name, body) = alert.split_once('\n').unwrap();
        there.insert(name);
        let heading = page.contains(&format!("\n### {name}\n"));
        let row = page.contains(&format!("\n| `{name}` |"));
        let critical = body.contains("severity: critical");
        assert_eq!((heading, row), (critical, !critical), "{name}");
    }
    assert_eq!(named, there);
}

#[apply(test)]
fn every_variable_and_option_that_is_named_in_deploy_exists() {
    let help = Command::new(PROGRAM).args(["run", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let is_variable = |c: char| c.is_ascii_uppercase() || c == '_';
    let prefixes = ["DISPATCHD_", "VOLTUS_"];
    let known = words(&help, &prefixes, is_variable);
    assert!(known.len() > 25, "{known:?}");
    let mut files = Vec::new();
    all_files(&path_of(""), &mut files);
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let named = words(&text, &prefixes, is_variable);
        seen += named.len();
        // What a program of an `exec:` sink is given is no option.
        let named = named.iter();
        for variable in named.filter(|name| !name.starts_with("DISPATCHD_EVENT_")) {
            assert!(
                known.contains(*variable),
                "{variable} in {}",
                file.display()
            );
        }
    }
    assert!(seen > 20);
}
