//! What is settled at one sink, and what of that is not written down yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::clock::Mono;
use crate::model::Event;
use crate::store::{Retry, SinkRecord, Told};

#[derive(Debug)]
pub(super) struct Ledger {
    /// What is to be delivered yet, and since when, UTC.
    open: BTreeMap<u64, DateTime<Utc>>,
    /// The last position that was offered.
    last: u64,
    /// Settled beyond the first open position.
    beyond: BTreeSet<u64>,
    record: SinkRecord,
    /// Whether the record has anything new.
    changed: bool,
    /// The next commit must have the record: the sink may be new, or the last
    /// commit failed.
    awaited: bool,
    now: Mono,
    waits_since: Option<Mono>,
}

impl Ledger {
    pub fn new(sink: &str, settled: u64, beyond: &[u64]) -> Self {
        Self {
            open: BTreeMap::new(),
            last: settled,
            beyond: beyond.iter().copied().collect(),
            record: SinkRecord {
                sink: sink.into(),
                settled,
                ..SinkRecord::default()
            },
            changed: true,
            awaited: true,
            now: Mono::ZERO,
            waits_since: None,
        }
    }

    /// Everything up to this position is settled.
    pub fn settled(&self) -> u64 {
        match self.open.first_key_value() {
            Some((first, _)) => first.saturating_sub(1).min(self.last),
            None => self.last,
        }
    }

    /// Takes an event in. `false` if it was settled before.
    pub fn open(&mut self, event: &Event) -> bool {
        if self.beyond.contains(&event.position) {
            self.last = self.last.max(event.position);
            return false;
        }
        if self.open.contains_key(&event.position) {
            return true;
        }
        if event.position <= self.last {
            return false;
        }
        self.last = event.position;
        self.open.insert(event.position, event.time);
        true
    }

    /// Takes an event in although it was settled before.
    pub fn reopen(&mut self, event: &Event) {
        self.beyond.remove(&event.position);
        if event.position <= self.last {
            self.open.insert(event.position, event.time);
        }
    }

    pub fn settle(&mut self, position: u64) {
        if self.open.remove(&position).is_some() {
            self.beyond.insert(position);
            self.record.settled_beyond.push(position);
            self.change();
        }
    }

    pub fn retry(&mut self, lane: &Arc<str>, retry: Option<Retry>) {
        self.record.retries.insert(Arc::clone(lane), retry);
        self.change();
    }

    pub fn told(&mut self, site: &str, told: Option<Told>) {
        self.record.told.insert(site.into(), told);
        self.change();
    }

    pub fn advance(&mut self, now: Mono) {
        self.now = now;
    }

    fn change(&mut self) {
        self.changed = true;
        self.waits_since.get_or_insert(self.now);
    }

    /// Since when something waits to be written down.
    pub fn waits_since(&self) -> Option<Mono> {
        self.waits_since
    }

    /// Whether the next commit must have what is to be written down.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// What is to be written down. It is gone from here, but for what is settled
    /// out of its turn: unless `all` is to be taken, that stays, as it need never
    /// be written if what precedes it is settled soon.
    pub fn take(&mut self, all: bool) -> Option<SinkRecord> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.awaited = false;
        let settled = self.settled();
        self.beyond = self.beyond.split_off(&(settled + 1));
        let mut record = std::mem::take(&mut self.record);
        self.record.sink = Arc::clone(&record.sink);
        record.settled = settled;
        record.settled_beyond.retain(|position| *position > settled);
        if all || record.settled_beyond.is_empty() {
            self.waits_since = None;
        } else {
            self.changed = true;
            self.record.settled_beyond = std::mem::take(&mut record.settled_beyond);
        }
        Some(record)
    }

    /// What was taken could not be written down.
    pub fn put_back(&mut self, record: SinkRecord, now: Mono) {
        self.now = now;
        let newer = std::mem::replace(&mut self.record, record);
        self.record.settled_beyond.extend(newer.settled_beyond);
        self.record.retries.extend(newer.retries);
        self.record.told.extend(newer.told);
        self.awaited = true;
        self.change();
    }

    /// How many events are to be delivered yet, and since when the oldest is.
    pub fn pending(&self) -> (u64, Option<DateTime<Utc>>) {
        let oldest = self.open.first_key_value().map(|(_, time)| *time);
        (self.open.len() as u64, oldest)
    }
}
