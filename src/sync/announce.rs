//! Turns changes into events.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use super::numbering::{Clocks, Numbering};
use crate::engine::SiteChange;
use crate::model::{Change, ChangeKind, CommandOrigin, DAEMON, Event};

/// Numbers events as they are made.
#[derive(Debug)]
pub(super) struct Announcer {
    store_id: Arc<str>,
    numbering: Numbering,
    clocks: Clocks,
    events: Vec<Event>,
}

impl Announcer {
    /// Goes on with this numbering in the store with this id.
    pub fn new(store_id: Arc<str>, numbering: Numbering, clocks: Clocks) -> Self {
        Self {
            store_id,
            numbering,
            clocks,
            events: Vec::new(),
        }
    }

    /// Sets the clocks above which a new term's numbers begin.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    /// Announces a change of a dispatch.
    pub fn change(&mut self, change: &Change) {
        let data = raw(&ChangeData(change));
        self.event(
            change.kind.event_type(),
            change.id.as_str(),
            change.at,
            data,
        );
    }

    /// Tells a site what it must do.
    pub fn site(
        &mut self,
        change: &SiteChange,
        origin: Option<Arc<CommandOrigin>>,
        at: DateTime<Utc>,
    ) {
        let data = raw(change);
        self.event(change.kind.event_type(), change.site.id.as_str(), at, data);
        if let Some(event) = self.events.last_mut() {
            event.unconditional = change.unconditional;
            event.origin = origin;
        }
    }

    /// Announces that the schedule may be wrong, or can be trusted again.
    pub fn sync(&mut self, stale: bool, last_poll: Option<DateTime<Utc>>, at: DateTime<Utc>) {
        let event_type = if stale {
            "sync.stale"
        } else {
            "sync.recovered"
        };
        let data = raw(&json!({"last_successful_poll": last_poll}));
        self.event(event_type, DAEMON, at, data);
    }

    /// How many events there are so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The events, and where the numbering stands behind them.
    pub fn finish(self) -> (Vec<Event>, Numbering) {
        (self.events, self.numbering)
    }

    fn event(&mut self, event_type: &str, subject: &str, time: DateTime<Utc>, data: Box<RawValue>) {
        let (term, position) = self.numbering.next(self.clocks);
        self.events.push(Event {
            position,
            term,
            id: Event::id_at(&self.store_id, term, position),
            event_type: event_type.into(),
            subject: subject.into(),
            time,
            // It grows over all events, so it does for each subject.
            sequence: position,
            unconditional: false,
            origin: None,
            data: data.into(),
        });
    }
}

/// The entry, what brought the change, and the fields that changed.
struct ChangeData<'a>(&'a Change);

impl Serialize for ChangeData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.entry.write_fields(&mut map)?;
        map.serialize_entry("source", &self.0.source)?;
        if let ChangeKind::Updated { changed } = &self.0.kind {
            map.serialize_entry("changed", changed)?;
        }
        map.end()
    }
}

/// `data` as JSON. It is made of maps with text keys, which always can be.
fn raw(data: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(data).unwrap_or_else(|error| {
        tracing::error!(%error, "an event's data could not be written");
        RawValue::NULL.to_owned()
    })
}
