//! Keeps which events are done with at one sink, and what of that is not on disk yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ranges::Ranges;
use crate::clock::Mono;
use crate::store::{Attempted, Retry, SettledCommand, SinkRecord, SinkState};

/// Which events are done with at one sink: acknowledged, superseded, skipped, or
/// never to be delivered there. Everything else is pending.
#[derive(Debug)]
pub(super) struct Progress {
    /// Every position up to this one is done with.
    done: u64,
    /// Positions beyond that are done with too.
    beyond: Ranges,
    record: SinkRecord,
    /// Whether the record has anything new.
    changed: bool,
    /// The next commit must have the record: the sink may be new, or the last
    /// commit failed.
    awaited: bool,
    /// The next record is to have what was completed out of its turn as well.
    all: bool,
    now: Mono,
    waits_since: Option<Mono>,
}

impl Progress {
    /// Goes on from what is stored of the sink with this name.
    pub fn new(sink: &str, state: &SinkState) -> Self {
        let mut progress = Self {
            done: state.done,
            beyond: Ranges::restore(&state.done_beyond),
            record: SinkRecord {
                sink: sink.into(),
                done: state.done,
                ..SinkRecord::default()
            },
            changed: true,
            awaited: true,
            all: false,
            now: Mono::ZERO,
            waits_since: None,
        };
        progress.join();
        progress
    }

    /// Every position up to this one is done with.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The last of the positions that follow `position` without a gap and are
    /// done with; `position` itself if there is none.
    pub fn end_of_done(&self, position: u64) -> u64 {
        let position = position.max(self.done);
        self.beyond
            .end_of(position.saturating_add(1))
            .unwrap_or(position)
    }

    /// Whether the event at `position` is done with.
    pub fn is_done(&self, position: u64) -> bool {
        position <= self.done || self.beyond.end_of(position).is_some()
    }

    /// The event at `position` is done with.
    pub fn complete(&mut self, position: u64) {
        self.pass(position, position);
        self.change();
    }

    /// Nothing between these positions, both included, is ever to be delivered.
    /// This is written down with what else is: found anew, it costs nothing.
    pub fn pass(&mut self, first: u64, last: u64) {
        let first = first.max(self.done.saturating_add(1));
        if first <= last {
            if self.beyond.is_empty() && first == self.done.saturating_add(1) {
                // So most come: commands, and what goes to other sinks.
                self.done = last;
            } else {
                self.beyond.insert(first, last);
            }
            self.changed = true;
            self.join();
        }
    }

    fn join(&mut self) {
        while let Some(end) = self.beyond.take(self.done.saturating_add(1)) {
            self.done = end;
        }
    }

    /// When a subject may be tried again; `None` once it need not wait.
    pub fn retry(&mut self, subject: &Arc<str>, retry: Option<Retry>) {
        self.record.retries.insert(Arc::clone(subject), retry);
        self.change();
    }

    /// What was last attempted at a site; `None` where nothing counts any more.
    pub fn attempted(&mut self, site: &str, attempted: Option<Attempted>) {
        self.record.attempted.insert(site.into(), attempted);
        self.change();
    }

    /// The delivery of a command has come to an end.
    pub fn settled(&mut self, command: SettledCommand) {
        self.record.settled.push(command);
        self.change();
    }

    /// Notes the time, for what waits to be written.
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

    /// The next commit is to have what is to be written down.
    pub fn await_record(&mut self) {
        self.awaited = true;
        self.change();
    }

    /// The next record is to have the sink's route.
    pub fn route(&mut self, route: Arc<str>) {
        self.record.route = Some(route);
        self.await_record();
    }

    /// The next record is to have what was completed out of its turn as well.
    pub fn store_all(&mut self) {
        self.all = true;
    }

    /// What is to be written down. It is gone from here, but for what was
    /// completed out of its turn: unless `all` is to be taken, that stays, as it
    /// need never be written if what precedes it is completed soon.
    pub fn take(&mut self, all: bool) -> Option<SinkRecord> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.awaited = false;
        let mut record = std::mem::take(&mut self.record);
        self.record.sink = Arc::clone(&record.sink);
        record.done = self.done;
        if std::mem::take(&mut self.all) || all {
            record.done_beyond = self.beyond.changes();
            // The store drops what precedes by itself.
            let done = self.done;
            record.done_beyond.retain(|first, _| *first > done);
        }
        self.changed = self.beyond.has_changes();
        if !self.changed {
            self.waits_since = None;
        }
        Some(record)
    }

    /// What was taken could not be written down.
    pub fn put_back(&mut self, record: SinkRecord, now: Mono) {
        self.now = now;
        let firsts: Vec<u64> = record.done_beyond.into_keys().collect();
        self.beyond.not_stored(firsts);
        let newer = std::mem::take(&mut self.record);
        self.record = SinkRecord {
            sink: newer.sink,
            done: self.done,
            done_beyond: BTreeMap::new(),
            retries: record.retries,
            attempted: record.attempted,
            route: newer.route.or(record.route),
            settled: record.settled,
        };
        self.record.settled.extend(newer.settled);
        self.record.retries.extend(newer.retries);
        self.record.attempted.extend(newer.attempted);
        self.awaited = true;
        self.all = true;
        self.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_with_ahead_of_a_gap_is_joined_when_the_gap_is_passed_over() {
        // (the ranges ahead, the gap, what is done with then)
        for (ahead, (first, last), done) in [
            (vec![5], (1, 9), 9),
            (vec![5, 6, 9, 10], (1, 8), 10),
            (vec![5, 6, 7, 8], (1, 6), 8),
            (vec![3], (1, 1), 1),
        ] {
            let mut progress = Progress::new("sink", &SinkState::default());
            for position in &ahead {
                progress.complete(*position);
            }
            progress.pass(first, last);
            assert_eq!(progress.done(), done, "{ahead:?}");
            assert_eq!(progress.beyond.is_empty(), done > 1, "{ahead:?}");
        }
    }
}
