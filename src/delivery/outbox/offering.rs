//! Takes in new events, each as the sink's route has it.

use std::borrow::Cow;

use super::queue::Place;
use super::reading::Advance;
use super::{Key, NEW_COMMAND_WITHIN, Outbox};
use crate::clock::{Mono, Now};
use crate::delivery::routing::{Announced, Announcement, Share};
use crate::model::{Event, SiteId};
use crate::store::Retry;

impl Outbox {
    /// Takes in events that are on disk now.
    pub fn offer(&mut self, announcement: &Announcement<'_>, now: Now) {
        let Some(newest) = announcement.events().last() else {
            return;
        };
        let newest = newest.event.position;
        for announced in announcement.concerning(&self.route, &self.beside_route) {
            let event = announced.event;
            if event.position <= self.window.head {
                announced.taken.set(true);
                continue;
            }
            // What lies between is not for this sink.
            let caught_up = self.window.is_caught_up();
            self.window.head = event.position;
            let share = announced.share(&self.route);
            if announced.is_site
                && let Some(command) = self.command_for(announced, &share)
            {
                announced.taken.set(true);
                self.offer_command(&command, announced.key(), now);
            }
            let later = if caught_up {
                matches!(
                    self.advance_to(announced, share),
                    Advance::Later | Advance::Full
                )
            } else {
                !announced.is_site
            };
            self.window.beyond += u64::from(later);
        }
        if newest > self.window.head {
            if self.window.is_caught_up() {
                self.pass_to(newest);
            }
            self.window.head = newest;
        }
    }

    /// The site's event as this sink gets it, if it does. A site that is not held for
    /// this sink is released here, if anything is known of it, or if it is told whatever is
    /// known.
    pub(super) fn command_for<'s>(
        &self,
        announced: &Announced<'_>,
        share: &'s Share<'_>,
    ) -> Option<Cow<'s, Event>> {
        match share {
            Share::Goes(event) => Some(Cow::Borrowed(event)),
            Share::Released
                if self.queues.contains_key(announced.key())
                    || (announced.event.unconditional && announced.is_site_of(&self.route)) =>
            {
                Some(Cow::Owned(announced.released()))
            }
            Share::Released | Share::Nothing => None,
        }
    }

    /// Sites that are to be told once more what they must do, because this sink's route
    /// is another than before.
    pub fn take_rerouted(&mut self) -> Vec<SiteId> {
        std::mem::take(&mut self.rerouted)
    }

    /// Those sites are told. The route is kept from now on.
    pub fn rerouted(&mut self) {
        if let Some(route) = self.new_route.take() {
            self.progress.route(route);
        }
    }

    /// Takes in a site's newest event.
    pub(super) fn offer_command(&mut self, event: &Event, key: &Key, now: Now) {
        self.refresh_superseded(key);
        let must_go = event.unconditional && event.is_release();
        self.window.hold(event, key, must_go);
        let queue = self.queue(key);
        let mut settled = Vec::new();
        let superseded = queue.push_command(event.clone(), &mut settled);
        let paused = queue.place == Place::Paused;
        if paused {
            queue.failures = 0;
        }
        let new_command_at = queue.new_command_at;
        self.settled(settled);
        for position in superseded {
            self.complete(position);
        }
        if paused {
            self.hurry(key, new_command_at.max(now.mono), now);
        }
        self.watch_wait(key, false, now);
        self.reach.hurry(NEW_COMMAND_WITHIN, now.mono);
        self.line_up(key);
    }

    /// Shortens the pause of a queue to end at `at`. Never makes it longer.
    fn hurry(&mut self, key: &Key, at: Mono, now: Now) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        if queue.due <= at || !self.paused.remove(&(queue.due, Key::clone(key))) {
            return;
        }
        queue.due = at;
        queue.pause_stored = true;
        self.paused.insert((at, Key::clone(key)));
        let retry = Retry {
            attempts: 0,
            at: now.wall + at.saturating_sub(now.mono),
            pause: NEW_COMMAND_WITHIN,
            tried: None,
        };
        self.progress.retry(key, Some(retry));
    }
}
