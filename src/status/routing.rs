//! Which sinks a site is routed to, and which sites nobody is told of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::engine::Schedule;
use crate::model::{Phase, ProgramName, Route, SinkRoute, Site, SiteState};

/// How many sites are listed one by one.
const LISTED: usize = 100;

/// The routes of all sinks, by the sinks' names.
#[derive(Debug)]
pub struct Routing {
    sinks: Vec<SinkRoute>,
    /// Whether test dispatches curtail sites.
    curtail_on_test: bool,
    /// What was found last, and of which revision of the schedule.
    last: Mutex<(u64, Unrouted)>,
}

/// Sites of live dispatches whose commands go to no sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Unrouted {
    /// How many there are.
    pub sites: usize,
    /// The first of them, by id: a hundred at most.
    pub first: Arc<[UnroutedSite]>,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnroutedSite {
    pub site: String,
    pub name: String,
    /// The first live dispatch that calls on it.
    pub dispatch: String,
}

impl UnroutedSite {
    pub fn shown_name(&self) -> &str {
        if self.name.is_empty() {
            &self.site
        } else {
            &self.name
        }
    }
}

impl Routing {
    /// The routes of these sinks.
    pub fn new(sinks: Vec<SinkRoute>, curtail_on_test: bool) -> Self {
        Self {
            sinks,
            curtail_on_test,
            last: Mutex::new((u64::MAX, Unrouted::default())),
        }
    }

    /// The sinks that get the commands of this site. Whether they do for a given
    /// dispatch depends on its program, if they are for some programs only.
    pub(super) fn sinks_of(&self, site: &SiteState) -> Vec<&str> {
        let sinks = self.sinks.iter();
        let takes = |one: &&SinkRoute| {
            one.route
                .commands_site(site.id.as_str(), &site.customer_location_id)
        };
        sinks.filter(takes).map(|one| &*one.sink).collect()
    }

    /// The sites of live dispatches whose commands go to no sink. None, if there is no
    /// sink at all: that is told by itself.
    pub(super) fn unrouted(&self, schedule: &Schedule) -> Unrouted {
        let gets_all = |route: &Route| {
            route.takes_type("site.curtail") && !route.names_sites() && !route.names_programs()
        };
        if self.sinks.is_empty() || self.sinks.iter().any(|one| gets_all(&one.route)) {
            return Unrouted::default();
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != schedule.revision() {
            *last = (schedule.revision(), self.look(schedule));
        }
        last.1.clone()
    }

    fn look(&self, schedule: &Schedule) -> Unrouted {
        let mut found = BTreeMap::new();
        for entry in schedule.entries() {
            let dispatch = &entry.dispatch;
            let live = matches!(entry.phase, Phase::Scheduled | Phase::Active);
            if !live || (dispatch.test && !self.curtail_on_test) {
                continue;
            }
            let program = ProgramName::from(&dispatch.program);
            let routed = |site: &Site| {
                let mut routes = self.sinks.iter();
                routes.any(|SinkRoute { route, .. }| {
                    route.commands(&site.id, &site.customer_location_id, &program)
                })
            };
            for site in dispatch.sites.iter().filter(|site| !routed(site)) {
                found
                    .entry(site.id.clone())
                    .or_insert_with(|| UnroutedSite {
                        site: site.id.to_string(),
                        name: site.name.clone(),
                        dispatch: dispatch.id.to_string(),
                    });
            }
        }
        Unrouted {
            sites: found.len(),
            first: found.into_values().take(LISTED).collect(),
        }
    }
}
