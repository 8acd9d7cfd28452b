//! Works out what is due while nothing is written, so that somebody can command the sites
//! by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::clock::Mono;
use crate::engine::SitePlan;
use crate::model::{Asked, Event, SiteId};
use crate::seldom::Seldom;
use crate::sync::batch_builder::{CommitUnderWay, Committed, Job};

/// What would be written if the store took it. Empty while it takes all.
///
/// What the API says is taken into this state as well: an answer is in one commit, and if
/// that fails, the next one has nothing of it.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The state as it would be.
    ahead: Option<Committed>,
    /// The newest request whose answer was in a commit that failed, and is in none now.
    lost: Option<Asked>,
    /// How many answers were taken in that a commit may still have.
    answers: usize,
    /// What each site must be told and cannot be, by site.
    commands: BTreeMap<SiteId, Event>,
    /// The same, for those who look.
    pub due: Arc<[Event]>,
    /// The sites and commands that a line of the log has counted.
    logged: BTreeSet<(SiteId, Arc<str>)>,
    /// The first command that none has counted.
    unlogged: Option<(SiteId, Arc<str>)>,
    /// Limits that line: on a disk that is nearly full every other commit may succeed.
    line: Seldom,
}

impl Unwritten {
    /// The state to go on from, if anything is known that is not written.
    pub fn ahead(&self) -> Option<&Committed> {
        self.ahead.as_ref()
    }

    /// The newest request whose answer is in no commit.
    pub fn lost(&self) -> Option<Asked> {
        self.lost
    }

    /// The answers of `jobs` are in no commit any more.
    pub fn lose(&mut self, jobs: &[Job]) {
        let asked = jobs.iter().filter_map(|job| match job {
            Job::Answer(answer) => Some(answer.asked),
            Job::Order(..) => None,
        });
        self.lost = self.lost.max(asked.max());
    }

    /// The answers that were counted are in no commit any more, or written.
    pub fn forget_count(&mut self) {
        self.answers = 0;
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

    /// Whether there is more to take in by `now`: `answers` says how many there are that a
    /// commit may still have.
    pub fn is_behind(&mut self, answers: usize, now: DateTime<Utc>) -> bool {
        let before = std::mem::replace(&mut self.answers, answers);
        let ahead = self.ahead.as_ref();
        answers != before || ahead.is_none_or(|ahead| is_due(ahead, now))
    }

    /// Whether time has brought something by `now` since answers were lost.
    pub fn is_overtaken(&self, now: DateTime<Utc>) -> bool {
        let ahead = self.ahead.as_ref().filter(|_| self.lost.is_some());
        ahead.is_some_and(|ahead| is_due(ahead, now))
    }

    /// Takes in what would have been written, where sites were told to do what
    /// `committed` has. `written` is what was written since the last time.
    pub fn advance(&mut self, next: CommitUnderWay, committed: &SitePlan, written: &[Event]) {
        let mut touched = BTreeMap::new();
        for event in next.events {
            if let Some(site) = site_of(&event) {
                self.put(site.clone(), event.clone());
                touched.insert(site, event);
            }
        }
        for event in written {
            if let Some(site) = site_of(event) {
                if let Some(command) = self.commands.get_mut(&site) {
                    command.unconditional = false;
                }
                touched.insert(site, event.clone());
            }
        }
        let ahead = &next.next.plan;
        for (site, event) in &touched {
            match ahead.change_since(committed, site) {
                Some(kind) => {
                    let command = self.commands.entry(site.clone());
                    let command = command.or_insert_with(|| event.clone());
                    if *command.event_type != *kind.event_type() {
                        command.event_type = kind.event_type().into();
                    }
                }
                // It is as it was told, unless it must be told whatever that was.
                None => {
                    let command = self.commands.get(site);
                    if command.is_some_and(|command| !command.unconditional) {
                        self.commands.remove(site);
                    }
                }
            }
        }
        self.ahead = Some(next.next);
        if !touched.is_empty() {
            self.due = self.commands.values().cloned().collect();
            self.compare_with_log();
        }
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

    fn compare_with_log(&mut self) {
        let all = self.by_type();
        self.logged.retain(|one| all.contains(one));
        self.unlogged = all.difference(&self.logged).next().cloned();
    }

    fn by_type(&self) -> BTreeSet<(SiteId, Arc<str>)> {
        let all = self.commands.iter();
        let all = all.map(|(site, event)| (site.clone(), Arc::clone(&event.event_type)));
        all.collect()
    }

    /// Logs each command once, and writes a line no more often than once a minute.
    pub fn log(&mut self, now: Mono) {
        if self.unlogged.is_none() || self.line.count(now).is_none() {
            return;
        }
        if let Some((site, command)) = self.unlogged.take() {
            tracing::error!(
                commands = self.commands.len(),
                %site,
                command = &*command,
                "commands are due and cannot be sent; `dispatchd status` names them"
            );
            self.logged = self.by_type();
        }
    }
}

fn is_due(state: &Committed, now: DateTime<Utc>) -> bool {
    state.next_due().is_some_and(|due| due <= now)
}

fn site_of(event: &Event) -> Option<SiteId> {
    let is_command = event.family() == "site";
    is_command.then(|| SiteId::new(&event.subject)).flatten()
}
