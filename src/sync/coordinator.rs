//! What to do next, given what happened and what time it is.

mod answers;
mod asking;
mod commits;
mod messages;
mod outboxes;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::budget::Budget;
use super::counters::Counters;
use super::fetcher::Fetcher;
use super::heals::Heals;
use super::health::{Health, SlowedDown, View};
use super::legibility::Legibility;
use super::look_again::LookAgain;
use super::numbering::{Clocks, Numbering};
use super::poller::Poller;
use super::request_log::RequestLog;
use super::skips::Skips;
use super::slowdown::{Resource, Slowdown};
use super::waiters::{Ticket, Waiters};
use super::writer::{BatchBuilder, Committed, Job, UnderWay};
use crate::clock::{Mono, Now, wall_after};
use crate::delivery::Outbox;
use crate::engine::{Rules, Schedule, SitePlan};
use crate::model::{Asked, DispatchId};
use crate::seldom::Seldom;
use crate::store::{SinkRecord, Stored};

pub use messages::{Effect, Input, WebhookOutcome};
pub use outboxes::{PendingRequest, SinkPending, SkipRequest};

/// How many may wait at once. More are told to come back.
const MOST_WAITING: usize = 4096;

/// How long whoever asks for a poll by hand waits for it. Longer than a list
/// may take.
const POLL_PATIENCE: Duration = Duration::from_secs(65);

/// The wall clock is looked at this often, whatever is due (rule R4).
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// A longer time between two steps means that the daemon stood still, as in a suspend.
const STOOD_STILL: Duration = Duration::from_secs(3);

/// When old events of sites and of the daemon are let go first: not while the
/// start has better things to write.
const FIRST_FORGET: Duration = Duration::from_secs(300);

/// A jump of the wall clock by more than this is worth a line in the log.
const CLOCK_JUMP: TimeDelta = TimeDelta::seconds(5);

/// What the operator decides about the coordinator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time between two polls.
    pub poll_interval: Duration,
    /// The longest that a webhook waits for its answer.
    pub webhook_deadline: Duration,
    /// Requests to the API in a minute, at most.
    pub api_rate: NonZeroU32,
    /// What the engine goes by.
    pub rules: Rules,
}

#[derive(Debug)]
enum Call {
    Poll,
    Dispatch(DispatchId),
}

#[derive(Debug, Default)]
struct Counts {
    outdated: u64,
    rewinds: u64,
}

/// The state machine around the engine. It does no I/O.
#[derive(Debug)]
pub struct Coordinator<W> {
    settings: Settings,
    store_id: Arc<str>,
    term: u64,
    committed: Committed,
    writing: Option<UnderWay>,
    /// What is to be written next, on top of that.
    building: Option<BatchBuilder>,
    queue: VecDeque<Job>,
    outboxes: Vec<Outbox>,
    skips: Skips<W>,
    /// What is written down of deliveries by the commit under way.
    records: Vec<Option<SinkRecord>>,
    waiters: Waiters<W>,
    /// Those who wait for leave to ask the API something else.
    token_waiters: VecDeque<W>,
    /// Those who wait for leave to follow a redirect of the API.
    redirects: VecDeque<W>,
    poller: Poller,
    fetcher: Fetcher,
    look_again: LookAgain,
    /// Of a doubt and a look-up that follows a webhook, the doubt is next.
    doubt_is_next: bool,
    budget: Budget,
    heals: Heals,
    /// The requests under way, and when each was issued.
    calls: BTreeMap<Asked, (Call, Mono)>,
    asked: u64,
    /// The time that the API's last answer showed, UTC, and when it came.
    api_clock: Option<(DateTime<Utc>, Mono)>,
    request_log: RequestLog,
    slowdown: Slowdown,
    /// Since when requests are slowed down, UTC. `None` at full speed.
    slowed_since: Option<DateTime<Utc>>,
    random: SmallRng,
    store_error: Option<String>,
    write_not_before: Mono,
    forget_at: Mono,
    counts: Counts,
    /// Shared with the readers' views, and copied only while one is held.
    counters: Arc<Counters>,
    legibility: Legibility,
    /// Lower numbers that were shown: a lagging replica shows them at every poll.
    lower_numbers: Seldom,
    last_now: Now,
    stopping: bool,
    /// Whether all that has come due since the start, or since the daemon last stood
    /// still, is taken in. Until then no command goes to a site: it may be over.
    caught_up: bool,
    effects: Vec<Effect<W>>,
}

