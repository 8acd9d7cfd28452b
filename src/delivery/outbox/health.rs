//! Counts how deliveries to a sink stand, for operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use imbl::OrdMap;

use super::ended::remedy;
use super::{Key, Untold};
use crate::clock::{Mono, Now};
use crate::seldom::spoken;

/// How long a sink may deliver nothing while it fails before that is an error.
const FAILING_AFTER: Duration = Duration::from_secs(300);

/// After so many attempts in a row over so long, all of which the receiver
/// answered with 410, the sink counts as paused.
const PAUSED_AFTER: (u32, Duration) = (3, Duration::from_secs(60));

/// The most events that are named one by one.
pub(super) const NAMED: usize = 10;

/// How a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkCondition {
    /// No attempt fails.
    #[default]
    Ok,
    /// Some attempts fail, and are made again.
    Retrying,
    /// Attempts fail, and nothing has been delivered for five minutes; or the last
    /// look found that nothing can be delivered.
    Failing,
    /// The receiver goes on saying that it wants no more events (410).
    Paused,
}

impl SinkCondition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Retrying, Self::Failing, Self::Paused];

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retrying => "retrying",
            Self::Failing => "failing",
            Self::Paused => "paused",
        }
    }
}

/// An event that its receiver does not take, however often it is sent. It holds up
/// the later events of its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// The event's id.
    pub id: Arc<str>,
    /// What it is about.
    pub subject: Arc<str>,
    /// Its type.
    pub event_type: Arc<str>,
    /// Why the last attempt failed.
    pub reason: Arc<str>,
    /// When the first attempt failed, UTC.
    pub since: DateTime<Utc>,
}

/// How deliveries to one sink stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkHealth {
    /// The sink's name.
    pub name: Arc<str>,
    /// How many events are pending.
    pub pending: u64,
    /// When the oldest of them happened, UTC.
    pub oldest_pending: Option<DateTime<Utc>>,
    /// How many events were delivered since the start.
    pub delivered: u64,
    /// How many attempts delivered them since the start.
    pub delivered_attempts: u64,
    /// How many attempts failed since the start, for whatever reason.
    pub failed_attempts: u64,
    /// How many of them found no connection.
    pub unreachable_attempts: u64,
    /// How many of them were abandoned because they hung.
    pub abandoned_attempts: u64,
    /// How the sink is doing.
    pub condition: SinkCondition,
    /// Why the last attempt failed among the subjects that have not succeeded
    /// since. Holds no secret.
    pub last_error: Option<Arc<str>>,
    /// Why nothing can be delivered to any subject, if no connection can be made.
    pub unreachable: Option<Arc<str>>,
    /// How many subjects fail.
    pub failing_subjects: u64,
    /// The sites that wait for a command that was due, by id.
    pub untold: OrdMap<Arc<str>, Untold>,
    /// Events that the receiver does not take, at most ten.
    pub refused: Arc<[RefusedEvent]>,
}

/// Keeps the health of one sink.
#[derive(Debug)]
pub(super) struct HealthBook {
    pub health: SinkHealth,
    /// Why no connection can be made, while none can.
    down: Option<Arc<str>>,
    /// Why nothing could be delivered, at the last look.
    not_there: Option<Arc<str>>,
    /// The subjects that fail, the latest failure last, with the reasons.
    failing: BTreeMap<u64, (Key, Arc<str>)>,
    failures: u64,
    /// Since when nothing has been delivered although something failed.
    failing_since: Option<Mono>,
    /// Since when, and how often in a row, the receiver answered 410; when last.
    gone: Option<(Mono, u32, Mono)>,
    /// Refused events, by the key of their subject.
    refused: BTreeMap<Key, RefusedEvent>,
    said: Said,
}

/// What the log has said of the sink's condition.
#[derive(Debug, Default)]
struct Said {
    condition: SinkCondition,
    /// When each condition was last told, in the order of [`SinkCondition::ALL`].
    at: [Option<Mono>; 4],
    /// Since when the condition is another than `Ok`.
    since: Option<Mono>,
}

