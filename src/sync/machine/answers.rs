//! What the API told, or did not.

use std::time::Duration;

use rand::RngExt;

use super::{Call, Machine};
use crate::clock::Now;
use crate::engine::{Answer, Observation, Request};
use crate::model::{Asked, DispatchId, Source};
use crate::retry::backoff;
use crate::sync::fetcher::Why;
use crate::sync::poller::LONGEST_PAUSE;
use crate::sync::waiters::Ticket;
use crate::sync::writer::Job;
use crate::voltus::{ApiError, Told};

impl<W> Machine<W> {
    pub(super) fn told(&mut self, asked: Asked, result: Result<Told, ApiError>, now: Now) {
        let Some((call, issued)) = self.calls.remove(&asked) else {
            return;
        };
        let request = |source| Request {
            source,
            asked,
            issued,
            answered: now.mono,
            clock_agrees: true,
        };
        if let Err(error) = &result {
            self.slow_down(error, now);
        } else {
            self.slowed = 0;
        }
        match call {
            Call::Poll => self.told_list(request(Source::Poll), result, now),
            Call::Dispatch(id) => {
                let Some(look_up) = self.fetcher.ended(&id) else {
                    return;
                };
                let source = match look_up.why {
                    Why::Webhook | Why::LookAgain => Source::Webhook,
                    Why::Check => Source::Poll,
                };
                self.told_dispatch(request(source), &id, look_up.tickets, result, now);
            }
        }
    }

    /// Every call rests when the API says that we are too fast (rule R9).
    fn slow_down(&mut self, error: &ApiError, now: Now) {
        let asked_for = error.retry_after();
        if !matches!(error, ApiError::TooFast { .. }) && asked_for.is_none() {
            return;
        }
        self.slowed = self.slowed.saturating_add(1);
        let ours = backoff(
            self.slowed,
            self.random.random(),
            Duration::from_secs(1),
            LONGEST_PAUSE.max(self.settings.poll_interval),
        );
        let until = now.mono + asked_for.unwrap_or(ours);
        self.paused_until = self.paused_until.max(until);
    }

    fn told_list(&mut self, request: Request, result: Result<Told, ApiError>, now: Now) {
        let asked = request.asked;
        let Some(poll) = self.poller.under_way(asked) else {
            return;
        };
        let (before, first) = (poll.before, poll.first);
        match result {
            Ok(told) => {
                self.legibility.list(&told.problems);
                let tickets = match &told.answer {
                    Answer::List(list) => self.fetcher.answered_by_list(before, |id| {
                        list.get(id).is_some_and(|reading| !reading.leaves_open())
                    }),
                    Answer::Found(_) | Answer::Gone(_) => Vec::new(),
                };
                self.queue.push_back(Job {
                    observation: Observation::Api {
                        request,
                        answer: told.answer,
                    },
                    tickets,
                    poll: Some((asked, first)),
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a poll failed");
                self.poll_failed(asked, error.to_string(), error.retry_after(), now);
            }
        }
    }

    fn told_dispatch(
        &mut self,
        request: Request,
        id: &DispatchId,
        tickets: Vec<Ticket>,
        result: Result<Told, ApiError>,
        now: Now,
    ) {
        match result {
            Ok(told) => {
                self.legibility.look_up(&told.problems);
                self.queue.push_back(Job {
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
        self.tally_poll(false);
    }
}
