//! Metrics of webhooks, polls, requests to the API and the disk.

use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Unit;

use super::page::{Metric, Page, one};
use crate::clock::Now;
use crate::http::{Cut, Places};
use crate::listener::{Answered, Traffic};
use crate::status::health::is_ready;
use crate::store::LogHealth;
use crate::sync::{Health, State, Taken};
use crate::voltus::Signals;

const BUILD: Metric = Metric::plain("build", "The version that runs.");
const READY: Metric = Metric::plain(
    "ready",
    "Whether the schedule can be trusted, as /readyz says: 1 if a poll has succeeded within three intervals, the store takes writes, and this daemon knows that it leads. On a standby: whether it may take over.",
);
const STALE: Metric = Metric::plain(
    "stale",
    "1 while no poll has succeeded for three intervals: the schedule may be wrong.",
);
const WRITABLE: Metric = Metric::plain(
    "store_writable",
    "1 while the state takes writes. While it does not, or while this daemon does not know whether it still leads, webhooks are answered 503.",
);

const WEBHOOKS: Metric = Metric::plain(
    "webhooks",
    "Webhooks by outcome: accepted (200), ignored (200, about something that is no dispatch), rejected (4xx), failed (503: it is sent again), wrong_path (404: posted to a wrong path or with a wrong secret; not among those that came).",
);
const PASSED_ON: Metric = Metric::plain(
    "webhooks_passed_on",
    "Webhooks that came while this daemon stood by, and that the leader has answered. They are counted in dispatchd_webhooks here and there: a sum over all daemons less these counts each once.",
);
const WEBHOOK_TIME: Metric = Metric::seconds(
    "webhook",
    "How long webhooks waited for their answer, from the whole body on, by outcome.",
);
const WEBHOOK_LAST: Metric = Metric::seconds(
    "webhook_last_timestamp",
    "When a webhook last came, of whatever outcome. Left out before the first one.",
);

const CONNECTIONS: Metric = Metric::plain(
    "connections",
    "Connections that are open, by listener: webhooks, status.",
);
const CUT: Metric = Metric::plain(
    "connections_cut",
    "Connections closed or not served for want of places or time, by listener and reason: gave_way (the longest idle one, when a new one needed its place), turned_away (its peer had all places that one peer may have, all busy: answered 503), stalled (its peer did not read an answer for 15 s).",
);

const POLLS: Metric = Metric::plain("polls", "Polls by outcome: succeeded, failed.");
const POLL_TIME: Metric = Metric::seconds(
    "poll",
    "How long polls took, from the question to the commit, by outcome.",
);
const POLL_INTERVAL: Metric = Metric::seconds("poll_interval", "The time between two polls.");
const POLL_SUCCESS: Metric = Metric::seconds(
    "poll_last_success_timestamp",
    "When a poll last succeeded, also before this start. 0 if none ever did.",
);

const REQUESTS: Metric = Metric::plain(
    "api_requests",
    "Requests to the API by kind (list, dispatch, registration, sites) and by how they ended: a status, a class of statuses, or what went wrong.",
);
const REQUEST_TIME: Metric = Metric::seconds(
    "api_request",
    "How long requests to the API took, body and all, by kind.",
);
const REMAINING: Metric = Metric::plain(
    "api_ratelimit_remaining",
    "x-ratelimit-remaining of the API's newest answer. Left out until it told any.",
);
const SKEW: Metric = Metric::seconds(
    "clock_skew",
    "The Date of the API's newest answer less the wall clock when it came. The API tells whole seconds, so clocks that agree show -1 to 0. Left out until it told any.",
);

const SLOWED: Metric = Metric::plain(
    "api_slowed_down",
    "1 while requests to the API are slowed down because it fails or asks for fewer. Three good answers in a row bring full speed back.",
);

const COMMITS: Metric = Metric::plain("store_commits", "Commits by outcome: ok, failed.");
const COMMIT_TIME: Metric = Metric::seconds(
    "store_commit",
    "How long commits took until they were safe on disk, those that failed too.",
);

const LOG_SIZE: Metric = Metric {
    name: "store_log",
    unit: Some(Unit::Bytes),
    help: "Size of the state file's write-ahead log when it was last looked at.",
};
const LOG_HELD: Metric = Metric::plain(
    "store_log_held",
    "1 while the write-ahead log cannot be folded into the state file, for over a minute: another program holds a transaction open, and the log grows.",
);

const DUE: Metric = Metric::plain(
    "due_commands",
    "Commands of sites that are due and cannot be sent, since what told of them is not stored.",
);

/// What runs.
pub(super) fn build(page: &mut Page<'_>) -> fmt::Result {
    page.info(&BUILD, &[("version", env!("CARGO_PKG_VERSION"))])
}