/// A change of the condition that is to be logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    condition: SinkCondition,
    /// How long the condition has been another than `Ok`.
    failed_for: Duration,
}

/// The shortest time between two lines about one condition of one sink.
const LINE_PAUSE: Duration = Duration::from_secs(60);

impl Said {
    /// Whether the log must say that the condition is `condition` at `now`: each one at
    /// most once a minute, and `Ok` only after another one was told.
    fn take(&mut self, condition: SinkCondition, now: Mono) -> Option<News> {
        let ok = condition == SinkCondition::Ok;
        let since = if ok {
            self.since.take().unwrap_or(now)
        } else {
            *self.since.get_or_insert(now)
        };
        let told = self.at.get_mut(condition as usize)?;
        let soon = told.is_some_and(|told| now.saturating_sub(told) < LINE_PAUSE);
        if condition == self.condition || (soon && !ok) {
            return None;
        }
        *told = Some(now);
        self.condition = condition;
        Some(News {
            condition,
            failed_for: now.saturating_sub(since),
        })
    }
}

impl HealthBook {
    pub fn new(name: &str) -> Self {
        Self {
            health: SinkHealth {
                name: name.into(),
                pending: 0,
                oldest_pending: None,
                delivered: 0,
                delivered_attempts: 0,
                failed_attempts: 0,
                unreachable_attempts: 0,
                abandoned_attempts: 0,
                condition: SinkCondition::Ok,
                last_error: None,
                unreachable: None,
                failing_subjects: 0,
                untold: OrdMap::new(),
                refused: Arc::default(),
            },
            down: None,
            not_there: None,
            failing: BTreeMap::new(),
            failures: 0,
            failing_since: None,
            gone: None,
            refused: BTreeMap::new(),
            said: Said::default(),
        }
    }

    /// An attempt delivered so many events.
    pub fn delivered(&mut self, events: usize) {
        self.health.delivered += events as u64;
        self.health.delivered_attempts += 1;
        self.not_there = None;
        self.failing_since = None;
        self.gone = None;
    }

    /// An attempt failed. `gone` says whether the receiver answered 410.
    pub fn failed(&mut self, gone: bool, now: Now) {
        self.health.failed_attempts += 1;
        self.failing_since.get_or_insert(now.mono);
        self.gone = gone.then(|| match self.gone {
            Some((since, times, _)) => (since, times.saturating_add(1), now.mono),
            None => (now.mono, 1, now.mono),
        });
    }

    /// An attempt found no connection. `down` says whether the receiver counts as
    /// down.
    pub fn unreachable(&mut self, reason: &str, down: bool, now: Now) {
        self.health.failed_attempts += 1;
        self.health.unreachable_attempts += 1;
        self.failing_since.get_or_insert(now.mono);
        self.gone = None;
        if down && self.down.as_deref() != Some(reason) {
            self.down = Some(reason.into());
        }
    }

    /// Somebody has looked whether the receiver is there.
    pub fn probed(&mut self, result: Result<(), String>) {
        self.not_there = result.err().map(Into::into);
    }

    /// The receiver can be reached again.
    pub fn reached(&mut self) {
        self.down = None;
    }

    /// A subject failed for this reason. `before` is what was given back for its
    /// failure before. Gives what to give back with the next one.
    pub fn subject_failed(&mut self, before: Option<u64>, key: &Key, reason: &Arc<str>) -> u64 {
        if let Some(before) = before {
            self.failing.remove(&before);
        }
        self.failures += 1;
        let failure = (Key::clone(key), Arc::clone(reason));
        self.failing.insert(self.failures, failure);
        self.failures
    }

    /// A subject fails no more.
    pub fn subject_recovered(&mut self, order: u64, key: &Key) {
        self.failing.remove(&order);
        if self.refused.remove(key).is_some() {
            self.list_refused();
        }
    }

