//! Stops the daemon within ten seconds, whatever hangs. [`take_apart`] is where
//! to start.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::lead::{SINK_TIMEOUT, driver_ended};
use super::{Daemon, DaemonError};
use crate::config::StatePath;
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

/// How long sending the last traces may take.
const TRACES_TIMEOUT: Duration = Duration::from_secs(2);

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
    daemon.base.stop_listeners.cancel();
    if let Some(lead) = &daemon.lead {
        lead.stop_driver.cancel();
    }
    let in_order = in_order(daemon, ended);
    match timeout(STOP_TIMEOUT, in_order).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("something hangs and is left behind; what was promised is on disk");
            Ok(())
        }
    }
}

/// First what takes requests and the driver, then whom it tells, and the store last.
async fn in_order(daemon: Daemon, ended: Result<(), DaemonError>) -> Result<(), DaemonError> {
    let Daemon {
        base,
        webhooks,
        status,
        fronts,
        mut lead,
        shared,
        exporter,
        ..
    } = daemon;
    let begun = now();
    let view = lead.as_ref().map(|lead| lead.view.clone());
    let so_far = || {
        let view = view.as_ref().map(|view| view.borrow().clone());
        Done::so_far(&base.traffic, view.as_ref())
    };
    let before = so_far();
    let mut driver = None;
    if let Some(lead) = &mut lead {
        if let Some(registration) = &lead.registration {
            registration.abort();
        }
        lead.inventory.abort();
        driver = lead.driver.take();
    }
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
    let mut driver = std::pin::pin!(async {
        match driver {
            Some(driver) => Some(driver.await),
            None => None,
        }
    });
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
    // They keep the store open.
    drop(fronts);
    if let Some(lead) = &lead {
        lead.stop_sinks.cancel();
        lead.sink_tasks.close();
        if timeout(SINK_TIMEOUT, lead.sink_tasks.wait()).await.is_err() {
            tracing::warn!("a sink did not close its connection in time");
        }
    }
    match driver {
        None | Some(Ok(Ok(()))) => {}
        // Attempts of it may still be under way: nothing is given back.
        Some(other) => return ended.and(Err(driver_ended(other))),
    }
    if let Some(lead) = lead {
        let in_memory = base.config.state == StatePath::Memory;
        so_far().tell_since(&before, in_memory);
        let latest = begun + STOP_TIMEOUT - ANSWER_TIMEOUT;
        if timeout_at(latest, lead.closed.wait()).await.is_err() {
            tracing::warn!("the state is still being closed; what was promised is on disk");
        }
    }
    if let Some(shared) = shared {
        shared.give_back().await;
    }
    // Last: nobody waits for them.
    if let Some(exporter) = exporter {
        exporter.finish(TRACES_TIMEOUT).await;
    }
    ended?;
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
    fn so_far(traffic: &Traffic, view: Option<&View>) -> Self {
        let sinks = || view.into_iter().flat_map(|view| view.sinks.iter());
        Self {
            webhooks: traffic.received(),
            delivered: sinks().map(|sink| sink.delivered).sum(),
            pending: sinks().map(|sink| sink.pending).sum(),
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
