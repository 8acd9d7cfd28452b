//! Lists the dispatches that an outcome changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use crate::engine::Outcome;
use crate::model::{DispatchId, Entry, Source};

/// A dispatch that an outcome tells of.
pub(super) struct DispatchNews<'o> {
    /// Which.
    pub id: &'o DispatchId,
    /// What brought the news.
    pub source: Source,
    /// It was over when it was first seen.
    pub first_seen_over: bool,
}

/// What is new of a dispatch, as far as its sites go.
struct News {
    source: Source,
    first_seen_over: bool,
    /// Which of the changes brought it.
    order: usize,
    entry: Arc<Entry>,
}

impl News {
    /// Whether `entry` bears on the sites in another way.
    fn differs(&self, entry: &Entry) -> bool {
        let (one, other) = (&self.entry.dispatch, &entry.dispatch);
        self.entry.phase != entry.phase
            || one.start_time != other.start_time
            || one.end_time != other.end_time
    }
}

/// The dispatches that changed, in the order of what mattered last, and what
/// brought that. One outcome may tell of a start that the clock brought, and
/// then of an update by a poll: the site was curtailed by the first.
pub(super) fn news(outcome: &Outcome) -> Vec<DispatchNews<'_>> {
    let mut news: BTreeMap<&DispatchId, News> = BTreeMap::new();
    for (order, change) in outcome.changes.iter().enumerate() {
        let latest = News {
            source: change.source,
            first_seen_over: change.before.is_none() && change.entry.phase.is_over(),
            order,
            entry: Arc::clone(&change.entry),
        };
        match news.entry(&change.id) {
            MapEntry::Vacant(place) => {
                place.insert(latest);
            }
            MapEntry::Occupied(mut place) if place.get().differs(&change.entry) => {
                place.insert(latest);
            }
            MapEntry::Occupied(_) => {}
        }
    }
    let mut ids: Vec<_> = news
        .iter()
        .map(|(id, news)| {
            let changed = DispatchNews {
                id,
                source: news.source,
                first_seen_over: news.first_seen_over,
            };
            (news.order, changed)
        })
        .collect();
    ids.sort_unstable_by_key(|(order, _)| *order);
    let pruned = outcome
        .pruned
        .iter()
        .filter(|id| !news.contains_key(id))
        .map(|id| DispatchNews {
            id,
            source: Source::Timer,
            first_seen_over: false,
        });
    ids.into_iter()
        .map(|(_, changed)| changed)
        .chain(pruned)
        .collect()
}
