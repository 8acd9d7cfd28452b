//! After the last fault, everything comes right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::api::is_listed;
use super::checks::{Durable, site_is};
use super::oracle;
use super::receivers::Receiver;
use super::scenario::Knobs;
use super::upstream::Upstream;
use super::violation::{Checked, must};
use dispatchd::delivery::Sink;
use dispatchd::model::{Dispatch, DispatchId, Event, Extra, Override};
use dispatchd::sync::View;

/// How things stand.
pub(super) struct Situation<'a> {
    pub now: Duration,
    pub wall: DateTime<Utc>,
    pub knobs: &'a Knobs,
    pub upstream: &'a Upstream,
    pub view: &'a View,
    pub receivers: &'a [Receiver],
    pub durable: &'a Durable,
}

/// How long it may take: a poll that was under way, two polls and their
/// look-ups, which are ten seconds apart, tokens for these, and the longest pause
/// of a sink.
pub(super) fn patience(knobs: &Knobs) -> Duration {
    let interval = knobs.settings.poll_interval.mul_f64(1.1);
    let polls = interval.max(Duration::from_secs(6)) * 4;
    let steady = knobs.settings.api_rate.get() * 3 / 4;
    let tokens = Duration::from_secs(60) / steady.max(1) * 16;
    polls + tokens + Duration::from_secs(140)
}

/// Whether schedule, sites and receivers are as they must be.
pub(super) fn check(situation: &Situation<'_>) -> Checked {
    let Situation {
        now,
        wall,
        knobs,
        upstream,
        view,
        receivers,
        durable,
    } = situation;
    let (now, wall) = (*now, *wall);
    let truth = upstream.all_at(now);
    let window = TimeDelta::from_std(knobs.list_window).unwrap_or(TimeDelta::days(1));
    for dispatch in &truth {
        let entry = view.schedule.get(&dispatch.id);
        let listed = is_listed(dispatch, wall, window);
        let phase = oracle::phase(dispatch, wall);
        let forgotten = entry.is_none() && may_be_unknown(dispatch, listed, wall, knobs);
        let right = entry.as_ref().is_some_and(|entry| {
            let same = *entry.dispatch == **dispatch && entry.phase == phase;
            same || (!listed && entry.phase.is_over() && phase.is_over())
        });
        must(
            right || forgotten,
            now,
            "the schedule comes to equal the upstream",
            || format!("{dispatch:?} is {phase:?}, but we have {entry:?}"),
        )?;
    }
    for entry in view.schedule.entries() {
        let there = truth.iter().any(|dispatch| dispatch.id == *entry.id());
        must(
            there || entry.phase.is_over(),
            now,
            "the schedule comes to equal the upstream",
            || format!("{} is gone, but {:?} here", entry.id(), entry.phase),
        )?;
    }
    let live = truth.iter().map(|dispatch| &**dispatch);
    let duties = oracle::duties(
        live,
        &oracle::orders(view, wall),
        wall,
        &knobs.settings.rules,
    );
    for site in view.plan.sites() {
        site_is(site, duties.get(&site.id), now)?;
    }
    for (sink, receiver) in receivers.iter().enumerate() {
        let within_reach = |site: &str| {
            let obeyed = receiver.obeyed(site);
            let sink = receiver.stub.name();
            obeyed.is_none_or(|obeyed| !durable.is_out_of_reach(sink, site, obeyed))
        };
        let believes: BTreeMap<String, oracle::Duty> = receiver
            .curtailed()
            .filter(|event| within_reach(&event.subject))
            .filter_map(obeyed)
            .collect();
        let must_be: BTreeMap<String, oracle::Duty> = duties
            .iter()
            .filter(|(site, _)| within_reach(site.as_str()))
            .filter(|(site, duty)| {
                let route = receiver.route;
                route.holds(site.as_str(), duty.by_hand, &duty.holders)
            })
            .map(|(site, duty)| (site.to_string(), duty.clone()))
            .collect();
        must(
            believes == must_be,
            now,
            "every receiver comes to know what each site must do",
            || format!("sink{sink} curtails {believes:?}, not {must_be:?}"),
        )?;
    }
    Ok(())
}

/// The site that a command is for, and what it says that it must do.
fn obeyed(command: &Event) -> Option<(String, oracle::Duty)> {
    #[derive(Deserialize)]
    struct Data {
        dispatches: BTreeSet<DispatchId>,
        commitment_kw: Option<f64>,
        until: Option<DateTime<Utc>>,
        #[serde(default)]
        extra: BTreeMap<DispatchId, Extra>,
        #[serde(rename = "override")]
        site_override: Option<Override>,
    }
    let data: Data = serde_json::from_str(command.data.get()).ok()?;
    let duty = oracle::Duty {
        holders: data.dispatches,
        commitment: data.commitment_kw,
        until: data.until,
        extra: data.extra,
        by_hand: data.site_override.is_some_and(|it| it.curtails()),
    };
    Some((command.subject.to_string(), duty))
}

/// What is over and not listed, or over for long, need not be known.
fn may_be_unknown(dispatch: &Dispatch, listed: bool, wall: DateTime<Utc>, knobs: &Knobs) -> bool {
    let retain = TimeDelta::from_std(knobs.settings.rules.retain).ok();
    let long_over = dispatch
        .end_time
        .zip(retain)
        .is_some_and(|(end, retain)| end + retain <= wall);
    let over = oracle::phase(dispatch, wall).is_over();
    long_over || (over && !listed)
}
