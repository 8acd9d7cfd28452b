//! Opens the store: a file, or memory.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::DaemonError;
use crate::clock::Now;
use crate::config::{Config, StatePath};
use crate::delivery::{Outbox, Sink, restore};
use crate::store::{
    Closed, MemoryStore, SqliteStore, Store, StoreError, StoreHandle, StoreReader, Stored,
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

    pub fn restore(
        &self,
        sinks: &[Arc<dyn Sink>],
        stored: &Stored,
        now: Now,
    ) -> Result<Vec<Outbox>, StoreError> {
        let reader: &mut dyn StoreReader = match self {
            Self::Memory(store) => &mut store.clone(),
            Self::File(store) => &mut store.reader()?,
        };
        restore(sinks.iter().map(|sink| &**sink), stored, reader, now)
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
