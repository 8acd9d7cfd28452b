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
/// What the API says is compared with this state, not with the committed one: it tells a
/// change once, and the next commit that fails has nothing of it any more.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The state as it would be.
    ahead: Option<Committed>,
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

    /// All is written.
    pub fn clear(&mut self) {
        if self.ahead.take().is_some() {
            self.commands.clear();
            self.logged.clear();
            self.due = Arc::default();
        }
    }

    /// Takes in what would have been written, where sites were told to do what
    /// `committed` has.
    pub fn advance(&mut self, next: CommitUnderWay, committed: &SitePlan, now: Mono) {
        for event in next.events {
            if event.family() == "site"
                && let Some(site) = SiteId::new(&event.subject)
            {
                self.commands.insert(site, event);
            }
        }
        let ahead = &next.next.plan;
        self.commands.retain(|site, event| {
            let Some(kind) = ahead.change_since(committed, site) else {
                // It is as it was told, or is told that whatever it knows.
                return event.unconditional;
            };
            event.event_type = kind.event_type().into();
            true
        });
        self.ahead = Some(next.next);
        self.due = self.commands.values().cloned().collect();
        self.log(now);
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
                "commands are due and cannot be sent; command these sites by hand (`dispatchd status` names them)"
            );
            self.logged = all;
        }
    }
}
