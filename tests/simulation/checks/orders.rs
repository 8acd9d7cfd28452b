//! What an operator was told is ordered lasts until its time or the next order, and
//! nothing is ordered that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::StepEnd;
use crate::violation::{Checked, must};
use dispatchd::model::{Override, OverrideOrder, SiteId};
use dispatchd::sync::WaiterReply;

type Order = Option<Arc<Override>>;

/// What operators ordered.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: BTreeMap<u64, OverrideOrder>,
    answered: BTreeSet<u64>,
    sites: BTreeMap<SiteId, Site>,
    /// The latest time that a daemon was shown. What ended then has ended.
    latest: Option<DateTime<Utc>>,
}

/// What one site may be ordered.
#[derive(Debug, Default)]
struct Site {
    /// What was confirmed last, or nothing.
    confirmed: Order,
    /// What was ordered since, and may or may not have been taken.
    open: Vec<(u64, Order)>,
    /// Everything that was ever ordered.
    all: Vec<Order>,
    /// The state was lost or replaced since: it may say any of it.
    is_replaced: bool,
}

impl Orders {
    /// An operator orders something.
    pub fn ordered(&mut self, waiter: u64, order: OverrideOrder) {
        let site = self.sites.entry(order.site.clone()).or_default();
        site.open.push((waiter, order.site_override.clone()));
        site.all.push(order.site_override.clone());
        self.waiting.insert(waiter, order);
    }

    /// The operator is answered. `None` if this waiter is no operator.
    pub fn replied(
        &mut self,
        waiter: u64,
        outcome: &WaiterReply,
        now: Duration,
    ) -> Option<Checked> {
        if self.answered.contains(&waiter) {
            return Some(must(false, now, "everybody is answered once", || {
                format!("operator {waiter} was answered again")
            }));
        }
        let order = self.waiting.remove(&waiter)?;
        self.answered.insert(waiter);
        if *outcome == WaiterReply::Applied
            && let Some(site) = self.sites.get_mut(&order.site)
        {
            site.confirmed = order.site_override;
            site.is_replaced = false;
            // They are taken in the order in which they came.
            site.open.retain(|(other, _)| *other > waiter);
        }
        Some(Ok(()))
    }

    /// The daemon is no more: whoever waits is not answered.
    pub fn daemon_gone(&mut self) {
        self.waiting.clear();
    }

    /// The state was lost or replaced.
    pub fn state_replaced(&mut self) {
        for site in self.sites.values_mut() {
            site.confirmed = None;
            site.open.clear();
            site.is_replaced = true;
        }
    }

    /// A coordinator is shown this time.
    pub fn stepping(&mut self, wall: DateTime<Utc>) {
        self.latest = self.latest.max(Some(wall));
    }

    pub fn stepped(&self, end: &StepEnd<'_>) -> Checked {
        for (id, site) in &self.sites {
            let seen = end
                .view
                .plan
                .get(id)
                .and_then(|it| it.site_override.clone());
            let open = site.open.iter().map(|(_, order)| order);
            let all = site.all.iter().filter(|_| site.is_replaced);
            let mut may_be = std::iter::once(&site.confirmed).chain(open).chain(all);
            let fits = match &seen {
                Some(seen) => may_be.flatten().any(|order| is_of(seen, order)),
                None => may_be.any(|order| {
                    let ended = |order: &Arc<Override>| Some(order.until) <= self.latest;
                    order.as_ref().is_none_or(ended)
                }),
            };
            must(
                fits,
                end.now,
                "what an operator ordered lasts until its time",
                || format!("{id} has {seen:?}, not one of {site:?}"),
            )?;
        }
        let mut overridden = end.view.plan.overridden();
        let unasked = overridden.find(|site| !self.sites.contains_key(&site.id));
        must(
            unasked.is_none(),
            end.now,
            "nothing is ordered that nobody asked for",
            || format!("{unasked:?}"),
        )
    }
}

/// Whether this is the order, or that order ended early by another while a release had to
/// wait.
fn is_of(seen: &Override, order: &Override) -> bool {
    let until = seen.until.min(order.until);
    *seen
        == Override {
            until,
            ..order.clone()
        }
}
