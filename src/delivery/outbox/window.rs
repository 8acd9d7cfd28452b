//! Decides which pending events are held in memory, and which only in the store.
//!
//! Of the events that are all to be delivered (`dispatch.*` and `sync.*`) a window
//! is held in memory; the rest is read from the store as the window empties. Of
//! each site the newest event is held: site commands are level-triggered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Key;
use crate::clock::Mono;
use crate::model::Event;
use crate::seldom::Trouble;

/// How many events that are all to be delivered are held in memory, beside the
/// next one of each subject that fails.
const EVENTS: usize = 2048;

/// The most bytes that their data may have.
const BYTES: usize = 16 << 20;

/// How many subjects that fail add a place to the window each.
const FAILING: usize = 16_384;

/// The most events of one subject that are held.
pub(super) const OF_A_SUBJECT: usize = 64;

/// How many events are read at once.
const PAGE: usize = 1000;

/// How long a read that failed is not tried again.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// A read of pending events, to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The events behind this position.
    pub after: u64,
    /// The most events to read.
    pub limit: usize,
}

/// An event that is held in memory.
#[derive(Debug)]
pub(super) struct Held {
    /// The key of its subject's queue.
    pub key: Key,
    /// When it happened, UTC.
    pub time: DateTime<Utc>,
    /// Whether it is to be delivered whatever follows: not so a site's command.
    pub must_go: bool,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    /// The pending events in memory, by position.
    held: BTreeMap<u64, Held>,
    /// How many of them are no site's, and how many bytes their data has.
    events: usize,
    bytes: usize,
    /// Subjects that fail and are no sites.
    pub failing: usize,
    /// Every event up to this position is held, done with, or of a subject of
    /// which the rest lies in the store.
    pub cursor: u64,
    /// The position of the newest committed event.
    pub head: u64,
    /// How many events that are all to be delivered are pending and not held.
    pub beyond: u64,
    /// Subjects of which nothing is held and more lies in the store: from which
    /// position on.
    pub wanting: BTreeSet<(u64, Key)>,
    /// The read under way, and the head when it began.
    pub reading: Option<(Read, u64)>,
    not_before: Mono,
    /// Whether the last read failed.
    trouble: Trouble,
    /// Whether the next event has no room until another one goes.
    pub full: bool,
}

impl Window {
    /// A window on the events behind `done`. Up to `head`, `beyond` events are
    /// pending that are all to be delivered.
    pub fn new(done: u64, head: u64, beyond: u64) -> Self {
        Self {
            cursor: done,
            head: head.max(done),
            beyond,
            ..Self::default()
        }
    }

    /// Whether nothing lies in the store only, but for subjects that fail.
    pub fn is_caught_up(&self) -> bool {
        self.cursor >= self.head
    }

    /// Whether another event of `bytes` bytes may be held.
    pub fn has_room(&self, bytes: usize) -> bool {
        let most = EVENTS + self.failing.min(FAILING);
        self.events == 0 || (self.events < most && self.bytes + bytes <= BYTES)
    }

    /// Holds an event. `false` if it is held already.
    pub fn hold(&mut self, event: &Event, key: &Key, must_go: bool) -> bool {
        if self.held.contains_key(&event.position) {
            return false;
        }
        let bytes = event.data.get().len();
        if event.family() != "site" {
            self.events += 1;
            self.bytes += bytes;
        }
        let held = Held {
            key: Key::clone(key),
            time: event.time,
            must_go,
            bytes,
        };
        self.held.insert(event.position, held);
        true
    }

    /// Lets the event at `position` go.
    pub fn release(&mut self, position: u64) -> Option<Held> {
        let held = self.held.remove(&position)?;
        self.full = false;
        if !held.key.starts_with("site/") {
            self.events = self.events.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
        Some(held)
    }

    /// Whether the event at `position` is held.
    pub fn holds(&self, position: u64) -> bool {
        self.held.contains_key(&position)
    }

    /// What is held behind `after`, by position.
    pub fn held_after(&self, after: u64) -> impl Iterator<Item = (u64, &Held)> {
        self.held
            .range(after.saturating_add(1)..)
            .map(|(position, held)| (*position, held))
    }

    /// How many events are pending, and since when the oldest that is held, UTC.
    pub fn pending(&self) -> (u64, Option<DateTime<Utc>>) {
        let oldest = self.held.first_key_value().map(|(_, held)| held.time);
        (self.held.len() as u64 + self.beyond, oldest)
    }

    /// Whether a read is due, given up to which position all that follows a
    /// position is done with.
    pub fn read(&mut self, now: Mono, end_of_done: impl Fn(u64) -> u64) -> Option<Read> {
        if self.reading.is_some() || self.not_before > now {
            return None;
        }
        let again = self.wanting.first().map(|(from, _)| from.saturating_sub(1));
        let half = self.events <= EVENTS / 2 + self.failing.min(FAILING) && self.bytes <= BYTES / 2;
        let new = (half && !self.full && !self.is_caught_up()).then_some(self.cursor);
        let after = end_of_done(again.into_iter().chain(new).min()?);
        let read = Read { after, limit: PAGE };
        self.reading = Some((read, self.head));
        Some(read)
    }

    /// A read failed: the next one waits. Tells whether to log that.
    pub fn read_failed(&mut self, now: Mono) -> bool {
        self.not_before = now + READ_PAUSE;
        self.trouble.lasts(now).is_some()
    }

    /// A read succeeded. Tells whether to log that, since the log says that they fail.
    pub fn read_succeeded(&mut self, now: Mono) -> bool {
        self.trouble.over(now).is_some()
    }

    /// When a read that failed may be tried again.
    pub fn read_at(&self) -> Mono {
        self.not_before
    }
}
