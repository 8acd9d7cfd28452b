//! What must be, said a second time and as simply as can be.
//!
//! Nothing here uses the engine: each rule is written anew from its words, slow
//! and obvious, so that the two can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use dispatchd::engine::Rules;
use dispatchd::model::{Dispatch, DispatchId, Extra, Override, Phase, Reading, SiteId};
use dispatchd::sync::View;

/// Where a dispatch that the upstream has stands at `wall`.
pub(super) fn phase(dispatch: &Dispatch, wall: DateTime<Utc>) -> Phase {
    let start = dispatch.start_time;
    match dispatch.end_time {
        _ if !dispatch.authorized => Phase::Cancelled,
        Some(end) if end <= start || end <= wall => Phase::Ended,
        _ if start <= wall => Phase::Active,
        _ => Phase::Scheduled,
    }
}

/// Whether a dispatch that is stored is what an answer says, as far as that
/// could be read (rule R11).
pub(super) fn fits(reading: &Reading, stored: &Dispatch) -> bool {
    let (read, unread) = match reading {
        Reading::Dispatch(read) => return **read == *stored,
        Reading::InPart { dispatch, unread } => (dispatch, unread),
        Reading::Unreadable { .. } => return false,
    };
    let known_of = |dispatch: &Dispatch| -> BTreeMap<SiteId, (Option<f64>, Extra)> {
        let sites = dispatch.sites.iter();
        sites
            .map(|site| {
                let amount = site.commitment.map(|kw| kw.0);
                (site.id.clone(), (amount, site.extra.clone()))
            })
            .collect()
    };
    let (read_sites, mut stored_sites) = (known_of(read), known_of(stored));
    if unread.sites {
        stored_sites.retain(|site, _| read_sites.contains_key(site));
    }
    read.id == stored.id
        && read.authorized == stored.authorized
        && read.test == stored.test
        && read.start_time == stored.start_time
        && read.end_time == stored.end_time
        && read.modification_number == stored.modification_number
        && read_sites == stored_sites
        && (unread.metadata || read.metadata == stored.metadata)
        && read.extra == stored.extra
}

/// Whether what is stored after an answer has all sites that the answer shows, those
/// that were there before if the answer shows a site that could not be read, and
/// no other.
pub(super) fn adds_nothing(
    reading: &Reading,
    before: &BTreeSet<SiteId>,
    stored: &Dispatch,
) -> bool {
    sites_after(reading, before) == site_ids(stored)
}

/// The sites of a dispatch that had those of `before` when the answer was taken in.
pub(super) fn sites_after(reading: &Reading, before: &BTreeSet<SiteId>) -> BTreeSet<SiteId> {
    let read = reading.dispatch().map(|read| site_ids(read));
    let mut sites = read.unwrap_or_default();
    if matches!(reading, Reading::InPart { unread, .. } if unread.sites) {
        sites.extend(before.iter().cloned());
    }
    sites
}

/// The sites that a dispatch names.
pub(super) fn site_ids(dispatch: &Dispatch) -> BTreeSet<SiteId> {
    dispatch.sites.iter().map(|site| site.id.clone()).collect()
}

/// What one site must do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Duty {
    /// Those that hold it.
    pub holders: BTreeSet<DispatchId>,
    /// The largest known commitment of them.
    pub commitment: Option<f64>,
    /// The end of the unbroken chain.
    pub until: Option<DateTime<Utc>>,
    /// What each of them says of it that nobody knows, if it says anything.
    pub extra: BTreeMap<DispatchId, Extra>,
    /// Whether an operator curtails it.
    pub by_hand: bool,
}

impl Duty {
    /// Whether it must curtail.
    pub fn curtails(&self) -> bool {
        self.by_hand || !self.holders.is_empty()
    }
}

/// What every site must do at `wall` under these dispatches and what an operator has
/// ordered for some sites. A site that is not there has nothing to do.
pub(super) fn duties<'d>(
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
    orders: &BTreeMap<SiteId, Arc<Override>>,
    wall: DateTime<Utc>,
    rules: &Rules,
) -> BTreeMap<SiteId, Duty> {
    let lead = TimeDelta::from_std(rules.pre_curtail).unwrap_or_default();
    let live: Vec<&Dispatch> = dispatches
        .into_iter()
        .filter(|dispatch| !dispatch.test || rules.curtail_on_test)
        .filter(|dispatch| matches!(phase(dispatch, wall), Phase::Scheduled | Phase::Active))
        .collect();
    let mut duties: BTreeMap<SiteId, Duty> = BTreeMap::new();
    for dispatch in &live {
        if dispatch.start_time - lead > wall {
            continue;
        }
        for site in &dispatch.sites {
            let duty = duties.entry(site.id.clone()).or_default();
            duty.holders.insert(dispatch.id.clone());
            if let Some(commitment) = &site.commitment {
                let so_far = duty.commitment.unwrap_or(commitment.0);
                duty.commitment = Some(so_far.max(commitment.0));
            }
            if !site.extra.is_empty() {
                duty.extra.insert(dispatch.id.clone(), site.extra.clone());
            }
        }
    }
    for (site, order) in orders {
        if order.curtails() {
            duties.entry(site.clone()).or_default().by_hand = true;
        } else {
            duties.remove(site);
        }
    }
    for (site, duty) in &mut duties {
        let on_site = live
            .iter()
            .filter(|dispatch| dispatch.sites.iter().any(|named| named.id == *site));
        let by_hand = orders.get(site).map(|order| (wall, Some(order.until)));
        let spans: Vec<_> = on_site
            .map(|dispatch| (dispatch.start_time - lead, dispatch.end_time))
            .chain(by_hand)
            .collect();
        duty.until = chain_end(wall, &spans);
    }
    duties
}

/// What operators have ordered by this view, and has not ended at `wall`.
pub(super) fn orders(view: &View, wall: DateTime<Utc>) -> BTreeMap<SiteId, Arc<Override>> {
    let sites = view.plan.overridden();
    sites
        .filter_map(|site| Some((site.id.clone(), site.site_override.clone()?)))
        .filter(|(_, order)| order.until > wall)
        .collect()
}

/// Goes from `wall` from link to link until nothing follows. `None` is open.
fn chain_end(
    wall: DateTime<Utc>,
    spans: &[(DateTime<Utc>, Option<DateTime<Utc>>)],
) -> Option<DateTime<Utc>> {
    let mut reached = wall;
    loop {
        let mut further = reached;
        for (begin, end) in spans {
            if *begin <= reached {
                further = further.max((*end)?);
            }
        }
        if further == reached {
            return Some(reached);
        }
        reached = further;
    }
}
