//! Follows the schedule: (plan, schedule, what changed, now) -> (plan, commands of sites).

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::cause::{Touch, Visit};
use super::chain::judge;
use super::claim::{Link, SiteClaim, may_have_held};
use super::news::news;
use super::plan::{Due, Record};
use super::site_step::{Order, SiteStep};
use super::{SiteChange, SitePlan};
use crate::engine::phase::is_far_ahead;
use crate::engine::{Outcome, Rules, Schedule};
use crate::model::{
    Asked, DispatchId, Entry, Override, OverrideNote, OverrideOrder, SiteId, SiteState, Source,
};

/// What a step of the plan led to.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The plan that follows.
    pub plan: SitePlan,
    /// What the sites are told, by site id; one at most for each.
    pub changes: Vec<SiteChange>,
    /// Sites that have gone from the plan, normal all of them. One may be
    /// among the changes as well, released in the same step.
    pub forgotten: Vec<SiteId>,
    /// Sites whose override is another than before. They must be on disk, also if they
    /// are told nothing.
    pub overridden: Vec<Arc<SiteState>>,
    /// What an override means for dispatches that would hold its site.
    pub notes: Vec<OverrideNote>,
}

/// Follows the schedule that [`reconcile`](crate::engine::reconcile) gave at
/// `now`, where `outcome` is all that changed since the plan `before`.
///
/// Only the sites of dispatches that changed, or whose lead begins, are looked
/// at: where there are none, this costs nothing. The plan keeps the
/// sites that each dispatch named before, so it finds those that are named no longer.
///
/// While the schedule is behind its time (see [`Rules::chunk`]), no site is
/// released: perhaps what is still to be taken in holds it (rule R7).
pub fn plan(
    before: SitePlan,
    schedule: &Schedule,
    outcome: &Outcome,
    now: DateTime<Utc>,
    rules: &Rules,
) -> Planned {
    let mut step = Planning {
        planned: Planned {
            plan: before,
            ..Planned::default()
        },
        touches: Vec::new(),
        visits: Vec::new(),
        revisits: Vec::new(),
        retold: None,
        ordered: outcome.ordered.clone(),
        behind: schedule.has_start_due(now),
        now,
        rules,
    };
    step.follow(schedule, outcome);
    step.advance();
    step.settle();
    step.planned
}

/// The plan while one outcome is applied to it.
struct Planning<'a> {
    planned: Planned,
    /// What brought each change of a dispatch, in the order of the changes.
    touches: Vec<Touch>,
    /// The sites that those changes concern.
    visits: Vec<Visit>,
    /// Sites to look at though no dispatch of theirs changed.
    revisits: Vec<SiteId>,
    /// The sites that were looked at so far, if this step tells all of them what they must
    /// do.
    retold: Option<BTreeSet<SiteId>>,
    /// What an operator ordered, until its site is visited.
    ordered: Option<OverrideOrder>,
    /// A start or a lead that has come is left to the next step.
    behind: bool,
    now: DateTime<Utc>,
    rules: &'a Rules,
}

