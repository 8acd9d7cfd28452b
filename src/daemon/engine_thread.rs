//! The thread that decides.

use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use crate::clock::Clock;
use crate::sync::Driver;
use crate::voltus::Api;

/// How the driver ended. Nothing comes if it panicked.
pub(super) type Ended = oneshot::Receiver<Result<(), DaemonError>>;

/// Runs `driver` until `stop`, on a thread of its own that also has the sockets to
/// the API.
///
/// What decides is one task. Among those of the listeners it moved from one
/// processor to the other and woke both, and waited in line behind webhooks when
/// a commit had ended.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start<A: Api, C: Clock>(
    driver: Driver<A, C>,
    stop: CancellationToken,
) -> Result<Ended, DaemonError> {
    let (ended, ends) = oneshot::channel();
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let end = match runtime {
            Ok(runtime) => runtime.block_on(driver.run(stop)).map_err(Into::into),
            Err(source) => Err(no_thread(source)),
        };
        // Nobody waits for it while a test takes the daemon down.
        let _ = ended.send(end);
    };
    let thread = thread::Builder::new().name("engine".into());
    thread.spawn(run).map_err(no_thread)?;
    Ok(ends)
}

fn no_thread(source: std::io::Error) -> DaemonError {
    DaemonError::System {
        what: "thread",
        source,
    }
}