/// Whether `/readyz` says so.
pub(super) fn ready(page: &mut Page<'_>, ready: bool) -> fmt::Result {
    page.gauge(&READY, one(flag(ready)))
}

/// Whether it can be relied on.
pub(super) fn health(page: &mut Page<'_>, health: &Health, now: Now) -> fmt::Result {
    let state = health.state(now.mono);
    let writable = health.unwritten(now).is_none();
    ready(page, is_ready(health, now))?;
    page.gauge(&STALE, one(flag(state == State::Stale)))?;
    page.gauge(&WRITABLE, one(flag(writable)))?;
    page.gauge(&DUE, one(health.due_commands.len()))
}

/// What the listener did.
pub(super) fn webhooks(page: &mut Page<'_>, traffic: &Traffic) -> fmt::Result {
    let labels = |answered: Answered| [("outcome", answered.name())];
    let counts = Answered::ALL.map(|answered| (labels(answered), traffic.counted(answered)));
    page.counter(&WEBHOOKS, counts)?;
    page.counter(&PASSED_ON, one(traffic.passed_on()))?;
    let seconds = Answered::RECEIVED.map(|answered| (labels(answered), traffic.seconds(answered)));
    page.histogram(
        &WEBHOOK_TIME,
        seconds.iter().map(|(labels, seconds)| (*labels, seconds)),
    )?;
    let last = traffic.last_at().map(unix_seconds);
    page.gauge(&WEBHOOK_LAST, last.into_iter().flat_map(one))
}

/// Who is connected.
pub(super) fn connections(page: &mut Page<'_>, listeners: &[Arc<Places>]) -> fmt::Result {
    let taken = listeners
        .iter()
        .map(|places| ([("listener", places.name())], places.taken() as u64));
    page.gauge(&CONNECTIONS, taken)?;
    let cut = listeners.iter().flat_map(|places| {
        Cut::ALL.map(|why| {
            (
                [("listener", places.name()), ("reason", why.name())],
                places.cut(why),
            )
        })
    });
    page.counter(&CUT, cut)
}

/// What the poller did.
pub(super) fn polls(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    page.counter(
        &POLLS,
        [
            ([("outcome", "succeeded")], health.polls_succeeded),
            ([("outcome", "failed")], health.polls_failed),
        ],
    )?;
    let times = health.counters.polls.iter();
    page.histogram(
        &POLL_TIME,
        times.map(|(outcome, seconds)| ([("outcome", *outcome)], seconds)),
    )?;
    page.gauge(&SLOWED, one(flag(health.slowed_down.is_some())))?;
    page.gauge(&POLL_INTERVAL, one(health.poll_interval.as_secs_f64()))?;
    let success = health.last_success.map_or(0.0, unix_seconds);
    page.gauge(&POLL_SUCCESS, one(success))
}

/// What was asked of the API.
pub(super) fn requests(page: &mut Page<'_>, taken: &Taken, signals: &Signals) -> fmt::Result {
    let counts = taken.requests.iter();
    page.counter(
        &REQUESTS,
        counts.map(|((kind, status), count)| ([("kind", *kind), ("status", *status)], *count)),
    )?;
    let times = taken.request_seconds.iter();
    page.histogram(
        &REQUEST_TIME,
        times.map(|(kind, seconds)| ([("kind", *kind)], seconds)),
    )?;
    page.gauge(&REMAINING, signals.remaining().into_iter().flat_map(one))?;
    let skew = signals.clock_skew().map(|skew| skew.as_seconds_f64());
    page.gauge(&SKEW, skew.into_iter().flat_map(one))
}

/// What was written to disk.
pub(super) fn commits(page: &mut Page<'_>, taken: &Taken) -> fmt::Result {
    let counts = taken.commits.iter();
    page.counter(
        &COMMITS,
        counts.map(|(outcome, count)| ([("outcome", *outcome)], *count)),
    )?;
    page.histogram(
        &COMMIT_TIME,
        one(()).map(|(labels, ())| (labels, &taken.commit_seconds)),
    )
}

/// How the state file's log stands.
pub(super) fn log(page: &mut Page<'_>, log: &LogHealth) -> fmt::Result {
    page.gauge(&LOG_SIZE, one(log.bytes()))?;
    page.gauge(&LOG_HELD, one(flag(log.is_held())))
}

fn flag(holds: bool) -> u64 {
    u64::from(holds)
}

fn unix_seconds(at: chrono::DateTime<chrono::Utc>) -> f64 {
    (at - chrono::DateTime::UNIX_EPOCH).as_seconds_f64()
}
