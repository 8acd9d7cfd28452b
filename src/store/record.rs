//! What is kept of a dispatch to prove afterwards how it was carried out: the states
//! that the API told, and how the commands that followed were delivered.
//!
//! It is cheap. The newest state lies with the dispatch itself, and is copied from
//! there when another one replaces it. A command leaves one line for each sink, once its
//! delivery there has come to an end.
//!
//! It is bounded. Of a dispatch that keeps changing, the first and the last [`KEPT`]
//! states stay, and of their bodies [`BODIES`] bytes at each end; of commands the first
//! and the last [`KEPT`] of each site at each sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Attempted, Batch, Retry};
use crate::model::{CancelReason, DispatchId, Entry, Event, SiteId};

/// How many lines of a kind are kept from the beginning, and as many from the end.
pub(super) const KEPT: u64 = 500;

/// How many bytes of bodies are kept from the beginning, and as many from the end. The
/// first and the last line are kept in any case.
pub(super) const BODIES: u64 = 16 << 20;

/// After so many states the commands of a dispatch are counted, and those in the middle
/// deleted: a dispatch causes hardly more commands for one site than it has states.
const COUNT_EVERY: u64 = 100;

/// The longest reason of a failed attempt that is kept, in characters.
const REASON: usize = 200;

/// By which way the API told something.
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

/// The answer of the API that told a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// By which way.
    pub way: Way,
    /// When the request was issued, UTC.
    pub asked: DateTime<Utc>,
    /// When its answer arrived, UTC.
    pub answered: DateTime<Utc>,
}

/// What the API told of a dispatch, where that led to a change.
#[derive(Debug, Clone)]
pub struct NewState {
    /// The entry with it.
    pub entry: Arc<Entry>,
    /// The answer that told it.
    pub told: Told,
    /// Whether the dispatch is other than before. If it is not, the state is new only
    /// where the API did not know the dispatch before.
    pub changed: bool,
}

impl NewState {
    /// Whether the API does not know the dispatch any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.entry.cancel_reason == Some(CancelReason::Withdrawn)
    }

    /// Whether it is another state than `before`, in any case.
    pub(super) fn is_another(&self) -> bool {
        self.changed || self.is_withdrawn()
    }

    /// Whether the API told something else by it than by `before`.
    pub(super) fn differs_from(&self, before: &Self) -> bool {
        self.is_withdrawn() != before.is_withdrawn() || self.entry.dispatch != before.entry.dispatch
    }

    /// The dispatch as JSON. `None` if the API does not know it any more.
    pub(super) fn body(&self) -> Option<String> {
        let dispatch = (!self.is_withdrawn()).then_some(&self.entry.dispatch)?;
        serde_json::to_string(dispatch).ok()
    }
}

/// The new states of a batch, by dispatch.
#[derive(Debug)]
pub(super) struct NewStates<'b> {
    /// In order of ids, and of one dispatch as they came.
    states: Vec<&'b NewState>,
    /// Behind those that were asked for last.
    next: usize,
}

impl<'b> NewStates<'b> {
    pub fn of(batch: &'b Batch) -> Self {
        let mut states: Vec<&NewState> = batch.states.iter().collect();
        states.sort_by(|one, other| one.entry.id().cmp(other.entry.id()));
        Self { states, next: 0 }
    }

    /// The states of the dispatch with this id. Cheapest if ids are asked for in order.
    pub fn take(&mut self, id: &DispatchId) -> &[&'b NewState] {
        let is_of = |state: &&NewState| state.entry.id() == id;
        let begin = match self.states.get(self.next) {
            Some(state) if is_of(state) => self.next,
            _ => self.states.partition_point(|state| state.entry.id() < id),
        };
        let behind = self.states.get(begin..).unwrap_or_default();
        let count = behind.iter().take_while(|state| is_of(state)).count();
        self.next = begin + count;
        behind.get(..count).unwrap_or_default()
    }
}

/// A state of a dispatch that the API told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLine {
    /// Which one, counted from 1.
    pub number: u64,
    /// The answer that told it. `None` if that was not kept yet when it came.
    pub told: Option<Told>,
    /// How long the body is, in bytes.
    pub bytes: u64,
    /// The dispatch as JSON. `None` if the API does not know it any more.
    pub body: Option<Arc<str>>,
}

/// The attempts to deliver a command to one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// When the first one began, UTC.
    pub first: DateTime<Utc>,
    /// When the last one began, UTC.
    pub last: DateTime<Utc>,
    /// How many began.
    pub count: u64,
}

/// How the delivery of a command to a sink ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The receiver acknowledged it, UTC.
    Acknowledged(DateTime<Utc>),
    /// A newer command of the site goes instead.
    Superseded,
    /// An operator gave it up.
    Skipped,
}

impl DeliveryEnd {
    /// When the receiver acknowledged the command, UTC, if it did.
    pub fn acknowledged(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Acknowledged(at) => Some(at),
            Self::Superseded | Self::Skipped => None,
        }
    }
}

/// A command whose delivery to one sink has come to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledCommand {
    /// The dispatch that caused it.
    pub cause: DispatchId,
    /// The position of its event.
    pub position: u64,
    /// The site.
    pub site: Arc<str>,
    /// What was sent. It is another command than the event's where the sink had missed
    /// one before. If nothing was sent, the event's.
    pub command: Arc<str>,
    /// When it had to be given by the schedule, UTC.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that, UTC; `due` if it was known before.
    pub known: DateTime<Utc>,
    /// The attempts. `None` if none began.
    pub tried: Option<Tried>,
    /// How it ended.
    pub end: DeliveryEnd,
    /// Why the last attempt that failed did.
    pub last_error: Option<Arc<str>>,
}

impl SettledCommand {
    /// Why the last attempt that failed did, as it is kept.
    pub(super) fn short_error(&self) -> Option<&str> {
        let reason = self.last_error.as_deref()?;
        let end = reason.char_indices().nth(REASON).map(|(end, _)| end);
        end.map_or(Some(reason), |end| reason.get(..end))
    }
}

/// A line about a command at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The command, and how its delivery ended.
    pub settled: SettledCommand,
    /// When the receiver acknowledged a later command to the same effect, UTC. Only of
    /// one that was not acknowledged itself.
    pub made_up: Option<DateTime<Utc>>,
}

/// Where a sink stands with the sites of one dispatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkLine {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The route that its sites were last commanded by.
    pub route: Option<Arc<str>>,
    /// What was last attempted, by site.
    pub attempted: BTreeMap<SiteId, Attempted>,
    /// The pauses of sites whose attempts failed.
    pub retries: BTreeMap<SiteId, Retry>,
}

/// All that is kept of one dispatch.
#[derive(Debug, Clone, Default)]
pub struct DispatchRecord {
    /// What the API told, oldest first, with the newest. Numbers that are missing were
    /// left out.
    pub states: Vec<StateLine>,
    /// The commands whose delivery has come to an end, by position and sink.
    pub commands: Vec<CommandLine>,
    /// How many lines about commands in the middle were left out.
    pub commands_left_out: u64,
    /// The newest commands of its sites, where the dispatch caused them: they may be
    /// pending.
    pub newest: Vec<Event>,
    /// The sinks that are known.
    pub sinks: Vec<SinkLine>,
}

/// Whether the commands of a dispatch are to be counted, now that it has so many states.
pub(super) fn is_to_count(states: u64) -> bool {
    states > KEPT && states.is_multiple_of(COUNT_EVERY)
}

/// Which of these states are left out, given the number and the bytes of each, oldest
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
