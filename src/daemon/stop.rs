//! The daemon taken apart in order, within ten seconds.

use std::time::Duration;

use tokio::time::timeout;

use super::{Daemon, DaemonError, driver_ended};
use crate::listener::Traffic;
use crate::sync::View;

/// How long requests that are under way may take. A webhook is answered within
/// five seconds unless the operator allows more.
const REQUESTS: Duration = Duration::from_millis(5200);

/// How long the last answers may take, once nothing is settled any more. The
/// machine has taken three seconds at most by then.
const ANSWERS: Duration = Duration::from_millis(300);

/// How long sinks may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// How long the state file may take to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// First goes what takes requests, then the machine, then whom it tells, and
/// the disk last.
pub(super) async fn take_apart(
    daemon: Daemon,
    ended: Result<(), DaemonError>,
) -> Result<(), DaemonError> {
    let Daemon {
        webhooks,
        status,
        driver,
        registration,
        ..
    } = daemon;
    tracing::info!("stopping: nothing new is taken on, and what is under way is finished");
    let before = Done::so_far(&daemon.traffic, &daemon.view.borrow());
    daemon.stop_listeners.cancel();
    let aborts = [webhooks.abort_handle(), status.abort_handle()];
    // One that has ended by itself must not be waited for again.
    let all_run = ended.is_ok();
    let mut listeners = std::pin::pin!(async {
        if all_run {
            // A listener that dies now was to end anyway.
            let _ = tokio::join!(webhooks, status);
        }
    });
    let late = timeout(REQUESTS, listeners.as_mut()).await.is_err();
    if let Some(registration) = &registration {
        registration.abort();
    }
    daemon.stop_driver.cancel();
    let driver = driver.await;
    // Those who waited for it are told only now to come back.
    if late && timeout(ANSWERS, listeners.as_mut()).await.is_err() {
        tracing::warn!("some requests took too long and are cut off");
    }
    for abort in aborts {
        abort.abort();
    }
    daemon.stop_sinks.cancel();
    daemon.sink_tasks.close();
    if timeout(GOODBYE, daemon.sink_tasks.wait()).await.is_err() {
        tracing::warn!("a sink did not end in time");
    }
    ended?;
    match driver {
        Ok(Ok(())) => {}
        other => return Err(driver_ended(other)),
    }
    let view = daemon.view.borrow().clone();
    Done::so_far(&daemon.traffic, &view).tell_since(&before, daemon.in_memory);
    if timeout(CLOSING, daemon.closed.wait()).await.is_err() {
        tracing::warn!("the state file is still being closed; what was promised is on disk");
    }
    tracing::info!("stopped; no site was commanded for it");
    Ok(())
}

/// What the daemon has done since its start, and has yet to do.
#[derive(Debug)]
struct Done {
    webhooks: u64,
    delivered: u64,
    pending: u64,
}

impl Done {
    fn so_far(traffic: &Traffic, view: &View) -> Self {
        Self {
            webhooks: traffic.received(),
            delivered: view.sinks.iter().map(|sink| sink.delivered).sum(),
            pending: view.sinks.iter().map(|sink| sink.pending).sum(),
        }
    }

    fn tell_since(&self, before: &Self, in_memory: bool) {
        let fate = if in_memory {
            "are lost, as nothing is kept"
        } else {
            "are left for the next start"
        };
        tracing::info!(
            "finished while stopping: {} webhooks answered, {} events delivered; {} deliveries {fate}",
            self.webhooks - before.webhooks,
            self.delivered - before.delivered,
            self.pending,
        );
    }
}
