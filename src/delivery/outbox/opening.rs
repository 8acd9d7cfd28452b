//! Makes an outbox of what is stored.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::effort::Effort;
use super::health::HealthBook;
use super::places::Places;
use super::progress::Progress;
use super::queue::{Place, SubjectQueue};
use super::reach::Reach;
use super::ready::ReadyQueues;
use super::refresh::Refresh;
use super::untold::UntoldSites;
use super::window::Window;
use super::{Key, NEW_COMMAND_WITHIN, Outbox, command, longest_pause};
use crate::clock::{Mono, Now};
use crate::delivery::Sink;
use crate::delivery::routing::Announced;
use crate::model::{Event, Route, SiteId};
use crate::store::SinkState;

impl Outbox {
    /// An outbox for `sink`, as `state` left it. `head` is the newest position,
    /// `beyond` the number of pending `dispatch.*` and `sync.*` events up to it, if
    /// all of them go to the sink. A sink that is new gets none of them.
    pub fn new(
        sink: &dyn Sink,
        route: &Route,
        state: Option<SinkState>,
        head: u64,
        beyond: u64,
        now: Now,
    ) -> Self {
        let text: Arc<str> = route.text().into();
        let is_known = state.is_some();
        let state = state.unwrap_or(SinkState {
            done: head,
            ..SinkState::default()
        });
        let before = state.route.clone();
        let before = before.unwrap_or_else(|| Route::default().text().into());
        let queue = |(site, last): (&Arc<str>, &_)| {
            let key = SubjectQueue::key_of_site(site);
            (key, SubjectQueue::of_site(*last))
        };
        let progress = Progress::new(sink.name(), &state);
        let mut outbox = Self {
            name: sink.name().into(),
            route: route.clone(),
            is_rerouted: is_known && before != text,
            new_route: (before != text).then_some(text),
            rerouted: Vec::new(),
            queues: state.attempted.iter().map(queue).collect(),
            beside_route: HashSet::new(),
            ready: ReadyQueues::default(),
            paused: BTreeSet::new(),
            to_record: Vec::new(),
            recording: Vec::new(),
            places: Places::new(sink.at_once(), sink.batch()),
            share: usize::MAX,
            reach: Reach::default(),
            commands_first: Mono::ZERO,
            commands_held: false,
            window: Window::new(progress.done(), head, beyond),
            progress,
            health: HealthBook::new(sink.name()),
            refresh: Refresh::default(),
            untold: UntoldSites::default(),
            abandoned: Vec::new(),
            attempted_before: state
                .attempted
                .iter()
                .map(|(site, last)| (SubjectQueue::key_of_site(site), last.position))
                .collect(),
        };
        for (key, retry) in state.retries {
            let queue = outbox.queues.entry(Key::clone(&key)).or_default();
            queue.failures = retry.attempts;
            queue.place = Place::Paused;
            if let Some(site) = SubjectQueue::site_of(&key)
                && let (Some(tried), Some(last)) = (retry.tried, queue.attempted())
            {
                queue.effort = Some(Box::new(Effort::restored(last.position, site, tried)));
            }
            // A clock that was set back makes no pause longer.
            let left = (retry.at - now.wall).to_std().unwrap_or_default();
            let left = left.min(retry.pause);
            let ago = retry.pause - left;
            queue.new_command_at = now.mono + NEW_COMMAND_WITHIN.saturating_sub(ago);
            queue.due = now.mono + left.min(longest_pause(&key));
            queue.pause_stored = true;
            outbox.paused.insert((queue.due, key));
        }
        let known: Vec<Key> = outbox.queues.keys().cloned().collect();
        for key in known {
            outbox.note_beside_route(&key);
        }
        outbox
    }

    /// At a start: takes in the newest event of a site, if this sink has not
    /// acknowledged what it asks for.
    ///
    /// If the route is another than before, a curtailed site that the sink is to hear
    /// of, or of which it is to hear no more, waits for an event of its own: the newest
    /// one may be as old as what the receiver knows.
    pub fn offer_site(&mut self, announced: &Announced<'_>, now: Now) {
        let share = announced.share(&self.route);
        let Some(event) = self.command_for(announced, &share) else {
            return;
        };
        let queue = self.queues.get(announced.key());
        let attempted = queue.and_then(SubjectQueue::attempted);
        let lost = event.is_release() && !announced.event.is_release();
        let curtailed = attempted.is_some_and(|attempted| attempted.curtailed);
        // A release may have gone out by this very event.
        let released = attempted.is_some_and(|attempted| attempted.position == event.position);
        let gained = !event.is_release() && !curtailed && (self.is_rerouted || released);
        if (lost && attempted.is_some()) || gained {
            self.rerouted.extend(SiteId::new(&event.subject));
            return;
        }
        let unconditional = event.unconditional && !self.progress.is_done(event.position);
        if unconditional || command::command(&unforced(&event), attempted, false).is_some() {
            self.offer_command(&event, announced.key(), now);
        }
    }
}

/// A site's event as if nothing made it unconditional.
fn unforced(event: &Event) -> Event {
    Event {
        unconditional: false,
        ..event.clone()
    }
}
