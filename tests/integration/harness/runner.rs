//! Runs the tests of a binary, and reports as ignored those that need a part which
//! this machine lacks: a broker, a browser, a right that only root has.
//!
//! libtest decides before a test runs whether it is ignored. libtest-mimic prints
//! the same lines and lets the test decide. With `CI=true` in the environment a
//! missing part fails the test instead.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// A test that `#[apply(test)]` has registered.
pub struct Test {
    /// The path of its function, with the crate's name.
    pub path: &'static str,
    /// Its function.
    pub run: fn(),
}

inventory::collect!(Test);

/// Makes a function a test of this harness: `#[apply(test)]`. An async function gets
/// a runtime of its own, of one thread, as `#[tokio::test]` gives it.
macro_rules! test {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $(#[$meta])*
        async fn $name() $body

        inventory::submit! {
            $crate::harness::Test {
                path: concat!(module_path!(), "::", stringify!($name)),
                run: || $crate::harness::block_on($name()),
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        fn $name() $body

        inventory::submit! {
            $crate::harness::Test {
                path: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
            }
        }
    };
}

/// Longer than any test takes: one that waits for what never comes fails.
const TEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs a test's future to its end.
pub fn block_on(test: impl Future<Output = ()>) {
    let limited = async { timeout(TEST_TIMEOUT, test).await };
    let ended = runtime().block_on(limited);
    assert!(ended.is_ok(), "the test has not ended in {TEST_TIMEOUT:?}");
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Lets the processes that tests start get SIGHUP, also under `nohup`: a program that
/// is started with SIGHUP ignored ignores it, but one that is started by a program
/// that handles it does not.
fn stop_ignoring_hangup() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    // The lowest bit is signal 1, SIGHUP.
    if ignored & 1 == 1 {
        // tokio leaves its handler in place; nobody listens to it.
        runtime().block_on(async { drop(signal(SignalKind::hangup()).unwrap()) });
    }
}

/// Ends a test that needs `part`. The test is then reported as ignored.
struct Missing {
    part: String,
}

/// How many tests were ignored for want of each part.
static MISSING: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Ends the test here unless the part is `present`: the test is ignored, or fails
/// with `CI=true`. A test asks for its parts before it starts anything.
pub fn need(part: &str, present: bool) {
    if present {
        return;
    }
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "CI=true, and this machine lacks {part}");
    // Unlike a panic, this prints nothing.
    resume_unwind(Box::new(Missing {
        part: part.to_owned(),
    }));
}

/// Runs all tests that the command line asks for. Says last which parts were missing.
pub fn main() -> ExitCode {
    stop_ignoring_hangup();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once());
    let mut tests: Vec<Trial> = inventory::iter::<Test>().map(trial).collect();
    tests.sort_by(|one, other| one.name().cmp(other.name()));
    let conclusion = libtest_mimic::run(&arguments, tests);
    let missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if !missing.is_empty() {
        println!("ignored, since this machine lacks:");
    }
    for (part, tests) in &*missing {
        println!("    {part} (tests: {tests})");
    }
    conclusion.exit_code()
}

/// How many tests run at once: more than there are cores, since a test mostly waits for
/// another process.
fn at_once() -> usize {
    3 * std::thread::available_parallelism().map_or(1, usize::from)
}

fn trial(test: &'static Test) -> Trial {
    let (_, name) = test.path.split_once("::").unwrap();
    Trial::ignorable_test(name, || {
        let Err(ended) = catch_unwind(AssertUnwindSafe(test.run)) else {
            return Ok(Completion::Completed);
        };
        let Missing { part } = *ended
            .downcast()
            .unwrap_or_else(|panic| resume_unwind(panic));
        let reason = format!("this machine lacks {part}");
        let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
        *missing.entry(part).or_default() += 1;
        Ok(Completion::ignored_with(reason))
    })
}
