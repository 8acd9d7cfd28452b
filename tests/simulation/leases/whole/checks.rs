//! What must hold of whole daemons that share a database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatchd::model::{DispatchId, Event};
use dispatchd::store::Stored;

use super::{Of, Webhook};
use crate::upstream::Upstream;
use crate::violation::{Checked, must};

/// What an event is about, whatever its number. What a site is told by it depends on what
/// the receiver knows already.
type Content = (Arc<str>, DateTime<Utc>);

#[derive(Debug, Default)]
pub struct Checks {
    /// The newest lead that has started an attempt.
    newest: Option<Of>,
    /// What was sent under each position.
    sent: BTreeMap<u64, Content>,
    /// The newest version of each dispatch that a 200 was given for.
    promises: BTreeMap<DispatchId, usize>,
}

impl Checks {
    /// A leader starts an attempt. No other one may have been at work since it took over:
    /// then two would command at once.
    pub fn starts(&mut self, of: Of, events: &[Event], at: Duration) -> Checked {
        let newest = *self.newest.get_or_insert(of);
        must(
            of == newest || of.term > newest.term,
            at,
            "no two leaders start attempts at once",
            || format!("{of:?} after {newest:?}"),
        )?;
        self.newest = Some(of);
        for event in events {
            let content = || (event.subject.clone(), event.time);
            let before = self.sent.entry(event.position).or_insert_with(content);
            must(*before == content(), at, "no number is used twice", || {
                format!("{event:?} has the position of {before:?}")
            })?;
        }
        Ok(())
    }

    /// A webhook was answered with a 200.
    pub fn promised(
        &mut self,
        webhook: &Webhook,
        stored: &Stored,
        upstream: &Upstream,
        at: Duration,
    ) -> Checked {
        let Some(told) = upstream.version_at(&webhook.id, webhook.told) else {
            return Ok(());
        };
        let has = version(stored, upstream, &webhook.id);
        must(
            has.is_some_and(|has| has >= told),
            at,
            "what a 200 was given for is in the database",
            || format!("{} has version {has:?}, not {told}", webhook.id),
        )?;
        let promised = self.promises.entry(webhook.id.clone()).or_default();
        *promised = (*promised).max(told);
        Ok(())
    }

    /// What was promised is there.
    pub fn kept(&self, stored: &Stored, upstream: &Upstream, at: Duration) -> Checked {
        for (id, promised) in &self.promises {
            let has = version(stored, upstream, id);
            must(
                has.is_some_and(|has| has >= *promised),
                at,
                "every 200 is kept",
                || format!("{id} has version {has:?}, and {promised} was promised"),
            )?;
        }
        Ok(())
    }

    /// The database is an older copy now, which has lost so many commits: what they held
    /// cannot be kept.
    pub fn promoted(&mut self, stored: &Stored, upstream: &Upstream, lost: u64) {
        if lost > 0 {
            self.promises.retain(|id, promised| {
                version(stored, upstream, id).is_some_and(|has| has >= *promised)
            });
        }
    }
}

/// Which version of a dispatch is stored.
fn version(stored: &Stored, upstream: &Upstream, id: &DispatchId) -> Option<usize> {
    let entry = stored.entries.iter().find(|entry| entry.id() == id)?;
    upstream.version_of(&entry.dispatch)
}
