//! Decides what one sink is sent next (rule R6). Pure.
//!
//! The [`Outbox`] holds a *subject queue* for each subject with something pending.
//! Everything follows from the queue's place: idle, ready, recording, under way or
//! paused. A queue has one attempt under way at most, so that its events go in
//! order; it fails, pauses and recovers by itself, so that it is in nobody's way.
//! Whether the receiver can be reached at all is a matter of the sink, not of a
//! subject: see [`reach`].
//!
//! | file | what it decides |
//! |---|---|
//! | [`opening`] | what an outbox knows at a start |
//! | [`offering`] | what it takes in of new events |
//! | [`queue`] | what a subject queue sends next |
//! | [`command`] | which command a site gets, if any |
//! | [`effort`] | how the attempts at it went, until its delivery comes to an end |
//! | [`ready`] | whose turn it is |
//! | [`pace`] | how many attempts may begin while other sinks begin theirs |
//! | [`places`] | how many attempts are under way, and which one gives way |
//! | [`reach`] | whether the receiver is down, and when it is probed |
//! | [`ended`] | what follows from an attempt's result |
//! | [`window`], [`reading`] | what is held in memory, and what is read when |
//! | [`refresh`] | what is sent once more after a new connection |
//! | [`progress`], [`recording`] | what is done with, and when that is written |
//! | [`untold`] | which sites wait for a command that was due |
//! | [`health`], [`pending`] | what operators see and may skip |
//!
//! `dispatch.*` and `sync.*` events are all delivered. Site commands are
//! level-triggered: a site's queue holds its newest event alone, and what is sent
//! is the difference to what was last attempted at this sink. A command is written
//! down as attempted before it is attempted, so that a crash in between cannot
//! leave a site curtailed that nobody would release.

mod command;
mod effort;
mod ended;
mod health;
mod offering;
mod opening;
mod pace;
mod pending;
mod places;
mod progress;
mod queue;
mod ranges;
mod reach;
mod reading;
mod ready;
mod recording;
mod refresh;
mod untold;
mod window;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Mono, Now};
use crate::model::{Event, Route, SiteId};
use crate::retry::RETRY_AFTER_MAX;
use crate::store::SettledCommand;

pub use health::{RefusedEvent, SinkCondition, SinkHealth};
pub use pace::Shares;
pub use pending::{PendingEvent, Skipped};
pub use refresh::{RefreshPage, RefreshRead};
pub use untold::Untold;
pub use window::Read;

use health::HealthBook;
use places::Places;
use progress::Progress;
use queue::{Next, Place, SubjectQueue};
use reach::{Allowance, Reach};
use ready::{ReadyQueues, Turn};
use refresh::Refresh;
use untold::UntoldSites;
use window::Window;

/// A site's new command goes at most five seconds after the last attempt of its
/// older one, also during the older one's pause.
const NEW_COMMAND_WITHIN: Duration = Duration::from_secs(5);

/// The longest pause of a site's command, whatever the receiver asks for.
const COMMAND_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The key of a subject queue: family and subject.
type Key = Arc<str>;

/// An attempt to be made.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its number, to be given back with its result.
    pub attempt: u64,
    /// What to deliver.
    pub events: Vec<Event>,
}

/// What one sink is still to get.
#[derive(Debug)]
pub struct Outbox {
    name: Key,
    /// Which events the sink gets.
    route: Route,
    /// The route as it is to be kept, if it is another than before.
    new_route: Option<Arc<str>>,
    /// Whether it had another route before this start.
    is_rerouted: bool,
    /// Sites that it takes and did not take before, or the other way round.
    rerouted: Vec<SiteId>,
    queues: HashMap<Key, SubjectQueue>,
    /// Those of sites whose ids the route does not take. Their events concern the sink,
    /// whatever the sites are called.
    beside_route: HashSet<Key>,
    ready: ReadyQueues,
    /// Paused queues, by when they may go again.
    paused: BTreeSet<(Mono, Key)>,
    /// Queues whose next command is to be recorded with the next commit.
    to_record: Vec<Key>,
    /// Queues whose command is recorded by the commit under way.
    recording: Vec<Key>,
    places: Places,
    /// How many attempts may be fresh: as many as there are places, unless [`Shares`] says
    /// otherwise.
    share: usize,
    reach: Reach,
    /// Until then other events wait for the site commands that are ready or under
    /// way: the receiver is back after it was down.
    commands_first: Mono,
    /// Whether no command may go now.
    commands_held: bool,
    window: Window,
    progress: Progress,
    health: HealthBook,
    refresh: Refresh,
    untold: UntoldSites,
    /// Attempts to be abandoned by whoever makes them.
    abandoned: Vec<u64>,
    /// The newest command that was attempted at each site before this start. A
    /// release no newer than it is not owed, even if a crash lost that fact.
    attempted_before: HashMap<Key, u64>,
}