    /// Names an event as refused. Tells whether it was not named yet, and is now.
    pub fn refuse(&mut self, key: &Key, event: RefusedEvent) -> bool {
        let known = self.refused.contains_key(key);
        if !known && self.refused.len() >= NAMED {
            return false;
        }
        let fresh = self.refused.insert(Key::clone(key), event.clone());
        self.list_refused();
        fresh.is_none_or(|before| before.id != event.id)
    }

    fn list_refused(&mut self) {
        self.health.refused = self.refused.values().cloned().collect();
    }

    /// Why attempts fail now.
    pub fn last_error(&self) -> Option<Arc<str>> {
        let subject = self.failing.last_key_value();
        let subject = subject.map(|(_, (_, reason))| reason);
        let why = self.down.as_ref().or(subject);
        why.or(self.not_there.as_ref()).cloned()
    }

    /// Why nothing can be delivered to any subject.
    pub fn why_unreachable(&self) -> Option<&Arc<str>> {
        self.down.as_ref().or(self.not_there.as_ref())
    }

    /// The latest failure, for the log: the subject, unless all fail.
    pub fn latest(&self) -> (&str, &str) {
        let latest = self.failing.last_key_value();
        let (subject, reason) = latest.map_or(("", ""), |(_, (key, reason))| (&**key, &**reason));
        match (&self.down, &self.not_there) {
            (Some(reason), _) => ("all", reason),
            (None, Some(reason)) if self.failing.is_empty() => ("all", reason),
            _ => (subject, reason),
        }
    }

    /// Brings the condition up to date. Gives what is to be logged about it.
    pub fn advance(&mut self, now: Mono) -> Option<News> {
        let fails = self.down.is_some() || !self.failing.is_empty();
        let lasts = |since: Option<Mono>, long| {
            since.is_some_and(|since| now.saturating_sub(since) >= long)
        };
        let (times, long) = PAUSED_AFTER;
        let paused = self
            .gone
            .is_some_and(|(since, gone, last)| gone >= times && last.saturating_sub(since) >= long);
        let condition = if paused {
            SinkCondition::Paused
        } else if (fails && lasts(self.failing_since, FAILING_AFTER)) || self.not_there.is_some() {
            SinkCondition::Failing
        } else if fails {
            SinkCondition::Retrying
        } else {
            SinkCondition::Ok
        };
        self.health.failing_subjects = self.failing.len() as u64;
        let last_error = self.last_error();
        if self.health.last_error != last_error {
            self.health.last_error = last_error;
        }
        let unreachable = self.why_unreachable();
        if self.health.unreachable.as_ref() != unreachable {
            self.health.unreachable = unreachable.cloned();
        }
        self.health.condition = condition;
        self.said.take(condition, now)
    }

    /// Logs a change of the condition. The next attempt comes after `next_try`.
    pub fn log(&self, news: News, next_try: Option<Duration>) {
        let sink = &*self.health.name;
        let (subject, reason) = self.latest();
        let next_try = next_try.map(|after| format!("in {}", spoken(after)));
        let next_try = next_try.map(tracing::field::display);
        match news.condition {
            SinkCondition::Ok => tracing::info!(
                sink,
                failed_for = %spoken(news.failed_for),
                "no event fails at the sink any more"
            ),
            SinkCondition::Retrying => tracing::warn!(
                sink,
                subject,
                reason,
                next_try,
                "an event could not be delivered; dispatchd tries again{}",
                remedy(reason)
            ),
            SinkCondition::Failing => tracing::error!(
                sink,
                subject,
                reason,
                next_try,
                "nothing can be delivered; dispatchd goes on trying{}",
                remedy(reason)
            ),
            SinkCondition::Paused => tracing::error!(
                sink,
                subject,
                reason,
                next_try,
                "the receiver says that it wants no more events; dispatchd goes on trying"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
