//! The events of one subject on their way to one sink.

use std::collections::VecDeque;
use std::sync::Arc;

use super::command::{attempted, command};
use crate::model::Event;
use crate::store::Told;

/// Where a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Nowhere: nothing is to be done.
    #[default]
    Resting,
    /// In line.
    Ready,
    /// Its command is being written down.
    WritingDown,
    /// An attempt is under way.
    UnderWay,
    /// It failed, and may not go yet.
    Waiting,
}

/// What a lane has to send.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Send(Event),
    /// Its command must be written down first.
    WriteDownFirst,
    /// Nothing.
    Nothing {
        /// These positions are superseded.
        superseded: Vec<u64>,
        /// What was written down as attempted was not, and never will be.
        taken_back: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    place: Place,
    /// What is to be sent, oldest first. Of a site the newest alone.
    events: VecDeque<Event>,
    /// What was last attempted here, if this is a site's lane.
    told: Option<Told>,
    /// What was last attempted before the command that is written down and
    /// still to be attempted.
    armed_over: Option<Option<Told>>,
    /// The event of the attempt under way, once it is not the newest any more.
    sent: Option<u64>,
    /// How often it failed in a row.
    pub failures: u32,
}

impl Lane {
    /// The lane of a site of which the sink was told something.
    pub fn told(told: Told) -> Self {
        Self {
            told: Some(told),
            ..Self::default()
        }
    }

    /// The key of a site's lane.
    pub fn key_of_site(site: &str) -> Arc<str> {
        format!("site/{site}").into()
    }

    /// The site whose lane has this key, if it is a site's.
    pub fn site_of(key: &str) -> Option<&str> {
        key.strip_prefix("site/")
    }

    /// Takes in an event. Gives the positions of those that it supersedes.
    pub fn push(&mut self, event: Event) -> Vec<u64> {
        let mut superseded = Vec::new();
        if self.events.back().map(|newest| newest.position) == Some(event.position) {
            return superseded;
        }
        if event.family() == "site" {
            // The one under way is settled when it has ended.
            let under_way = self.sent;
            superseded.extend(
                self.events
                    .drain(..)
                    .map(|event| event.position)
                    .filter(|position| Some(*position) != under_way),
            );
        }
        // Most lanes never hold a second one.
        if self.events.is_empty() {
            self.events.reserve_exact(1);
        }
        self.events.push_back(event);
        superseded
    }

    /// Whether the receiver has confirmed this very event.
    pub fn has_confirmed(&self, event: &Event) -> bool {
        self.told
            .is_some_and(|told| told.acknowledged && told.position == event.position)
    }

    /// Puts the lane in line, if it has something and is not elsewhere. Tells
    /// whether it was put there.
    pub fn line_up(&mut self) -> bool {
        let goes = self.place == Place::Resting && !self.events.is_empty();
        if goes {
            self.place = Place::Ready;
        }
        goes
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
        if let Some(before) = self.armed_over
            && self.told.map(|told| told.position) != Some(event.position)
        {
            // Something newer came before it was attempted.
            self.told = before;
            self.armed_over = None;
            taken_back = true;
        }
        let before = self.armed_over.unwrap_or(self.told);
        let Some(command) = command(event, before) else {
            let superseded = self.events.drain(..).map(|event| event.position);
            return Next::Nothing {
                superseded: superseded.collect(),
                taken_back,
            };
        };
        if self.told != Some(attempted(event, before)) {
            return Next::WriteDownFirst;
        }
        Next::Send(Event {
            event_type: command.into(),
            ..event.clone()
        })
    }

    pub fn set_out(&mut self) {
        self.place = Place::UnderWay;
        self.armed_over = None;
        self.sent = self.events.front().map(|event| event.position);
    }

    pub fn wait_for_disk(&mut self) {
        self.place = Place::WritingDown;
    }

    /// Back to where it can be lined up.
    pub fn rest(&mut self) {
        self.place = Place::Resting;
    }

    pub fn wait(&mut self) {
        self.place = Place::Waiting;
    }

    /// Notes the command as attempted. Gives what is to be written down.
    pub fn arm(&mut self) -> Option<Told> {
        let event = self.events.front()?;
        // What was to be told may have been superseded, by something that need
        // not be told, while another commit was under way.
        if command(event, self.told).is_some() {
            self.armed_over = Some(self.told);
            self.told = Some(attempted(event, self.told));
        }
        self.told
    }

    /// The command was not written down after all.
    pub fn disarm(&mut self) {
        if let Some(before) = self.armed_over.take() {
            self.told = before;
        }
    }

    /// What was sent has arrived. Gives the positions that are settled by it.
    pub fn delivered(&mut self) -> Vec<u64> {
        self.place = Place::Resting;
        let Some(sent) = self.sent.take() else {
            return Vec::new();
        };
        if let Some(told) = &mut self.told {
            told.acknowledged = true;
            told.held = told.curtailed;
            if !told.curtailed {
                // Back to where nothing is known of the site.
                self.told = None;
            }
        }
        if self
            .events
            .front()
            .is_some_and(|event| event.position == sent)
        {
            self.events.pop_front();
        }
        vec![sent]
    }

    /// What was sent may have arrived or not. Gives the positions that are
    /// settled because something newer goes instead.
    pub fn failed(&mut self) -> Vec<u64> {
        self.failures = self.failures.saturating_add(1);
        match self.sent.take() {
            Some(sent) if self.events.iter().all(|event| event.position != sent) => vec![sent],
            _ => Vec::new(),
        }
    }

    /// What was last attempted.
    pub fn told_now(&self) -> Option<Told> {
        self.told
    }

    /// Whether nothing is left that is worth remembering.
    pub fn is_blank(&self) -> bool {
        self.place == Place::Resting && self.events.is_empty() && self.told.is_none()
    }
}
