//! Decides what one site is told in a step, and why.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::cause::{Touch, Visit, abandoned, by_hand, cause, reason_to_retell};
use super::claim::Link;
use super::plan::Record;
use super::{Cause, SiteChange, SiteChangeKind};
use crate::engine::Rules;
use crate::model::{DispatchId, SiteState, Source};

/// Why the override of a site changes.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// The operator's reason.
    pub reason: Arc<str>,
    /// The operator, or the time.
    pub source: Source,
}

/// A site in one step of the plan: as it was and as it is from now, and what made it so.
pub(super) struct SiteStep<'s> {
    /// As it was.
    pub before: &'s Record,
    /// As it is from now.
    pub state: &'s Arc<SiteState>,
    /// What names it from now.
    pub links: &'s [Link],
    /// The changes that concern it, by dispatch id.
    pub visits: &'s [Visit],
    /// What brought each change of a dispatch.
    pub touches: &'s [Touch],
    /// Why its override is another than before, if it is.
    pub order: Option<Order>,
    /// Its release is put off to the next step.
    pub is_postponed: bool,
    /// It is curtailed, and other sinks are to hear it than before.
    pub is_rerouted: bool,
    /// It is told what it must do whatever it was told before.
    pub is_retold: bool,
}

impl SiteStep<'_> {
    /// What it is told, if it is told anything.
    pub fn kind(&self) -> Option<SiteChangeKind> {
        let whole = match self.state.is_curtailed() {
            true => SiteChangeKind::Curtail,
            false => SiteChangeKind::Release,
        };
        let is_abandoned = self.abandoned().is_some();
        (self.is_retold.then_some(whole))
            .or(self.changed())
            .or(is_abandoned.then_some(SiteChangeKind::Release))
            .or(self.is_rerouted.then_some(SiteChangeKind::Adjust))
    }

    /// The same with what caused it. `life_began` is when this life of the daemon began, UTC.
    pub fn change(
        &self,
        kind: SiteChangeKind,
        life_began: DateTime<Utc>,
        rules: &Rules,
    ) -> Option<SiteChange> {
        let (cause, source) = self.caused()?;
        let releases_what_began_before_this_life = self.changed() == Some(SiteChangeKind::Release)
            && curtailed_since_before(life_began, self.before, rules);
        Some(SiteChange {
            site: Arc::clone(self.state),
            kind,
            source,
            cause,
            unconditional: self.is_retold
                || self.abandoned().is_some()
                || releases_what_began_before_this_life,
        })
    }

    /// How it differs from what it was.
    fn changed(&self) -> Option<SiteChangeKind> {
        SiteChangeKind::between(&self.before.state, self.state).filter(|_| !self.is_postponed)
    }

    /// The dispatch that was over at first sight, if the site is normal: an earlier run of
    /// the daemon may have curtailed it and cannot release it any more.
    fn abandoned(&self) -> Option<(DispatchId, Source)> {
        abandoned(self.visits, self.touches).filter(|_| !self.state.is_curtailed())
    }

    /// What caused what it is told. A change has always a cause: a site is curtailed by
    /// some dispatch, or by an operator.
    fn caused(&self) -> Option<(Cause, Source)> {
        let by_dispatch = |(dispatch, source)| (Cause::Dispatch(dispatch), source);
        let is_changed = self.changed().is_some();
        let ordered = self.ordered().filter(|_| is_changed || self.is_retold);
        if ordered.is_some() {
            return ordered;
        }
        if is_changed {
            return cause(self.before, self.state, self.visits, self.touches)
                .map(by_dispatch)
                .or_else(|| by_hand(self.state, &self.before.state, Source::Timer));
        }
        self.abandoned()
            .or_else(|| {
                let holder = self.state.dispatches.first();
                let holder = holder.filter(|_| self.is_rerouted)?;
                Some((holder.clone(), Source::Operator))
            })
            .or_else(|| {
                let reason = reason_to_retell(self.state, self.links);
                Some((reason.filter(|_| self.is_retold)?, Source::Poll))
            })
            .map(by_dispatch)
            .or_else(|| {
                by_hand(self.state, self.state, Source::Operator)
                    .filter(|_| self.is_rerouted || self.is_retold)
            })
    }

    /// The order that changes its override, or that keeps it out. A site that is kept out
    /// may be released only now: its order came earlier.
    fn ordered(&self) -> Option<(Cause, Source)> {
        let kept_out = self.state.site_override.as_ref();
        let kept_out = kept_out.filter(|it| !it.curtails()).map(|it| Order {
            reason: Arc::clone(&it.reason),
            source: Source::Operator,
        });
        let order = self.order.clone().or(kept_out)?;
        Some((Cause::Operator(order.reason), order.source))
    }
}

/// Whether what curtails this site began before this life of the daemon.
fn curtailed_since_before(life_began: DateTime<Utc>, site: &Record, rules: &Rules) -> bool {
    let mut holders = site.links.iter().filter(|link| link.holds());
    let by_hand = site.state.site_override.as_ref();
    holders.any(|link| link.lead_start(rules) <= life_began)
        || by_hand.is_some_and(|it| it.curtails() && it.since <= life_began)
}