impl Outbox {
    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every event up to this position is done with: acknowledged, superseded or
    /// skipped. Of a site, the newest event may be pending all the same.
    pub fn done(&self) -> u64 {
        self.progress.done()
    }

    /// The event at `position` is done with.
    fn complete(&mut self, position: u64) {
        let Some(held) = self.window.release(position) else {
            return;
        };
        if held.must_go {
            self.progress.complete(position);
            if SubjectQueue::site_of(&held.key).is_some() {
                // An unconditional release is done with. The next commit stores
                // all progress, so that the release does not go out again after a
                // crash.
                self.progress.store_all();
            }
        }
    }

    /// The delivery of these commands has come to an end.
    fn settled(&mut self, commands: Vec<SettledCommand>) {
        for command in commands {
            self.progress.settled(command);
        }
    }

    /// The queue of a subject, new if there is none.
    fn queue(&mut self, key: &Key) -> &mut SubjectQueue {
        self.note_beside_route(key);
        self.queues.entry(Key::clone(key)).or_default()
    }

    /// Remembers the queue of a site whose id the route does not take.
    fn note_beside_route(&mut self, key: &Key) {
        if let Some(site) = SubjectQueue::site_of(key)
            && !self.route.commands_site(site, "")
        {
            self.beside_route.insert(Key::clone(key));
        }
    }

    /// Puts an idle queue in line, if it has something to send.
    fn line_up(&mut self, key: &Key) {
        if let Some(queue) = self.queues.get_mut(key)
            && queue.place == Place::Idle
            && !queue.is_empty()
        {
            queue.place = Place::Ready;
            self.ready.push(Key::clone(key), queue.failures > 0);
        }
    }

