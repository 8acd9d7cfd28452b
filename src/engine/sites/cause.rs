//! Finds what a site is sent a command for: a dispatch, or an operator.

use std::sync::Arc;

use super::Cause;
use super::claim::Link;
use super::plan::Record;
use crate::model::{DispatchId, SiteId, SiteState, Source};

/// A change to a dispatch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touch {
    /// What brought it.
    pub source: Source,
    /// The dispatch was over when it was first seen, and may have held its sites
    /// in an earlier life of the daemon.
    pub abandoned: bool,
}

/// A site that a change to a dispatch concerns.
pub(super) struct Visit {
    /// The site.
    pub site: SiteId,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Its claim on the site. `None` if it did name the site and does no longer.
    pub link: Option<Link>,
    /// Which of the changed dispatches, in the order in which things happened.
    pub touch: usize,
}

/// The dispatch that led from one state of a site to the next, and what
/// brought that: the first that took hold, else the last that let go, else one
/// whose times or commitment changed.
pub(super) fn cause(
    known: &Record,
    after: &SiteState,
    visits: &[Visit],
    touches: &[Touch],
) -> Option<(DispatchId, Source)> {
    let before = &known.state;
    let took_hold = |id: &DispatchId| !held(before, id) && held(after, id);
    let let_go = |id: &DispatchId| held(before, id) && !held(after, id);
    let bears = |visit: &Visit| {
        let known = known
            .links
            .iter()
            .find(|link| *link.dispatch() == visit.dispatch);
        known.and_then(Link::bearing) != visit.link.as_ref().and_then(Link::bearing)
    };

    let mut in_order: Vec<&Visit> = visits.iter().collect();
    in_order.sort_unstable_by_key(|visit| visit.touch);
    let mut in_order = in_order.into_iter();
    let visit = (in_order.clone().find(|visit| took_hold(&visit.dispatch)))
        .or_else(|| in_order.clone().rfind(|visit| let_go(&visit.dispatch)))
        .or_else(|| in_order.clone().find(|visit| bears(visit)))
        .or_else(|| in_order.next());
    if let Some(visit) = visit
        && let Some(touch) = touches.get(visit.touch)
    {
        return Some((visit.dispatch.clone(), touch.source));
    }
    // After a restart no dispatch need have changed, only the rules.
    let dispatch = (after.dispatches.iter().find(|id| took_hold(id)))
        .or_else(|| before.dispatches.iter().rfind(|id| let_go(id)))
        .or(after.dispatches.first())?;
    Some((dispatch.clone(), Source::Timer))
}

/// The first of the changed dispatches that name the site and were over at first
/// sight, and what brought it.
pub(super) fn abandoned(visits: &[Visit], touches: &[Touch]) -> Option<(DispatchId, Source)> {
    let first = visits
        .iter()
        .filter(|visit| visit.link.is_some())
        .filter_map(|visit| Some((visit, touches.get(visit.touch)?)))
        .filter(|(_, touch)| touch.abandoned)
        .min_by_key(|(visit, _)| visit.touch);
    first.map(|(visit, touch)| (visit.dispatch.clone(), touch.source))
}

/// The dispatch because of which a site is told once more what it must do: the first that
/// holds it, else the one that names it and started last. `None` if an operator alone
/// commands it.
pub(super) fn reason_to_retell(state: &SiteState, links: &[Link]) -> Option<DispatchId> {
    let named = links.iter().map(|link| &link.claim.dispatch);
    let named = named.max_by_key(|dispatch| (dispatch.start_time, &dispatch.id));
    let named = named.filter(|_| !state.is_curtailed());
    let holder = state.dispatches.first();
    holder.or(named.map(|dispatch| &dispatch.id)).cloned()
}

/// The cause of a change that follows from nothing but an override.
pub(super) fn by_hand(
    after: &SiteState,
    before: &SiteState,
    source: Source,
) -> Option<(Cause, Source)> {
    let by_hand = after
        .site_override
        .as_ref()
        .or(before.site_override.as_ref());
    by_hand.map(|it| (Cause::Operator(Arc::clone(&it.reason)), source))
}

fn held(site: &SiteState, dispatch: &DispatchId) -> bool {
    site.dispatches.binary_search(dispatch).is_ok()
}
