//! The history of a dispatch, as it is kept and shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Change, ChangeKind, Dispatch, Field, Json, Override, OverrideNote, Phase, SiteId, Source, time,
};

/// One line of a dispatch's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// The schedule's revision that the change made. Of a line that tells of no
    /// change: the revision that the schedule had then.
    pub revision: u64,
    /// When it was decided, UTC.
    #[serde(serialize_with = "time::write")]
    pub at: DateTime<Utc>,
    /// The event type that announced it, [`SKIPPED`] or [`OVERRIDDEN`].
    #[serde(rename = "type")]
    pub event_type: String,
    /// What brought it.
    pub source: Source,
    /// The phase that it left the dispatch in.
    pub phase: Phase,
    /// The fields that changed, each with `from` and `to`.
    pub changed: BTreeMap<String, FromTo>,
    /// The event that an operator gave up, if the line tells of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<SkippedEvent>,
    /// What an operator ordered for a site of the dispatch, if the line tells of that.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub site_override: Option<SiteOverride>,
}

/// What a field was and what it is, each exactly as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FromTo {
    /// What it was. `null` if it was not there.
    pub from: Json,
    /// What it is. `null` if it is not there.
    pub to: Json,
}

/// The type of a line that tells of an event that an operator gave up. No event
/// of this type exists.
pub const SKIPPED: &str = "event.skipped";

/// An event that an operator gave up at one sink: it was not delivered there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedEvent {
    /// The event's id.
    pub event: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: Arc<str>,
    /// What it is about: the dispatch, or one of its sites.
    pub subject: Arc<str>,
    /// The sink that does not get it.
    pub sink: Arc<str>,
    /// Why its last attempt failed, if it did.
    pub reason: Option<Arc<str>>,
}

/// The type of a line that tells what an operator ordered for a site that the dispatch
/// would hold. No event of this type exists.
pub const OVERRIDDEN: &str = "site.override";

/// What an operator ordered for a site of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOverride {
    /// The site.
    pub site: SiteId,
    /// The order. `None` if it has ended.
    pub order: Option<Arc<Override>>,
}

impl HistoryItem {
    /// The line about an override, for a dispatch that was in `phase` when the schedule
    /// had `revision`.
    pub fn overridden(note: &OverrideNote, revision: u64, phase: Phase, at: DateTime<Utc>) -> Self {
        Self {
            revision,
            at,
            event_type: OVERRIDDEN.to_owned(),
            source: Source::Operator,
            phase,
            changed: BTreeMap::new(),
            skipped: None,
            site_override: Some(SiteOverride {
                site: note.site.clone(),
                order: note.site_override.clone(),
            }),
        }
    }

    /// The line about an event that an operator gave up at `at`, for a dispatch
    /// that was in `phase` when the schedule had `revision`.
    pub fn skipped(event: SkippedEvent, revision: u64, phase: Phase, at: DateTime<Utc>) -> Self {
        Self {
            revision,
            at,
            event_type: SKIPPED.to_owned(),
            source: Source::Operator,
            phase,
            changed: BTreeMap::new(),
            skipped: Some(event),
            site_override: None,
        }
    }
}

impl From<&Change> for HistoryItem {
    fn from(change: &Change) -> Self {
        let changed = match (&change.kind, &change.before) {
            (ChangeKind::Updated { .. } | ChangeKind::Cancelled(_), Some(before)) => {
                differences(before, &change.entry.dispatch)
            }
            _ => BTreeMap::new(),
        };
        Self {
            revision: change.revision,
            at: change.at,
            event_type: change.kind.event_type().to_owned(),
            source: change.source,
            phase: change.entry.phase,
            changed,
            skipped: None,
            site_override: None,
        }
    }
}

/// The fields in which two states differ, by their names in JSON.
fn differences(before: &Dispatch, after: &Dispatch) -> BTreeMap<String, FromTo> {
    let (Ok(mut from), Ok(mut to)) = (fields(before), fields(after)) else {
        return BTreeMap::new();
    };
    let mut take = |field: &Field| {
        let name = field.name().into_owned();
        let (from, to) = match field {
            Field::Extra(unknown) => (
                before.extra.get(unknown).cloned(),
                after.extra.get(unknown).cloned(),
            ),
            _ => (from.remove(&name), to.remove(&name)),
        };
        let from = from.unwrap_or_else(Json::null);
        let to = to.unwrap_or_else(Json::null);
        (name, FromTo { from, to })
    };
    let changed = Field::differences(before, after);
    changed.iter().map(&mut take).collect()
}

fn fields(dispatch: &Dispatch) -> Result<BTreeMap<String, Json>, serde_json::Error> {
    serde_json::from_str(&serde_json::to_string(dispatch)?)
}
