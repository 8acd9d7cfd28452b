//! Everything that a store keeps, in parts of bounded size: how a state is carried over
//! to another store. Begin at [`carry_over`].
//!
//! A target is a state only once [`WholeTarget::finish`] has written its row about the
//! daemon, which is the last thing written. Before that it is half a copy, with which no
//! daemon starts.

mod checksums;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{SettledCommand, StateLine, Told};
use super::{SinkRecord, SinkState, StoreError, SyncRecord};
use crate::model::{DispatchId, Entry, Event, HistoryItem, SiteId, SiteState};

pub use checksums::{Checksums, Kind};

/// How many dispatches or sites are read at once.
pub(super) const PAGE: usize = 500;

/// How many events are read at once.
const EVENTS: usize = 5000;

/// Of a page of dispatches no further one is read once their JSON has so many bytes.
pub(super) const PAGE_BYTES: u64 = 8 << 20;

/// What a state is beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The state's own random id, part of every event's id.
    pub id: Arc<str>,
    /// The API that it belongs to.
    pub origin: String,
    /// The highest term that was ever used.
    pub term: u64,
    /// The schedule's revision.
    pub revision: u64,
    /// The highest position that was ever used.
    pub position: u64,
    /// What is known about polling.
    pub sync: SyncRecord,
}

/// A dispatch with all that is kept of it.
#[derive(Debug, Clone)]
pub struct WholeDispatch {
    /// As the schedule has it.
    pub entry: Arc<Entry>,
    /// The answer that told its newest state.
    pub told: Option<Told>,
    /// How many lines about its commands were left out.
    pub commands_left_out: u64,
    /// What happened to it, oldest first.
    pub changes: Vec<HistoryItem>,
    /// Lines of its history that tell of no change, oldest first.
    pub skipped: Vec<HistoryItem>,
    /// The states that others replaced, oldest first.
    pub states: Vec<StateLine>,
    /// The commands whose delivery has come to an end, each with the sink's name.
    pub commands: Vec<(Arc<str>, SettledCommand)>,
}

/// A part of what a store keeps.
#[derive(Debug)]
pub enum Part {
    /// Dispatches.
    Dispatches(Vec<WholeDispatch>),
    /// Where sites stand.
    Sites(Vec<Arc<SiteState>>),
    /// Events, oldest first.
    Events(Vec<Event>),
    /// Where deliveries to the sink with this name stand.
    Sink(Arc<str>, SinkState),
}

/// A store that is read as a whole, while nothing else uses it.
pub trait WholeSource {
    /// What the state is beside its rows. `None` while it is half a copy.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn head(&mut self) -> Result<Option<Head>, StoreError>;

    /// Some dispatches, in an order of the store's own, behind the one with this id.
    /// None if there are no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn dispatches(&mut self, after: Option<&DispatchId>) -> Result<Vec<WholeDispatch>, StoreError>;

    /// Some sites, in an order of the store's own, behind the one with this id. None if
    /// there are no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn sites(&mut self, after: Option<&SiteId>) -> Result<Vec<Arc<SiteState>>, StoreError>;

    /// Up to `limit` events behind this position, oldest first. None if there are no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn events_after(&mut self, position: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Where deliveries stand, by the sink's name.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn sinks(&mut self) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError>;
}

/// An empty store that becomes a copy.
pub trait WholeTarget {
    /// What reads the copy.
    type Reader: WholeSource;

    /// Reads what was written so far.
    fn reader(&mut self) -> &mut Self::Reader;

    /// Writes a part, synced.
    ///
    /// # Errors
    /// When that fails. The target stays half a copy.
    fn write(&mut self, part: &Part) -> Result<(), StoreError>;

    /// Makes the copy a state.
    ///
    /// # Errors
    /// When that fails. Unless the target says otherwise, it stays half a copy.
    fn finish(&mut self, head: &Head) -> Result<(), StoreError>;
}

/// Why a state was not carried over.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The source cannot be read.
    #[error("FROM: {0}")]
    Source(#[source] StoreError),
    /// The target cannot be written, or not be read back.
    #[error("TO: {0}")]
    Target(#[source] StoreError),
    /// What was read back is not what was written.
    #[error("TO: what was read back differs from what was copied: {0}")]
    Differs(String),
}

/// Copies all of `source` to `target`, reads all of that back, compares, and then makes
/// the target a state. Holds no more in memory than a page of rows, and where deliveries
/// stand, which a daemon holds too. Gives how much was copied.
///
/// # Errors
/// When a store fails, or the two differ. The target is then half a copy.
pub fn carry_over(
    source: &mut impl WholeSource,
    target: &mut impl WholeTarget,
) -> Result<Checksums, CarryError> {
    let half = || StoreError::Damaged {
        what: "it is half a copy".to_owned(),
    };
    let head = source.head().map_err(CarryError::Source)?;
    let head = head.ok_or_else(|| CarryError::Source(half()))?;
    let mut copied = Checksums::default();
    each_part(source, CarryError::Source, |part| {
        copied.add(&part);
        target.write(&part).map_err(CarryError::Target)
    })?;
    let mut found = Checksums::default();
    each_part(target.reader(), CarryError::Target, |part| {
        found.add(&part);
        Ok(())
    })?;
    if let Some(difference) = copied.difference(&found) {
        return Err(CarryError::Differs(difference));
    }
    target.finish(&head).map_err(CarryError::Target)?;
    let found = target.reader().head().map_err(CarryError::Target)?;
    if found.as_ref() == Some(&head) {
        Ok(copied)
    } else {
        Err(CarryError::Differs("the numbers of the daemon".to_owned()))
    }
}

/// Reads all of a store, part by part.
fn each_part(
    store: &mut impl WholeSource,
    failed: fn(StoreError) -> CarryError,
    mut take: impl FnMut(Part) -> Result<(), CarryError>,
) -> Result<(), CarryError> {
    let mut after: Option<DispatchId> = None;
    loop {
        let page = store.dispatches(after.as_ref()).map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = Some(last.entry.id().clone());
        take(Part::Dispatches(page))?;
    }
    let mut after: Option<SiteId> = None;
    loop {
        let page = store.sites(after.as_ref()).map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        take(Part::Sites(page))?;
    }
    let mut after = 0;
    loop {
        let page = store.events_after(after, EVENTS).map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = last.position;
        take(Part::Events(page))?;
    }
    for (name, state) in store.sinks().map_err(failed)? {
        take(Part::Sink(name, state))?;
    }
    Ok(())
}

/// Where deliveries to a sink stand, as a batch would write all of it.
pub(super) fn as_record(name: &Arc<str>, state: &SinkState) -> SinkRecord {
    let ranges = state.done_beyond.iter();
    let retries = state.retries.iter();
    let attempted = state.attempted.iter();
    SinkRecord {
        sink: Arc::clone(name),
        done: state.done,
        done_beyond: ranges.map(|(first, last)| (*first, Some(*last))).collect(),
        retries: retries
            .map(|(queue, retry)| (Arc::clone(queue), Some(*retry)))
            .collect(),
        attempted: attempted
            .map(|(site, last)| (Arc::clone(site), Some(*last)))
            .collect(),
        route: state.route.clone(),
        settled: Vec::new(),
    }
}
