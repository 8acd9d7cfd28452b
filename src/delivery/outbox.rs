//! What one sink is still to get, and what may go next. Pure.
//!
//! Events of one subject form a *lane*: they go in order, one attempt at a
//! time, and a lane that fails holds up no other. `dispatch.*` and `sync.*`
//! events are all delivered. Site commands are level-triggered: a site's lane
//! holds its newest state alone, and what is sent is the difference to what was
//! last attempted at this sink (see [`command`]).
//!
//! A site command is written down as attempted before it is attempted, so that
//! a crash in between cannot leave a site curtailed that nobody would release.

mod command;
mod health;
mod lane;
mod ledger;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Attempt;
use crate::clock::{Mono, Now};
use crate::model::Event;
use crate::retry::{RETRY_AFTER_MAX, backoff};
use crate::store::{Retry, SinkRecord, SinkState};

pub use health::SinkHealth;
use lane::{Lane, Next};
use ledger::Ledger;

/// How many attempts are under way at once in one sink.
const AT_ONCE: usize = 8;

/// The first pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, unless the receiver asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long what has been delivered waits to be written down. After a crash it
/// is delivered again.
const WRITE_WITHIN: Duration = Duration::from_millis(250);

type Key = Arc<str>;

/// An attempt to be made.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its number, to be given back with what came of it.
    pub attempt: u64,
    /// What to deliver.
    pub events: Vec<Event>,
}

/// What one sink is still to get.
#[derive(Debug)]
pub struct Outbox {
    name: Key,
    batch: usize,
    lanes: HashMap<Key, Lane>,
    /// Lanes that may go, the longest waiting first.
    ready: VecDeque<Key>,
    /// Lanes that failed, by when they may go again.
    waiting: BTreeSet<(Mono, Key)>,
    /// Lanes whose next command waits to be written down, and those whose
    /// command is being written.
    to_arm: Vec<Key>,
    arming: Vec<Key>,
    under_way: BTreeMap<u64, Vec<Key>>,
    attempts: u64,
    ledger: Ledger,
    health: SinkHealth,
}

impl Outbox {
    /// An outbox for the sink `name`, which takes up to `batch` events at once,
    /// as `state` left it. A sink that is new gets no dispatch events from
    /// before `position`.
    pub fn new(
        name: &str,
        batch: usize,
        state: Option<SinkState>,
        position: u64,
        now: Now,
    ) -> Self {
        let state = state.unwrap_or(SinkState {
            settled: position,
            ..SinkState::default()
        });
        let lanes = state
            .told
            .iter()
            .map(|(site, told)| (Lane::key_of_site(site), Lane::told(*told)))
            .collect();
        let mut outbox = Self {
            name: name.into(),
            batch: batch.max(1),
            lanes,
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            to_arm: Vec::new(),
            arming: Vec::new(),
            under_way: BTreeMap::new(),
            attempts: 0,
            ledger: Ledger::new(name, state.settled, &state.settled_beyond),
            health: SinkHealth::new(name),
        };
        for (key, retry) in state.retries {
            let lane = outbox.lanes.entry(Arc::clone(&key)).or_default();
            lane.failures = retry.attempts;
            lane.wait();
            // However the clock was set meanwhile, no lane waits for long.
            let pause = (retry.at - now.wall).to_std().unwrap_or_default();
            let at = now.mono + pause.min(RETRY_AFTER_MAX);
            outbox.waiting.insert((at, key));
        }
        outbox
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything up to this position was settled when the outbox was made, or
    /// has been since.
    pub fn settled(&self) -> u64 {
        self.ledger.settled()
    }

    /// Takes in events that are on disk, oldest first.
    pub fn offer<'e>(&mut self, events: impl IntoIterator<Item = &'e Event>) {
        for event in events {
            if !self.ledger.open(event) {
                continue;
            }
            let key = event.lane();
            let lane = self.lanes.entry(Arc::clone(&key)).or_default();
            for superseded in lane.push(event.clone()) {
                self.ledger.settle(superseded);
            }
            if lane.line_up() {
                self.ready.push_back(key);
            }
        }
    }

    /// Takes in the newest event of a site, whether or not it was settled: a
    /// sink that is new, or came back, is told where its sites stand.
    pub fn offer_site(&mut self, event: &Event) {
        let lane = self.lanes.get(&event.lane());
        if lane.is_some_and(|lane| lane.has_confirmed(event)) {
            return;
        }
        self.ledger.reopen(event);
        self.offer([event]);
    }

    /// The attempts that may start now.
    pub fn start(&mut self, now: Now) -> Vec<Start> {
        while let Some((at, key)) = self.waiting.first().cloned()
            && at <= now.mono
        {
            self.waiting.remove(&(at, Arc::clone(&key)));
            self.release(&key);
        }
        let mut starts = Vec::new();
        while self.under_way.len() < AT_ONCE {
            let (keys, events) = self.gather();
            if events.is_empty() {
                break;
            }
            self.attempts += 1;
            self.under_way.insert(self.attempts, keys);
            starts.push(Start {
                attempt: self.attempts,
                events,
            });
        }
        starts
    }

