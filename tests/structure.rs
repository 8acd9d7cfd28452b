//! Who may know what: a module knows only what lies below it, and none but the stand-in
//! for the API a field that the API may add.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this crate is tests: what is not as it must be ends one"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules of the crate, each above those that it may know.
const ORDER: [&str; 27] = [
    "system",
    "clock",
    "trust",
    "histogram",
    "retry",
    "seldom",
    "secret",
    "model",
    "http",
    "trace",
    "engine",
    "store",
    "voltus",
    "delivery",
    "sync",
    "listener",
    "registration",
    "inventory",
    "report",
    "status",
    "config",
    "sandbox",
    "daemon",
    "demo",
    "fuzzing",
    "cli",
    "main",
];

/// What may know the words of the field, and nothing that decides or acts.
const KNOW_THE_MODEL_ALONE: [&str; 2] = ["store", "voltus"];

/// What may be known by anything: it depends on nothing of the crate.
const TOOLS: [&str; 9] = [
    "system",
    "clock",
    "trust",
    "histogram",
    "retry",
    "seldom",
    "secret",
    "http",
    "trace",
];

fn rank(module: &str) -> usize {
    let place = ORDER.iter().position(|known| *known == module);
    place.unwrap_or_else(|| panic!("src/{module} has no place in the order of {}", file!()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
        .collect()
}

/// The modules of the crate that the code of a file names, its tests left out.
fn known(code: &str) -> BTreeSet<&str> {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|path| {
            let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            &path[..end.unwrap_or(path.len())]
        })
        .filter(|module| ORDER.contains(module))
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| {
        let name = part.to_string_lossy();
        ["tests", "testing"].contains(&name.trim_end_matches(".rs"))
    })
}

#[test]
fn imports_run_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upwards = Vec::new();
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.iter().next().unwrap().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs");
        if module == "lib" || is_test(inside) {
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        for other in known(&code).into_iter().filter(|other| *other != module) {
            let too_much = KNOW_THE_MODEL_ALONE.contains(&module)
                && other != "model"
                && !TOOLS.contains(&other);
            if rank(other) > rank(module) || too_much {
                upwards.push(format!("src/{} knows {other}", inside.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}

/// What the upstream adds one day is passed on without a meaning (rule R11): only the
/// stand-in for it, which plays such a field, names it.
#[test]
fn nothing_but_the_sandbox_knows_the_name_of_an_unknown_field() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = files(&src).into_iter().filter(|path| {
        let code = std::fs::read_to_string(path).unwrap();
        code.to_lowercase().contains("setpoint")
    });
    let named: Vec<PathBuf> = named.collect();
    assert!(!named.is_empty(), "the sandbox plays one");
    for path in named {
        let inside = path.strip_prefix(&src).unwrap();
        assert!(inside.starts_with("sandbox"), "src/{}", inside.display());
    }
}

/// What Linux has and other systems have not is in one place, which has something plain to
/// do instead.
#[test]
fn nothing_but_the_module_for_it_asks_on_which_system_it_runs() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let asks = [
        "rustix::",
        "sd_notify::",
        "close_fds::",
        "std::os::",
        "tokio::signal::",
        "target_os",
        "cfg(unix",
        "cfg(windows",
    ];
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        if inside.starts_with("system") || inside == Path::new("system.rs") || is_test(inside) {
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for word in asks {
            assert!(!code.contains(word), "src/{}: {word}", inside.display());
        }
    }
}
