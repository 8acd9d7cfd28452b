//! Asks the API: which request goes next, and what its response means.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::answering::{Answering, RESEND_AFTER, unavailable};
use super::token_waiters::TokenWaiters;
use super::{Effect, Settings, WaiterReply};
use crate::clock::{Mono, Now};
use crate::engine::{Observation, Request, Schedule};
use crate::model::{Answer, Asked, DispatchId, Source};
use crate::sync::batch_builder::AnswerJob;
use crate::sync::budget::Budget;
use crate::sync::legibility::Legibility;
use crate::sync::look_again::LookAgain;
use crate::sync::look_ups::{LookUps, Why};
use crate::sync::notices::{Notices, PollFailure};
use crate::sync::numbering::Clocks;
use crate::sync::poller::Poller;
use crate::sync::request_log::RequestLog;
use crate::sync::slowdown::{Resource, Slowdown};
use crate::sync::waiters::Ticket;
use crate::voltus::{ApiClock, ApiError, ApiResponse, Question, Stamp};

/// A request that is under way.
#[derive(Debug)]
pub(super) enum Call {
    Poll,
    Dispatch(DispatchId),
}

/// What a response of the API leads to.
#[derive(Debug, Default)]
pub(super) struct ResponseResult {
    /// An observation to be taken into the schedule.
    pub job: Option<AnswerJob>,
    /// A poll failed with it.
    pub poll_failed: bool,
}

/// The requests to the API: what is due, what is under way, how fast they may go.
#[derive(Debug)]
pub(super) struct Asking<W> {
    term: u64,
    /// A list that a cache has kept for longer counts as no successful poll.
    trusted_age: Duration,
    pub poller: Poller,
    pub look_ups: LookUps,
    pub look_again: LookAgain,
    /// If a check and a repeated look-up are both due, the check goes next.
    doubt_is_next: bool,
    pub budget: Budget,
    pub slowdown: Slowdown,
    /// Since when requests are slowed down, UTC. `None` at full speed.
    pub slowed_since: Option<DateTime<Utc>>,
    /// The requests under way, and when each was issued.
    calls: BTreeMap<Asked, (Call, Now)>,
    asked: u64,
    request_log: RequestLog,
    /// What the last response that told the time says of the API's clock.
    api_clock: Option<ApiClock>,
    pub legibility: Legibility,
    /// What the log says of all this.
    pub notices: Notices,
    /// Requests of others that wait for a token.
    pub token_waiters: TokenWaiters<W>,
}

impl<W> Asking<W> {
    /// The first poll is due at once.
    pub fn new(settings: &Settings, term: u64, now: Mono) -> Self {
        let budget = Budget::new(settings.api_rate);
        Self {
            term,
            trusted_age: settings.poll_interval.saturating_mul(3),
            poller: Poller::new(settings.poll_interval, budget.period(), now),
            look_ups: LookUps::default(),
            look_again: LookAgain::new(settings.api_rate),
            doubt_is_next: true,
            budget,
            slowdown: Slowdown::new(settings.poll_interval),
            slowed_since: None,
            calls: BTreeMap::new(),
            asked: 0,
            request_log: RequestLog::default(),
            api_clock: None,
            legibility: Legibility::default(),
            notices: Notices::default(),
            token_waiters: TokenWaiters::default(),
        }
    }

    /// The first poll was issued at `issued`, when nobody had arrived yet.
    pub fn polled_at(&mut self, issued: Now) -> Asked {
        self.budget.advance(issued.mono);
        self.budget.take_for_poll();
        let asked = self.note(Call::Poll, issued);
        self.poller.issue(asked, issued, Ticket::default());
        asked
    }

    /// The request `asked`, if it is under way.
    pub fn call(&self, asked: Asked) -> Option<&Call> {
        self.calls.get(&asked).map(|(call, _)| call)
    }

    /// The wall clock at `now`, and the API's as far as it is known.
    pub fn clocks(&self, now: Now) -> Clocks {
        Clocks {
            wall: now.wall,
            api: self.api_clock.map(|clock| clock.time(now.mono)),
        }
    }

