//! Computes the state of a site from the claims on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claim::{Hold, Link};
use crate::engine::Rules;
use crate::model::{
    DispatchId, Extra, Kilowatts, NextDispatch, Override, ProgramName, SiteMode, SiteState,
};

/// The state of a site that stood as `before`, under these claims and this override.
///
/// Time does not enter: whether a claim holds or an override lasts is settled already.
/// So a clock that falls back changes nothing here (rule R4).
pub(super) fn judge(
    before: &SiteState,
    links: &[Link],
    site_override: Option<Arc<Override>>,
    now: DateTime<Utc>,
    rules: &Rules,
) -> SiteState {
    let (name, customer_location_id) = names(before, links);
    let state = match &site_override {
        Some(site_override) => site_override.state,
        None if with(links, Hold::Begun).next().is_some() => SiteMode::Curtailed,
        None => SiteMode::Normal,
    };
    let next = next(links);
    // While an operator keeps it out, nothing holds it.
    let links = match state {
        SiteMode::Curtailed => links,
        SiteMode::Normal => &[],
    };
    let by_hand = site_override.as_ref().filter(|it| it.curtails());
    SiteState {
        id: before.id.clone(),
        name,
        customer_location_id,
        state,
        since: if state == before.state {
            before.since
        } else {
            now
        },
        until: chain_end(links, by_hand.map(|it| it.until), rules),
        commitment_kw: commitment(links),
        dispatches: holders(links),
        programs: programs(links),
        extra: extra(links),
        next,
        site_override,
    }
}

fn with(links: &[Link], hold: Hold) -> impl Iterator<Item = &Link> {
    links.iter().filter(move |link| link.claim.hold == hold)
}

fn holders(links: &[Link]) -> Vec<DispatchId> {
    let mut holders: Vec<DispatchId> = with(links, Hold::Begun)
        .map(|link| link.dispatch().clone())
        .collect();
    holders.sort_unstable();
    holders
}

/// The programs of those that hold it.
fn programs(links: &[Link]) -> Vec<Arc<ProgramName>> {
    let mut programs: Vec<_> = with(links, Hold::Begun)
        .filter_map(|link| link.claim.program.clone())
        .collect();
    programs.sort_unstable();
    programs.dedup();
    programs
}

/// What those that hold it say of it that we do not know.
fn extra(links: &[Link]) -> Option<Arc<BTreeMap<DispatchId, Extra>>> {
    let extras: BTreeMap<DispatchId, Extra> = with(links, Hold::Begun)
        .filter_map(|link| Some((link, &link.site()?.extra)))
        .filter(|(_, extra)| !extra.is_empty())
        .map(|(link, extra)| (link.dispatch().clone(), extra.clone()))
        .collect();
    (!extras.is_empty()).then(|| Arc::new(extras))
}

/// The largest known commitment. One that is unknown does not hide the others.
fn commitment(links: &[Link]) -> Option<Kilowatts> {
    with(links, Hold::Begun)
        .filter_map(|link| link.site()?.commitment)
        .reduce(|one, other| if other > one { other } else { one })
}

/// The end of the unbroken chain, where an operator curtails until `by_hand`. `None` if
/// any link is open, or there is none.
fn chain_end(
    links: &[Link],
    by_hand: Option<DateTime<Utc>>,
    rules: &Rules,
) -> Option<DateTime<Utc>> {
    let ends: Option<Vec<DateTime<Utc>>> = with(links, Hold::Begun)
        .map(|link| link.claim.dispatch.end_time)
        .chain(by_hand.map(Some))
        .collect();
    let mut end = ends?.into_iter().max()?;

    let mut coming: Vec<_> = with(links, Hold::Coming)
        .map(|link| {
            let dispatch = &link.claim.dispatch;
            (rules.lead_start(dispatch.start_time), dispatch.end_time)
        })
        .collect();
    coming.sort_unstable();
    for (lead_start, its_end) in coming {
        if lead_start > end {
            break;
        }
        end = end.max(its_end?);
    }
    Some(end)
}

fn next(links: &[Link]) -> Option<NextDispatch> {
    with(links, Hold::Coming)
        .map(|link| (link.claim.dispatch.start_time, link.dispatch()))
        .min()
        .map(|(start_time, dispatch)| NextDispatch {
            start_time,
            dispatch: dispatch.clone(),
        })
}

/// The names that a dispatch gives that holds the site, else the one that holds
/// it next, else the last one; of several the most recently changed. A site that
/// none names any more keeps those it had.
fn names(before: &SiteState, links: &[Link]) -> (String, String) {
    let newest =
        |hold| with(links, hold).max_by_key(|link| (link.claim.last_changed, link.dispatch()));
    let next = || {
        with(links, Hold::Coming)
            .min_by_key(|link| (link.claim.dispatch.start_time, link.dispatch()))
    };
    newest(Hold::Begun)
        .or_else(next)
        .or_else(|| newest(Hold::None))
        .and_then(Link::site)
        .map_or_else(
            || (before.name.clone(), before.customer_location_id.clone()),
            |site| (site.name.clone(), site.customer_location_id.clone()),
        )
}