    /// Events that may go together: of each lane the next one.
    fn gather(&mut self) -> (Vec<Key>, Vec<Event>) {
        let mut keys = Vec::new();
        let mut events = Vec::new();
        let mut most = self.batch;
        while events.len() < most
            && let Some(key) = self.ready.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            // A batch that fails comes again in halves, so that what is wrong
            // with one event ends up alone.
            let alone = self.batch >> lane.failures.min(16);
            if events.len() >= alone.max(1) {
                self.ready.push_front(key);
                break;
            }
            match lane.next() {
                Next::Send(event) => {
                    most = most.min(alone.max(1));
                    lane.set_out();
                    keys.push(key);
                    events.push(event);
                }
                Next::WriteDownFirst => {
                    lane.wait_for_disk();
                    self.to_arm.push(key);
                }
                Next::Nothing {
                    superseded,
                    taken_back,
                } => {
                    for position in superseded {
                        self.ledger.settle(position);
                    }
                    if let Some(site) = Lane::site_of(&key).filter(|_| taken_back) {
                        self.ledger.told(site, lane.told_now());
                    }
                    lane.rest();
                    self.tidy(&key);
                }
            }
        }
        (keys, events)
    }

    /// An attempt has ended.
    pub fn ended(&mut self, attempt: u64, result: &Attempt, now: Now, random: f64) {
        let Some(keys) = self.under_way.remove(&attempt) else {
            return;
        };
        match result {
            Attempt::Delivered => self.health.succeeded(keys.len()),
            Attempt::Failed { reason, .. } => self.health.failed(now, reason),
            Attempt::Unreachable { reason } => self.health.failed(now, reason),
        }
        for key in keys {
            match result {
                Attempt::Delivered => self.delivered(&key),
                Attempt::Failed { retry_after, .. } => {
                    self.failed(&key, *retry_after, now, random);
                }
                Attempt::Unreachable { .. } => self.failed(&key, None, now, random),
            }
        }
    }

    fn delivered(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        for position in lane.delivered() {
            self.ledger.settle(position);
        }
        if std::mem::take(&mut lane.failures) > 0 {
            self.ledger.retry(key, None);
        }
        if let Some(site) = Lane::site_of(key) {
            self.ledger.told(site, lane.told_now());
        }
        self.release(key);
        self.tidy(key);
    }

    fn failed(&mut self, key: &Key, retry_after: Option<Duration>, now: Now, random: f64) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        for position in lane.failed() {
            self.ledger.settle(position);
        }
        let pause = backoff(lane.failures, random, FIRST_PAUSE, LONGEST_PAUSE)
            .max(retry_after.unwrap_or_default());
        lane.wait();
        self.waiting.insert((now.mono + pause, Arc::clone(key)));
        let retry = Retry {
            attempts: lane.failures,
            at: now.wall + pause,
        };
        self.ledger.retry(key, Some(retry));
    }

    /// Lets a lane that was held somewhere go on.
    fn release(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.rest();
            if lane.line_up() {
                self.ready.push_back(Arc::clone(key));
            }
        }
    }

    /// Forgets a lane that holds nothing worth remembering.
    fn tidy(&mut self, key: &Key) {
        if self.lanes.get(key).is_some_and(Lane::is_blank) {
            self.lanes.remove(key);
        }
    }

    /// Whether something must be written down before deliveries go on, or has
    /// waited long enough.
    pub fn must_write(&self, now: Mono) -> bool {
        !self.to_arm.is_empty() || self.is_overdue(now)
    }

    fn is_overdue(&self, now: Mono) -> bool {
        let since = self.ledger.waits_since();
        since.is_some_and(|at| at + WRITE_WITHIN <= now)
    }

    /// Whether something is not written down yet.
    pub fn has_news(&self) -> bool {
        self.ledger.waits_since().is_some()
    }

    /// Whether nothing is under way, and all that was done is written down.
    pub fn is_at_rest(&self) -> bool {
        self.under_way.is_empty() && !self.has_news()
    }

    /// What must be written down at `now`, for the commit that is being made: the
    /// less often, the less the many commits under load have to carry. `all` is
    /// taken before an end.
    pub fn take_record(&mut self, now: Mono, all: bool) -> Option<SinkRecord> {
        let all = all || self.ledger.is_awaited() || self.is_overdue(now);
        if self.to_arm.is_empty() && !all {
            return None;
        }
        self.arming = std::mem::take(&mut self.to_arm);
        for key in &self.arming {
            if let (Some(lane), Some(site)) = (self.lanes.get_mut(key), Lane::site_of(key)) {
                self.ledger.told(site, lane.arm());
            }
        }
        self.ledger.take(all)
    }

    /// What was taken is on disk: the commands in it may go.
    pub fn recorded(&mut self) {
        for key in std::mem::take(&mut self.arming) {
            self.release(&key);
        }
    }

    /// What was taken is not on disk.
    pub fn not_recorded(&mut self, record: Option<SinkRecord>, now: Mono) {
        if let Some(record) = record {
            self.ledger.put_back(record, now);
        }
        for key in std::mem::take(&mut self.arming) {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.disarm();
                self.to_arm.push(key);
            }
        }
    }

    /// When a lane that failed may go again.
    pub fn next_due(&self) -> Option<Mono> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// When something must be written down.
    pub fn write_due(&self) -> Option<Mono> {
        if self.to_arm.is_empty() {
            self.ledger.waits_since().map(|at| at + WRITE_WITHIN)
        } else {
            Some(Mono::ZERO)
        }
    }

    /// Notes what time it is, for what waits to be written.
    pub fn advance(&mut self, now: Now) {
        self.ledger.advance(now.mono);
        self.health.advance(now);
    }

    /// How deliveries to the sink stand.
    pub fn health(&self) -> SinkHealth {
        let (pending, oldest_pending): (u64, Option<DateTime<Utc>>) = self.ledger.pending();
        SinkHealth {
            pending,
            oldest_pending,
            ..self.health.clone()
        }
    }
}

#[cfg(test)]
mod tests;
