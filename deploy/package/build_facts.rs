//! Records in the program what it was built from and with: `dispatchd --version` tells it.
//!
//! The commit is recorded in release builds alone. A development build is made of files
//! that no commit has, and would be made anew after each commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=deploy/package/build_facts.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_COMMIT");
    let profile = variable("PROFILE");
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit(&profile));
    println!("cargo:rustc-env=BUILD_PROFILE={profile}");
    println!("cargo:rustc-env=BUILD_TARGET={}", variable("TARGET"));
    let rustc = said(Command::new(variable("RUSTC")).arg("--version"));
    let rustc = rustc.map(|said| said.trim_start_matches("rustc ").to_owned());
    let rustc = rustc.unwrap_or_else(|reason| {
        println!("cargo:warning=the compiler's version is not recorded: {reason}");
        "unknown".to_owned()
    });
    println!("cargo:rustc-env=BUILD_RUSTC={rustc}");
}

/// A variable that cargo sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The commit with its date, or why it is not known. `SOURCE_COMMIT` names it where the
/// source comes without its history.
fn commit(profile: &str) -> String {
    let given = variable("SOURCE_COMMIT");
    if !given.is_empty() {
        return given;
    }
    if profile != "release" {
        return "not recorded in a development build".to_owned();
    }
    // A folder above may be a repository of something else.
    if !Path::new(".git").exists() {
        println!("cargo:rerun-if-changed=.git");
        return "unknown (built from a source without its history)".to_owned();
    }
    from_git().unwrap_or_else(|reason| {
        println!("cargo:warning=the commit is not recorded: {reason}");
        "unknown (git could not tell)".to_owned()
    })
}

/// What git says of the commit that is checked out, and of changes since.
fn from_git() -> Result<String, String> {
    let sources = [
        "src",
        "deploy/package/build_facts.rs",
        "Cargo.toml",
        "Cargo.lock",
    ];
    // What tells git the commit, and what may differ from it.
    let mut watched = sources.map(str::to_owned).to_vec();
    for name in ["HEAD", "packed-refs"] {
        watched.push(git(&["rev-parse", "--git-path", name])?);
    }
    // None if a commit is checked out and no branch.
    if let Ok(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        watched.push(git(&["rev-parse", "--git-path", &branch])?);
    }
    for path in watched.iter().filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={path}");
    }
    // Its length does not depend on how many objects the clone has.
    let commit = git(&[
        "show",
        "--no-patch",
        "--date=short",
        "--format=%H %cd",
        "HEAD",
    ])?;
    let (hash, date) = commit
        .split_once(' ')
        .ok_or_else(|| format!("git show printed {commit}"))?;
    let state = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changed = git(&[&state[..], &sources[..]].concat())?;
    let changed = if changed.is_empty() {
        ""
    } else {
        ", changed since"
    };
    Ok(format!("{hash:.12} ({date}){changed}"))
}

fn git(arguments: &[&str]) -> Result<String, String> {
    said(Command::new("git").args(arguments))
}

/// What a command prints, without the end of its line.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {}", output.status, why.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
