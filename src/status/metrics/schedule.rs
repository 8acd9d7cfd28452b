//! Metrics of the schedule and its changes.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::page::{Metric, Page, one};
use crate::model::{DoubtKind, Phase, SiteMode};
use crate::sync::{ByTypeAndSource, Health, View};

const DISPATCHES: Metric = Metric::plain(
    "schedule_dispatches",
    "Dispatches in the schedule by phase: scheduled, active, ended, cancelled.",
);
const OPEN: Metric = Metric::seconds(
    "open_dispatch_age",
    "How long ago the oldest active dispatch without an end started; 0 if there is none. Its sites stay curtailed until the API tells an end.",
);
const OVERRIDDEN: Metric = Metric::plain(
    "sites_overridden",
    "Sites that an operator curtails or keeps out by hand, by what was ordered.",
);
const SITES: Metric = Metric::plain(
    "sites",
    "Sites that dispatches name, by what they must do now: curtailed, normal.",
);

const CHANGES: Metric = Metric::plain(
    "changes",
    "Changes of dispatches that were committed, by type (created, updated, started, ended, cancelled) and by what brought them: webhook, poll, timer.",
);
const COMMANDS: Metric = Metric::plain(
    "site_commands",
    "Commands to sites that were committed, by type (curtail, adjust, release) and by what brought them: webhook, poll, timer.",
);
const LATENESS: Metric = Metric::seconds(
    "command_lateness",
    "How late what came due by itself was committed, by type: a start after its time, an end after its time, a command to a site after the start less the lead, or after the end, that it is for. What came due while the daemon was down is late by that. Delivery comes on top.",
);
const HEALS: Metric = Metric::plain(
    "heals",
    "Changes that the poller found and no accepted webhook had brought, the first poll aside.",
);
const MISSED: Metric = Metric::plain(
    "missed_webhooks",
    "Those of the heals for whose dispatch no webhook came within 60 s around. Withdrawals, for which Voltus sends none, are not among them. Stays 0 while no webhook ever came.",
);
const UNANNOUNCED: Metric = Metric::plain(
    "unannounced_changes",
    "Heals without a webhook within 60 s around, while the daemon's webhook is registered and none has come since the start: webhooks do not get in. 0 once one has come.",
);
const REGISTERED: Metric = Metric::plain(
    "webhook_registered",
    "Whether the webhook is registered at the API, as far as the daemon knows: 1 or 0. Without --public-url there is no value.",
);
const UNSEEN: Metric = Metric::seconds(
    "heal_delay",
    "For each heal, the time from the last answer of the API that did not show the change to the commit of the change: the longest that it can have gone unseen. When it was made is not known.",
);
const OUTDATED: Metric = Metric::plain(
    "outdated_answers",
    "Dispatches in answers of the API that came too late: a newer answer had been taken already.",
);
const UNREADABLE_DISPATCHES: Metric = Metric::plain(
    "unreadable_dispatches",
    "Dispatches in answers of the API that could not be read, counted with each answer anew. Their last good state is kept.",
);
const UNREADABLE_SITES: Metric = Metric::plain(
    "unreadable_sites",
    "Sites and lists of sites in answers of the API that could not be read, counted with each answer anew. Their dispatches keep all sites that they held.",
);
const UNREADABLE_AMOUNTS: Metric = Metric::plain(
    "unreadable_amounts",
    "Commitments of sites in answers of the API that could not be read, counted with each answer anew. The sites are told an unknown amount.",
);
const UNREADABLE_DETAILS: Metric = Metric::plain(
    "unreadable_details",
    "Names, programs, creation times and metadata in answers of the API that could not be read, counted with each answer anew. They stay as they were.",
);
const EXTRA_DROPPED: Metric = Metric::plain(
    "extra_dropped",
    "Dispatches in answers of the API whose unknown fields, with those of their sites, were more than 64 KiB or nested deeper than 64 levels, counted with each answer anew. None of these fields is kept.",
);
const REWINDS: Metric = Metric::plain(
    "rewinds",
    "Times that a dispatch with a lower modification number was taken over, as after a restore of the API from a backup.",
);