impl Planning<'_> {
    /// The dispatches that changed.
    fn follow(&mut self, schedule: &Schedule, outcome: &Outcome) {
        let news: Vec<_> = news(outcome)
            .into_iter()
            .map(|changed| (schedule.get(changed.id), changed))
            .collect();
        // A list that comes for the first time may name millions.
        let entries = news.iter().filter_map(|(entry, _)| entry.as_ref());
        self.visits
            .reserve(entries.map(|entry| entry.dispatch.sites.len()).sum());
        for (entry, changed) in news {
            let before = self.planned.plan.claims.get(changed.id);
            let after = entry.as_ref().map(|entry| {
                SiteClaim::since(before.map(|claim| &**claim), entry, self.now, self.rules)
            });
            let abandoned = changed.first_seen_over
                && entry.is_some_and(|entry| may_have_held(&entry, self.now, self.rules));
            let touch = Touch {
                source: changed.source,
                abandoned,
            };
            self.touch(changed.id, after, touch);
        }
        if let Some((asked, source)) = outcome.timed {
            self.undo_leads(schedule, asked, source);
        }
    }

    /// Undoes leads that began too early because our clock was ahead, of the
    /// dispatches that this answer shows (rule R4).
    fn undo_leads(&mut self, schedule: &Schedule, asked: Asked, source: Source) {
        let now = self.now;
        let too_early = |entry: &Entry| {
            let begin = self.rules.lead_start(entry.dispatch.start_time);
            entry.asked == asked && is_far_ahead(begin, now)
        };
        let leading = self.planned.plan.leading.iter();
        let undone: Vec<_> = leading
            .filter_map(|id| schedule.get(id))
            .filter(|entry| too_early(entry))
            .collect();
        for entry in undone {
            let touch = Touch {
                source,
                abandoned: false,
            };
            let claim = SiteClaim::new(&entry, false, self.rules);
            self.touch(entry.id(), Some(claim), touch);
        }
    }

    /// What has come due, one chunk of it.
    fn advance(&mut self) {
        // An abandoned dispatch may release sites. Then this step takes in all
        // leads that are due, without the bound of a chunk.
        let chunk = if self.touches.iter().any(|touch| touch.abandoned) {
            usize::MAX
        } else {
            self.rules.chunk
        };
        // Whose start is due needs no lead any more.
        let mut taken = 0;
        while !self.behind
            && let Some(due) = self.take_due()
        {
            taken += 1;
            match due {
                Due::Lead(id) => {
                    let begun = self.planned.plan.claims.get(&id).map(|claim| claim.begun());
                    taken += begun.as_ref().map_or(0, |claim| claim.dispatch.sites.len());
                    let touch = Touch {
                        source: Source::Timer,
                        abandoned: false,
                    };
                    self.touch(&id, begun, touch);
                }
                Due::Forget(site) | Due::OverrideEnd(site) => self.revisits.push(site),
            }
            self.behind = taken >= chunk && self.due().is_some();
        }
        if !self.behind {
            let unsettled = std::mem::take(&mut self.planned.plan.unsettled);
            self.revisits.extend(unsettled);
            if std::mem::take(&mut self.planned.plan.retells) {
                self.retold = Some(BTreeSet::new());
            }
        }
    }

    /// What came due first.
    fn due(&self) -> Option<&(DateTime<Utc>, Due)> {
        let first = self.planned.plan.due.get_min();
        first.filter(|(time, _)| *time <= self.now)
    }

    /// Takes out what came due first.
    fn take_due(&mut self) -> Option<Due> {
        let first = self.due()?.clone();
        self.planned.plan.due.remove(&first);
        Some(first.1)
    }

    /// Replaces the claim of the dispatch `id` by `after`, or removes it, and
    /// notes which sites to visit.
    fn touch(&mut self, id: &DispatchId, after: Option<SiteClaim>, news: Touch) {
        let touch = self.touches.len();
        let plan = &mut self.planned.plan;
        let before = plan.claims.get(id).cloned();
        self.touches.push(news);

        let after = match after {
            Some(after) => Some(plan.put_claim(Arc::new(after), self.rules)),
            None => {
                plan.remove_claim(id, self.rules);
                None
            }
        };
        if let Some(before) = &before {
            let same = after
                .as_ref()
                .is_some_and(|after| Arc::ptr_eq(&after.dispatch, &before.dispatch));
            let named = if same { &[] } else { &*before.dispatch.sites };
            self.visits.extend(named.iter().map(|site| Visit {
                site: site.id.clone(),
                dispatch: id.clone(),
                link: None,
                touch,
            }));
        }
        if let Some(after) = &after {
            self.visits
                .extend(Link::all(after).map(|(site, link)| Visit {
                    site: site.id.clone(),
                    dispatch: id.clone(),
                    link: Some(link),
                    touch,
                }));
        }
    }

    /// Looks at every site that may have changed.
    fn settle(&mut self) {
        let mut visits = std::mem::take(&mut self.visits);
        // Keep one visit for each site and dispatch: that of the last touch, and
        // of two with the same touch the one with a link.
        visits.sort_unstable_by(|a, b| {
            (&a.site, &a.dispatch)
                .cmp(&(&b.site, &b.dispatch))
                .then(b.touch.cmp(&a.touch))
                .then(b.link.is_some().cmp(&a.link.is_some()))
        });
        visits
            .dedup_by(|later, first| later.site == first.site && later.dispatch == first.dispatch);
        for visits in visits.chunk_by(|a, b| a.site == b.site) {
            if let Some(first) = visits.first() {
                self.visit(&first.site, visits);
            }
        }
        let ordered = self.ordered.as_ref().map(|order| order.site.clone());
        let revisits = std::mem::take(&mut self.revisits);
        for site in ordered.into_iter().chain(revisits) {
            self.visit(&site, &[]);
        }
        if let Some(retold) = &self.retold {
            let all = self.planned.plan.sites.keys();
            let rest: Vec<SiteId> = all.filter(|id| !retold.contains(*id)).cloned().collect();
            for site in rest {
                self.visit(&site, &[]);
            }
        }
        self.planned
            .changes
            .sort_by(|a, b| a.site.id.cmp(&b.site.id));
    }

    /// Looks at one site. `visits` are by dispatch id.
    fn visit(&mut self, id: &SiteId, visits: &[Visit]) {
        let before = self.known(id);
        let (site_override, order) = self.override_of(&before.state);
        let links = relink(&before.links, visits);
        let (state, is_postponed) = self.state_from_now(&before, &links, site_override);
        let plan = &mut self.planned.plan;
        let is_rerouted = plan.rerouted.remove(id).is_some() && state.is_curtailed();
        let is_first_visit = self
            .retold
            .as_mut()
            .is_some_and(|retold| retold.insert(id.clone()));
        // A site that nothing names and nobody commands is not of the schedule.
        let is_retold = is_first_visit && (!links.is_empty() || state.site_override.is_some());
        let site_step = SiteStep {
            before: &before,
            state: &state,
            links: &links,
            visits,
            touches: &self.touches,
            order,
            is_postponed,
            is_rerouted,
            is_retold,
        };
        let kind = site_step.kind();
        let change = kind.and_then(|kind| site_step.change(kind, plan.life_began, self.rules));
        self.planned.changes.extend(change);
        if state.site_override != before.state.site_override {
            self.planned.overridden.push(Arc::clone(&state));
        }
        self.planned
            .notes
            .extend(notes(&before, &state, &links).into_iter().flatten());
        let commanded = before.commanded || kind.is_some();
        self.keep(Record {
            state,
            links,
            commanded,
        });
    }

    /// The state of a site from now, and whether its release is put off: a start that is due
    /// and not taken in may hold it.
    fn state_from_now(
        &mut self,
        before: &Record,
        links: &[Link],
        site_override: Option<Arc<Override>>,
    ) -> (Arc<SiteState>, bool) {
        let known = &before.state;
        let judged = judge(known, links, site_override.clone(), self.now, self.rules);
        let is_postponed = self.behind && known.is_curtailed() && !judged.is_curtailed();
        let state = if is_postponed {
            self.planned.plan.unsettled.insert(known.id.clone());
            // An override that has ended stays until the site is released because of it.
            let ended = known.site_override.as_ref();
            let ended = ended.filter(|_| site_override.is_none());
            let ended = ended.map(|ended| Arc::new(ended.over()));
            SiteState {
                site_override: site_override.or(ended),
                ..SiteState::clone(known)
            }
        } else {
            judged
        };
        let state = if state == **known {
            Arc::clone(known)
        } else {
            Arc::new(state)
        };
        (state, is_postponed)
    }

    /// Keeps a site in the plan, or forgets it.
    fn keep(&mut self, record: Record) {
        let plan = &mut self.planned.plan;
        if !record.is_forgettable(self.now, self.rules) {
            plan.put_site(record, self.rules);
        } else if plan.remove_site(&record.state.id, self.rules) {
            self.planned.forgotten.push(record.state.id.clone());
        }
    }

    /// The site as it is known, with the names that an order gives it if it is not.
    fn known(&self, id: &SiteId) -> Record {
        if let Some(known) = self.planned.plan.sites.get(id) {
            return known.clone();
        }
        let mut state = SiteState::unknown(id.clone(), self.now);
        if let Some(order) = self.ordered.as_ref().filter(|order| order.site == *id) {
            state.name.clone_from(&order.name);
            state
                .customer_location_id
                .clone_from(&order.customer_location_id);
        }
        Record {
            state: Arc::new(state),
            links: Arc::from([]),
            commanded: false,
        }
    }

    /// The override of a site from now, and why it is another than the one that the site
    /// was told of, if it is. An order counts once.
    fn override_of(&mut self, known: &SiteState) -> (Option<Arc<Override>>, Option<Order>) {
        let before = known.site_override.as_ref();
        let (after, order) = match self.ordered.take_if(|order| order.site == known.id) {
            None => (before.cloned(), None),
            Some(ordered) => {
                let after = ordered.site_override;
                let reason = after.as_ref().or(before).map(|it| Arc::clone(&it.reason));
                let order = reason.map(|reason| Order {
                    reason,
                    source: Source::Operator,
                });
                (after, order)
            }
        };
        match after {
            Some(ended) if ended.is_over(self.now) => {
                let order = Order {
                    reason: Arc::clone(&ended.reason),
                    source: Source::Timer,
                };
                (None, Some(order))
            }
            after => (after, order),
        }
    }
}

