//! Decides what is written down of deliveries, and when.

use std::time::Duration;

use super::Outbox;
use super::queue::SubjectQueue;
use crate::clock::Mono;
use crate::store::SinkRecord;

/// How long what has been delivered waits to be written down. After a crash it
/// is delivered again.
pub(super) const WRITE_WITHIN: Duration = Duration::from_millis(250);

impl Outbox {
    /// Whether something must be written down before deliveries go on, or has
    /// waited long enough.
    pub fn must_write(&self, now: Mono) -> bool {
        let awaited = self.progress.is_awaited() && self.has_news();
        !self.to_record.is_empty() || awaited || self.is_overdue(now)
    }

    fn is_overdue(&self, now: Mono) -> bool {
        let since = self.progress.waits_since();
        since.is_some_and(|at| at + WRITE_WITHIN <= now)
    }

    /// Whether something is not written down yet.
    pub fn has_news(&self) -> bool {
        self.progress.waits_since().is_some()
    }

    /// What must be written down at `now`, for the commit that is being made: the
    /// less often, the less the many commits under load have to carry. `all` is
    /// taken before an end.
    pub fn take_record(&mut self, now: Mono, all: bool) -> Option<SinkRecord> {
        let all = all || self.progress.is_awaited() || self.is_overdue(now);
        if self.to_record.is_empty() && !all {
            return None;
        }
        self.recording = std::mem::take(&mut self.to_record);
        for key in &self.recording {
            if let Some(queue) = self.queues.get_mut(key)
                && let Some(site) = SubjectQueue::site_of(key)
            {
                self.progress.attempted(site, queue.record());
            }
        }
        self.progress.take(all)
    }

    /// What was taken is on disk: the commands in it may go.
    pub fn recorded(&mut self) {
        for key in std::mem::take(&mut self.recording).into_iter().rev() {
            self.line_up_first(&key);
            self.tidy(&key);
        }
    }

    /// What was taken is not on disk.
    pub fn not_recorded(&mut self, record: Option<SinkRecord>, now: Mono) {
        if let Some(record) = record {
            self.progress.put_back(record, now);
        }
        for key in std::mem::take(&mut self.recording) {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.undo_record();
                self.to_record.push(key);
            }
        }
    }

    /// When something must be written down.
    pub fn write_due(&self) -> Option<Mono> {
        if self.to_record.is_empty() {
            self.progress.waits_since().map(|at| at + WRITE_WITHIN)
        } else {
            Some(Mono::ZERO)
        }
    }
}
