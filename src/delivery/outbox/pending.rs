//! What operators see of the pending events, and how they give one up.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::queue::Place;
use super::{Key, Outbox, SubjectQueue};
use crate::clock::Now;
use crate::model::DispatchId;
use crate::store::Tried;

/// The most events on one page of the list of pending events.
const PAGE: usize = 1000;

/// A pending event of one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    /// Its position: the next page begins behind the last one's.
    pub position: u64,
    /// The event's id.
    pub id: Arc<str>,
    /// Its type. Of a site's event, the command that is sent may be another one.
    pub event_type: Arc<str>,
    /// What it is about.
    pub subject: Arc<str>,
    /// When it happened, UTC.
    pub since: DateTime<Utc>,
    /// How many attempts failed in a row.
    pub attempts: u32,
    /// The attempts at it, if it is a site's command and one began.
    pub tried: Option<Tried>,
    /// Why the last attempt of its subject failed, if it did.
    pub last_reason: Option<Arc<str>>,
    /// When it is tried again, UTC; while the receiver is down, when the next event is,
    /// which may be another one. `None` while an attempt is under way, or if its turn
    /// comes as soon as there is room.
    pub next_attempt: Option<DateTime<Utc>>,
}

/// An event that the operator gave up at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The event's id.
    pub id: Arc<str>,
    /// Its type.
    pub event_type: Arc<str>,
    /// What it is about.
    pub subject: Arc<str>,
    /// Why its last attempt failed, if it did.
    pub last_reason: Option<Arc<str>>,
    /// The dispatches that it concerns.
    pub dispatches: Vec<DispatchId>,
}

impl Outbox {
    /// The pending events behind position `after`, oldest first: `limit` at most,
    /// and 1,000 at most. Of a long backlog only those show that are read from the
    /// store, which are the next ones; [`SinkHealth`](super::SinkHealth) has the
    /// number of all.
    pub fn pending(&self, after: u64, limit: usize, now: Now) -> Vec<PendingEvent> {
        self.window
            .held_after(after)
            .filter_map(|(position, held)| self.describe(position, &held.key, now))
            .take(limit.min(PAGE))
            .collect()
    }

    fn describe(&self, position: u64, key: &Key, now: Now) -> Option<PendingEvent> {
        let queue = self.queues.get(key)?;
        let event = queue.event(position)?;
        let is_next = queue
            .first()
            .is_some_and(|first| first.position == position);
        let next = match queue.place {
            Place::Paused if is_next => Some(queue.due),
            // One event at a time probes a receiver that is down.
            Place::Ready if is_next => self.reach.probes_at(),
            _ => None,
        };
        Some(PendingEvent {
            position,
            id: Arc::clone(&event.id),
            event_type: Arc::clone(&event.event_type),
            subject: Arc::clone(&event.subject),
            since: event.time,
            attempts: if is_next { queue.failures } else { 0 },
            tried: queue.tried(position),
            last_reason: queue.trouble_reason(),
            next_attempt: next.map(|at| now.wall + at.saturating_sub(now.mono)),
        })
    }

    /// Gives up the event with this id: it is not delivered at this sink any more.
    /// If it is a site's curtail, a later release is delivered all the same. Gives
    /// what was given up, and `None` if no such event is pending in memory.
    pub fn skip(&mut self, id: &str, now: Now) -> Option<Skipped> {
        let (position, key) = self.find(id)?;
        let queue = self.queues.get(&key)?;
        let event = queue.event(position)?;
        let skipped = Skipped {
            id: Arc::clone(&event.id),
            event_type: Arc::clone(&event.event_type),
            subject: Arc::clone(&event.subject),
            last_reason: queue.trouble_reason(),
            dispatches: event.dispatches(),
        };
        if queue.place == Place::UnderWay {
            self.abandon_attempt_of(&key);
        }
        let queue = self.queues.get_mut(&key)?;
        let mut settled = Vec::new();
        queue.skip(position, &mut settled);
        let attempted = queue.attempted();
        if queue.place == Place::Paused {
            self.paused.remove(&(queue.due, Key::clone(&key)));
            queue.place = Place::Idle;
        }
        self.settled(settled);
        if let Some(site) = SubjectQueue::site_of(&key) {
            self.progress.attempted(site, attempted);
        }
        self.complete(position);
        self.recovered(&key);
        self.watch_wait(&key, false, now);
        self.advance_health(now.mono);
        self.progress.await_record();
        self.go_on(&key);
        tracing::warn!(
            sink = &*self.name,
            subject = &*key,
            event = &*skipped.id,
            "the operator skipped an event: it is not delivered at this sink"
        );
        Some(skipped)
    }

    /// Whether an event with this id is pending in memory.
    pub fn has_pending(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &str) -> Option<(u64, Key)> {
        let mut held = self.window.held_after(0);
        let found = held.find(|(position, held)| {
            let event = self
                .queues
                .get(&held.key)
                .and_then(|queue| queue.event(*position));
            event.is_some_and(|event| &*event.id == id)
        });
        found.map(|(position, held)| (position, Key::clone(&held.key)))
    }
}
