//! How deliveries stand, by sink. There are as many sinks as the operator has
//! configured, and their names hold no secret.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::page::{Metric, Page, one};
use crate::delivery::{SinkCondition, SinkHealth};
use crate::status::routing::Unrouted;

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
    "Attempts to deliver by sink and outcome: delivered, failed, unreachable (no connection could be made), abandoned (it hung, or its batch took too long). All but the delivered ones are tried again.",
);
const FAILING: Metric = Metric::plain(
    "sink_failing",
    "1 while attempts fail and nothing has been delivered for five minutes, or no connection can be made, by sink.",
);
const PAUSED: Metric = Metric::plain(
    "sink_paused",
    "1 while the receiver goes on answering 410: it wants no more events, and is tried all the same, by sink.",
);
const FAILING_SUBJECTS: Metric = Metric::plain(
    "sink_failing_subjects",
    "Dispatches and sites whose last attempt failed, by sink.",
);
const REFUSED: Metric = Metric::plain(
    "sink_refused_events",
    "Events that failed five times in a row or more and hold up their subject, at most ten, by sink.",
);

const UNTOLD: Metric = Metric::plain(
    "untold_sites",
    "Sites with a due command, none of which the receiver has acknowledged for ten seconds, by sink.",
);
const UNROUTED: Metric = Metric::plain(
    "unrouted_sites",
    "Sites of live dispatches whose commands go to no sink: nobody is told what to do there.",
);
const UNROUTED_ACTIVE: Metric = Metric::plain(
    "unrouted_active_sites",
    "Those of them that an active dispatch calls on: they must curtail now, and nobody is told.",
);
const UNROUTED_COMMANDS: Metric = Metric::plain(
    "unrouted_commands",
    "Commands of sites since the start that went to no sink, since no route takes their sites.",
);
const STATE: Metric = Metric::plain(
    "sink_state",
    "1 for the state that a sink is in (ok, retrying, failing, paused), 0 for the others, by sink and state.",
);

pub(super) fn unrouted(page: &mut Page<'_>, unrouted: &Unrouted, commands: u64) -> fmt::Result {
    page.gauge(&UNROUTED, one(unrouted.sites))?;
    page.gauge(&UNROUTED_ACTIVE, one(unrouted.active))?;
    page.counter(&UNROUTED_COMMANDS, one(commands))
}

pub(super) fn sinks(page: &mut Page<'_>, sinks: &[SinkHealth], now: DateTime<Utc>) -> fmt::Result {
    page.gauge(&PENDING, each(sinks, |sink| sink.pending))?;
    page.gauge(&OLDEST, each(sinks, |sink| oldest_age(sink, now)))?;
    page.counter(&EVENTS, each(sinks, |sink| sink.delivered))?;
    page.counter(&ATTEMPTS, sinks.iter().flat_map(attempts))?;
    let is = |condition| each(sinks, move |sink| u64::from(sink.condition == condition));
    page.gauge(&UNTOLD, each(sinks, |sink| sink.untold.len()))?;
    page.gauge(&STATE, sinks.iter().flat_map(states))?;
    page.gauge(&FAILING, is(SinkCondition::Failing))?;
    page.gauge(&PAUSED, is(SinkCondition::Paused))?;
    page.gauge(&FAILING_SUBJECTS, each(sinks, |sink| sink.failing_subjects))?;
    page.gauge(&REFUSED, each(sinks, |sink| sink.refused.len()))
}

fn each<V>(
    sinks: &[SinkHealth],
    value: impl Fn(&SinkHealth) -> V,
) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
    sinks
        .iter()
        .map(move |sink| ([("sink", &*sink.name)], value(sink)))
}

fn states(sink: &SinkHealth) -> [([(&'static str, &str); 2], u64); 4] {
    SinkCondition::ALL.map(|condition| {
        let labels = [("sink", &*sink.name), ("state", condition.name())];
        (labels, u64::from(sink.condition == condition))
    })
}

fn attempts(sink: &SinkHealth) -> [([(&'static str, &str); 2], u64); 4] {
    let failed = sink
        .failed_attempts
        .saturating_sub(sink.unreachable_attempts)
        .saturating_sub(sink.abandoned_attempts);
    [
        ("delivered", sink.delivered_attempts),
        ("failed", failed),
        ("unreachable", sink.unreachable_attempts),
        ("abandoned", sink.abandoned_attempts),
    ]
    .map(|(outcome, count)| ([("sink", &*sink.name), ("outcome", outcome)], count))
}

fn oldest_age(sink: &SinkHealth, now: DateTime<Utc>) -> f64 {
    let age = sink.oldest_pending.map(|since| now - since);
    age.unwrap_or_default()
        .max(TimeDelta::zero())
        .as_seconds_f64()
}
