//! Which sites wait for a command that was due (rule R10).
//!
//! A site is *untold* at a sink once a command has been due there for ten seconds
//! and the receiver has acknowledged none meanwhile. A newer command does not start
//! the ten seconds again: the site has been waiting all the time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use imbl::OrdMap;

use super::queue::SubjectQueue;
use super::{Key, Outbox};
use crate::clock::{Mono, Now};
use crate::seldom::{Trouble, spoken};

/// How long a due command may wait for its acknowledgement.
const UNTOLD_AFTER: Duration = Duration::from_secs(10);

/// A site that has not been told what it must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Since when it waits, UTC.
    pub since: DateTime<Utc>,
    /// Why its last attempt failed. `None` if none has ended, or if no connection
    /// can be made: the sink's own last error says why then.
    pub reason: Option<Arc<str>>,
}

/// A site's wait for the acknowledgement of a due command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// When the site counts as untold.
    until: Mono,
    since: DateTime<Utc>,
}

/// The waiting sites of a sink.
#[derive(Debug, Default)]
pub(super) struct UntoldSites {
    /// When each wait ends. One that has ended before stays in here until then.
    waits: BinaryHeap<Reverse<(Mono, Key)>>,
    pub sites: OrdMap<Arc<str>, Untold>,
    trouble: Trouble,
    /// How many the last line told of.
    logged: usize,
}

impl Outbox {
    /// Begins or ends the wait of a site, after its queue has changed. `acknowledged`
    /// says that the receiver has just taken a command: what waits now, waits from now.
    pub(super) fn watch_wait(&mut self, key: &Key, acknowledged: bool, now: Now) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let due_since = queue.due_command().map(|event| event.time);
        if queue.wait.is_some() && (acknowledged || due_since.is_none()) {
            queue.wait = None;
            if let Some(site) = SubjectQueue::site_of(key) {
                self.untold.sites.remove(site);
            }
        }
        let Some(due_since) = due_since.filter(|_| queue.wait.is_none()) else {
            return;
        };
        // A command that was due before the start has waited already. A clock that
        // was set back makes no wait longer.
        let since = match acknowledged {
            true => now.wall,
            false => due_since.min(now.wall),
        };
        let waited = (now.wall - since).to_std().unwrap_or_default();
        let until = now.mono + UNTOLD_AFTER.saturating_sub(waited);
        queue.wait = Some(Wait { until, since });
        self.untold.waits.push(Reverse((until, Key::clone(key))));
    }

    /// Takes in the sites whose wait has become too long.
    pub(super) fn advance_waits(&mut self, now: Mono) {
        while let Some(Reverse((until, _))) = self.untold.waits.peek()
            && *until <= now
            && let Some(Reverse((until, key))) = self.untold.waits.pop()
        {
            if let Some(queue) = self.queues.get(&key)
                && let Some(wait) = queue.wait.filter(|wait| wait.until == until)
                && let Some(site) = SubjectQueue::site_of(&key)
            {
                let untold = Untold {
                    since: wait.since,
                    reason: queue.trouble_reason(),
                };
                self.untold.sites.insert(site.into(), untold);
            }
        }
        self.log_untold(now);
    }

    /// A site's attempt failed for this reason.
    pub(super) fn untold_because(&mut self, key: &Key, reason: &Arc<str>) {
        if let Some(site) = SubjectQueue::site_of(key)
            && let Some(untold) = self.untold.sites.get_mut(site)
            && untold.reason.as_ref() != Some(reason)
        {
            untold.reason = Some(Arc::clone(reason));
        }
    }

    fn log_untold(&mut self, now: Mono) {
        let sink = &*self.name;
        let sites = self.untold.sites.len();
        let Some((site, untold)) = self.untold.sites.get_min() else {
            self.untold.logged = 0;
            if let Some(lasted) = self.untold.trouble.over(now) {
                tracing::info!(
                    sink,
                    lasted = %spoken(lasted),
                    "every site has been told what it must do"
                );
            }
            return;
        };
        if sites > self.untold.logged && self.untold.trouble.lasts(now).is_some() {
            self.untold.logged = sites;
            let reason = untold.reason.clone().or(self.health.last_error());
            tracing::error!(
                sink,
                sites,
                site = &**site,
                since = %untold.since.format("%FT%TZ"),
                reason = reason.as_deref().unwrap_or("the receiver has not answered"),
                "sites have not been told what they must do: the sink has acknowledged no due command for ten seconds"
            );
        }
    }
}