    /// The answer to those whose look-up cannot be sent in time.
    pub fn slowed_down(&self, now: Mono) -> WaiterReply {
        let wait = self.slowdown.next().saturating_sub(now);
        let reason = if self.slowdown.silent_until() > now {
            "the API asked for no requests for a while"
        } else {
            "the API fails, so it is asked less often"
        };
        WaiterReply::Unavailable {
            reason: reason.into(),
            retry_after: wait.max(RESEND_AFTER),
        }
    }

    /// Issues what is due and within the budget: polls first, then redirects,
    /// requests for the registration, and look-ups. Requests that have time go only
    /// when none of these waits. `newest` is the newest
    /// schedule. It is `None` while an observation waits to be taken in: no check
    /// is sent then, since that observation may end the doubt.
    pub fn issue_due(&mut self, newest: Option<&Schedule>, answering: &mut Answering<W>, now: Now) {
        if now.mono < self.slowdown.silent_until() {
            return;
        }
        self.issue_poll(answering, now);
        let (budget, slowdown) = (&mut self.budget, &mut self.slowdown);
        self.token_waiters
            .serve(budget, slowdown, answering, now.mono);
        while self.slowdown.allows(now.mono)
            && let Some((id, why)) = self.next_look_up(newest, answering, now.mono)
        {
            if !self.budget.take() {
                self.share_a_list(&id, answering, now);
                break;
            }
            if why == Why::LookAgain {
                self.look_again.issued(&id, now.mono);
            }
            self.look_ups.issue(&id, why);
            let question = Question::Dispatch(id.clone());
            self.issue(Call::Dispatch(id), question, answering, now);
        }
        if !self.look_ups.is_waited_for() {
            let (budget, slowdown) = (&mut self.budget, &self.slowdown);
            self.token_waiters.serve_spare(budget, slowdown, answering);
        }
    }

    /// The dispatch to look up next, if there is one: webhooks that wait go first,
    /// but for one look-up in four (rule R9).
    fn next_look_up(
        &mut self,
        newest: Option<&Schedule>,
        answering: &Answering<W>,
        now: Mono,
    ) -> Option<(DispatchId, Why)> {
        if !self.look_ups.has_room() {
            return None;
        }
        if self.look_ups.is_turn_of_checks()
            && let Some(check) = self.next_check(newest, now)
        {
            return Some(check);
        }
        let waits = |ticket| answering.waiters.waits(ticket);
        match self.look_ups.next_webhook(waits) {
            Some(id) => Some((id, Why::Webhook)),
            None => self.next_check(newest, now),
        }
    }

    /// The next look-up for which no webhook waits. Checks and repeated look-ups
    /// alternate.
    fn next_check(&mut self, newest: Option<&Schedule>, now: Mono) -> Option<(DispatchId, Why)> {
        let newest = newest?;
        let may = |id: &DispatchId| self.look_ups.may_check(id, now);
        let doubts = newest.checks_due(now);
        let mut doubts = doubts.filter(|id| self.look_ups.may_check_doubt(id, now));
        let again = self.look_again.next(now, may);
        match (doubts.next(), again) {
            (Some(id), again) if again.is_none() || self.doubt_is_next => {
                self.doubt_is_next = false;
                Some((id.clone(), Why::Check))
            }
            (_, again) => {
                self.doubt_is_next = true;
                again.map(|id| (id, Why::LookAgain))
            }
        }
    }

    /// More webhooks wait than there are tokens. One list can answer every webhook
    /// that came before the list was issued. A webhook that the list does not
    /// answer needs a look-up, so the next list comes later once the first webhook
    /// in line needs one. `first` is the dispatch of that webhook.
    fn share_a_list(&mut self, first: &DispatchId, answering: &mut Answering<W>, now: Now) {
        let first = self.look_ups.awaited_by(first);
        if first.is_some_and(|first| self.poller.may_answer(first)) {
            self.poller.at_once(now.mono);
        } else if self.poller.may_answer(self.look_ups.newest()) {
            self.poller.for_news(now.mono);
        }
        self.issue_poll(answering, now);
    }

    fn issue_poll(&mut self, answering: &mut Answering<W>, now: Now) {
        let due = self.poller.due().is_some_and(|due| due <= now.mono);
        if due && self.budget.take_for_poll() {
            let before = answering.waiters.next_ticket();
            let asked = self.issue(Call::Poll, Question::List, answering, now);
            self.poller.issue(asked, now, before);
        }
    }