impl<W> Coordinator<W> {
    /// Goes on from what was stored. The first poll is due at once.
    pub fn new(
        settings: Settings,
        stored: Stored,
        outboxes: Vec<Outbox>,
        now: Now,
        seed: u64,
    ) -> Self {
        let schedule = Schedule::restore(stored.entries, stored.revision);
        let committed = Committed {
            plan: SitePlan::restore(&schedule, stored.sites, now.wall, &settings.rules),
            schedule,
            numbering: Numbering::new(stored.term, stored.position),
            sync: stored.sync,
            as_of: now.wall,
        };
        let budget = Budget::new(settings.api_rate);
        Self {
            store_id: stored.id,
            term: stored.term,
            committed,
            writing: None,
            building: None,
            queue: VecDeque::new(),
            records: outboxes.iter().map(|_| None).collect(),
            outboxes,
            skips: Skips::default(),
            waiters: Waiters::new(),
            token_waiters: VecDeque::new(),
            redirects: VecDeque::new(),
            poller: Poller::new(settings.poll_interval, budget.period(), now.mono),
            fetcher: Fetcher::default(),
            look_again: LookAgain::new(settings.api_rate),
            doubt_is_next: true,
            budget,
            heals: Heals::default(),
            calls: BTreeMap::new(),
            asked: 0,
            api_clock: None,
            request_log: RequestLog::default(),
            slowdown: Slowdown::new(settings.poll_interval),
            slowed_since: None,
            random: SmallRng::seed_from_u64(seed),
            store_error: None,
            write_not_before: Mono::ZERO,
            forget_at: now.mono.saturating_add(FIRST_FORGET),
            counts: Counts::default(),
            counters: Arc::default(),
            legibility: Legibility::default(),
            lower_numbers: Seldom::default(),
            last_now: now,
            stopping: false,
            caught_up: false,
            effects: Vec::new(),
            settings,
        }
    }

    /// Takes in what happened by `now`, and says what is to be done.
    pub fn step(&mut self, now: Now, inputs: impl IntoIterator<Item = Input<W>>) -> Vec<Effect<W>> {
        self.look_at_clock(now);
        self.budget.advance(now.mono);
        self.heals.advance(now.mono);
        for input in inputs {
            self.take_in(input, now);
        }
        self.answer_late(now);
        self.deliver(now);
        self.write(now);
        if !self.caught_up && self.is_caught_up(now) {
            self.caught_up = true;
            self.deliver(now);
        }
        if self.stopping {
            self.turn_away();
        } else {
            self.ask(now);
        }
        std::mem::take(&mut self.effects)
    }

    /// When to step again if nothing happens before. Later than the last step,
    /// unless there is a chunk to prepare: what else is overdue waits for
    /// something that is considered by itself, a token or the end of a commit.
    pub fn next_wake(&self) -> Mono {
        let now = self.last_now;
        if self.has_chunk() {
            return now.mono;
        }
        let mut wake = now.mono.saturating_add(LOOK_AT_CLOCK);
        let mut consider = |at: Option<Mono>| {
            let ahead = at.filter(|at| *at > now.mono);
            wake = wake.min(ahead.unwrap_or(Mono::MAX));
        };
        consider(self.waiters.first_deadline());
        consider(self.budget.next_token());
        consider(self.committed.schedule.next_check());
        consider(self.look_again.next_due());
        let silent_until = self.slowdown.silent_until();
        consider(self.poller.due().map(|due| due.max(silent_until)));
        consider(Some(self.slowdown.next()));
        for outbox in &self.outboxes {
            consider(outbox.next_due(now.mono));
        }
        if self.writing.is_none() {
            let due = self.committed.next_due();
            let due = due.map(|due| {
                let ahead = (due - now.wall).to_std().unwrap_or_default();
                now.mono.saturating_add(ahead)
            });
            consider(due.map(|due| due.max(self.write_not_before)));
            if !self.committed.sync.stale {
                consider(Some(self.stale_at().max(self.write_not_before)));
            }
            for outbox in &self.outboxes {
                let due = outbox.write_due();
                consider(due.map(|due| due.max(self.write_not_before)));
            }
        }
        wake
    }

