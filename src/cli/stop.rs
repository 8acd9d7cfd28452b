//! Waits for the signals that end the process or make it read its files again.

use std::fs;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::system::{Signal, hangup, interrupt, terminate};

/// Has `stop` cancelled by SIGHUP if this process has a controlling terminal:
/// the terminal was closed, and nobody could end the daemon from there any more.
/// Without one, as under a service manager, gives the signals that ask for a
/// reload. A SIGHUP that was ignored when the process began, as `nohup` has it,
/// stays ignored.
///
/// # Errors
/// When the system refuses.
pub(super) fn on_hangup(
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Option<Signal>, Failure> {
    if is_hangup_ignored() {
        tracing::debug!("SIGHUP is ignored, as it was when this process began");
        return Ok(None);
    }
    let Some(mut hangups) = hangup().map_err(refused)? else {
        return Ok(None);
    };
    if !has_terminal() {
        return Ok(Some(hangups));
    }
    let token = stop.clone();
    tasks.spawn(async move {
        hangups.recv().await;
        tracing::info!("SIGHUP received: the terminal was closed");
        token.cancel();
    });
    Ok(None)
}

/// Whether this process was started with SIGHUP ignored. To be asked before
/// anything handles it. `false` where the system has no `/proc`.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Reads `SigIgn` of `/proc/PID/status`: a hexadecimal mask in which the lowest
/// bit is signal 1, SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Whether this process has a controlling terminal: only then can `/dev/tty` be
/// opened.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

fn refused(error: std::io::Error) -> Failure {
    Failure::Runtime(format!("the system gives no signals: {error}"))
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub(super) fn on_signal(tasks: &TaskTracker) -> Result<CancellationToken, Failure> {
    let mut terminations = terminate().map_err(refused)?;
    let mut interruptions = interrupt().map_err(refused)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tasks.spawn(async move {
        let name = tokio::select! {
            _ = terminations.recv() => "SIGTERM",
            _ = interruptions.recv() => "SIGINT",
        };
        token.cancel();
        tracing::info!("{name} received");
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_the_mask_is_sighup() {
        let status = |mask| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        for (mask, ignored) in [
            ("0000000000000001", true),
            ("0000000000001001", true),
            ("0000000000001000", false),
            ("0000000000000000", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(&status(mask)), ignored, "{mask}");
        }
        assert!(!ignores_hangup(""));
    }
}
