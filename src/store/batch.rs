//! What one commit writes, and what a start loads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::record::{NewState, SettledCommand, Tried};
use crate::model::{DispatchId, Entry, Event, HistoryItem, SiteId, SiteState};

/// What one commit writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The term of the daemon that writes. Another one means that it was
    /// replaced.
    pub term: u64,
    /// The revision that the store must have.
    pub expected_revision: u64,
    /// The revision that it has afterwards.
    pub revision: u64,
    /// Entries that changed.
    pub entries: Vec<Arc<Entry>>,
    /// Entries that go, with their history. Their events go later, by
    /// [`forget_before`](Self::forget_before).
    pub pruned: Vec<DispatchId>,
    /// Sites whose state changed.
    pub sites: Vec<Arc<SiteState>>,
    /// Sites that go, after those that changed were written.
    pub forgotten: Vec<SiteId>,
    /// New lines of history.
    pub history: Vec<(DispatchId, HistoryItem)>,
    /// New lines of history that belong to no change: about events that operators
    /// gave up. A line about a dispatch that is not stored is left out.
    pub skipped: Vec<(DispatchId, HistoryItem)>,
    /// New events, in order.
    pub events: Vec<Event>,
    /// What the API told of dispatches, where that led to a change, as it came. Each
    /// dispatch is among [`entries`](Self::entries), unless it is pruned.
    pub states: Vec<NewState>,
    /// Old events go: those of the daemon and of sites from before this, UTC, but
    /// for the newest one of each site; those of dispatches that have gone. They
    /// may go after the commit, by [`Store::tidy`](super::Store::tidy).
    pub forget_before: Option<DateTime<Utc>>,
    /// Everything up to this position is settled at every sink. No event beyond
    /// it goes.
    pub delivered: u64,
    /// What is known about polling, where that is new.
    pub sync: Option<SyncRecord>,
    /// What came of deliveries.
    pub sinks: Vec<SinkRecord>,
    /// Sinks of which nothing is kept any more, whatever they were told.
    pub forgotten_sinks: Vec<Arc<str>>,
    /// With this batch every site is told once more what it must do. So
    /// [`Stored::commits_lost`] holds no longer.
    pub commits_made_up: bool,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.expected_revision == self.revision
            && self.entries.is_empty()
            && self.pruned.is_empty()
            && self.skipped.is_empty()
            && self.sites.is_empty()
            && self.forgotten.is_empty()
            && self.events.is_empty()
            && self.forget_before.is_none()
            && self.sync.is_none()
            && self.sinks.is_empty()
            && self.forgotten_sinks.is_empty()
            && !self.commits_made_up
    }
}

/// What is remembered about polling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncRecord {
    /// When a poll last succeeded, UTC.
    pub last_poll: Option<DateTime<Utc>>,
    /// Whether `sync.stale` was announced and `sync.recovered` was not yet.
    pub stale: bool,
}

/// What is new about deliveries to one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkRecord {
    /// The sink's name.
    pub sink: Arc<str>,
    /// Every event up to this position is done with: acknowledged, superseded or skipped.
    pub done: u64,
    /// Ranges of positions beyond that are done with too, where that is new: the
    /// last position by the first one; `None` for a range that is no more.
    pub done_beyond: BTreeMap<u64, Option<u64>>,
    /// Subject queues that must wait before they are tried again; `None` for those that
    /// need not any more.
    pub retries: BTreeMap<Arc<str>, Option<Retry>>,
    /// What was last attempted, by site; `None` where nothing counts any more.
    pub attempted: BTreeMap<Arc<str>, Option<Attempted>>,
    /// The route that its sites are commanded by, if that is new.
    pub route: Option<Arc<str>>,
    /// Commands whose delivery has come to an end. Of one that is there again, what comes
    /// later holds. One that a dispatch caused which is not stored is left out.
    pub settled: Vec<SettledCommand>,
}

/// What a sink was last told of a site, whatever came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempted {
    /// The event's position.
    pub position: u64,
    /// Whether it said that the site must curtail.
    pub curtailed: bool,
    /// Whether the receiver has confirmed it.
    pub acknowledged: bool,
    /// Whether the receiver has confirmed that the site must curtail, with this
    /// event or one before it, and was not told otherwise since.
    pub held: bool,
}

/// A subject queue that could not be delivered to a sink yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often it failed in a row.
    pub attempts: u32,
    /// When it may be tried again, UTC.
    pub at: DateTime<Utc>,
    /// How long it was to wait when its attempt had failed, to the millisecond.
    /// However the clock is set meanwhile, it waits no longer after a restart.
    pub pause: Duration,
    /// The attempts at the site's newest command, if the subject is a site.
    pub tried: Option<Tried>,
}

/// Where deliveries to one sink stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkState {
    /// Every event up to this position is done with.
    pub done: u64,
    /// Ranges of positions beyond that are done with too: the last position by the
    /// first one.
    pub done_beyond: BTreeMap<u64, u64>,
    /// Subject queues that must wait before they are tried again.
    pub retries: BTreeMap<Arc<str>, Retry>,
    /// What was last attempted, by site.
    pub attempted: BTreeMap<Arc<str>, Attempted>,
    /// The route that its sites were last commanded by. `None` if that was every site,
    /// before there were routes.
    pub route: Option<Arc<str>>,
}

/// What the daemon goes on from after a start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The store's own random id, part of every event's id.
    pub id: Arc<str>,
    /// This start's number.
    pub term: u64,
    /// The schedule's revision.
    pub revision: u64,
    /// The position of the last event.
    pub position: u64,
    /// The schedule.
    pub entries: Vec<Entry>,
    /// Where sites stood.
    pub sites: Vec<SiteState>,
    /// What was known about polling.
    pub sync: SyncRecord,
    /// Where deliveries stand, by the sink's name.
    pub sinks: BTreeMap<Arc<str>, SinkState>,
    /// Whether the last commits of an earlier leader may be missing: sites may have been
    /// told what this state does not know of. Only a store that daemons share finds that
    /// out, at a take-over. It stays so until a batch makes up for it.
    pub commits_lost: bool,
}
