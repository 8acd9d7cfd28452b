//! Opens the store: a file, or memory.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::DaemonError;
use super::error::GoneSink;
use crate::clock::Now;
use crate::config::{Config, StatePath};
use crate::delivery::{Outbox, Sink, restore};
use crate::model::Route;
use crate::store::{
    Batch, Closed, MemoryStore, SqliteStore, Store, StoreError, StoreHandle, StoreReader, Stored,
};

/// The store of either kind, before its threads are started.
pub(super) enum Kept {
    Memory(MemoryStore),
    File(Box<SqliteStore>),
}

impl Kept {
    /// Opens the store, at `now` by the wall clock.
    pub fn open(config: &Config, now: DateTime<Utc>) -> Result<Self, DaemonError> {
        Ok(match &config.state {
            StatePath::Memory => {
                let id = format!("{:016x}", rand::random::<u64>());
                Self::Memory(MemoryStore::new(&id, now))
            }
            StatePath::File(path) => {
                Self::File(Box::new(SqliteStore::open(path, &config.origin(), now)?))
            }
        })
    }

    pub fn load(&mut self, config: &Config) -> Result<Stored, DaemonError> {
        match self {
            Self::Memory(store) => store.load(),
            Self::File(store) => store.load(),
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
        let named = |name: &str| config.receiving_sinks().any(|sink| sink.name() == name);
        let forgets = |name: &str| config.forget_sinks.iter().any(|gone| gone == name);
        let gone = stored.sinks.iter();
        let gone = gone.filter(|(name, _)| !named(name) && !forgets(name));
        let nobody_releases: Vec<GoneSink> = gone
            .filter(|(_, state)| !state.attempted.is_empty())
            .map(|(name, state)| GoneSink {
                name: name.to_string(),
                sites: state
                    .attempted
                    .keys()
                    .map(|site| site.to_string())
                    .collect(),
            })
            .collect();
        if !nobody_releases.is_empty() {
            return Err(DaemonError::SinksGone(nobody_releases));
        }
        let is_forgotten = |name: &str| forgets(name) && !named(name);
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
        }
        .map_err(|source| stored_error(config, source))
    }

    pub fn start(self) -> std::io::Result<(Closed, StoreHandle)> {
        match self {
            Self::Memory(store) => StoreHandle::start(store.clone(), store),
            Self::File(store) => {
                let reader = store.reader().map_err(std::io::Error::other)?;
                StoreHandle::start(*store, reader)
            }
        }
    }
}

pub(super) fn stored_error(config: &Config, source: StoreError) -> DaemonError {
    let path = match &config.state {
        StatePath::Memory => PathBuf::from(":memory:"),
        StatePath::File(path) => path.clone(),
    };
    DaemonError::Stored { path, source }
}
