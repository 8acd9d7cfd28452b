//! When the process is told to end, or to look again.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Failure;

/// What SIGHUP is heard with.
///
/// # Errors
/// When the system refuses.
pub(super) fn hangups() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(refused)
}

fn refused(error: std::io::Error) -> Failure {
    Failure::Runtime(format!("the system gives no signals: {error}"))
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub(super) fn on_signal(tasks: &TaskTracker) -> Result<CancellationToken, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tasks.spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        told.cancel();
        tracing::info!("{name} received");
    });
    Ok(stop)
}
