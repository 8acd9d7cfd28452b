//! What is kept of a dispatch to prove afterwards how it was carried out: what the API
//! said, which commands followed, and how they were delivered.
//!
//! It is bounded: of a dispatch that keeps changing, the first and the last
//! [`KEPT`] lines of each kind stay, and of bodies [`BODIES`] bytes at each end.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{DispatchId, SiteId};

/// How many lines of a kind are kept from the beginning, and as many from the end: of
/// states those of a dispatch, of commands those of each of its sites.
pub(super) const KEPT: u64 = 500;

/// How many bytes of bodies are kept from the beginning, and as many from the end. The
/// first and the last line are kept in any case.
pub(super) const BODIES: u64 = 16 << 20;

/// The longest reason of a failed attempt that is kept, in characters.
const REASON: usize = 200;

/// By which way the API said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A look-up because of a webhook.
    Webhook,
    /// A list that the poller asked for.
    List,
    /// A look-up because the schedule and the API seemed to differ.
    Check,
}

impl Way {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::List => "list",
            Self::Check => "check",
        }
    }
}

/// A state of a dispatch that the API told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLine {
    /// Which one, counted from 1.
    pub number: u64,
    /// By which way.
    pub way: Way,
    /// When the request was issued, UTC.
    pub asked: DateTime<Utc>,
    /// When its answer arrived, UTC.
    pub answered: DateTime<Utc>,
    /// When the API last said the same, UTC. As far as it is written down: of the newest
    /// state the schedule knows better.
    pub last_seen: DateTime<Utc>,
    /// How long the body is, in bytes.
    pub bytes: u64,
    /// The dispatch as JSON. `None` if the API does not know it any more.
    pub body: Option<Arc<str>>,
}

/// A state to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewState {
    /// Of which dispatch.
    pub dispatch: DispatchId,
    /// When the API last confirmed the state before, UTC.
    pub before_seen: Option<DateTime<Utc>>,
    /// By which way.
    pub way: Way,
    /// When the request was issued, UTC.
    pub asked: DateTime<Utc>,
    /// When its answer arrived, UTC.
    pub answered: DateTime<Utc>,
    /// The dispatch as JSON. `None` if the API does not know it any more.
    pub body: Option<Arc<str>>,
}

impl NewState {
    /// How long the body is, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.len() as u64)
    }
}

/// A command to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The site.
    pub site: SiteId,
    /// The position of its event.
    pub position: u64,
    /// Which command to this site it is, counted from 1.
    pub number: u64,
    /// The type of its event.
    pub command: Arc<str>,
    /// When it had to be given by the schedule, UTC.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that, UTC; `due` if it was known before.
    pub known: DateTime<Utc>,
}

/// A command to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// For the records of these dispatches.
    pub dispatches: Vec<DispatchId>,
    /// The site.
    pub site: SiteId,
    /// The position of its event.
    pub position: u64,
    /// The type of its event.
    pub command: &'static str,
    /// When it had to be given by the schedule, UTC.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that, UTC; `due` if it was known before.
    pub known: DateTime<Utc>,
}

/// How a command was delivered to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLine {
    /// The site.
    pub site: SiteId,
    /// The position of the command's event.
    pub position: u64,
    /// The sink's name.
    pub sink: Arc<str>,
    /// What was sent. It is another command than the event's where the sink had missed
    /// one before.
    pub command: Arc<str>,
    /// When the first attempt began, UTC.
    pub first_attempt: DateTime<Utc>,
    /// When the last attempt began, UTC.
    pub last_attempt: DateTime<Utc>,
    /// How many attempts were made.
    pub attempts: u64,
    /// When the sink acknowledged it, UTC.
    pub acknowledged: Option<DateTime<Utc>>,
    /// Why the last attempt that failed did.
    pub last_error: Option<Arc<str>>,
}

/// What is new about the attempts to deliver one command to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// The site.
    pub site: Arc<str>,
    /// What was sent, and when attempts began: the first one and the last one, UTC.
    /// `None` if no attempt began.
    pub begun: Option<(Arc<str>, DateTime<Utc>, DateTime<Utc>)>,
    /// How many attempts began.
    pub attempts: u64,
    /// When it was acknowledged, UTC.
    pub acknowledged: Option<DateTime<Utc>>,
    /// Why the last attempt that failed did.
    pub last_error: Option<Arc<str>>,
}

