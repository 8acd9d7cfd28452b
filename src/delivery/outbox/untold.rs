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
    /// What it must be told: `curtail`, `adjust` or `release`.
    pub command: &'static str,
    /// Whether an attempt has begun since the command was due, in this start.
    pub tried: bool,
    /// Why its last attempt failed. `None` if none has ended, or if no connection
    /// can be made: [`SinkHealth`](super::SinkHealth) says why then.
    pub reason: Option<Arc<str>>,
}

impl Untold {
    /// Why it was not told, given why the sink cannot be reached.
    pub fn why<'a>(&'a self, unreachable: Option<&'a Arc<str>>) -> &'a str {
        match self.reason.as_ref().or(unreachable) {
            Some(reason) => reason,
            None if self.tried => "the receiver has not answered",
            None => "not tried since the start",
        }
    }
}

/// A site's wait for the acknowledgement of a due command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// When the site counts as untold.
    until: Mono,
    /// When an attempt has had its chance, so that the log may speak of it.
    chance: Mono,
    since: DateTime<Utc>,
    /// Whether an attempt has begun.
    pub tried: bool,
}

/// The waiting sites of a sink.
#[derive(Debug, Default)]
pub(super) struct UntoldSites {
    /// When each wait ends. One that has ended before stays in here until then.
    waits: BinaryHeap<Reverse<(Mono, Key)>>,
    pub sites: OrdMap<Arc<str>, Untold>,
    /// When the first of them has had its chance of an attempt.
    chance: Option<Mono>,
    /// Since when sites have waited without a moment between, UTC.
    pub since: Option<DateTime<Utc>>,
    trouble: Trouble,
    /// How many the last line told of.
    pub logged: usize,
}

impl Outbox {
    /// Begins or ends the wait of a site, after its queue has changed. `acknowledged`
    /// says that the receiver has just taken a command: what waits now, waits from now.
    pub(super) fn watch_wait(&mut self, key: &Key, acknowledged: bool, now: Now) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let due = queue.due_command();
        let due = due.map(|(command, event)| (command_name(command), event.time));
        let site = SubjectQueue::site_of(key).unwrap_or_default();
        if queue.wait.is_some() && (acknowledged || due.is_none()) {
            queue.wait = None;
            self.untold.sites.remove(site);
        }
        let Some((command, due_since)) = due else {
            return;
        };
        if queue.wait.is_some() {
            // A newer command, for which the site waits all the same.
            if let Some(untold) = self.untold.sites.get_mut(site) {
                untold.command = command;
            }
            return;
        }
        // A command that was due before the start has waited already. A clock that
        // was set back makes no wait longer.
        let since = match acknowledged {
            true => now.wall,
            false => due_since.min(now.wall),
        };
        let waited = (now.wall - since).to_std().unwrap_or_default();
        let until = now.mono + UNTOLD_AFTER.saturating_sub(waited);
        queue.wait = Some(Wait {
            until,
            chance: now.mono + UNTOLD_AFTER,
            since,
            tried: false,
        });
        self.untold.waits.push(Reverse((until, Key::clone(key))));
    }

    /// Takes in the sites whose wait has become too long.
    pub(super) fn advance_waits(&mut self, now: Now) {
        while let Some(Reverse((until, _))) = self.untold.waits.peek()
            && *until <= now.mono
            && let Some(Reverse((until, key))) = self.untold.waits.pop()
        {
            if let Some(queue) = self.queues.get(&key)
                && let Some(wait) = queue.wait.filter(|wait| wait.until == until)
                && let Some((command, _)) = queue.due_command()
                && let Some(site) = SubjectQueue::site_of(&key)
            {
                let untold = Untold {
                    since: wait.since,
                    command: command_name(command),
                    tried: wait.tried,
                    reason: queue.trouble_reason(),
                };
                self.untold.sites.insert(site.into(), untold);
                let first = self.untold.chance.unwrap_or(wait.chance);
                self.untold.chance = Some(first.min(wait.chance));
                let longest = self.untold.since.unwrap_or(wait.since);
                self.untold.since = Some(longest.min(wait.since));
            }
        }
        self.log_untold(now);
    }

    /// An attempt of this queue begins.
    pub(super) fn tries(&mut self, key: &Key) {
        if let Some(queue) = self.queues.get_mut(key)
            && let Some(wait) = &mut queue.wait
            && !std::mem::replace(&mut wait.tried, true)
            && let Some(site) = SubjectQueue::site_of(key)
            && let Some(untold) = self.untold.sites.get_mut(site)
        {
            untold.tried = true;
        }
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

    fn log_untold(&mut self, now: Now) {
        let sink = &*self.name;
        let sites = self.untold.sites.len();
        let Some((site, untold)) = self.untold.sites.get_min() else {
            self.untold.logged = 0;
            self.untold.chance = None;
            let since = self.untold.since.take();
            if self.untold.trouble.over(now.mono).is_some() {
                let lasted = since.map(|since| (now.wall - since).to_std().unwrap_or_default());
                tracing::info!(
                    sink,
                    lasted = %spoken(lasted.unwrap_or_default()),
                    "every site has been told what it must do"
                );
            }
            return;
        };
        let last_error = self.health.last_error();
        // After a start nothing may have been tried yet.
        let had_chance =
            self.untold.chance.is_none_or(|chance| chance <= now.mono) || last_error.is_some();
        if had_chance && sites > self.untold.logged && self.untold.trouble.lasts(now.mono).is_some()
        {
            self.untold.logged = sites;
            tracing::error!(
                sink,
                sites,
                site = &**site,
                command = untold.command,
                since = %untold.since.format("%FT%TZ"),
                reason = untold.why(self.health.why_unreachable()),
                "sites have not been told what they must do: the sink has acknowledged no due command for ten seconds"
            );
        }
    }
}

/// A command's name without its family.
fn command_name(event_type: &'static str) -> &'static str {
    event_type.strip_prefix("site.").unwrap_or(event_type)
}
