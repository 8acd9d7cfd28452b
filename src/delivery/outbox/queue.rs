//! Holds what waits for one subject at one sink.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::command::{attempted, command, refreshed};
use super::effort::{self, Effort};
use super::untold::Wait;
use crate::clock::Mono;
use crate::model::Event;
use crate::store::{Attempted, DeliveryEnd, SettledCommand, Tried};

/// Where a subject queue is. It is in exactly one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    /// It has nothing to deliver, or what it has lies in the store.
    #[default]
    Idle,
    /// It waits for its turn.
    Ready,
    /// Its command is being written down as attempted.
    Recording,
    /// An attempt is under way.
    UnderWay,
    /// Its last attempt failed, and it may not be tried again yet.
    Paused,
}

/// What a subject queue has to send.
#[derive(Debug)]
pub(super) enum Next {
    /// This event.
    Send(Event),
    /// Its command must be written down as attempted first.
    RecordFirst,
    /// Nothing.
    Nothing {
        /// These positions need not be delivered any more.
        superseded: Vec<u64>,
        /// What was written down as attempted was not, and never will be.
        taken_back: bool,
    },
}

/// A subject whose attempts fail.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    /// Its place among all that fail at this sink, the latest failure last.
    pub order: u64,
    /// What went wrong last.
    pub reason: Arc<str>,
    /// When the first attempt of its event failed, UTC.
    pub since: DateTime<Utc>,
    /// Whether the operator was told of it.
    pub named: bool,
}

/// The pending events of one subject, oldest first, and how its attempts went.
#[derive(Debug, Default)]
pub(super) struct SubjectQueue {
    pub place: Place,
    /// What is to be sent, oldest first. Of a site the newest event alone.
    events: VecDeque<Event>,
    /// What was last attempted here, if the subject is a site.
    attempted: Option<Attempted>,
    /// What was attempted before the command that is written down and still to
    /// be attempted.
    recorded_over: Option<Option<Attempted>>,
    /// The event of the attempt under way.
    sent: Option<u64>,
    /// An unconditional release that was superseded before anything was
    /// attempted: the site is owed a release.
    owed: Option<u64>,
    /// How often its event failed in a row.
    pub failures: u32,
    /// Until when a new command waits too, if it is paused.
    pub new_command_at: Mono,
    /// When its pause ends, if it is paused.
    pub due: Mono,
    /// Whether the store knows of a pause.
    pub pause_stored: bool,
    /// Whether its event goes without others: a batch with it failed.
    pub alone: bool,
    /// How its attempts fail, from the first failure to the next success.
    pub trouble: Option<Box<Failing>>,
    /// Since when a due command of its site waits for an acknowledgement, if one does.
    pub wait: Option<Wait>,
    /// From this position on its events are in the store only.
    pub more_from: Option<u64>,
    /// Whether its event was acknowledged before, and goes once more.
    refresh: bool,
    /// The attempts at its newest command, if the subject is a site.
    pub effort: Option<Box<Effort>>,
}

impl SubjectQueue {
    /// The queue of a site at which something was attempted.
    pub fn of_site(attempted: Attempted) -> Self {
        Self {
            attempted: Some(attempted),
            ..Self::default()
        }
    }

    /// The key of a site's queue.
    pub fn key_of_site(site: &str) -> Arc<str> {
        format!("site/{site}").into()
    }

    /// The site whose queue has this key, if the subject is a site.
    pub fn site_of(key: &str) -> Option<&str> {
        key.strip_prefix("site/")
    }

    /// Takes in an event that supersedes none.
    pub fn push(&mut self, event: Event) {
        self.push_command(event, &mut Vec::new());
    }

    /// Takes in a site's event. Gives the positions of those that it supersedes, and adds
    /// the commands among them to `settled`.
    pub fn push_command(&mut self, event: Event, settled: &mut Vec<SettledCommand>) -> Vec<u64> {
        let mut superseded = Vec::new();
        if self.refresh {
            self.events.clear();
            self.refresh = false;
        }
        if self.events.back().map(|newest| newest.position) >= Some(event.position) {
            return superseded;
        }
        if event.family() == "site" {
            self.supersede(&mut superseded, settled);
        }
        // Most queues never hold a second event.
        if self.events.is_empty() {
            self.events.reserve_exact(1);
        }
        self.events.push_back(event);
        superseded
    }