impl Attempts {
    /// Nothing new yet about a command to `site`.
    pub fn of(site: &str) -> Self {
        Self {
            site: site.into(),
            begun: None,
            attempts: 0,
            acknowledged: None,
            last_error: None,
        }
    }

    /// An attempt to send `command` to `site` began.
    pub fn begun(site: &Arc<str>, command: &Arc<str>, at: DateTime<Utc>) -> Self {
        Self {
            site: Arc::clone(site),
            begun: Some((Arc::clone(command), at, at)),
            attempts: 1,
            acknowledged: None,
            last_error: None,
        }
    }

    /// An attempt ended: acknowledged, or failed for this reason.
    pub fn end(&mut self, result: Result<(), &Arc<str>>, at: DateTime<Utc>) {
        match result {
            Ok(()) => self.acknowledged = self.acknowledged.or(Some(at)),
            Err(reason) if reason.chars().nth(REASON).is_none() => {
                self.last_error = Some(Arc::clone(reason));
            }
            Err(reason) => {
                let short: String = reason.chars().take(REASON).collect();
                self.last_error = Some(short.into());
            }
        }
    }

    /// Takes in what is newer.
    pub fn add(&mut self, newer: Self) {
        self.begun = match (self.begun.take(), newer.begun) {
            (Some((_, first, _)), Some((command, _, last))) => Some((command, first, last)),
            (one, other) => other.or(one),
        };
        self.attempts = self.attempts.saturating_add(newer.attempts);
        self.acknowledged = self.acknowledged.or(newer.acknowledged);
        self.last_error = newer.last_error.or(self.last_error.take());
    }
}

/// All that is kept of one dispatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatchRecord {
    /// What the API said, oldest first. Numbers that are missing were left out.
    pub states: Vec<StateLine>,
    /// The commands, by site, oldest first. Numbers that are missing were left out.
    pub commands: Vec<CommandLine>,
    /// How they were delivered, by site and position.
    pub deliveries: Vec<DeliveryLine>,
    /// The sinks that are known, with the routes that they were last commanded by.
    pub sinks: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// Which of these lines are left out, given the number and the bytes of each, oldest
/// first: those that are neither among the first nor among the last.
pub(super) fn left_out(lines: &[(u64, u64)]) -> Vec<u64> {
    let (Some((first, _)), Some((last, _))) = (lines.first(), lines.last()) else {
        return Vec::new();
    };
    let end = last.saturating_add(1);
    let kept = |near: &dyn Fn(u64) -> u64, lines: &mut dyn Iterator<Item = &(u64, u64)>| {
        let mut bytes = 0_u64;
        let mut kept = Vec::new();
        for (number, length) in lines {
            bytes = bytes.saturating_add(*length);
            let fits = near(*number) <= KEPT && (bytes <= BODIES || kept.is_empty());
            if !fits {
                break;
            }
            kept.push(*number);
        }
        kept
    };
    let first = *first;
    let early = kept(&|number| number - first + 1, &mut lines.iter());
    let late = kept(&|number| end - number, &mut lines.iter().rev());
    let numbers = lines.iter().map(|(number, _)| *number);
    numbers
        .filter(|number| !early.contains(number) && !late.contains(number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_lines_stay() {
        let mut lines: Vec<(u64, u64)> = Vec::new();
        for number in 1..=2_345 {
            lines.push((number, 10));
            let out = left_out(&lines);
            lines.retain(|(number, _)| !out.contains(number));
        }
        let numbers: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
        let expected: Vec<u64> = (1..=500).chain(1_846..=2_345).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn long_bodies_are_bounded_in_bytes_and_the_first_and_the_last_stay() {
        let mut lines: Vec<(u64, u64)> = Vec::new();
        for number in 1..=100 {
            lines.push((number, 5 << 20));
            let out = left_out(&lines);
            lines.retain(|(number, _)| !out.contains(number));
        }
        let numbers: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 98, 99, 100]);
        let huge = [(1, 100 << 20), (2, 100 << 20), (3, 100 << 20)];
        assert_eq!(left_out(&huge), [2]);
    }
}
