//! Reads pending events from the store as the window has room for them.

use std::collections::BTreeSet;

use super::window::{OF_A_SUBJECT, Read};
use super::{Key, Outbox};
use crate::clock::Now;
use crate::delivery::routing::{Announced, Share};
use crate::model::Event;
use crate::store::StoreError;

/// What became of an event that the cursor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// It is a site's command, or done with, or held already.
    Passed,
    /// It is not for this sink.
    Elsewhere,
    /// It is held now.
    Taken,
    /// It stays in the store until the earlier events of its subject are done with.
    Later,
    /// There is no room. The cursor has not moved.
    Full,
}

impl Outbox {
    /// A read that is to be made now, if one is.
    pub fn read(&mut self, now: Now) -> Option<Read> {
        let progress = &self.progress;
        self.window
            .read(now.mono, |position| progress.end_of_done(position))
    }

    /// A read has ended: these are the events, oldest first, or it failed.
    pub fn take_read(&mut self, result: Result<Vec<Event>, StoreError>, now: Now) {
        let Some((read, head)) = self.window.reading.take() else {
            return;
        };
        let mut events = match result {
            Ok(events) => events,
            Err(error) => {
                if self.window.read_failed(now.mono) {
                    tracing::error!(sink = &*self.name, %error, "pending events cannot be read; dispatchd tries again every second");
                }
                return;
            }
        };
        if self.window.read_succeeded(now.mono) {
            tracing::info!(sink = &*self.name, "pending events can be read again");
        }
        // The rest is on disk, and offered in a moment.
        let known = self.window.head;
        events.retain(|event| event.position <= known);
        let mut end = events.last().map_or(head, |event| event.position);
        let mut served = self.take_served(read.after, end);
        for announced in events.iter().map(Announced::new) {
            let key = announced.key();
            if served.contains(key) && !self.take_wanted(&announced, key) {
                served.remove(key);
            }
            if announced.event.position > self.window.cursor {
                let share = announced.share(&self.route);
                match self.advance_to(&announced, share) {
                    Advance::Passed | Advance::Later => {}
                    Advance::Taken | Advance::Elsewhere => {
                        self.window.beyond = self.window.beyond.saturating_sub(1);
                    }
                    Advance::Full => {
                        self.window.full = true;
                        end = self.window.cursor;
                        break;
                    }
                }
            }
        }
        self.pass_to(end);
        let caught_up = end >= self.window.cursor;
        for key in served {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.more_from = (!caught_up).then(|| end.saturating_add(1));
            }
            self.go_on(&key);
        }
    }

    /// The subjects that want more, all of which lies behind `after`: of those the
    /// page that ends at `end` shows something.
    fn take_served(&mut self, after: u64, end: u64) -> BTreeSet<Key> {
        let wanting = &mut self.window.wanting;
        let progress = &self.progress;
        let served: Vec<(u64, Key)> = wanting
            .iter()
            .take_while(|(from, _)| *from <= end)
            .filter(|(from, _)| progress.end_of_done(from.saturating_sub(1)) >= after)
            .cloned()
            .collect();
        for one in &served {
            wanting.remove(one);
        }
        served.into_iter().map(|(_, key)| key).collect()
    }

    /// Takes in an event of a subject that wants more. `false` if it takes no more,
    /// from this event on.
    fn take_wanted(&mut self, announced: &Announced<'_>, key: &Key) -> bool {
        let position = announced.event.position;
        if self.progress.is_done(position) || self.window.holds(position) {
            return true;
        }
        let Share::Goes(event) = announced.share(&self.route) else {
            self.progress.complete(position);
            self.window.beyond = self.window.beyond.saturating_sub(1);
            return true;
        };
        let room = self.window.has_room(event.data.get().len());
        let Some(queue) = self.queues.get_mut(key) else {
            return false;
        };
        if !queue.is_empty() && (queue.len() >= OF_A_SUBJECT || !room) {
            queue.more_from = Some(position);
            self.line_up(key);
            return false;
        }
        self.window.hold(&event, key, true);
        self.window.beyond = self.window.beyond.saturating_sub(1);
        queue.push(event.into_owned());
        true
    }

    /// Moves the cursor to an event, and takes the event in if it is pending.
    pub(super) fn advance_to(&mut self, announced: &Announced<'_>, share: Share<'_>) -> Advance {
        let position = announced.event.position;
        if announced.is_site {
            self.pass_to(position.saturating_sub(1));
            self.window.cursor = position;
            match share {
                Share::Goes(event) => self.pass_command(&event, announced.key()),
                // It is told whatever is known, and is done with when it was told.
                Share::Released if announced.event.unconditional && self.window.holds(position) => {
                }
                Share::Released | Share::Nothing => self.progress.pass(position, position),
            }
            return Advance::Passed;
        }
        let known = self.progress.is_done(position) || self.window.holds(position);
        if let Share::Goes(event) = &share
            && !known
            && !self.window.has_room(event.data.get().len())
        {
            return Advance::Full;
        }
        self.pass_to(position.saturating_sub(1));
        self.window.cursor = position;
        if known {
            return Advance::Passed;
        }
        let Share::Goes(event) = share else {
            // Written down, so that another route of the next start brings nothing old.
            self.progress.complete(position);
            return Advance::Elsewhere;
        };
        let key = announced.key();
        let queue = self.queues.entry(Key::clone(key)).or_default();
        let full = queue.len() >= OF_A_SUBJECT || (queue.trouble.is_some() && !queue.is_empty());
        if full || queue.more_from.is_some() {
            queue.more_from.get_or_insert(position);
            return Advance::Later;
        }
        self.window.hold(&event, key, true);
        queue.push(event.into_owned());
        self.line_up(key);
        Advance::Taken
    }

    /// Nothing that is to be delivered lies between the cursor and `position`.
    pub(super) fn pass_to(&mut self, position: u64) {
        let first = self.window.cursor.saturating_add(1);
        self.progress.pass(first, position);
        self.window.cursor = self.window.cursor.max(position);
    }

    /// The cursor came to a site's command. Commands are level-triggered: it need
    /// not be delivered, unless it is an unconditional release that was never
    /// attempted.
    fn pass_command(&mut self, event: &Event, key: &Key) {
        let position = event.position;
        // A curtail is owed as long as it is the newest event, and that is known from the
        // start.
        if !event.unconditional || !event.is_release() {
            self.progress.pass(position, position);
            return;
        }
        if self.progress.is_done(position) || self.window.holds(position) {
            return;
        }
        self.note_beside_route(key);
        let queue = self.queues.entry(Key::clone(key)).or_default();
        let before = self.attempted_before.get(key);
        if queue.attempted().is_some() || before.is_some_and(|before| *before >= position) {
            self.progress.pass(position, position);
            return;
        }
        self.window.hold(event, key, true);
        if queue.is_empty() {
            // The newest command is a release too, which need not be sent.
            queue.push(event.clone());
            self.line_up(key);
        } else if let Some(earlier) = queue.owe(position) {
            self.complete(earlier);
        }
    }
}