    /// What readers may see now.
    pub fn view(&self) -> View {
        let now = self.last_now;
        let next_poll = self.poller.expected().max(self.slowdown.silent_until());
        View {
            schedule: self.committed.schedule.clone(),
            plan: self.committed.plan.clone(),
            position: self.committed.numbering.position(),
            as_of: self.committed.as_of,
            sinks: self.outboxes.iter().map(Outbox::health).collect(),
            health: Arc::new(Health {
                poll_interval: self.settings.poll_interval,
                polls_succeeded: self.poller.succeeded,
                polls_failed: self.poller.failed,
                last_poll: self.poller.last.clone(),
                last_success: self.committed.sync.last_poll,
                last_success_mono: self.poller.last_success.map(|at| at.mono),
                next_poll: wall_after(now.wall, next_poll.saturating_sub(now.mono)),
                slowed_down: self.shown_slowdown(),
                heals: self.heals.heals,
                missed_webhooks: self.heals.missed,
                outdated: self.counts.outdated,
                unreadable: self.legibility.totals,
                unreadable_now: Arc::clone(&self.legibility.now),
                rewinds: self.counts.rewinds,
                look_again_dropped: self.look_again.dropped,
                store_error: self.store_error.clone(),
                counters: Arc::clone(&self.counters),
            }),
        }
    }

    fn shown_slowdown(&self) -> Option<SlowedDown> {
        let now = self.last_now;
        let wall = |at: Mono| wall_after(now.wall, at.saturating_sub(now.mono));
        let silent_until = self.slowdown.silent_until();
        self.slowed_since.map(|since| SlowedDown {
            since,
            reason: self.slowdown.reason(),
            next_request: wall(self.slowdown.next()),
            silent_until: (silent_until > now.mono).then(|| wall(silent_until)),
            good_answers_needed: self.slowdown.good_answers_needed(),
        })
    }

    /// Begins nothing new from now on: no question, no attempt to deliver.
    /// Whoever waits for something that has not begun is told to come back.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing is under way for which somebody waits, and all that was
    /// done is written down.
    pub fn is_at_rest(&self) -> bool {
        self.waiters.is_empty()
            && self.writing.is_none()
            && self.building.is_none()
            && self.queue.is_empty()
            && self.outboxes.iter().all(Outbox::is_at_rest)
    }

    /// Whether nothing that has come due waits to be taken in, or cannot be now: what
    /// was told before goes on while the store fails.
    fn is_caught_up(&self, now: Now) -> bool {
        let due = self.committed.next_due().is_some_and(|due| due <= now.wall);
        !due || self.store_error.is_some()
    }

    fn look_at_clock(&mut self, now: Now) {
        let passed = now.mono.saturating_sub(self.last_now.mono);
        if passed > STOOD_STILL {
            self.caught_up = false;
        }
        let passed = TimeDelta::from_std(passed);
        let jump = (now.wall - self.last_now.wall) - passed.unwrap_or_default();
        if jump.abs() > CLOCK_JUMP {
            tracing::warn!(
                seconds = jump.num_seconds(),
                "the wall clock jumped, or the machine slept; polling to catch up"
            );
            self.poller.for_news(now.mono);
        }
        self.last_now = now;
    }

    /// Starts what may be delivered now.
    fn deliver(&mut self, now: Now) {
        for (sink, outbox) in self.outboxes.iter_mut().enumerate() {
            outbox.advance(now);
            if self.stopping {
                continue;
            }
            outbox.hold_commands(!self.caught_up);
            let starts = outbox.start(now);
            let abandoned = outbox.take_abandoned().into_iter();
            let read = outbox.read(now).into_iter();
            let refresh = outbox.refresh_read(now).into_iter();
            self.effects
                .extend(abandoned.map(|attempt| Effect::Abandon { sink, attempt }));
            self.effects.extend(
                starts
                    .into_iter()
                    .map(|start| Effect::Attempt { sink, start }),
            );
            self.effects
                .extend(read.map(|read| Effect::ReadPending { sink, read }));
            self.effects
                .extend(refresh.map(|read| Effect::ReadRefresh { sink, read }));
        }
    }

    fn take_in(&mut self, input: Input<W>, now: Now) {
        match input {
            Input::Webhook { id, waiter } => self.webhook(&id, waiter, now),
            Input::Poll { waiter } => self.poll_by_hand(waiter, now),
            Input::Token { waiter } => self.token_waiters.push_back(waiter),
            Input::Redirect { waiter } => self.redirects.push_back(waiter),
            Input::Response { asked, result } => self.take_response(asked, result, now),
            Input::Registered { issued, result } => {
                self.note_pace(Resource::Registration, issued, result.as_ref().err(), now);
            }
            Input::Committed(result) => self.commit_ended(result, now),
            Input::Attempted {
                sink,
                attempt,
                result,
            } => {
                let random = self.random.random();
                if let Some(outbox) = self.outboxes.get_mut(sink) {
                    outbox.ended(attempt, &result, now, random);
                }
            }
            Input::PendingRead { sink, result } => {
                if let Some(outbox) = self.outboxes.get_mut(sink) {
                    outbox.take_read(result, now);
                }
            }
            Input::Connected { sink } => {
                if let Some(outbox) = self.outboxes.get_mut(sink) {
                    outbox.connected(now);
                }
            }
            Input::RefreshRead { sink, result } => {
                if let Some(outbox) = self.outboxes.get_mut(sink) {
                    outbox.take_refresh(result, now);
                }
            }
            Input::ListPending { request, waiter } => self.list_pending(&request, waiter, now),
            Input::Skip { request, waiter } => self.skip(&request, waiter, now),
        }
    }

