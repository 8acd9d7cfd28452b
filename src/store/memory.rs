//! A store that keeps nothing beyond the process: for `--state :memory:` and
//! for tests, which can open it again as a restart would.

mod lease;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use self::record::RecordLines;
use super::term::next_term;
use super::{Batch, DispatchRecord, LeaseRow, Store, StoreError, StoreReader, Stored};
use crate::model::{DispatchId, Entry, Event, HistoryItem, Inquiry, SiteId, SiteState};

#[derive(Debug, Clone, Default)]
struct Kept {
    stored: Stored,
    entries: BTreeMap<DispatchId, Arc<Entry>>,
    sites: BTreeMap<SiteId, Arc<SiteState>>,
    history: BTreeMap<DispatchId, Vec<HistoryItem>>,
    events: BTreeMap<u64, Event>,
    records: BTreeMap<DispatchId, RecordLines>,
    lease: Option<LeaseRow>,
}

impl Kept {
    /// The lease, if it has this term and holder.
    fn held(&mut self, term: u64, holder: &str) -> Option<&mut LeaseRow> {
        let lease = self.lease.as_mut();
        lease.filter(|row| (row.term, &*row.holder) == (term, holder))
    }

    fn newest_of_sites(&self) -> impl Iterator<Item = &Event> {
        let newest: BTreeMap<&str, &Event> = self
            .events
            .values()
            .filter(|event| event.family() == "site")
            .map(|event| (&*event.subject, event))
            .collect();
        newest.into_values()
    }
}

/// A store in memory. Copies are the same store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
    term: u64,
}

impl MemoryStore {
    /// An empty store with this random id, and its first term, which begins at
    /// `now` by the wall clock.
    pub fn new(id: &str, now: DateTime<Utc>) -> Self {
        let mut kept = Kept::default();
        kept.stored.id = id.into();
        Self {
            kept: Arc::new(Mutex::new(kept)),
            term: 0,
        }
        .reopened(now)
    }

    /// The same store under the next term: what a restart finds at `now` by the
    /// wall clock. The one from before is fenced off.
    #[must_use]
    pub fn reopened(&self, now: DateTime<Utc>) -> Self {
        let mut kept = self.lock();
        let term = next_term(kept.stored.term, kept.stored.position, now);
        kept.stored.term = term;
        drop(kept);
        self.led(term)
    }

    /// The same store for the daemon that leads with `term`. Once another daemon has
    /// taken over, its commits are refused.
    #[must_use]
    pub fn led(&self, term: u64) -> Self {
        Self {
            kept: Arc::clone(&self.kept),
            term,
        }
    }

    /// A copy that later commits do not reach, as a backup of a file is one.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self {
            kept: Arc::new(Mutex::new(self.lock().clone())),
            term: self.term,
        }
    }

    /// From now on commits may have been lost, as a take-over finds that sees another
    /// server than the former leader wrote to.
    pub fn lose_commits(&self) {
        self.lock().stored.commits_lost = true;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let kept = self.lock();
        let entries = kept.entries.values().map(|entry| Entry {
            inquiry: Inquiry::default(),
            ..Entry::clone(entry)
        });
        Ok(Stored {
            term: self.term,
            entries: entries.collect(),
            sites: kept
                .sites
                .values()
                .map(|site| SiteState::clone(site))
                .collect(),
            ..kept.stored.clone()
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut kept = self.lock();
        if kept.stored.term != batch.term || self.term != batch.term {
            return Err(StoreError::Fenced);
        }
        if kept.stored.revision != batch.expected_revision {
            return Err(StoreError::OutOfStep);
        }
        kept.stored.revision = batch.revision;
        kept.new_states(batch);
        for entry in &batch.entries {
            kept.entries.insert(entry.id().clone(), Arc::clone(entry));
        }
        for site in &batch.sites {
            kept.sites.insert(site.id.clone(), Arc::clone(site));
        }
        for id in &batch.forgotten {
            kept.sites.remove(id);
        }
        for (id, item) in &batch.history {
            kept.history
                .entry(id.clone())
                .or_default()
                .push(item.clone());
        }
        for (id, item) in &batch.skipped {
            if let Some(lines) = kept.history.get_mut(id) {
                lines.push(item.clone());
            }
        }
        for event in &batch.events {
            kept.stored.position = kept.stored.position.max(event.position);
            kept.events.insert(event.position, event.clone());
        }
        for id in &batch.pruned {
            kept.records.remove(id);
            kept.entries.remove(id);
            kept.history.remove(id);
        }
        if let Some(before) = batch.forget_before {
            let newest: BTreeSet<u64> =
                kept.newest_of_sites().map(|event| event.position).collect();
            let subjects: BTreeSet<String> =
                kept.entries.keys().map(DispatchId::to_string).collect();
            kept.events.retain(|position, event| {
                let stays = if event.family() == "dispatch" {
                    subjects.contains(&*event.subject)
                } else {
                    event.time >= before || newest.contains(position)
                };
                stays || *position > batch.delivered
            });
        }
        if let Some(sync) = batch.sync {
            kept.stored.sync = sync;
        }
        for record in &batch.sinks {
            let sink = kept.stored.sinks.entry(record.sink.clone()).or_default();
            sink.done = record.done;
            for (first, last) in &record.done_beyond {
                match last {
                    Some(last) => sink.done_beyond.insert(*first, *last),
                    None => sink.done_beyond.remove(first),
                };
            }
            sink.done_beyond.retain(|first, _| *first > record.done);
            for (subject, retry) in &record.retries {
                match retry {
                    Some(retry) => sink.retries.insert(subject.clone(), *retry),
                    None => sink.retries.remove(subject),
                };
            }
            for (site, last) in &record.attempted {
                match last {
                    Some(last) => sink.attempted.insert(site.clone(), *last),
                    None => sink.attempted.remove(site),
                };
            }
            if record.route.is_some() {
                sink.route.clone_from(&record.route);
            }
        }
        kept.settled_commands(batch);
        for sink in &batch.forgotten_sinks {
            kept.stored.sinks.remove(sink);
        }
        if batch.commits_made_up {
            kept.stored.commits_lost = false;
        }
        Ok(())
    }
}

impl StoreReader for MemoryStore {
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        Ok(self.lock().history.get(id).cloned().unwrap_or_default())
    }

    fn record(&mut self, id: &DispatchId) -> Result<DispatchRecord, StoreError> {
        Ok(self.lock().record(id))
    }

    fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let kept = self.lock();
        let behind = kept.events.range(after.saturating_add(1)..);
        Ok(behind.take(limit).map(|(_, event)| event.clone()).collect())
    }

    fn positions_to_deliver(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let kept = self.lock();
        let behind = kept.events.range(after.saturating_add(1)..);
        behind
            .filter(|(_, event)| event.family() != "site")
            .for_each(|(position, _)| each(*position));
        Ok(())
    }

    fn newest_site_events(&mut self) -> Result<Vec<Event>, StoreError> {
        Ok(self.lock().newest_of_sites().cloned().collect())
    }

    fn newest_site_positions(&mut self) -> Result<Vec<u64>, StoreError> {
        let kept = self.lock();
        let mut positions: Vec<u64> = kept.newest_of_sites().map(|event| event.position).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    fn events_at(&mut self, positions: &[u64]) -> Result<Vec<Event>, StoreError> {
        let kept = self.lock();
        let events = positions
            .iter()
            .filter_map(|position| kept.events.get(position));
        Ok(events.cloned().collect())
    }
}
