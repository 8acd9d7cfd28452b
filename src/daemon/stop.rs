//! Stops the daemon within ten seconds, whatever hangs. [`take_apart`] is where
//! to start.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{Daemon, DaemonError, driver_ended};
use crate::listener::Traffic;
use crate::model::count;
use crate::sync::View;

/// How long stopping takes at most, whatever hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long clients may take to send the rest of a request and to read its
/// answer.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(5200);

/// How long the last answers may take to be sent, once the driver has ended.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// How long sinks may take to close their connections.
const SINK_TIMEOUT: Duration = Duration::from_millis(500);

/// Takes the daemon apart. From the first moment on nothing new begins: no
/// connection is accepted, nothing is asked, no delivery and no program starts.
/// What is under way is finished: webhooks, deliveries and commits by the
/// driver, within nine seconds.
pub(super) async fn take_apart(
    daemon: Daemon,
    ended: Result<(), DaemonError>,
) -> Result<(), DaemonError> {
    tracing::info!("stopping: nothing new is begun, and what is under way is finished");
    // At once, not when the rest gets its turn.
    daemon.stop_listeners.cancel();
    daemon.stop_driver.cancel();
    let in_order = in_order(daemon, ended);
    match timeout(STOP_TIMEOUT, in_order).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("something hangs and is left behind; what was promised is on disk");
            Ok(())
        }
    }
}

/// First what takes requests and the driver, then whom it tells, and the disk
/// last.
async fn in_order(daemon: Daemon, ended: Result<(), DaemonError>) -> Result<(), DaemonError> {
    let Daemon {
        webhooks,
        status,
        driver,
        registration,
        inventory,
        ..
    } = daemon;
    let begun = now();
    let before = Done::so_far(&daemon.traffic, &daemon.view.borrow());
    if let Some(registration) = &registration {
        registration.abort();
    }
    inventory.abort();
    let aborts = [webhooks.abort_handle(), status.abort_handle()];
    // One that has ended by itself must not be waited for again.
    let all_run = ended.is_ok();
    let mut listeners = std::pin::pin!(async {
        if all_run {
            // A listener that dies now was to end anyway.
            let _ = tokio::join!(webhooks, status);
        }
    });
    let mut listeners_ended = false;
    let mut driver = std::pin::pin!(driver);
    let driver = loop {
        tokio::select! {
            driver = &mut driver => break driver,
            () = &mut listeners, if !listeners_ended => listeners_ended = true,
        }
    };
    // Those who waited for the driver are told only now to come back.
    let latest = (begun + REQUEST_TIMEOUT).max(now() + ANSWER_TIMEOUT);
    if !listeners_ended && timeout_at(latest, listeners).await.is_err() {
        tracing::warn!("some requests took too long and are cut off");
    }
    for abort in aborts {
        abort.abort();
    }
    daemon.stop_sinks.cancel();
    daemon.sink_tasks.close();
    if timeout(SINK_TIMEOUT, daemon.sink_tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("a sink did not close its connection in time");
    }
    ended?;
    match driver {
        Ok(Ok(())) => {}
        other => return Err(driver_ended(other)),
    }
    let view = daemon.view.borrow().clone();
    Done::so_far(&daemon.traffic, &view).tell_since(&before, daemon.in_memory);
    if timeout_at(begun + STOP_TIMEOUT - ANSWER_TIMEOUT, daemon.closed.wait())
        .await
        .is_err()
    {
        tracing::warn!("the state file is still being closed; what was promised is on disk");
    }
    tracing::info!("stopped; no site was commanded for it");
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's own clock, for deadlines of its own timers"
)]
fn now() -> Instant {
    Instant::now()
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
        let rest = match (in_memory, self.pending) {
            (true, 1) => "is lost, as nothing is kept",
            (true, _) => "are lost, as nothing is kept",
            (false, 1) => "is left for the next start",
            (false, _) => "are left for the next start",
        };
        tracing::info!(
            "finished while stopping: {} answered, {} delivered; {} {rest}",
            count(self.webhooks - before.webhooks, "webhook", "webhooks"),
            count(self.delivered - before.delivered, "event", "events"),
            count(self.pending, "delivery", "deliveries"),
        );
    }
}
