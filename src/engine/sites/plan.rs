//! The plan: every site known, and when the plan is next due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use imbl::{OrdMap, OrdSet};

use super::SiteChangeKind;
use super::chain::judge;
use super::claim::{Link, SiteClaim};
use crate::engine::{Rules, Schedule};
use crate::model::{DispatchId, SiteId, SiteState};

/// What each site must do, by site id.
///
/// A copy shares what it has in common with its original, like that of a
/// [`Schedule`].
///
/// A site is in the plan while an entry of the schedule names it, over or not.
/// One that was curtailed and that nothing names any more stays as `normal`
/// for as long as what is over is kept: whoever asks for it must learn that it
/// is released, not that there is no such site. One that never was curtailed
/// goes at once.
#[derive(Debug, Clone, Default)]
pub struct SitePlan {
    pub(super) sites: OrdMap<SiteId, Record>,
    pub(super) claims: OrdMap<DispatchId, Arc<SiteClaim>>,
    pub(super) due: OrdSet<(DateTime<Utc>, Due)>,
    /// The dispatches that hold their sites by their lead.
    pub(super) leading: OrdSet<DispatchId>,
    /// Sites to be looked at once all that has begun has been taken in: those
    /// that nothing holds any more, and after a restart those that may have been
    /// told something.
    pub(super) unsettled: OrdSet<SiteId>,
    /// Sites whose sinks have changed: they are told what they must do once more.
    pub(super) rerouted: OrdSet<SiteId>,
    /// The next step that is not behind tells every site of the schedule what it must do.
    pub(super) retells: bool,
    /// Sites for which an operator has ordered something that lasts.
    pub(super) overridden: OrdSet<SiteId>,
    /// When this life of the daemon began, UTC. What the sites were told before may
    /// be missing in the state: it may be an older copy.
    pub(super) life_began: DateTime<Utc>,
}

/// What the plan does when a time comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The lead of this dispatch begins.
    Lead(DispatchId),
    /// This site, which nothing names, has been kept long enough.
    Forget(SiteId),
    /// What an operator ordered for this site ends.
    OverrideEnd(SiteId),
}

/// A site, and what it follows from.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub state: Arc<SiteState>,
    /// One for each dispatch that names it, in no order.
    pub links: Arc<[Link]>,
    /// It was commanded at some time.
    pub commanded: bool,
}

impl Record {
    /// Whether nothing names it, nobody has ordered anything for it and nothing waits
    /// for its release.
    pub fn is_idle(&self) -> bool {
        let is_free = self.links.is_empty() && self.state.site_override.is_none();
        is_free && !self.state.is_curtailed()
    }

    /// When its override ends, UTC.
    pub fn override_end(&self) -> Option<DateTime<Utc>> {
        self.state.site_override.as_ref()?.end()
    }

    /// Until when it is kept though nothing names it, UTC.
    pub fn forget_due(&self, rules: &Rules) -> Option<DateTime<Utc>> {
        (self.commanded && self.is_idle())
            .then(|| rules.kept_until(self.state.since))
            .flatten()
    }

    /// Whether it can go.
    pub fn is_forgettable(&self, now: DateTime<Utc>, rules: &Rules) -> bool {
        self.is_idle() && (!self.commanded || rules.is_past(self.state.since, now))
    }
}

impl SitePlan {
    /// The plan for a schedule as it was stored, with the states that its sites
    /// had then: those of the changes announced so far, the newest of each site.
    ///
    /// It is due at once if any site has been or is to be curtailed. The next
    /// call of [`plan`](super::plan) compares their states with the schedule and
    /// tells what has changed since, be it by time or because the operator has
    /// changed the rules. A lead that had begun is not undone, even if the lead
    /// is shorter now. `now` is when this life of the daemon begins.
    pub fn restore(
        schedule: &Schedule,
        states: impl IntoIterator<Item = SiteState>,
        now: DateTime<Utc>,
        rules: &Rules,
    ) -> Self {
        let mut states: BTreeMap<SiteId, SiteState> = states
            .into_iter()
            .map(|state| (state.id.clone(), state))
            .collect();
        let held: BTreeSet<DispatchId> = states
            .values()
            .flat_map(|state| state.dispatches.iter().cloned())
            .collect();
        let mut plan = Self {
            life_began: now,
            ..Self::default()
        };
        let mut sites: BTreeMap<SiteId, (DateTime<Utc>, Vec<Link>)> = BTreeMap::new();
        for entry in schedule.entries() {
            let claim = SiteClaim::new(&entry, held.contains(entry.id()), rules);
            let claim = plan.put_claim(Arc::new(claim), rules);
            for (site, link) in Link::all(&claim) {
                let (heard_of, links) = sites
                    .entry(site.id.clone())
                    .or_insert_with(|| (entry.first_seen, Vec::new()));
                *heard_of = entry.first_seen.min(*heard_of);
                links.push(link);
            }
        }
        for (id, (heard_of, links)) in sites {
            let stored = states.remove(&id);
            let commanded = stored.is_some();
            let mut state = stored.unwrap_or_else(|| SiteState::unknown(id.clone(), heard_of));
            if commanded || links.iter().any(Link::holds) {
                plan.unsettled.insert(id);
            } else {
                // It was and is normal: nobody is told, whatever time it is.
                state = judge(&state, &links, None, heard_of, rules);
            }
            let record = Record {
                commanded,
                state: Arc::new(state),
                links: links.into(),
            };
            plan.put_site(record, rules);
        }
        for state in states.into_values() {
            let record = Record {
                state: Arc::new(state),
                links: Arc::from([]),
                commanded: true,
            };
            plan.unsettled.insert(record.state.id.clone());
            plan.put_site(record, rules);
        }
        plan
    }

