//! A store that keeps nothing beyond the process: for `--state :memory:` and
//! for tests, which can open it again as a restart would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Store, StoreError, StoreReader, Stored};
use crate::model::{DispatchId, Entry, Event, HistoryItem};

#[derive(Debug, Default)]
struct Kept {
    stored: Stored,
    entries: BTreeMap<DispatchId, Arc<Entry>>,
    history: BTreeMap<DispatchId, Vec<HistoryItem>>,
    events: BTreeMap<u64, Event>,
}

/// A store in memory. Copies are the same store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
    term: u64,
}

impl MemoryStore {
    /// An empty store with this random id.
    pub fn new(id: &str) -> Self {
        let mut kept = Kept::default();
        kept.stored.id = id.into();
        Self {
            kept: Arc::new(Mutex::new(kept)),
            term: 0,
        }
        .reopened()
    }

    /// The same store under the next term: what a restart finds. The one from
    /// before is fenced off.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let mut kept = self.lock();
        kept.stored.term += 1;
        let term = kept.stored.term;
        drop(kept);
        Self {
            kept: Arc::clone(&self.kept),
            term,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let kept = self.lock();
        let entries = kept.entries.values().map(|entry| Entry {
            absence: None,
            rewind: None,
            ..Entry::clone(entry)
        });
        Ok(Stored {
            term: self.term,
            entries: entries.collect(),
            ..kept.stored.clone()
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut kept = self.lock();
        let expected = (kept.stored.term, kept.stored.revision);
        if expected != (batch.term, batch.expected_revision) || self.term != batch.term {
            return Err(StoreError::Fenced);
        }
        kept.stored.revision = batch.revision;
        for entry in &batch.entries {
            kept.entries.insert(entry.id().clone(), Arc::clone(entry));
        }
        for (id, item) in &batch.history {
            kept.history
                .entry(id.clone())
                .or_default()
                .push(item.clone());
        }
        for event in &batch.events {
            kept.stored.position = kept.stored.position.max(event.position);
            kept.events.insert(event.position, event.clone());
        }
        for id in &batch.pruned {
            kept.entries.remove(id);
            kept.history.remove(id);
            kept.events
                .retain(|_, event| event.family() != "dispatch" || *event.subject != *id.as_str());
        }
        if let Some(before) = batch.forget_before {
            kept.events
                .retain(|_, event| event.family() == "dispatch" || event.time >= before);
        }
        if let Some(sync) = batch.sync {
            kept.stored.sync = sync;
        }
        for record in &batch.sinks {
            let sink = kept.stored.sinks.entry(record.sink.clone()).or_default();
            sink.settled = record.settled;
            sink.settled_beyond.extend(&record.settled_beyond);
            sink.settled_beyond.sort_unstable();
            sink.settled_beyond
                .retain(|position| *position > record.settled);
            for (subject, retry) in &record.retries {
                match retry {
                    Some(retry) => sink.retries.insert(subject.clone(), *retry),
                    None => sink.retries.remove(subject),
                };
            }
        }
        Ok(())
    }
}

impl StoreReader for MemoryStore {
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        Ok(self.lock().history.get(id).cloned().unwrap_or_default())
    }

    fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let kept = self.lock();
        let behind = kept.events.range(after.saturating_add(1)..);
        Ok(behind.take(limit).map(|(_, event)| event.clone()).collect())
    }
}