    /// Takes in the site's newest event once more, although it was acknowledged.
    /// `false` if an event is on its way anyway, or if this one is a curtail that was given
    /// up. An adjustment that was given up goes: the site is held all the same.
    pub fn refresh(&mut self, event: Event) -> bool {
        let acknowledged = match self.attempted {
            Some(last) => last.held && last.acknowledged && last.position == event.position,
            // Nothing counts: its release was acknowledged or given up.
            None => event.is_release() && self.owed.is_none(),
        };
        if !self.events.is_empty() || !acknowledged {
            return false;
        }
        self.events.push_back(event);
        self.refresh = true;
        true
    }

    /// Lets go of what was to go once more.
    pub fn drop_refresh(&mut self) {
        if std::mem::take(&mut self.refresh) {
            self.events.clear();
            self.sent = None;
            self.place = Place::Idle;
        }
    }

    /// Drops a site's older event.
    fn supersede(&mut self, superseded: &mut Vec<u64>, settled: &mut Vec<SettledCommand>) {
        let before = self.recorded_over.unwrap_or(self.attempted);
        for old in self.events.drain(..) {
            if self.sent == Some(old.position) {
                // How its attempt ends is written over this: a crash may come before.
                let effort = self.effort.clone();
                settled.extend(effort.and_then(|effort| effort.end(DeliveryEnd::Superseded)));
            } else if command(&old, before, self.owed.is_some()).is_some() {
                settled.extend(effort::end(&mut self.effort, &old, DeliveryEnd::Superseded));
            }
            if old.unconditional && self.attempted.is_none() {
                superseded.extend(self.owed.replace(old.position));
            } else if self.sent != Some(old.position) {
                // The one under way is completed when its attempt has ended.
                superseded.push(old.position);
            }
        }
    }

    /// An unconditional release at `position` precedes what the queue holds, and
    /// was never attempted. Gives the position that this makes up for.
    pub fn owe(&mut self, position: u64) -> Option<u64> {
        self.owed.replace(position)
    }

    /// How many events it holds in memory.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it holds no event in memory.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The event at `position`, if it is held in memory.
    pub fn event(&self, position: u64) -> Option<&Event> {
        self.events.iter().find(|event| event.position == position)
    }

    /// The event that is to go next.
    pub fn first(&self) -> Option<&Event> {
        self.events.front()
    }

    /// Drops all events but the first from memory. Gives them.
    pub fn shed(&mut self) -> Vec<Event> {
        self.events.drain(1.min(self.events.len())..).collect()
    }

    /// What was last attempted.
    pub fn attempted(&self) -> Option<Attempted> {
        self.attempted
    }

    /// The command that its site must be sent, if one is due, and the site's event.
    pub fn due_command(&self) -> Option<(&'static str, &Event)> {
        let event = self.events.front()?;
        if event.family() != "site" {
            return None;
        }
        let before = self.recorded_over.unwrap_or(self.attempted);
        let command = command(event, before, self.owed.is_some())?;
        Some((command, event))
    }

    /// Why its attempts fail, if they do.
    pub fn trouble_reason(&self) -> Option<Arc<str>> {
        let trouble = self.trouble.as_ref();
        trouble.map(|trouble| Arc::clone(&trouble.reason))
    }

    /// The attempts at the command at `position`, if one began.
    pub fn tried(&self, position: u64) -> Option<Tried> {
        let effort = self.effort.as_ref();
        let effort = effort.filter(|effort| effort.is_of(position));
        effort.map(|effort| effort.tried)
    }

    /// What it has to send now.
    pub fn next(&mut self) -> Next {
        let mut taken_back = false;
        let Some(event) = self.events.front() else {
            return Next::Nothing {
                superseded: Vec::new(),
                taken_back,
            };
        };
        if event.family() != "site" {
            return Next::Send(event.clone());
        }
        if self.refresh {
            return Next::Send(refreshed(event));
        }
        if let Some(before) = self.recorded_over
            && self.attempted.map(|last| last.position) != Some(event.position)
        {
            // A newer event came before the recorded one was attempted.
            self.attempted = before;
            self.recorded_over = None;
            taken_back = true;
        }
        let before = self.recorded_over.unwrap_or(self.attempted);
        let Some(command) = command(event, before, self.owed.is_some()) else {
            let superseded = self.events.drain(..).map(|event| event.position);
            return Next::Nothing {
                superseded: superseded.collect(),
                taken_back,
            };
        };
        if self.attempted != Some(attempted(event, before)) {
            return Next::RecordFirst;
        }
        Next::Send(Event {
            event_type: command.into(),
            ..event.clone()
        })
    }

