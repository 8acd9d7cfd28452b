//! Finds out whether this daemon could lead, and with what.
//!
//! A daemon does not start while a sink that it does not name may hold sites curtailed
//! (rule R6): nobody would release them. A standby is held to the same. While it could not
//! lead it is *barred*: it takes nothing over, and is not ready. [`Candidacy`] looks again
//! and again, since sites are curtailed and released while it stands by.
//!
//! What it would lead with, its [`Fingerprint`], changes when a secret is read again. A
//! leader then writes it into its lease, so that standbys compare theirs with what it does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::DaemonError;
use super::base::Base;
use super::error::GoneSinks;
use super::kept::{gone_of, stored_error};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::delivery::sinks::SinkSpec;
use crate::secret::Secret;
use crate::seldom::{Trouble, spoken};
use crate::status::{Fingerprint, SecretMark};
use crate::store::{Postgres, PostgresReader, StoreError};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Whether this daemon could lead, now and later. Its task ends when this is dropped.
pub(super) struct Candidacy {
    /// Why it could not. `None`: it could.
    barred: Arc<watch::Sender<Option<Arc<str>>>>,
    /// What it would lead with, or does.
    fingerprint: watch::Receiver<Arc<str>>,
    /// By which a row of the lease is known to be this process's.
    holder: watch::Sender<Arc<str>>,
    _ends_with_this: DropGuard,
}

impl Candidacy {
    /// Goes on looking. `gone` is what the first look has found.
    pub fn new(base: &Arc<Base>, database: &Postgres, gone: Option<&GoneSinks>) -> Self {
        let barred = Arc::new(watch::Sender::new(None));
        publish(&barred, gone);
        let stop = CancellationToken::new();
        let holder = watch::Sender::new(random_name());
        let text = fingerprint(&base.config, database.secret()).text();
        let (published, fingerprint) = watch::channel(text.into());
        let looking = Looking {
            base: Arc::clone(base),
            database: database.clone(),
            barred: Arc::clone(&barred),
            fingerprint: published,
            holder: holder.subscribe(),
            reader: None,
            written: None,
            clock: SystemClock::new(),
            trouble: Trouble::default(),
        };
        let until_dropped = stop.clone();
        TaskTracker::new()
            .spawn(async move { until_dropped.run_until_cancelled(looking.go_on()).await });
        Self {
            barred,
            fingerprint,
            holder,
            _ends_with_this: stop.drop_guard(),
        }
    }

    /// Why this daemon could not lead, and what to do.
    pub fn barred(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.barred.subscribe()
    }

    /// What it would lead with, or does.
    pub fn fingerprint(&self) -> watch::Receiver<Arc<str>> {
        self.fingerprint.clone()
    }

    /// The random name of this process, by which a row of the lease is known to be its.
    pub fn holder(&self) -> Arc<str> {
        self.holder.borrow().clone()
    }

    /// Gives this process another such name.
    pub fn new_holder(&self) -> Arc<str> {
        self.holder.send_replace(random_name());
        self.holder()
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

fn random_name() -> Arc<str> {
    format!("{:032x}", rand::random::<u128>()).into()
}

/// Looks again and again.
struct Looking {
    base: Arc<Base>,
    database: Postgres,
    barred: Arc<watch::Sender<Option<Arc<str>>>>,
    fingerprint: watch::Sender<Arc<str>>,
    holder: watch::Receiver<Arc<str>>,
    /// Kept from one look to the next while this daemon stands by.
    reader: Option<PostgresReader>,
    /// What was written to the lease since this daemon leads.
    written: Option<Arc<str>>,
    clock: SystemClock,
    trouble: Trouble,
}

impl Looking {
    async fn go_on(mut self) {
        loop {
            sleep(LOOK).await;
            let text = fingerprint(&self.base.config, self.database.secret()).text();
            self.fingerprint.send_if_modified(|published| {
                let changed = **published != *text;
                if changed {
                    *published = text.into();
                }
                changed
            });
            if self.base.leads.borrow().is_some() {
                self.lead().await;
            } else {
                self.written = None;
                self.stand_by().await;
            }
        }
    }

    /// Whoever leads names all sinks that hold sites curtailed. It writes down what it
    /// leads with, if that has changed.
    async fn lead(&mut self) {
        self.reader = None;
        let fingerprint = Arc::clone(&self.fingerprint.borrow());
        if self.written.as_ref() == Some(&fingerprint) {
            return;
        }
        let (mut database, holder) = (self.database.reader(), self.holder.borrow().clone());
        let text = Arc::clone(&fingerprint);
        let written = spawn_blocking(move || database.note_fingerprint(&holder, &text)).await;
        let written = written.map_err(|lost| lost.to_string());
        match written.and_then(|written| written.map_err(|error| error.to_string())) {
            Ok(()) => {
                self.written = Some(fingerprint);
                self.worked();
            }
            Err(error) => self.failed(&error, "standbys do not learn what this daemon leads with"),
        }
    }

    /// Looks for sinks for which this daemon could not lead. What cannot be read leaves it
    /// as it was.
    async fn stand_by(&mut self) {
        let config = Arc::clone(&self.base.config);
        let reader = self.reader.take();
        let mut reader = reader.unwrap_or_else(|| self.database.reader());
        let looked = spawn_blocking(move || {
            let found = look(&config, &mut reader);
            (reader, found)
        });
        let found = match looked.await {
            Ok((reader, found)) => {
                self.reader = Some(reader);
                found.map_err(|error| error.to_string())
            }
            Err(lost) => Err(lost.to_string()),
        };
        match found {
            Ok(gone) => {
                publish(&self.barred, gone.as_ref());
                self.worked();
            }
            Err(error) => self.failed(&error, "it is not known whether this daemon could lead"),
        }
    }

    fn failed(&mut self, error: &str, what: &'static str) {
        if self.trouble.lasts(self.clock.now().mono).is_some() {
            tracing::warn!(
                %error,
                next_try = %format_args!("in {}", spoken(LOOK)),
                "{what}: the database does not answer as it should"
            );
        }
    }

    fn worked(&mut self) {
        if let Some(failed_for) = self.trouble.over(self.clock.now().mono) {
            tracing::info!(failed_for = %spoken(failed_for), "the database answers looks again");
        }
    }
}

/// What daemons that take turns must have in common.
fn fingerprint(config: &Config, store_secret: &str) -> Fingerprint {
    let sinks = || config.sinks.iter();
    let name = |sink: &SinkSpec| sink.name().to_owned();
    let mark =
        |secret: Option<&Secret>| secret.map(|secret| SecretMark::new(store_secret, &secret.get()));
    Fingerprint {
        sinks: sinks().map(|sink| (name(sink), sink.receiver())).collect(),
        routes: sinks()
            .map(|sink| (name(sink), sink.route().text()))
            .collect(),
        pre_curtail: config.pre_curtail,
        curtail_on_test: config.curtail_on_test,
        sink_secret: mark(config.sink_secret.as_ref()),
        webhook_secret: mark(config.webhook_secret.as_ref()),
        public_url: config.public_url.as_ref().map(|url| url.url().to_string()),
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
