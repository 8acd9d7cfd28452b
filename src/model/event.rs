//! An event as it leaves the daemon: CloudEvents 1.0.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::DispatchId;
use super::time::Written;

/// The subject of events that are about the daemon rather than about a
/// dispatch or a site. Also the `source` of every event.
pub const DAEMON: &str = "dispatchd";

/// Why and when a site's command had to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOrigin {
    /// The dispatch that caused it.
    pub cause: DispatchId,
    /// When it had to be given by the schedule, UTC.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that, UTC; `due` if it was known before.
    pub known: DateTime<Utc>,
}

/// One event, as it is stored and delivered.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place among all events of this store. Positions grow; between two
    /// events there may be a gap.
    pub position: u64,
    /// The leadership or start that made the event. 0 for an event that was
    /// stored before terms were stored with events.
    pub term: u64,
    /// Unique for ever, and the same on every redelivery.
    pub id: Arc<str>,
    /// `dispatch.created`, `site.curtail`, `sync.stale`, ...
    pub event_type: Arc<str>,
    /// The dispatch's id, the site's id, or [`DAEMON`].
    pub subject: Arc<str>,
    /// When it happened, UTC.
    pub time: DateTime<Utc>,
    /// Grows for each subject, so that a receiver can drop what arrives late.
    pub sequence: u64,
    /// Whether a site's command is delivered whatever was attempted before: a
    /// `site.release` although the sink never attempted a curtail for that site, or a
    /// `site.curtail` although the receiver has acknowledged one. Stored, but not sent to
    /// receivers.
    pub unconditional: bool,
    /// Why and when the command had to be given, if it is a site's because of a dispatch.
    /// Stored, but not
    /// sent to receivers.
    pub origin: Option<Arc<CommandOrigin>>,
    /// The payload, as JSON. As it was written: a copy of a large one would lie
    /// among what stays, and its room would not go back to the system.
    pub data: Arc<Box<RawValue>>,
}

impl Event {
    /// The id of the event that `term` made at `position` of the store with this
    /// id. An event of term 0 keeps the id that it was first delivered with,
    /// which has no term.
    pub fn id_at(store_id: &str, term: u64, position: u64) -> Arc<str> {
        match term {
            0 => format!("{store_id}-{position}").into(),
            _ => format!("{store_id}-{term}-{position}").into(),
        }
    }

    /// Whether it tells a site that nothing holds it any more.
    pub fn is_release(&self) -> bool {
        &*self.event_type == "site.release"
    }

    /// What the event is about: `dispatch`, `site` or `sync`.
    pub fn family(&self) -> &str {
        self.event_type.split('.').next().unwrap_or_default()
    }

    /// The dispatches that it concerns: the one that it is about; or of a site's
    /// command the one that caused it and those that hold the site.
    pub fn dispatches(&self) -> Vec<DispatchId> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Command {
            cause: Option<DispatchId>,
            /// The cause is an operator, not the dispatch `operator`.
            reason: Option<IgnoredAny>,
            dispatches: Vec<DispatchId>,
        }
        let mut ids = match self.family() {
            "dispatch" => DispatchId::new(&self.subject).into_iter().collect(),
            "site" => {
                let command: Command = serde_json::from_str(self.data.get()).unwrap_or_default();
                let cause = command.cause.filter(|_| command.reason.is_none());
                cause.into_iter().chain(command.dispatches).collect()
            }
            _ => Vec::new(),
        };
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The dispatch that caused a site's command, as its payload names it. `None` if an
    /// operator did.
    pub fn cause_in(data: &RawValue) -> Option<DispatchId> {
        #[derive(Deserialize)]
        struct Command {
            cause: DispatchId,
            /// The cause is an operator, not the dispatch `operator`.
            reason: Option<IgnoredAny>,
        }
        let command: Command = serde_json::from_str(data.get()).ok()?;
        command.reason.is_none().then_some(command.cause)
    }

    /// What is delivered in order: the events of one subject. A dispatch and a
    /// site may share an id, so the family is part of it.
    pub fn subject_key(&self) -> Arc<str> {
        format!("{}/{}", self.family(), self.subject).into()
    }
}

impl Event {
    /// Writes the event in CloudEvents' JSON format, structured mode, with these extension
    /// attributes beside its own.
    ///
    /// # Errors
    /// When the serializer fails.
    pub fn write<S: Serializer>(
        &self,
        serializer: S,
        extensions: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &*self.id)?;
        map.serialize_entry("source", DAEMON)?;
        map.serialize_entry("type", &*self.event_type)?;
        map.serialize_entry("subject", &*self.subject)?;
        map.serialize_entry("time", &Written(self.time))?;
        map.serialize_entry("datacontenttype", "application/json")?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("term", &self.term)?;
        for (name, value) in extensions {
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("data", &*self.data)?;
        map.end()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(serializer, [])
    }
}