    /// The next step tells these sites what they must do although nothing holds them
    /// otherwise than before: other sinks are to hear it now. Those that are normal are
    /// told nothing.
    pub fn reroute(&mut self, sites: impl IntoIterator<Item = SiteId>) {
        for site in sites {
            self.unsettled.insert(site.clone());
            self.rerouted.insert(site);
        }
    }

    /// Whether all sites whose sinks have changed were told.
    pub fn is_rerouted(&self) -> bool {
        self.rerouted.is_empty()
    }

    /// The next step that is not behind its time tells every site that a dispatch names
    /// or an operator commands what it must do, also where that is what it was told last:
    /// what it was told after the state that this plan follows from is not known. All of
    /// them are told in one step.
    pub fn retell(&mut self) {
        self.retells = true;
    }

    /// Whether that step is still to come.
    pub fn is_retelling(&self) -> bool {
        self.retells
    }

    /// The site with this id.
    pub fn get(&self, id: &SiteId) -> Option<&Arc<SiteState>> {
        self.sites.get(id).map(|record| &record.state)
    }

    /// What the site with this id would have to be told if it stood as in `before`, and
    /// stands as it does here.
    pub fn change_since(&self, before: &Self, id: &SiteId) -> Option<SiteChangeKind> {
        match (before.get(id), self.get(id)) {
            (Some(held), Some(after)) => SiteChangeKind::between(held, after).or_else(|| {
                let is_rerouted = before.rerouted.contains(id) && after.is_curtailed();
                is_rerouted.then_some(SiteChangeKind::Adjust)
            }),
            (None, Some(after)) => after.is_curtailed().then_some(SiteChangeKind::Curtail),
            (Some(before), None) => before.is_curtailed().then_some(SiteChangeKind::Release),
            (None, None) => None,
        }
    }

    /// All sites, by id.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<SiteState>> {
        self.sites.values().map(|record| &record.state)
    }

    /// The sites for which an operator has ordered something that lasts, by id.
    pub fn overridden(&self) -> impl Iterator<Item = &Arc<SiteState>> {
        self.overridden.iter().filter_map(|id| self.get(id))
    }

    /// How many sites there are.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether there is no site.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// When the plan next has something to do by itself, UTC: a lead begins, or
    /// a site has been kept long enough. Starts and ends are
    /// [`Schedule::next_due`]; the earlier of both is when to look again.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        if self.retells || !self.unsettled.is_empty() {
            return Some(DateTime::<Utc>::MIN_UTC);
        }
        self.due.get_min().map(|(due, _)| *due)
    }

    /// Takes a claim in, in place of that dispatch's claim before.
    pub(super) fn put_claim(&mut self, claim: Arc<SiteClaim>, rules: &Rules) -> Arc<SiteClaim> {
        let id = claim.dispatch.id.clone();
        if claim.by_lead {
            self.leading.insert(id.clone());
        } else {
            self.leading.remove(&id);
        }
        let before = self.claims.insert(id.clone(), Arc::clone(&claim));
        let due_before = before.and_then(|before| before.lead_due(rules));
        self.reschedule(due_before, claim.lead_due(rules), Due::Lead(id));
        claim
    }

    /// Drops the claim of this dispatch.
    pub(super) fn remove_claim(&mut self, id: &DispatchId, rules: &Rules) {
        self.leading.remove(id);
        let due = self
            .claims
            .remove(id)
            .and_then(|claim| claim.lead_due(rules));
        self.reschedule(due, None, Due::Lead(id.clone()));
    }

    /// Takes a site in, in place of the one with its id.
    pub(super) fn put_site(&mut self, record: Record, rules: &Rules) {
        let id = record.state.id.clone();
        let (due, end) = (record.forget_due(rules), record.override_end());
        let before = self.sites.insert(id.clone(), record);
        let end_before = before.as_ref().and_then(Record::override_end);
        if end.is_some() {
            self.overridden.insert(id.clone());
        } else if end_before.is_some() {
            self.overridden.remove(&id);
        }
        self.reschedule(end_before, end, Due::OverrideEnd(id.clone()));
        let due_before = before.and_then(|before| before.forget_due(rules));
        self.reschedule(due_before, due, Due::Forget(id));
    }

    /// Drops the site with this id. Says whether it was there.
    pub(super) fn remove_site(&mut self, id: &SiteId, rules: &Rules) -> bool {
        let Some(record) = self.sites.remove(id) else {
            return false;
        };
        self.overridden.remove(id);
        self.reschedule(record.override_end(), None, Due::OverrideEnd(id.clone()));
        self.reschedule(record.forget_due(rules), None, Due::Forget(id.clone()));
        true
    }

    fn reschedule(
        &mut self,
        before: Option<DateTime<Utc>>,
        after: Option<DateTime<Utc>>,
        what: Due,
    ) {
        if before == after {
            return;
        }
        if let Some(due) = before {
            self.due.remove(&(due, what.clone()));
        }
        if let Some(due) = after {
            self.due.insert((due, what));
        }
    }
}