const IN_DOUBT: Metric = Metric::plain(
    "in_doubt",
    "Dispatches about which the API seems to say something that is not believed yet, by claim. absent: the list lacks a live one; lower: its modification number went back. They are looked up until two answers ten seconds apart confirm it, or one says otherwise.",
);
const MASS_ABSENCE: Metric = Metric::plain(
    "mass_absence",
    "Live dispatches that the newest list lacks, while it lacks more than ten and more than half of them; else 0. Nothing is cancelled for that until it has lasted ten minutes.",
);
const LOOK_AGAIN_DROPPED: Metric = Metric::plain(
    "look_again_dropped",
    "Webhooks after which nothing was looked up again although their look-up showed nothing new: too many waited. The next poll brings what they were about.",
);

/// What stands now. Looks at every site once.
pub(super) fn standing(page: &mut Page<'_>, view: &View, now: DateTime<Utc>) -> fmt::Result {
    let count = |phase| view.schedule.count(phase) as u64;
    page.gauge(
        &DISPATCHES,
        Phase::ALL.map(|phase| ([("phase", phase.name())], count(phase))),
    )?;
    let oldest = view.schedule.oldest_open_end();
    page.gauge(&OPEN, one(oldest.map_or(0.0, |start| age(start, now))))?;
    page.gauge(
        &IN_DOUBT,
        [DoubtKind::Absent, DoubtKind::Lower].map(|claim| {
            (
                [("claim", claim.name())],
                view.schedule.in_doubt(claim) as u64,
            )
        }),
    )?;
    let mass = view.schedule.mass_absence();
    page.gauge(
        &MASS_ABSENCE,
        one(mass.map_or(0, |mass| mass.absent as u64)),
    )?;

    let sites = view.plan.sites();
    let curtailed = sites.filter(|site| site.is_curtailed()).count() as u64;
    let normal = (view.plan.len() as u64).saturating_sub(curtailed);
    page.gauge(
        &SITES,
        [
            ([("state", SiteMode::Curtailed.name())], curtailed),
            ([("state", SiteMode::Normal.name())], normal),
        ],
    )?;
    let overridden = |state: SiteMode| {
        let orders = view.plan.overridden();
        let orders = orders.filter_map(|site| site.site_override.as_ref());
        let count = orders.filter(|order| order.state == state).count() as u64;
        ([("state", state.name())], count)
    };
    page.gauge(
        &OVERRIDDEN,
        [SiteMode::Curtailed, SiteMode::Normal].map(overridden),
    )
}

/// What was done since the start.
pub(super) fn doings(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    let counters = &health.counters;
    page.counter(&CHANGES, by_type_and_source(&counters.changes))?;
    page.counter(&COMMANDS, by_type_and_source(&counters.commands))?;
    let late = counters.lateness.iter();
    page.histogram(
        &LATENESS,
        late.map(|(kind, seconds)| ([("type", *kind)], seconds)),
    )?;
    page.counter(&HEALS, one(health.heals))?;
    page.counter(&MISSED, one(health.missed_webhooks))?;
    page.gauge(&UNANNOUNCED, one(health.unannounced))?;
    let registration = health.registration.as_ref();
    page.gauge(
        &REGISTERED,
        registration.map(|it| ([("", ""); 0], u64::from(it.registered))),
    )?;
    page.histogram(
        &UNSEEN,
        one(()).map(|(labels, ())| (labels, &counters.unseen)),
    )?;
    page.counter(&OUTDATED, one(health.outdated))?;
    let unreadable = &health.unreadable;
    page.counter(&UNREADABLE_DISPATCHES, one(unreadable.dispatches))?;
    page.counter(&UNREADABLE_SITES, one(unreadable.sites))?;
    page.counter(&UNREADABLE_AMOUNTS, one(unreadable.amounts))?;
    page.counter(&UNREADABLE_DETAILS, one(unreadable.details))?;
    page.counter(&EXTRA_DROPPED, one(unreadable.extras))?;
    page.counter(&REWINDS, one(health.rewinds))?;
    page.counter(&LOOK_AGAIN_DROPPED, one(health.look_again_dropped))
}

type TypeAndSource = [(&'static str, &'static str); 2];

fn by_type_and_source(counts: &ByTypeAndSource) -> impl Iterator<Item = (TypeAndSource, u64)> {
    counts
        .iter()
        .map(|((kind, source), count)| ([("type", *kind), ("source", *source)], *count))
}

fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (now - since).max(TimeDelta::zero()).as_seconds_f64()
}
