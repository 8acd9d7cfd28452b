//! Opens the store: a file, a database, or memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::task::spawn_blocking;

use super::DaemonError;
use super::candidacy::first_look;
use super::error::{GoneSink, GoneSinks};
use crate::clock::Now;
use crate::config::{Config, StatePath};
use crate::delivery::{Outbox, Sink, restore};
use crate::model::Route;
use crate::store::{
    Batch, Closed, MemoryStore, Postgres, PostgresStore, SinkState, SqliteStore, Store, StoreError,
    StoreHandle, StoreReader, Stored,
};

/// The store of each kind, before its threads are started.
pub(super) enum Kept {
    Memory(MemoryStore),
    File(Box<SqliteStore>),
    Database(Box<PostgresStore>, Postgres),
}

/// What is opened at the start.
pub(super) enum Opened {
    /// The store of this daemon alone.
    Alone(Kept),
    /// A database that daemons share. Its writer comes with the lead.
    Shared {
        database: Postgres,
        /// The sinks for which this daemon could not lead.
        gone: Option<GoneSinks>,
    },
}

/// Opens the store, at `now` by the wall clock.
pub(super) async fn open(config: &Arc<Config>, now: DateTime<Utc>) -> Result<Opened, DaemonError> {
    Ok(match &config.state {
        StatePath::Memory => {
            let id = format!("{:016x}", rand::random::<u64>());
            Opened::Alone(Kept::Memory(MemoryStore::new(&id, now)))
        }
        StatePath::File(path) => Opened::Alone(Kept::File(Box::new(SqliteStore::open(
            path,
            &config.origin(),
            now,
        )?))),
        StatePath::Postgres(target) => {
            let (target, config) = (target.clone(), Arc::clone(config));
            let opened = spawn_blocking(move || {
                let database = Postgres::open(&target, &config.origin())?;
                let gone = first_look(&config, &database)?;
                Ok::<_, DaemonError>(Opened::Shared { database, gone })
            });
            opened.await.map_err(|_| DaemonError::Task("the store"))??
        }
    })
}

impl Kept {
    pub fn load(&mut self, config: &Config) -> Result<Stored, DaemonError> {
        match self {
            Self::Memory(store) => store.load(),
            Self::File(store) => store.load(),
            Self::Database(store, _) => store.load(),
        }
        .map_err(|source| stored_error(config, source))
    }

    pub fn restore<'s>(
        &self,
        sinks: impl Iterator<Item = (&'s dyn Sink, &'s Route)>,
        stored: &Stored,
        now: Now,
    ) -> Result<Vec<Outbox>, StoreError> {
        let reader: &mut dyn StoreReader = match self {
            Self::Memory(store) => &mut store.clone(),
            Self::File(store) => &mut store.reader()?,
            Self::Database(_, database) => &mut database.reader(),
        };
        restore(sinks, stored, reader, now)
    }

    /// Forgets sinks that the operator says are gone for good, and makes sure that each
    /// of the others that may hold sites curtailed is still configured.
    pub fn forget_sinks(
        &mut self,
        config: &Config,
        stored: &mut Stored,
    ) -> Result<(), DaemonError> {
        if let Some(gone) = gone_sinks(config, &stored.sinks) {
            return Err(DaemonError::SinksGone(gone));
        }
        let is_forgotten = |name: &str| forgets(config, name) && !is_named(config, name);
        let forgotten: Vec<_> = stored
            .sinks
            .extract_if(.., |name, _| is_forgotten(name))
            .collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        for (name, state) in &forgotten {
            let sites = state.attempted.len();
            tracing::warn!(
                sink = &**name,
                sites,
                "this sink is forgotten, as --forget-sink says: it is sent nothing any more, and the sites that it may hold curtailed are not released there"
            );
        }
        let batch = Batch {
            term: stored.term,
            expected_revision: stored.revision,
            revision: stored.revision,
            forgotten_sinks: forgotten.into_iter().map(|(name, _)| name).collect(),
            ..Batch::default()
        };
        match self {
            Self::Memory(store) => store.commit(&batch),
            Self::File(store) => store.commit(&batch),
            Self::Database(store, _) => store.commit(&batch),
        }
        .map_err(|source| stored_error(config, source))
    }

    /// What the daemons of a shared store know each other by.
    pub fn secret(&self) -> Option<Arc<str>> {
        match self {
            Self::Memory(_) | Self::File(_) => None,
            Self::Database(_, database) => Some(Arc::clone(database.secret())),
        }
    }

    pub fn start(self) -> std::io::Result<(Closed, StoreHandle)> {
        match self {
            Self::Memory(store) => StoreHandle::start(store.clone(), store),
            Self::File(store) => {
                let reader = store.reader().map_err(std::io::Error::other)?;
                StoreHandle::start(*store, reader)
            }
            Self::Database(store, database) => StoreHandle::start(*store, database.reader()),
        }
    }
}

fn is_named(config: &Config, name: &str) -> bool {
    config.receiving_sinks().any(|sink| sink.name() == name)
}

fn forgets(config: &Config, name: &str) -> bool {
    config.forget_sinks.iter().any(|gone| gone == name)
}

/// The sinks that may hold sites curtailed and that nothing names any more, if there are
/// any. With them the daemon does not start.
pub fn gone_sinks(config: &Config, stored: &BTreeMap<Arc<str>, SinkState>) -> Option<GoneSinks> {
    let gone = stored.iter().filter(|(name, state)| {
        !is_named(config, name) && !forgets(config, name) && !state.attempted.is_empty()
    });
    let sites = |state: &SinkState| state.attempted.keys().map(ToString::to_string).collect();
    let held = gone.map(|(name, state)| (name.to_string(), sites(state)));
    gone_of(config, held.collect())
}

/// The same for sinks that nothing names any more, with the sites that each may hold
/// curtailed.
pub(super) fn gone_of(config: &Config, held: BTreeMap<String, Vec<String>>) -> Option<GoneSinks> {
    let sinks = held.into_iter();
    let sinks = sinks.map(|(name, sites)| GoneSink { name, sites });
    let sinks: Vec<GoneSink> = sinks.collect();
    (!sinks.is_empty()).then(|| GoneSinks {
        named_by: config.sinks_named_by(),
        sinks,
    })
}

pub(super) fn stored_error(config: &Config, source: StoreError) -> DaemonError {
    let path = match &config.state {
        StatePath::Memory => PathBuf::from(":memory:"),
        StatePath::File(path) => path.clone(),
        StatePath::Postgres(target) => PathBuf::from(target.to_string()),
    };
    DaemonError::Stored { path, source }
}