    /// Puts the queue at the front of its line.
    fn line_up_first(&mut self, key: &Key) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.place = Place::Idle;
            if !queue.is_empty() {
                queue.place = Place::Ready;
                self.ready.push_first(Key::clone(key), queue.failures > 0);
            }
        }
    }

    /// Holds back all site commands, or lets them go again: the schedule that they
    /// follow from may not be caught up.
    pub fn hold_commands(&mut self, held: bool) {
        self.commands_held = held;
    }

    /// The attempts that may start now.
    pub fn start(&mut self, now: Now) -> Vec<Start> {
        self.end_pauses(now.mono);
        while let Some(attempt) = self.places.late_batch(now.mono) {
            self.abandon_batch(attempt);
        }
        if self.reach.advance(now.mono) {
            self.is_back(now);
        }
        let mut starts = Vec::new();
        loop {
            let allowance = self.reach.allowance(now.mono, self.places.oldest());
            let most = match allowance {
                Allowance::None => break,
                Allowance::One => 1,
                Allowance::All if !self.has_share(now.mono) => break,
                Allowance::All if self.places.is_full() && !self.make_room(now) => break,
                Allowance::All => self.places.next_batch(),
            };
            let one = allowance == Allowance::One;
            let recording = self.is_recording();
            let turn = if self.commands_held {
                Turn::Events
            } else if one && recording {
                if self.reach.is_down() {
                    // While the receiver is down, at most one command is recorded
                    // at a time.
                    break;
                }
                Turn::Events
            } else if now.mono >= self.commands_first {
                Turn::Any
            } else if recording || self.places.has_commands() {
                Turn::Commands
            } else {
                Turn::CommandsFirst
            };
            let (keys, events) = self.pick(most, one, turn, now);
            if events.is_empty() {
                // The picked command must be recorded first: try another event.
                if one && turn == Turn::Any && self.is_recording() {
                    continue;
                }
                break;
            }
            let attempt = self.places.begin(keys, now.mono);
            self.reach.begins(attempt, now.mono);
            starts.push(Start { attempt, events });
        }
        starts
    }

    fn is_recording(&self) -> bool {
        !self.to_record.is_empty() || !self.recording.is_empty()
    }

    /// Abandons the attempt that has hung longest, but only for a subject whose
    /// last attempt did not fail: at a receiver that is slow with everything,
    /// nothing would ever be delivered otherwise. Returns whether there is room
    /// now.
    fn make_room(&mut self, now: Now) -> bool {
        let victim = self.places.to_give_way(now.mono);
        match victim.filter(|_| self.ready.has_fresh()) {
            Some(attempt) => {
                self.abandon_hanging(attempt, now);
                !self.places.is_full()
            }
            None => false,
        }
    }

    /// Lets the queues whose pause is over line up.
    fn end_pauses(&mut self, now: Mono) {
        while let Some((at, _)) = self.paused.first()
            && *at <= now
            && let Some((_, key)) = self.paused.pop_first()
        {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.place = Place::Idle;
            }
            self.line_up(&key);
            self.tidy(&key);
        }
    }

    /// Events that may go together: of each subject the next one, `most` at most.
    /// With `one_record`, at most one command is taken up to be written down.
    fn pick(
        &mut self,
        most: usize,
        one_record: bool,
        mut turn: Turn,
        now: Now,
    ) -> (Vec<Key>, Vec<Event>) {
        let mut keys: Vec<Key> = Vec::new();
        let mut events = Vec::new();
        let mut most = most;
        while events.len() < most {
            let key = match keys.first() {
                None => self.ready.pop(turn),
                Some(first) => self.ready.pop_like(SubjectQueue::site_of(first).is_some()),
            };
            let Some(key) = key else { break };
            let Some(queue) = self.queues.get_mut(&key) else {
                continue;
            };
            if queue.alone || queue.failures > 0 || queue.trouble.is_some() {
                if !events.is_empty() {
                    // What shares a batch comes from the line of those that did not fail.
                    self.ready.push_first(key, false);
                    break;
                }
                most = 1;
            }
            match queue.next() {
                Next::Send(event) => {
                    let owed = queue.set_out(&event, now.wall);
                    self.tries(&key);
                    keys.push(key);
                    events.push(event);
                    if let Some(position) = owed {
                        self.complete(position);
                    }
                }
                Next::RecordFirst => {
                    queue.place = Place::Recording;
                    self.to_record.push(key);
                    if turn == Turn::CommandsFirst {
                        turn = Turn::Commands;
                    }
                    if one_record {
                        break;
                    }
                }
                Next::Nothing {
                    superseded,
                    taken_back,
                } => {
                    queue.place = Place::Idle;
                    let attempted = queue.attempted();
                    if let Some(site) = SubjectQueue::site_of(&key).filter(|_| taken_back) {
                        self.progress.attempted(site, attempted);
                    }
                    for position in superseded {
                        self.complete(position);
                    }
                    self.recovered(&key);
                    self.watch_wait(&key, false, now);
                    self.tidy(&key);
                }
            }
        }
        (keys, events)
    }

    /// Attempts that are to be abandoned: their results count no more.
    pub fn take_abandoned(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.abandoned)
    }

    /// Forgets a queue that holds nothing worth remembering.
    fn tidy(&mut self, key: &Key) {
        if self.queues.get(key).is_some_and(SubjectQueue::is_blank) {
            self.queues.remove(key);
            self.beside_route.remove(key);
        }
    }

    /// When something is to be started, abandoned or read, if nothing happens
    /// before.
    pub fn next_due(&self, now: Mono) -> Option<Mono> {
        let pause = self.paused.first().map(|(at, _)| *at);
        let waits = !self.ready.is_empty();
        let room = self.ready.has_fresh() && self.places.is_full();
        let due = [
            pause,
            self.places.batch_late_at(),
            self.reach.more_at(self.places.oldest()).filter(|_| waits),
            self.places.gives_way_at().filter(|_| room),
            self.share_at(now),
            self.mute_at(now),
            Some(self.window.read_at()),
            self.refresh_due(now),
            Some(self.commands_first).filter(|_| waits),
        ];
        due.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether nothing is under way, and all that was done is written down.
    pub fn is_at_rest(&self) -> bool {
        self.places.is_empty() && !self.has_news()
    }

    /// Notes what time it is.
    pub fn advance(&mut self, now: Now) {
        self.progress.advance(now.mono);
        self.advance_health(now.mono);
        self.advance_waits(now);
    }

    /// Somebody has looked whether the receiver is there, and says why nothing can be
    /// delivered if nothing can.
    pub fn probed(&mut self, result: Result<(), String>, now: Now) {
        self.health.probed(result);
        self.advance_health(now.mono);
    }

    /// Brings the sink's condition up to date, and logs its changes.
    fn advance_health(&mut self, now: Mono) {
        if let Some(news) = self.health.advance(now) {
            let (subject, _) = self.health.latest();
            let paused = self.queues.get(subject);
            let paused = paused.filter(|queue| queue.place == Place::Paused);
            let next_try = paused.map(|queue| queue.due).or_else(|| self.next_due(now));
            let next_try = next_try.map(|at| at.saturating_sub(now));
            self.health.log(news, next_try);
        }
    }

    /// How deliveries to the sink stand.
    pub fn health(&self) -> SinkHealth {
        let (pending, oldest_pending) = self.window.pending();
        SinkHealth {
            pending,
            oldest_pending,
            untold: self.untold.sites.clone(),
            ..self.health.health.clone()
        }
    }
}

/// The longest pause of a subject, whatever the receiver asks for.
fn longest_pause(key: &str) -> Duration {
    match SubjectQueue::site_of(key) {
        Some(_) => COMMAND_PAUSE_MAX,
        None => RETRY_AFTER_MAX,
    }
}

#[cfg(test)]
mod tests;
