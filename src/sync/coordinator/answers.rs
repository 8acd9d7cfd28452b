//! What the API told, or did not.

use std::time::Duration;

use rand::RngExt;

use super::{Call, Coordinator};
use crate::clock::{Mono, Now};
use crate::engine::{Observation, Request};
use crate::model::{Answer, Asked, DispatchId, Source};
use crate::sync::fetcher::Why;
use crate::sync::slowdown::Resource;
use crate::sync::waiters::Ticket;
use crate::sync::writer::Job;
use crate::voltus::{ApiError, ApiResponse, Stamp};

impl<W> Coordinator<W> {
    pub(super) fn take_response(
        &mut self,
        asked: Asked,
        result: Result<ApiResponse, ApiError>,
        now: Now,
    ) {
        let Some((call, issued)) = self.calls.remove(&asked) else {
            return;
        };
        let resource = match &call {
            Call::Poll => Resource::List,
            Call::Dispatch(id) => Resource::Dispatch(id.clone()),
        };
        self.note_pace(resource, issued, result.as_ref().err(), now);
        let stamp = result.as_ref().map(|told| told.stamp).unwrap_or_default();
        if let Some(skew) = stamp.clock_skew {
            let there = now.wall.checked_add_signed(skew);
            self.api_clock = there.map(|there| (there, now.mono));
        }
        let request = self.request(asked, issued, &stamp, now);
        match call {
            Call::Poll => self.take_list(asked, request(Source::Poll), result, now),
            Call::Dispatch(id) => {
                let Some(look_up) = self.fetcher.ended(&id) else {
                    return;
                };
                let source = match look_up.why {
                    Why::Webhook | Why::LookAgain => Source::Webhook,
                    Why::Check => Source::Poll,
                };
                self.take_dispatch(asked, request(source), &id, look_up.tickets, result, now);
            }
        }
    }

    /// Slows requests down, or lets them go at full speed again (rule R9).
    pub(super) fn note_pace(
        &mut self,
        resource: Resource,
        issued: Mono,
        error: Option<&ApiError>,
        now: Now,
    ) {
        let was_slow = self.slowdown.is_slow();
        match error {
            None => self.slowdown.succeeded(issued, now.mono),
            Some(error) => {
                let random = self.random.random();
                self.slowdown
                    .failed(resource, error, issued, now.mono, random);
            }
        }
        match (was_slow, error) {
            (false, Some(error)) if self.slowdown.is_slow() => {
                tracing::warn!(%error, "the API fails: all requests to it are slowed down");
                self.slowed_since = Some(now.wall);
            }
            (true, _) if !self.slowdown.is_slow() => {
                tracing::info!("the API answers again: requests go at full speed");
                self.slowed_since = None;
            }
            _ => {}
        }
    }

    /// The request that an answer counts as an answer to. What a cache has kept
    /// answers no question that was asked after it was made (rule R2).
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
        let clock_agrees = stamp.clock_agrees();
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
        asked: Asked,
        request: Request,
        result: Result<ApiResponse, ApiError>,
        now: Now,
    ) {
        let Some(poll) = self.poller.under_way(asked) else {
            return;
        };
        let (before, first) = (poll.before, poll.first);
        match result {
            Ok(told) => {
                self.legibility.list(&told.problems);
                let limit = self.settings.poll_interval.saturating_mul(3);
                let too_old = told.stamp.age > limit;
                let tickets = match &told.answer {
                    // A list from a cache is older than whoever waits for it.
                    Answer::List(list) if request.asked == asked => {
                        self.fetcher.answered_by_list(before, |id| {
                            list.get(id).is_some_and(|reading| !reading.leaves_open())
                        })
                    }
                    Answer::List(_) | Answer::Found(_) | Answer::Gone(_) => Vec::new(),
                };
                // What an old list shows may be news all the same.
                self.queue.push_back(Job {
                    asked,
                    observation: Observation::Api {
                        request,
                        answer: told.answer,
                    },
                    tickets,
                    poll: (!too_old).then_some((asked, first)),
                });
                if too_old {
                    let error = format!(
                        "a cache answered with a list that is {} old, more than three poll intervals",
                        humantime::format_duration(told.stamp.age)
                    );
                    tracing::warn!(error, "a poll failed");
                    self.poll_failed(asked, error, None, now);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a poll failed");
                self.poll_failed(asked, error.to_string(), error.retry_after(), now);
            }
        }
    }

    fn take_dispatch(
        &mut self,
        asked: Asked,
        request: Request,
        id: &DispatchId,
        tickets: Vec<Ticket>,
        result: Result<ApiResponse, ApiError>,
        now: Now,
    ) {
        match result {
            Ok(told) => {
                self.legibility.look_up(&told.problems);
                self.queue.push_back(Job {
                    asked,
                    observation: Observation::Api {
                        request,
                        answer: told.answer,
                    },
                    tickets: tickets
                        .into_iter()
                        .map(|ticket| (ticket, id.clone()))
                        .collect(),
                    poll: None,
                });
            }
            Err(error) => {
                tracing::warn!(dispatch = %id, source = request.source.name(), %error, "a look-up failed");
                self.fetcher.check_failed(id, now.mono);
                if !tickets.is_empty() {
                    self.poller.soon(now.mono);
                }
                let reason = error.to_string();
                for ticket in tickets {
                    self.refuse(ticket, &reason);
                }
            }
        }
    }

    pub(super) fn poll_failed(
        &mut self,
        asked: Asked,
        error: String,
        told_to_wait: Option<Duration>,
        now: Now,
    ) {
        let Some(poll) = self.poller.under_way(asked) else {
            return;
        };
        for ticket in std::mem::take(&mut poll.tickets) {
            self.refuse(ticket, &error);
        }
        let random = self.random.random();
        self.poller.failed(now, random, error, told_to_wait);
        self.count_poll(false);
    }
}
