//! Works out what is due while nothing is written, so that somebody can command the sites
//! by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Mono;
use crate::engine::SitePlan;
use crate::model::{Event, SiteId};
use crate::seldom::Seldom;
use crate::sync::batch_builder::{CommitUnderWay, Committed};

/// What would be written if the store took it. Empty while it takes all.
///
/// What the API says is taken into this state as well: an answer is in one commit, and if
/// that fails, the next one has nothing of it.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The state as it would be.
    ahead: Option<Committed>,
    /// Whether commits that failed had answers of the API, which no commit has now.
    pub has_lost_answers: bool,
    /// What each site must be told and cannot be, by site.
    commands: BTreeMap<SiteId, Event>,
    /// The same, for those who look.
    pub due: Arc<[Event]>,
    /// The sites and commands that a line of the log has counted.
    logged: BTreeSet<(SiteId, Arc<str>)>,
    /// Limits that line: on a disk that is nearly full every other commit may succeed.
    line: Seldom,
}

impl Unwritten {
    /// The state to go on from, if anything is known that is not written.
    pub fn ahead(&self) -> Option<&Committed> {
        self.ahead.as_ref()
    }

    /// Nothing is known that is not written.
    pub fn clear(&mut self) {
        if self.ahead.is_some() {
            let line = std::mem::take(&mut self.line);
            *self = Self {
                line,
                ..Self::default()
            };
        }
    }

    /// Takes in what would have been written, where sites were told to do what
    /// `committed` has. `is_written` says that what it was made of is: then also what goes
    /// whatever a site was told.
    pub fn advance(
        &mut self,
        next: CommitUnderWay,
        committed: &SitePlan,
        is_written: bool,
        now: Mono,
    ) {
        for event in next.events {
            if event.family() == "site"
                && let Some(site) = SiteId::new(&event.subject)
            {
                self.put(site, event);
            }
        }
        let ahead = &next.next.plan;
        self.commands.retain(|site, event| {
            if event.unconditional && !is_written {
                return true;
            }
            // None: it is as it was told.
            let kind = ahead.change_since(committed, site);
            if let Some(kind) = kind
                && *event.event_type != *kind.event_type()
            {
                event.event_type = kind.event_type().into();
            }
            kind.is_some()
        });
        self.ahead = Some(next.next);
        self.due = self.commands.values().cloned().collect();
        self.log(now);
    }

    /// Takes in a command. It waits since the one that it replaces was due, if both ask for
    /// the same, and goes whatever was told if that one had to.
    fn put(&mut self, site: SiteId, mut event: Event) {
        if let Some(before) = self.commands.get(&site) {
            event.unconditional |= before.unconditional;
            if before.is_release() == event.is_release() {
                event.time = before.time;
            }
        }
        self.commands.insert(site, event);
    }

    /// Logs each command once, and writes a line no more often than once a minute.
    fn log(&mut self, now: Mono) {
        let all = self.commands.iter();
        let all = all.map(|(site, event)| (site.clone(), Arc::clone(&event.event_type)));
        let all: BTreeSet<_> = all.collect();
        self.logged.retain(|one| all.contains(one));
        if let Some((site, command)) = all.difference(&self.logged).next()
            && self.line.count(now).is_some()
        {
            tracing::error!(
                commands = all.len(),
                %site,
                command = &**command,
                "commands are due and cannot be sent; `dispatchd status` names them"
            );
            self.logged = all;
        }
    }
}
