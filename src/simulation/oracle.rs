//! What must be, said a second time and as simply as can be.
//!
//! Nothing here uses the engine: each rule is written anew from its words, slow
//! and obvious, so that the two can be compared.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::engine::Rules;
use crate::model::{Dispatch, DispatchId, Phase, SiteId};

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

/// What one site must do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Duty {
    /// Those that hold it.
    pub holders: BTreeSet<DispatchId>,
    /// The largest known commitment of them.
    pub commitment: Option<f64>,
    /// The end of the unbroken chain.
    pub until: Option<DateTime<Utc>>,
}

/// What every site must do at `wall` under these dispatches. A site that is
/// not there has nothing to do.
pub(super) fn duties<'d>(
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
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
        }
    }
    for (site, duty) in &mut duties {
        let on_site = live
            .iter()
            .filter(|dispatch| dispatch.sites.iter().any(|named| named.id == *site));
        let spans: Vec<_> = on_site
            .map(|dispatch| (dispatch.start_time - lead, dispatch.end_time))
            .collect();
        duty.until = chain_end(wall, &spans);
    }
    duties
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
