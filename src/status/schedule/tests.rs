//! One entry and its history, while commits go on.

use chrono::DateTime;

use super::*;
use crate::engine::Schedule;
use crate::model::{Event, Phase, Source};
use crate::status::testing::view;
use crate::store::tests::entry;
use crate::store::{DispatchRecord, MemoryStore, StoreReader};

/// The state after so many changes, each of which raised the number by one.
fn state(revision: u64) -> View {
    let mut changed = entry("d");
    let mut dispatch = (*changed.dispatch).clone();
    dispatch.modification_number = i64::try_from(revision).ok();
    changed.dispatch = Arc::new(dispatch);
    View {
        schedule: Schedule::restore([changed], revision),
        ..view([])
    }
}

fn lines(revisions: impl IntoIterator<Item = u64>) -> Vec<HistoryItem> {
    let line = |revision| HistoryItem {
        revision,
        at: DateTime::UNIX_EPOCH,
        event_type: "dispatch.updated".into(),
        source: Source::Webhook,
        phase: Phase::Scheduled,
        changed: Default::default(),
        skipped: None,
        site_override: None,
    };
    revisions.into_iter().map(line).collect()
}

/// A store in which a commit ends right after each read.
struct Busy {
    views: watch::Sender<View>,
    /// What each read finds, and the state that is committed then.
    reads: Vec<(Vec<HistoryItem>, View)>,
}

impl StoreReader for Busy {
    fn record(&mut self, _: &DispatchId) -> Result<DispatchRecord, StoreError> {
        Ok(DispatchRecord::default())
    }

    fn history(&mut self, _: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        let (found, next) = self.reads.remove(0);
        self.views.send_replace(next);
        Ok(found)
    }

    fn events(&mut self, _: u64, _: usize) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }

    fn positions_to_deliver(&mut self, _: u64, _: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        Ok(())
    }

    fn newest_site_events(&mut self) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }

    fn newest_site_positions(&mut self) -> Result<Vec<u64>, StoreError> {
        Ok(Vec::new())
    }

    fn events_at(&mut self, _: &[u64]) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }
}

/// What a reader gets that begins in state `at`: the entry's number, and the
/// revisions of its history.
async fn got(at: View, reads: Vec<(Vec<HistoryItem>, View)>) -> Option<(i64, Vec<u64>)> {
    let (views, seen) = watch::channel(at);
    let writer = MemoryStore::new("ab12", DateTime::UNIX_EPOCH);
    let (_, store) = StoreHandle::start(writer, Busy { views, reads }).unwrap();
    let found = read(&seen, &store, &DispatchId::new("d").unwrap()).await;
    let found = found.unwrap()?;
    let history = found.history.iter().map(|item| item.revision).collect();
    Some((found.entry.dispatch.modification_number.unwrap(), history))
}

#[tokio::test]
async fn a_commit_after_the_history_was_read_makes_no_entry_newer_than_it() {
    let read = got(state(1), vec![(lines(1..=1), state(2))]).await;
    assert_eq!(read, Some((1, vec![1])));
}

#[tokio::test]
async fn a_commit_before_the_history_is_read_makes_it_no_newer_than_the_entry() {
    let read = got(state(1), vec![(lines(1..=3), state(3))]).await;
    assert_eq!(read, Some((1, vec![1])));
}

#[tokio::test]
async fn an_entry_that_is_pruned_meanwhile_is_gone() {
    let read = got(state(1), vec![(Vec::new(), view([]))]).await;
    assert_eq!(read, None);
}

#[tokio::test]
async fn an_entry_that_is_pruned_and_made_anew_meanwhile_has_its_new_history() {
    let reads = vec![(lines(5..=5), state(5)), (lines(5..=6), state(6))];
    assert_eq!(got(state(1), reads).await, Some((5, vec![5])));
}