/// What an override means for the dispatches that would hold its site, where one of both
/// is another than before.
fn notes<'l>(
    before: &Record,
    after: &Arc<SiteState>,
    links: &'l [Link],
) -> Option<impl Iterator<Item = OverrideNote> + use<'l>> {
    let is_reordered = after.site_override != before.state.site_override;
    if !is_reordered && after.site_override.is_none() {
        return None;
    }
    let (after, before) = (Arc::clone(after), Arc::clone(&before.links));
    let held = move |link: &Link| {
        let mut before = before.iter();
        before.any(|known| known.holds() && known.dispatch() == link.dispatch())
    };
    let news = links.iter().filter(|link| link.holds());
    let news = news.filter(move |link| is_reordered || !held(link));
    Some(news.map(move |link| OverrideNote {
        dispatch: link.dispatch().clone(),
        site: after.id.clone(),
        site_override: after.site_override.clone(),
    }))
}

/// The links of a site after `visits`, which are by dispatch id.
fn relink(links: &Arc<[Link]>, visits: &[Visit]) -> Arc<[Link]> {
    if visits.is_empty() {
        return Arc::clone(links);
    }
    let visited = |link: &&Link| {
        visits
            .binary_search_by(|visit| visit.dispatch.cmp(link.dispatch()))
            .is_ok()
    };
    links
        .iter()
        .filter(|link| !visited(link))
        .chain(visits.iter().filter_map(|visit| visit.link.as_ref()))
        .cloned()
        .collect()
}
