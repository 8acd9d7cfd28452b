//! How deliveries stand, by sink. There are as many sinks as the operator has
//! configured, and their names hold no secret.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::page::{Metric, Page};
use crate::delivery::SinkHealth;

const PENDING: Metric = Metric::plain(
    "outbox_pending",
    "Events that a sink is still to get, by sink.",
);
const OLDEST: Metric = Metric::seconds(
    "outbox_oldest_age",
    "How long ago the oldest of those happened; 0 if there is none, by sink.",
);
const EVENTS: Metric = Metric::plain("delivered_events", "Events that were delivered, by sink.");
const ATTEMPTS: Metric = Metric::plain(
    "delivery_attempts",
    "Attempts to deliver by sink and outcome: delivered, failed (tried again), refused (the sink wants no more until a restart).",
);
const FAILING: Metric = Metric::plain(
    "sink_failing",
    "1 while every attempt has failed for five minutes, by sink.",
);
const REFUSED: Metric = Metric::plain(
    "sink_refused",
    "1 once the receiver wants no more events: nothing is sent there until dispatchd is started again, by sink.",
);

pub(super) fn sinks(page: &mut Page<'_>, sinks: &[SinkHealth], now: DateTime<Utc>) -> fmt::Result {
    page.gauge(&PENDING, each(sinks, |sink| sink.pending))?;
    page.gauge(&OLDEST, each(sinks, |sink| oldest_age(sink, now)))?;
    page.counter(&EVENTS, each(sinks, |sink| sink.delivered))?;
    page.counter(&ATTEMPTS, sinks.iter().flat_map(attempts))?;
    page.gauge(&FAILING, each(sinks, |sink| u64::from(sink.failing)))?;
    page.gauge(&REFUSED, each(sinks, |sink| u64::from(sink.refused)))
}

fn each<V>(
    sinks: &[SinkHealth],
    value: impl Fn(&SinkHealth) -> V,
) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
    sinks
        .iter()
        .map(move |sink| ([("sink", sink.name.as_str())], value(sink)))
}

fn attempts(sink: &SinkHealth) -> [([(&'static str, &str); 2], u64); 3] {
    let failed = sink.failed_attempts.saturating_sub(sink.refused_attempts);
    [
        ("delivered", sink.delivered_attempts),
        ("failed", failed),
        ("refused", sink.refused_attempts),
    ]
    .map(|(outcome, count)| ([("sink", sink.name.as_str()), ("outcome", outcome)], count))
}

fn oldest_age(sink: &SinkHealth, now: DateTime<Utc>) -> f64 {
    let age = sink.oldest_pending.map(|since| now - since);
    age.unwrap_or_default()
        .max(TimeDelta::zero())
        .as_seconds_f64()
}
