//! What readers may know of the coordinator.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Counters, PollReport};
use crate::clock::{Mono, Now};
use crate::delivery::SinkHealth;
use crate::engine::{Schedule, SitePlan};
use crate::model::Event;
use crate::voltus::{Problems, Unreadable};

/// Whether the schedule can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No poll has succeeded yet.
    Starting,
    /// A poll has succeeded within three intervals.
    Fresh,
    /// None has: the schedule may be wrong (rule R10).
    Stale,
}

impl State {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
        }
    }
}

/// How requests to the API are slowed down because it fails (rule R9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowedDown {
    /// Since when, UTC.
    pub since: DateTime<Utc>,
    /// The last failure that counted.
    pub reason: Arc<str>,
    /// When the next look-up or request for the registration may be sent, UTC. Due
    /// polls keep to times of their own.
    pub next_request: DateTime<Utc>,
    /// Until when nothing at all is sent because the API asked for that, UTC. `None`
    /// if it did not, or the time has passed.
    pub silent_until: Option<DateTime<Utc>>,
    /// How many good answers in a row bring full speed back.
    pub good_answers_needed: u32,
}

/// How the coordinator is doing.
#[derive(Debug, Clone)]
pub struct Health {
    /// The time between two polls.
    pub poll_interval: Duration,
    /// Polls that succeeded since the start.
    pub polls_succeeded: u64,
    /// Polls that failed since the start.
    pub polls_failed: u64,
    /// How the last poll ended. `None` until the first one has.
    pub last_poll: Option<PollReport>,
    /// When a poll last succeeded: UTC, also before this start.
    pub last_success: Option<DateTime<Utc>>,
    /// When a poll last succeeded in this start, on the clock that never jumps.
    pub last_success_mono: Option<Mono>,
    /// When this daemon began to poll, on that clock.
    pub began: Mono,
    /// When the next poll is expected, UTC.
    pub next_poll: DateTime<Utc>,
    /// How requests to the API are slowed down because it fails. `None` at full
    /// speed.
    pub slowed_down: Option<SlowedDown>,
    /// Changes that the poller found and no webhook brought.
    pub heals: u64,
    /// Those for whose id no webhook came within a minute.
    pub missed_webhooks: u64,
    /// The same while no webhook has come since the start although one is registered.
    /// 0 once one has come.
    pub unannounced: u64,
    /// The same while no webhook has come since the start, whether one is registered or
    /// not. 0 once one has come.
    pub polled_only: u64,
    /// How the registration of the webhook stands. `None` if the daemon keeps none.
    pub registration: Option<RegistrationHealth>,
    /// Answers that came too late to count.
    pub outdated: u64,
    /// Parts of answers that could not be read since the start, counted in every
    /// answer.
    pub unreadable: Unreadable,
    /// Parts of the last list, and of look-ups since then, that cannot be read.
    pub unreadable_now: Arc<Problems>,
    /// Times that a lower number was taken over.
    pub rewinds: u64,
    /// Webhooks after which nothing was looked up again, since too many waited.
    pub look_again_dropped: u64,
    /// Why the store takes no writes, if it does not.
    pub store_error: Option<String>,
    /// Commands of sites that are due and cannot be sent, since what told of them is not
    /// stored or the daemon does not know whether it leads. Of each site the newest one.
    pub due_commands: Arc<[Event]>,
    /// Commands of sites since the start that went to no sink, since no route takes
    /// their sites.
    pub unrouted_commands: u64,
    /// The last of them.
    pub last_unrouted: Option<Event>,
    /// Until when this daemon knows that it leads. [`Mono::MAX`] where no other can.
    pub trusted_until: Mono,
    /// What was done since the start.
    pub counters: Arc<Counters>,
}

/// How the registration of the webhook stands that the daemon keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationHealth {
    /// It has been seen at the API, or was made there.
    pub registered: bool,
    /// Why the last look at it failed, if it did.
    pub error: Option<String>,
}

impl Health {
    /// How long after a poll the schedule can be trusted.
    pub fn trust(&self) -> Duration {
        self.poll_interval.saturating_mul(3)
    }

    /// Since when this daemon does not know whether it still leads, UTC. `None` if it
    /// knows at `now`.
    pub fn suspended_since(&self, now: Now) -> Option<DateTime<Utc>> {
        let since = now.mono.checked_sub(self.trusted_until)?;
        let since = TimeDelta::from_std(since).ok();
        Some(
            since
                .and_then(|since| now.wall.checked_sub_signed(since))
                .unwrap_or(now.wall),
        )
    }

    /// Why nothing is written at `now`: the store takes no writes, or this daemon is
    /// suspended, and begins no commit before it knows that it leads.
    pub fn unwritten(&self, now: Now) -> Option<String> {
        let suspended = self.suspended_since(now).map(|_| {
            "this daemon does not know whether it still leads, and writes nothing before it does"
                .to_owned()
        });
        self.store_error.clone().or(suspended)
    }

    /// Why no poll has succeeded since the last that did.
    pub fn why_no_poll(&self) -> Cow<'_, str> {
        let last = self.last_poll.as_ref();
        if let Some(error) = last.and_then(|poll| poll.error.as_deref()) {
            return error.into();
        }
        if let Some(slow) = &self.slowed_down
            && let Some(until) = slow.silent_until
        {
            let until = until.format("%FT%TZ");
            return format!(
                "the API asked for no requests until {until}: {}",
                slow.reason
            )
            .into();
        }
        match last {
            Some(_) => "none has ended since then".into(),
            None => "none has ended yet".into(),
        }
    }

    /// Whether the schedule can be trusted at `now`.
    pub fn state(&self, now: Mono) -> State {
        match self.last_success_mono {
            Some(last) if now.saturating_sub(last) < self.trust() => State::Fresh,
            Some(_) => State::Stale,
            None if now.saturating_sub(self.began) < self.trust() => State::Starting,
            None => State::Stale,
        }
    }
}

/// What readers see: one committed state, and how the coordinator was doing then
/// (rule R13).
#[derive(Debug, Clone)]
pub struct View {
    /// The schedule.
    pub schedule: Schedule,
    /// What each site must do.
    pub plan: SitePlan,
    /// The position of the last event.
    pub position: u64,
    /// How deliveries stand, by sink.
    pub sinks: Vec<SinkHealth>,
    /// The time up to which the schedule was brought, UTC.
    pub as_of: DateTime<Utc>,
    /// How the coordinator is doing.
    pub health: Arc<Health>,
}