    /// Its attempt to send `event` begins. Gives the position of the release that it was
    /// owed.
    pub fn set_out(&mut self, event: &Event, now: DateTime<Utc>) -> Option<u64> {
        if !self.refresh {
            effort::begin(&mut self.effort, event, now);
        }
        self.place = Place::UnderWay;
        self.recorded_over = None;
        self.sent = self.events.front().map(|event| event.position);
        self.owed.take()
    }

    /// Notes the command as attempted. Gives what is to be written down.
    pub fn record(&mut self) -> Option<Attempted> {
        // While another commit was under way, the command may have been
        // superseded by one that need not be sent, or skipped.
        if let Some(event) = self.events.front()
            && command(event, self.attempted, self.owed.is_some()).is_some()
        {
            self.recorded_over = Some(self.attempted);
            self.attempted = Some(attempted(event, self.attempted));
        }
        self.attempted
    }

    /// The command was not written down after all.
    pub fn undo_record(&mut self) {
        if let Some(before) = self.recorded_over.take() {
            self.attempted = before;
        }
    }

    /// What was sent is acknowledged. Gives its position, and adds it to `settled` if it
    /// is a command.
    pub fn delivered(
        &mut self,
        now: DateTime<Utc>,
        settled: &mut Vec<SettledCommand>,
    ) -> Option<u64> {
        self.place = Place::Idle;
        self.failures = 0;
        self.alone = false;
        let sent = self.sent.take()?;
        if std::mem::take(&mut self.refresh) {
            self.drop_first(sent);
            return None;
        }
        if let Some(last) = &mut self.attempted {
            last.acknowledged = true;
            last.held = last.curtailed;
            if !last.curtailed {
                // Back to where nothing is known of the site.
                self.attempted = None;
            }
        }
        self.drop_first(sent);
        let effort = self.effort.take().filter(|effort| effort.is_of(sent));
        settled.extend(effort.and_then(|effort| effort.end(DeliveryEnd::Acknowledged(now))));
        Some(sent)
    }

    /// What was sent may have arrived or not. Gives its position if something newer goes
    /// instead, and adds it to `settled` if it is a command.
    pub fn ended(
        &mut self,
        reason: Option<&Arc<str>>,
        settled: &mut Vec<SettledCommand>,
    ) -> Option<u64> {
        self.place = Place::Idle;
        let sent = self.sent.take()?;
        if let Some(effort) = self.effort.as_mut().filter(|effort| effort.is_of(sent)) {
            effort.failed(reason);
        }
        let superseded = self.events.iter().all(|event| event.position != sent);
        if superseded {
            let effort = self.effort.take().filter(|effort| effort.is_of(sent));
            settled.extend(effort.and_then(|effort| effort.end(DeliveryEnd::Superseded)));
        }
        superseded.then_some(sent)
    }

    /// The operator gives up the event at `position`. It is not under way. Adds it to
    /// `settled` if it is a command.
    pub fn skip(&mut self, position: u64, settled: &mut Vec<SettledCommand>) {
        let skipped = self.event(position).cloned();
        self.events.retain(|event| event.position != position);
        self.failures = 0;
        self.alone = false;
        let Some(event) = skipped.filter(|event| event.family() == "site") else {
            return;
        };
        settled.extend(effort::end(&mut self.effort, &event, DeliveryEnd::Skipped));
        // As if it were acknowledged, but nobody knows whether the receiver holds
        // the site curtailed: a later release goes out.
        let skipped = attempted(&event, self.attempted);
        self.attempted = skipped.curtailed.then_some(Attempted {
            acknowledged: true,
            ..skipped
        });
        self.recorded_over = None;
    }

    fn drop_first(&mut self, position: u64) {
        if self.first().is_some_and(|first| first.position == position) {
            self.events.pop_front();
        }
    }

    /// Whether it holds nothing that is worth remembering.
    pub fn is_blank(&self) -> bool {
        self.place == Place::Idle
            && self.events.is_empty()
            && self.attempted.is_none()
            && self.more_from.is_none()
            && self.owed.is_none()
            && self.trouble.is_none()
    }
}