    fn issue(
        &mut self,
        call: Call,
        question: Question,
        answering: &mut Answering<W>,
        now: Now,
    ) -> Asked {
        let asked = self.note(call, now);
        answering.effects.push(Effect::Ask { asked, question });
        asked
    }

    /// A request is under way from now on.
    fn note(&mut self, call: Call, now: Now) -> Asked {
        // Requests get even numbers. The odd number behind a request is the place
        // of a cached answer that was made after it (`RequestLog::order_at`).
        self.asked += 2;
        let asked = Asked {
            term: self.term,
            count: self.asked,
        };
        self.calls.insert(asked, (call, now));
        self.request_log.issued(asked, now.mono);
        self.slowdown.issued(now.mono);
        asked
    }

    /// Takes the response to the request `asked`, and tells what it leads to.
    /// Those whose look-up or poll failed with it are refused.
    pub fn take_response(
        &mut self,
        asked: Asked,
        result: Result<ApiResponse, ApiError>,
        answering: &mut Answering<W>,
        random: &mut SmallRng,
        now: Now,
    ) -> ResponseResult {
        let Some((call, issued)) = self.calls.remove(&asked) else {
            return ResponseResult::default();
        };
        let resource = match &call {
            Call::Poll => Resource::List,
            Call::Dispatch(id) => Resource::Dispatch(id.clone()),
        };
        self.adjust_pace(resource, issued.mono, result.as_ref().err(), random, now);
        let stamp = result.as_ref().map(|got| got.stamp).unwrap_or_default();
        self.api_clock = stamp.clock.or(self.api_clock);
        let request = self.request(asked, issued.mono, &stamp, now);
        match call {
            Call::Poll => {
                let request = request(Source::Poll);
                self.take_list((asked, issued), request, result, answering, random, now)
            }
            Call::Dispatch(id) => {
                let Some(look_up) = self.look_ups.ended(&id) else {
                    return ResponseResult::default();
                };
                let source = match look_up.why {
                    Why::Webhook | Why::LookAgain => Source::Webhook,
                    Why::Check => Source::Poll,
                };
                let tickets = look_up.tickets;
                if look_up.why == Why::Check && !stamp.age.is_zero() {
                    self.look_ups.check_cached(&id, now.mono);
                }
                let job = self.take_dispatch(&id, result, &tickets, source, answering, now.mono);
                ResponseResult {
                    job: job.map(|answer| AnswerJob {
                        asked,
                        asked_at: issued.wall,
                        answered_at: now.wall,
                        observation: Observation::Api {
                            request: request(source),
                            answer,
                        },
                        tickets: tickets
                            .into_iter()
                            .map(|ticket| (ticket, id.clone()))
                            .collect(),
                        poll: None,
                    }),
                    poll_failed: false,
                }
            }
        }
    }

    /// Slows requests down after `error`, or lets them go at full speed again (rule
    /// R9).
    pub fn adjust_pace(
        &mut self,
        resource: Resource,
        issued: Mono,
        error: Option<&ApiError>,
        random: &mut SmallRng,
        now: Now,
    ) {
        let was_slow = self.slowdown.is_slow();
        match error {
            None => self.slowdown.succeeded(issued, now.mono),
            Some(error) => {
                self.slowdown
                    .failed(resource, error, issued, now.mono, random.random());
            }
        }
        match (was_slow, error) {
            (false, Some(error)) if self.slowdown.is_slow() => {
                let pause = self.slowdown.next().saturating_sub(now.mono);
                self.notices.slowed_down(error, pause, now.mono);
                self.slowed_since = Some(now.wall);
            }
            (true, _) if !self.slowdown.is_slow() => {
                self.notices.at_full_speed(now.mono);
                self.slowed_since = None;
            }
            _ => {}
        }
    }

    /// The request that an answer counts for. An answer that a cache has kept gets
    /// the place at which the cache made it (rule R2).
    fn request(
        &self,
        asked: Asked,
        issued: Mono,
        stamp: &Stamp,
        now: Now,
    ) -> impl Fn(Source) -> Request + use<W> {
        let made = issued.checked_sub(stamp.age);
        let order = match made {
            Some(_) if stamp.age.is_zero() => asked,
            Some(made) => self.request_log.order_at(made),
            None => Asked::default(),
        };
        let clock_agrees = stamp.clock_agrees(now);
        move |source| Request {
            source,
            asked: order,
            issued: made.unwrap_or(Mono::ZERO),
            answered: now.mono,
            clock_agrees,
        }
    }

