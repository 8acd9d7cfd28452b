//! What the log says of polls and look-ups: the first poll, failures, and when the
//! schedule ceases to be true and is true again (rule R10). Nothing is said more often
//! than once a minute, however often it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Mono;
use crate::model::{DispatchId, Source};
use crate::seldom::{Seldom, Trouble, spoken};
use crate::voltus::ApiError;

/// How a poll failed.
#[derive(Debug)]
pub(super) struct PollFailure {
    /// The kind of failure.
    pub kind: &'static str,
    /// What went wrong.
    pub error: String,
    /// How long the API asked to be left alone.
    pub told_to_wait: Option<Duration>,
}

impl From<&ApiError> for PollFailure {
    fn from(error: &ApiError) -> Self {
        Self {
            kind: error.kind(),
            error: error.to_string(),
            told_to_wait: error.retry_after(),
        }
    }
}

/// Logs how the API does.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// A poll has succeeded since the start.
    polled: bool,
    /// Failed polls, by the kind of failure: a new kind is told at once.
    polls: BTreeMap<&'static str, Trouble>,
    look_ups: BTreeMap<&'static str, Seldom>,
    slow: Trouble,
    stale: Trouble,
}

impl Notices {
    /// A poll failed; the next one comes after `pause`.
    pub fn poll_failed(&mut self, failure: &PollFailure, pause: Duration, now: Mono) {
        if let Some(count) = self.polls.entry(failure.kind).or_default().lasts(now) {
            tracing::warn!(
                error = failure.error,
                count,
                next_try = %format_args!("in {}", spoken(pause)),
                "a poll failed"
            );
        }
    }

    /// A poll succeeded, whose list had so many `dispatches` and which took so long.
    pub fn poll_succeeded(&mut self, dispatches: usize, took: Duration, now: Mono) {
        if !std::mem::replace(&mut self.polled, true) {
            tracing::info!(
                dispatches,
                took = %spoken(took),
                "the first poll succeeded"
            );
        }
        let failed_for = self
            .polls
            .values_mut()
            .filter_map(|poll| poll.over(now))
            .max();
        match (self.stale.over(now), failed_for) {
            (Some(stale_for), _) => tracing::info!(
                stale_for = %spoken(stale_for),
                "a poll succeeded: the schedule can be trusted again"
            ),
            (None, Some(failed_for)) => {
                tracing::info!(failed_for = %spoken(failed_for), "polls succeed again");
            }
            (None, None) => {}
        }
    }

    /// The schedule is stale. Tells whether the log is to say so.
    pub fn is_news_of_stale(&mut self, now: Mono) -> bool {
        self.stale.begins(now)
    }

    /// A look-up of `id` failed.
    pub fn look_up_failed(&mut self, id: &DispatchId, source: Source, error: &ApiError, now: Mono) {
        if let Some(count) = self.look_ups.entry(error.kind()).or_default().count(now) {
            tracing::warn!(
                dispatch = %id,
                source = source.name(),
                %error,
                count,
                "a look-up failed"
            );
        }
    }

    /// Requests are slowed down because of `error`; the next look-up comes after
    /// `pause`.
    pub fn slowed_down(&mut self, error: &ApiError, pause: Duration, now: Mono) {
        if self.slow.lasts(now).is_some() {
            tracing::warn!(
                %error,
                next_try = %format_args!("in {}", spoken(pause)),
                "the API fails: all requests to it are slowed down"
            );
        }
    }

    /// Requests go at full speed again.
    pub fn at_full_speed(&mut self, now: Mono) {
        if let Some(slow_for) = self.slow.over(now) {
            tracing::info!(
                slow_for = %spoken(slow_for),
                "the API answers again: requests go at full speed"
            );
        }
    }
}
/// Logs that no poll has succeeded for `trust`, and so the schedule is stale. `error` is why,
/// `pause` the time until the next one.
pub(super) fn stale(trust: Duration, error: &str, pause: Duration) {
    tracing::error!(
        error,
        next_try = %format_args!("in {}", spoken(pause)),
        "no poll has succeeded for {}: the schedule is stale and may be wrong",
        humantime::format_duration(trust)
    );
}
