//! Keeps how the attempts at a site's newest command went, until its delivery comes to
//! an end.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::model::{CommandOrigin, Event};
use crate::store::{DeliveryEnd, SettledCommand, Tried};

/// The attempts at one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effort {
    /// The position of its event.
    position: u64,
    site: Arc<str>,
    /// What was sent.
    command: Arc<str>,
    /// `None` of what was attempted before this start, until it is attempted again.
    origin: Option<Arc<CommandOrigin>>,
    /// When attempts began, and how many.
    pub tried: Tried,
    last_error: Option<Arc<str>>,
}

impl Effort {
    /// The attempts at the command at `position` before this start.
    pub fn restored(position: u64, site: &str, tried: Tried) -> Self {
        Self {
            position,
            site: site.into(),
            command: Arc::from(""),
            origin: None,
            tried,
            last_error: None,
        }
    }

    /// Whether these are the attempts at the command at `position`.
    pub fn is_of(&self, position: u64) -> bool {
        self.position == position
    }

    /// An attempt failed, if there is a reason: others were only abandoned.
    pub fn failed(&mut self, reason: Option<&Arc<str>>) {
        if let Some(reason) = reason {
            self.last_error = Some(Arc::clone(reason));
        }
    }

    /// The delivery has come to an end. `None` if it is not known why the command had to
    /// be given.
    pub fn end(self, end: DeliveryEnd) -> Option<SettledCommand> {
        let origin = self.origin?;
        Some(SettledCommand {
            tried: Some(self.tried),
            last_error: self.last_error,
            ..settled(&origin, self.position, self.site, self.command, end)
        })
    }
}

/// A command whose delivery has come to an end without an attempt.
fn settled(
    origin: &CommandOrigin,
    position: u64,
    site: Arc<str>,
    command: Arc<str>,
    end: DeliveryEnd,
) -> SettledCommand {
    SettledCommand {
        cause: origin.cause.clone(),
        position,
        site,
        command,
        due: origin.due,
        known: origin.known,
        tried: None,
        end,
        last_error: None,
    }
}

/// An attempt to send `event` begins.
pub(super) fn begin(effort: &mut Option<Box<Effort>>, event: &Event, now: DateTime<Utc>) {
    if event.family() != "site" {
        return;
    }
    match effort {
        Some(effort) if effort.is_of(event.position) => {
            effort.tried.last = now;
            effort.tried.count = effort.tried.count.saturating_add(1);
            effort.command = Arc::clone(&event.event_type);
            effort.origin.clone_from(&event.origin);
        }
        _ => {
            *effort = Some(Box::new(Effort {
                position: event.position,
                site: Arc::clone(&event.subject),
                command: Arc::clone(&event.event_type),
                origin: event.origin.clone(),
                tried: Tried {
                    first: now,
                    last: now,
                    count: 1,
                },
                last_error: None,
            }));
        }
    }
}

/// The delivery of `event` has come to an end, with the attempts at it or without any.
pub(super) fn end(
    effort: &mut Option<Box<Effort>>,
    event: &Event,
    end: DeliveryEnd,
) -> Option<SettledCommand> {
    let origin = event.origin.as_ref()?;
    let effort = effort.take_if(|effort| effort.is_of(event.position));
    let command = effort.as_ref().map(|effort| &effort.command);
    let sent = command.filter(|command| !command.is_empty());
    let command = Arc::clone(sent.unwrap_or(&event.event_type));
    let site = Arc::clone(&event.subject);
    Some(SettledCommand {
        tried: effort.as_ref().map(|effort| effort.tried),
        last_error: effort.and_then(|effort| effort.last_error),
        ..settled(origin, event.position, site, command, end)
    })
}