    fn take_list(
        &mut self,
        (asked, issued): (Asked, Now),
        request: Request,
        result: Result<ApiResponse, ApiError>,
        answering: &mut Answering<W>,
        random: &mut SmallRng,
        now: Now,
    ) -> ResponseResult {
        let Some(poll) = self.poller.under_way(asked) else {
            return ResponseResult::default();
        };
        let (before, first) = (poll.before, poll.first);
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                self.poll_failed(asked, &(&error).into(), answering, random, now);
                return ResponseResult {
                    job: None,
                    poll_failed: true,
                };
            }
        };
        if let (Answer::List(list), Some(poll)) = (&response.answer, self.poller.under_way(asked)) {
            poll.listed = list.readings().len() + list.nameless();
        }
        self.legibility.list(&response.problems, now.mono);
        let age = response.stamp.age;
        let too_old = age > self.trusted_age;
        let tickets = match &response.answer {
            // A list from a cache may be older than a webhook, so it answers none.
            Answer::List(list) if request.asked == asked => {
                self.look_ups.answered_by_list(before, |id| {
                    list.get(id).is_some_and(|reading| !reading.leaves_open())
                })
            }
            Answer::List(_) | Answer::Found(_) | Answer::Gone(_) => Vec::new(),
        };
        if too_old {
            let failure = PollFailure {
                kind: "cache",
                error: format!(
                    "a cache answered with a list that is {} old, more than three poll intervals",
                    humantime::format_duration(age)
                ),
                told_to_wait: None,
            };
            self.poll_failed(asked, &failure, answering, random, now);
        }
        // The list is too old to count as a poll. It is taken in all the same: it
        // may show a change.
        ResponseResult {
            job: Some(AnswerJob {
                asked,
                asked_at: issued.wall,
                answered_at: now.wall,
                observation: Observation::Api {
                    request,
                    answer: response.answer,
                },
                tickets,
                poll: (!too_old).then_some((asked, first)),
            }),
            poll_failed: too_old,
        }
    }

    fn take_dispatch(
        &mut self,
        id: &DispatchId,
        result: Result<ApiResponse, ApiError>,
        tickets: &[Ticket],
        source: Source,
        answering: &mut Answering<W>,
        now: Mono,
    ) -> Option<Answer> {
        match result {
            Ok(response) => {
                self.legibility.look_up(&response.problems, now);
                Some(response.answer)
            }
            Err(error) => {
                self.notices.look_up_failed(id, source, &error, now);
                self.look_ups.check_failed(id, now);
                if !tickets.is_empty() {
                    self.poller.soon(now);
                }
                let reason = error.to_string();
                for ticket in tickets {
                    answering.refuse(*ticket, &reason);
                }
                None
            }
        }
    }

    /// Ends the poll `asked` as failed. Returns `false` if it has already ended.
    pub fn poll_failed(
        &mut self,
        asked: Asked,
        failure: &PollFailure,
        answering: &mut Answering<W>,
        random: &mut SmallRng,
        now: Now,
    ) -> bool {
        let Some(poll) = self.poller.under_way(asked) else {
            return false;
        };
        for ticket in std::mem::take(&mut poll.tickets) {
            answering.refuse(ticket, &failure.error);
        }
        let error = failure.error.clone();
        self.poller
            .failed(now, random.random(), error, failure.told_to_wait);
        let pause = self.next_poll_in(now.mono);
        self.notices.poll_failed(failure, pause, now.mono);
        true
    }

    /// How long it is until the next poll.
    pub fn next_poll_in(&self, now: Mono) -> Duration {
        let next = self.poller.expected().max(self.slowdown.silent_until());
        next.saturating_sub(now)
    }

    /// The daemon stops: answers 503 to all whose request to the API was not sent.
    pub fn turn_away(&mut self, answering: &mut Answering<W>) {
        const REASON: &str = "dispatchd is stopping";
        let look_ups = self.look_ups.give_up();
        for ticket in look_ups.into_iter().chain(self.poller.give_up()) {
            answering.refuse(ticket, REASON);
        }
        for waiter in self.token_waiters.give_up() {
            answering.reply(waiter, unavailable(REASON));
        }
    }
}
