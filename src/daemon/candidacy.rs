//! Finds out whether this daemon could lead.
//!
//! A daemon does not start while a sink that it does not name may hold sites curtailed
//! (rule R6): nobody would release them. A standby is held to the same. While it could not
//! lead it is *barred*: it takes nothing over, and is not ready. [`Candidacy`] looks again
//! and again, since sites are curtailed and released while it stands by.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::base::Base;
use super::error::GoneSinks;
use super::kept::{gone_of, stored_error};
use super::{DaemonError, Leads};
use crate::config::Config;
use crate::store::{Postgres, PostgresReader, StoreError};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Whether this daemon could lead, now and later. Its task ends when this is dropped.
pub(super) struct Candidacy {
    /// Why it could not. `None`: it could.
    barred: Arc<watch::Sender<Option<Arc<str>>>>,
    _ends_with_this: DropGuard,
}

impl Candidacy {
    /// Goes on looking. `gone` is what the first look has found.
    pub fn new(base: &Arc<Base>, database: &Postgres, gone: Option<&GoneSinks>) -> Self {
        let barred = Arc::new(watch::Sender::new(None));
        publish(&barred, gone);
        let stop = CancellationToken::new();
        let looking = look_on(
            Arc::clone(base),
            database.clone(),
            Arc::clone(&barred),
            base.leads.subscribe(),
        );
        let until_dropped = stop.clone();
        TaskTracker::new().spawn(async move { until_dropped.run_until_cancelled(looking).await });
        Self {
            barred,
            _ends_with_this: stop.drop_guard(),
        }
    }

    /// Why this daemon could not lead, and what to do.
    pub fn barred(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.barred.subscribe()
    }

    /// This daemon has taken the lead, and found that it cannot.
    pub fn cannot_lead(&self, gone: &GoneSinks) {
        publish(&self.barred, Some(gone));
    }
}

/// The sinks that may hold sites curtailed in `database` and that `config` does not name.
/// It blocks.
pub(super) fn first_look(
    config: &Config,
    database: &Postgres,
) -> Result<Option<GoneSinks>, DaemonError> {
    look(config, &mut database.reader()).map_err(|source| stored_error(config, source))
}

fn look(config: &Config, reader: &mut PostgresReader) -> Result<Option<GoneSinks>, StoreError> {
    let kept = config.receiving_sinks().map(|sink| sink.name());
    let kept = kept.chain(config.forget_sinks.iter().map(String::as_str));
    let held = reader.held_beside(&kept.collect::<Vec<_>>())?;
    Ok(gone_of(config, held))
}

/// Looks again and again while this daemon does not lead. What cannot be read leaves it as
/// it was: the line about that is the lease's.
async fn look_on(
    base: Arc<Base>,
    database: Postgres,
    barred: Arc<watch::Sender<Option<Arc<str>>>>,
    leads: watch::Receiver<Option<Leads>>,
) {
    let mut reader = None;
    loop {
        sleep(LOOK).await;
        if leads.borrow().is_some() {
            // Whoever leads names all of them. The connection is not needed meanwhile.
            reader = None;
            continue;
        }
        let base = Arc::clone(&base);
        let mut asked = reader.take().unwrap_or_else(|| database.reader());
        let looked = spawn_blocking(move || {
            let found = look(&base.config, &mut asked);
            (asked, found)
        });
        if let Ok((asked, found)) = looked.await {
            reader = Some(asked);
            if let Ok(gone) = found {
                publish(&barred, gone.as_ref());
            }
        }
    }
}

/// Publishes what a look has found, with a line in the log if it is news.
fn publish(barred: &watch::Sender<Option<Arc<str>>>, gone: Option<&GoneSinks>) {
    let found = gone.map(|gone| Arc::from(gone.to_string()));
    barred.send_if_modified(|barred| {
        if *barred == found {
            return false;
        }
        match &found {
            Some(reason) => tracing::warn!(
                %reason,
                "this daemon could not lead: it takes nothing over, and is not ready"
            ),
            None => tracing::info!("this daemon could lead again"),
        }
        *barred = found;
        true
    });
}