    fn webhook(&mut self, id: &DispatchId, waiter: W, now: Now) {
        self.heals.webhook(id, now.mono);
        let deadline = now.mono.saturating_add(self.settings.webhook_deadline);
        if self.waiters.len() >= MOST_WAITING {
            self.reply(waiter, WebhookOutcome::Busy);
        } else if self.slowdown.next() >= deadline {
            self.poller.soon(now.mono);
            self.reply(waiter, self.slowed_down(now));
        } else {
            let ticket = self.waiters.add(waiter, deadline);
            self.fetcher.want(id, ticket);
        }
    }

    fn poll_by_hand(&mut self, waiter: W, now: Now) {
        if self.waiters.len() >= MOST_WAITING {
            self.reply(waiter, WebhookOutcome::Busy);
        } else if self.slowdown.silent_until() > now.mono {
            self.reply(waiter, self.slowed_down(now));
        } else {
            let deadline = now.mono.saturating_add(POLL_PATIENCE);
            let ticket = self.waiters.add(waiter, deadline);
            self.poller.ask(ticket);
        }
    }

    /// The answer to those whose look-up cannot be sent in time.
    fn slowed_down(&self, now: Now) -> WebhookOutcome {
        let wait = self.slowdown.next().saturating_sub(now.mono);
        let reason = if self.slowdown.silent_until() > now.mono {
            "the API asked to be left alone for a while"
        } else {
            "the API fails, so it is asked less often"
        };
        WebhookOutcome::Unavailable {
            reason: reason.into(),
            retry_after: wait.max(RESEND_AFTER),
        }
    }

    /// Those whose deadline has passed. What they wait for goes on.
    fn answer_late(&mut self, now: Now) {
        let late = self.waiters.take_late(now.mono);
        if !late.is_empty() {
            self.poller.soon(now.mono);
        }
        for waiter in late {
            let outcome = if self.slowdown.next() > now.mono {
                self.slowed_down(now)
            } else {
                unavailable("it took too long")
            };
            self.reply(waiter, outcome);
        }
    }

    /// The wall clock at `now`, and the API's as far as it is known.
    fn clocks(&self, now: Now) -> Clocks {
        let api = self.api_clock.and_then(|(date, came)| {
            let since = TimeDelta::from_std(now.mono.saturating_sub(came)).ok()?;
            date.checked_add_signed(since)
        });
        Clocks {
            wall: now.wall,
            api,
        }
    }

    fn stale_at(&self) -> Mono {
        let last = self.poller.last_success.map_or(Mono::ZERO, |at| at.mono);
        last.saturating_add(self.settings.poll_interval.saturating_mul(3))
    }

    /// Tells those to come back whose request to the API is not sent any more.
    fn turn_away(&mut self) {
        const REASON: &str = "dispatchd is stopping";
        let look_ups = self.fetcher.give_up();
        for ticket in look_ups.into_iter().chain(self.poller.give_up()) {
            self.refuse(ticket, REASON);
        }
        while let Some(waiter) = self
            .redirects
            .pop_front()
            .or_else(|| self.token_waiters.pop_front())
        {
            self.reply(waiter, unavailable(REASON));
        }
    }

    fn refuse(&mut self, ticket: Ticket, reason: &str) {
        self.answer(ticket, unavailable(reason));
    }

    fn answer(&mut self, ticket: Ticket, outcome: WebhookOutcome) {
        if let Some(waiter) = self.waiters.take(ticket) {
            self.reply(waiter, outcome);
        }
    }

    fn reply(&mut self, waiter: W, outcome: WebhookOutcome) {
        self.effects.push(Effect::Reply { waiter, outcome });
    }
}

/// Voltus resends by itself; a second is what its first resend waits.
const RESEND_AFTER: Duration = Duration::from_secs(1);

fn unavailable(reason: &str) -> WebhookOutcome {
    WebhookOutcome::Unavailable {
        reason: reason.to_owned(),
        retry_after: RESEND_AFTER,
    }
}

#[cfg(test)]
mod tests;
