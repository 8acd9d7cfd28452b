//! Starts a program so that it dies with the daemon, however that dies (rule R15).
//!
//! The kernel ends a process with its parent if the process asks for it
//! (`PR_SET_PDEATHSIG`). A program does not ask by itself, and to ask for it between fork
//! and exec takes `unsafe` code, which this crate forbids. So the daemon starts *itself*
//! once more: that process asks, and then becomes the program.
//!
//! To the kernel the parent is the *thread* that started the process. Here that is a
//! worker of the runtime in which attempts run. Those live as long as the runtime, and so
//! longer than any attempt; only `block_in_place` would let one go before, and nothing here
//! calls it.
//!
//! What the program has started itself does not die with the daemon. It does with an
//! attempt that is broken off, which ends the whole process group, and under systemd or in
//! a container, which end all that is left of a service.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::system::{CAN_DIE_WITH_PARENT, become_the, die_with_parent, is_parent};

/// What this program is called with to become another one: then come the number of the
/// daemon's process and the program.
const BECOME: &str = "__become";

/// This program, also if its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// Exit status of what could not become the program, as in a shell.
const NOT_RUN: u8 = 126;

/// Whether this process is `dispatchd`, which knows [`BECOME`]. Tests are not.
static KNOWS_HOW: AtomicBool = AtomicBool::new(false);

/// To be called first of all by `dispatchd`. If `args` tell this process to become a
/// program, it does, and this returns only if that fails.
pub fn become_program(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next().is_none_or(|first| first != *BECOME) {
        let knows_how = CAN_DIE_WITH_PARENT && Path::new(OURSELVES).exists();
        KNOWS_HOW.store(knows_how, Ordering::Relaxed);
        return None;
    }
    let daemon = args.next().and_then(|pid| pid.to_str()?.parse().ok())?;
    let program = args.next()?;
    if let Err(error) = die_with_parent() {
        eprintln!("the program will not end with the daemon: {error}");
    }
    // It may have died before this process asked.
    if !is_parent(daemon) {
        return Some(ExitCode::from(NOT_RUN));
    }
    let error = become_the(Path::new(&program));
    eprintln!("{} cannot be run: {error}", program.display());
    Some(ExitCode::from(NOT_RUN))
}

/// What runs `program` so that it dies with this process, where this process knows how.
pub(super) fn command(program: &Path) -> tokio::process::Command {
    if !KNOWS_HOW.load(Ordering::Relaxed) {
        return tokio::process::Command::new(program);
    }
    let mut command = tokio::process::Command::new(OURSELVES);
    command
        .arg(BECOME)
        .arg(std::process::id().to_string())
        .arg(program);
    command
}
