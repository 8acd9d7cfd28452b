//! The claim of a dispatch on its sites.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::engine::Rules;
use crate::model::{Dispatch, DispatchId, Entry, Phase, ProgramName, Site};

/// Whether a dispatch holds its sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It does not and will not, as far as is known: it is over, or a test.
    None,
    /// It will. Its lead has not begun.
    Coming,
    /// It does. Its lead or the dispatch itself has begun.
    Begun,
}

/// An entry of the schedule, as far as it bears on its sites.
#[derive(Debug)]
pub(super) struct SiteClaim {
    /// Shared with the schedule.
    pub dispatch: Arc<Dispatch>,
    /// Whether it holds its sites.
    pub hold: Hold,
    /// Whether it holds them by its lead: it has not started.
    pub by_lead: bool,
    /// When the entry last changed, UTC: of several that hold a site the newest
    /// names it.
    pub last_changed: DateTime<Utc>,
    /// Its program, if it holds its sites: they all share it.
    pub program: Option<Arc<ProgramName>>,
}

/// Whether sites of `entry`, which was over at first sight, may have been curtailed
/// by an earlier life of the daemon: its lead had begun by `now`.
pub(super) fn may_have_held(entry: &Entry, now: DateTime<Utc>, rules: &Rules) -> bool {
    counts(&entry.dispatch, rules) && rules.lead_start(entry.dispatch.start_time) <= now
}

/// Whether a dispatch curtails sites at all.
fn counts(dispatch: &Dispatch, rules: &Rules) -> bool {
    rules.curtail_on_test || !dispatch.test
}

fn program(dispatch: &Dispatch) -> Arc<ProgramName> {
    Arc::new(ProgramName::from(&dispatch.program))
}

impl SiteClaim {
    /// The claim of `entry`. `lead_begun` counts only while it has not started.
    pub fn new(entry: &Entry, lead_begun: bool, rules: &Rules) -> Self {
        let counts = counts(&entry.dispatch, rules);
        let hold = match entry.phase {
            Phase::Active if counts => Hold::Begun,
            Phase::Scheduled if counts && lead_begun => Hold::Begun,
            Phase::Scheduled if counts => Hold::Coming,
            _ => Hold::None,
        };
        Self {
            dispatch: Arc::clone(&entry.dispatch),
            hold,
            by_lead: hold == Hold::Begun && entry.phase == Phase::Scheduled,
            last_changed: entry.last_changed,
            program: (hold == Hold::Begun).then(|| program(&entry.dispatch)),
        }
    }

    /// The claim of `entry` at `now`, where `before` was its claim until now.
    ///
    /// A lead that has begun stays begun, unless the start moved later: the
    /// clock may have fallen back (rule R4).
    pub fn since(before: Option<&Self>, entry: &Entry, now: DateTime<Utc>, rules: &Rules) -> Self {
        let start = entry.dispatch.start_time;
        let kept = before.is_some_and(|before| {
            before.hold == Hold::Begun && start <= before.dispatch.start_time
        });
        Self::new(entry, kept || rules.lead_start(start) <= now, rules)
    }

    /// The same claim once its lead has begun.
    pub fn begun(&self) -> Self {
        Self {
            dispatch: Arc::clone(&self.dispatch),
            hold: Hold::Begun,
            by_lead: true,
            last_changed: self.last_changed,
            program: Some(program(&self.dispatch)),
        }
    }

    /// When its lead begins, UTC. `None` when it has, or never will.
    pub fn lead_due(&self, rules: &Rules) -> Option<DateTime<Utc>> {
        (self.hold == Hold::Coming).then(|| rules.lead_start(self.dispatch.start_time))
    }
}

/// A claim on one site. Sixteen bytes, for there may be millions.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// The claim.
    pub claim: Arc<SiteClaim>,
    /// Where the site is among the dispatch's sites: they are in no order, so
    /// that looking for one among 100,000 would be slow.
    pub place: u32,
}

impl Link {
    /// The dispatch's id.
    pub fn dispatch(&self) -> &DispatchId {
        &self.claim.dispatch.id
    }

    /// The site as the dispatch knows it.
    pub fn site(&self) -> Option<&Site> {
        let site = self.claim.dispatch.sites.get(self.place as usize);
        site.map(|site| &**site)
    }

    /// Whether it holds the site.
    pub fn holds(&self) -> bool {
        self.claim.hold == Hold::Begun
    }

    /// When the lead of its dispatch begins, UTC.
    pub fn lead_start(&self, rules: &Rules) -> DateTime<Utc> {
        rules.lead_start(self.claim.dispatch.start_time)
    }

    /// What of it can change how the site is curtailed. `None` if nothing can.
    pub fn bearing(&self) -> Option<impl PartialEq> {
        let SiteClaim {
            dispatch,
            hold,
            program,
            ..
        } = &*self.claim;
        let (commitment, extra) = match hold {
            Hold::None => return None,
            Hold::Coming => (None, None),
            Hold::Begun => {
                let site = self.site()?;
                (site.commitment, Some(site.extra.clone()))
            }
        };
        let (start, end) = (dispatch.start_time, dispatch.end_time);
        Some((*hold, start, end, commitment, extra, program.clone()))
    }

    /// The links that a claim makes, with the site that each is for.
    pub fn all(claim: &Arc<SiteClaim>) -> impl Iterator<Item = (&Site, Self)> {
        (0u32..).zip(&claim.dispatch.sites).map(|(place, site)| {
            let claim = Arc::clone(claim);
            (&**site, Self { claim, place })
        })
    }
}
