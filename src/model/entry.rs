//! An entry: one dispatch in the schedule.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::time::Written;
use super::{Asked, CancelReason, Dispatch, DispatchId, Inquiry};

/// Where a dispatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It will start.
    Scheduled,
    /// It has started and not ended.
    Active,
    /// Its end has passed.
    Ended,
    /// It is called off.
    Cancelled,
}

impl Phase {
    /// All of them, in the order in which a dispatch goes through them.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Active, Self::Ended, Self::Cancelled];

    /// Whether nothing more is due for it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Cancelled)
    }

    /// The name used in JSON, logs and filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What brought a change. It is recorded and never decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A webhook, and the fetch that it caused.
    Webhook,
    /// The poller, or a look-up that a poll asked for.
    Poll,
    /// A start or an end that came due.
    Timer,
    /// An operator: in histories and at sites only, it changes no dispatch.
    Operator,
}

impl Source {
    /// The name used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Timer => "timer",
            Self::Operator => "operator",
        }
    }
}

/// A dispatch in the schedule, with what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What the API said last.
    pub dispatch: Arc<Dispatch>,
    /// Where it stands.
    pub phase: Phase,
    /// Why it is cancelled. `None` in every other phase.
    pub cancel_reason: Option<CancelReason>,
    /// Its start has been seen to pass. A clock that falls back undoes no start.
    pub started: bool,
    /// Its end has been seen to pass. A clock that falls back undoes no end.
    pub ended: bool,
    /// When it was first seen, UTC.
    pub first_seen: DateTime<Utc>,
    /// When anything in it last changed, UTC.
    pub last_changed: DateTime<Utc>,
    /// When the API last confirmed it, UTC.
    pub last_confirmed: DateTime<Utc>,
    /// Since when nothing more is due for it, UTC. `None` while it is not over.
    pub over_since: Option<DateTime<Utc>>,
    /// What brought it first.
    pub discovered_by: Source,
    /// What brought the last change.
    pub last_changed_by: Source,
    /// The newest request whose answer was taken or confirmed it (rule R2).
    pub asked: Asked,
    /// What was found out about it that is not stored.
    pub inquiry: Inquiry,
}

impl Entry {
    /// The dispatch's id.
    pub fn id(&self) -> &DispatchId {
        &self.dispatch.id
    }

    /// When it next changes by itself, UTC: its start or its end.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        match self.phase {
            Phase::Scheduled => Some(self.dispatch.start_time),
            Phase::Active => self.dispatch.end_time,
            Phase::Ended | Phase::Cancelled => None,
        }
    }

    /// The newest request whose answer showed it.
    pub fn last_shown(&self) -> Asked {
        self.asked.max(self.inquiry.shown)
    }

    /// Whether it calls for curtailment at `time` as far as is known now.
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        self.phase != Phase::Cancelled
            && self.dispatch.start_time <= time
            && self.dispatch.end_time.is_none_or(|end| time < end)
    }

    /// Writes the entry's fields into a map that may get more.
    pub(crate) fn write_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let dispatch = &self.dispatch;
        map.serialize_entry("id", &dispatch.id)?;
        map.serialize_entry("phase", &self.phase)?;
        map.serialize_entry("authorized", &dispatch.authorized)?;
        map.serialize_entry("test", &dispatch.test)?;
        map.serialize_entry("start_time", &Written(dispatch.start_time))?;
        map.serialize_entry("end_time", &dispatch.end_time.map(Written))?;
        map.serialize_entry("creation_time", &dispatch.creation_time.map(Written))?;
        map.serialize_entry("modification_number", &dispatch.modification_number)?;
        map.serialize_entry("program", &dispatch.program)?;
        map.serialize_entry("sites", &dispatch.sites)?;
        map.serialize_entry("metadata", &dispatch.metadata)?;
        if !dispatch.extra.is_empty() {
            map.serialize_entry("extra", &dispatch.extra)?;
        }
        map.serialize_entry("first_seen", &Written(self.first_seen))?;
        map.serialize_entry("last_changed", &Written(self.last_changed))?;
        map.serialize_entry("last_confirmed", &Written(self.last_confirmed))?;
        map.serialize_entry("discovered_by", &self.discovered_by)?;
        map.serialize_entry("last_changed_by", &self.last_changed_by)?;
        if let Some(reason) = self.cancel_reason {
            map.serialize_entry("cancel_reason", &reason)?;
        }
        Ok(())
    }
}

/// The entry as `/schedule` shows it.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write_fields(&mut map)?;
        map.end()
    }
}
