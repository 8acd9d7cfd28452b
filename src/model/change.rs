//! A change of a dispatch.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::{Dispatch, DispatchId, Entry, Extra, Source};

/// A field of a schedule entry that an update can change. Named as in JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the field of the same name")]
pub enum Field {
    Phase,
    Authorized,
    Test,
    StartTime,
    EndTime,
    CreationTime,
    ModificationNumber,
    Program,
    Sites,
    Metadata,
    /// A field of the dispatch itself that we do not know. One of a site is `Sites`.
    Extra(Arc<str>),
}

impl Field {
    /// The name used in JSON.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Phase => "phase",
            Self::Authorized => "authorized",
            Self::Test => "test",
            Self::StartTime => "start_time",
            Self::EndTime => "end_time",
            Self::CreationTime => "creation_time",
            Self::ModificationNumber => "modification_number",
            Self::Program => "program",
            Self::Sites => "sites",
            Self::Metadata => "metadata",
            Self::Extra(name) => return format!("extra.{name}").into(),
        })
    }

    /// The fields in which two states of one dispatch differ.
    pub fn differences(before: &Dispatch, after: &Dispatch) -> Vec<Self> {
        let differs = [
            (Self::Authorized, before.authorized != after.authorized),
            (Self::Test, before.test != after.test),
            (Self::StartTime, before.start_time != after.start_time),
            (Self::EndTime, before.end_time != after.end_time),
            (
                Self::CreationTime,
                before.creation_time != after.creation_time,
            ),
            (
                Self::ModificationNumber,
                before.modification_number != after.modification_number,
            ),
            (Self::Program, before.program != after.program),
            (Self::Sites, before.sites != after.sites),
            (Self::Metadata, before.metadata != after.metadata),
        ];
        let extra = Extra::differences(&before.extra, &after.extra);
        differs
            .into_iter()
            .filter_map(|(field, differs)| differs.then_some(field))
            .chain(extra.into_iter().map(Self::Extra))
            .collect()
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Why a dispatch counts as cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelReason {
    /// The API says `authorized: false`.
    Unauthorized,
    /// It is gone from the API (rule R3).
    Withdrawn,
}

impl CancelReason {
    /// The name used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What kind of change.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// First seen, authorized and not over.
    Created,
    /// Something in it is other than before.
    Updated {
        /// The fields that are.
        changed: Vec<Field>,
    },
    /// Its start came.
    Started,
    /// Its end came.
    Ended,
    /// It was called off.
    Cancelled(CancelReason),
}

impl ChangeKind {
    /// The event type that announces it.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Created => "dispatch.created",
            Self::Updated { .. } => "dispatch.updated",
            Self::Started => "dispatch.started",
            Self::Ended => "dispatch.ended",
            Self::Cancelled(_) => "dispatch.cancelled",
        }
    }
}

/// One change to the schedule: what is written to the history and announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which dispatch.
    pub id: DispatchId,
    /// What kind of change.
    pub kind: ChangeKind,
    /// The entry as the observation left it.
    pub entry: Arc<Entry>,
    /// The dispatch as it was before the observation. `None` at first sight.
    pub before: Option<Arc<Dispatch>>,
    /// What brought it.
    pub source: Source,
    /// When it was decided, UTC.
    pub at: DateTime<Utc>,
    /// The schedule's revision with this change in it.
    pub revision: u64,
}
