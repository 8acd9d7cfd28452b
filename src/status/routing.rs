//! Which sinks a site is routed to, and which sites nobody is told of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::engine::Schedule;
use crate::model::{Phase, ProgramName, Route, SinkRoute, SiteNames, SiteState};

/// How many sites are listed one by one.
const LISTED: usize = 100;

/// The routes of all sinks, by the sinks' names.
#[derive(Debug)]
pub struct Routing {
    sinks: Vec<SinkRoute>,
    /// The routes of sites that are told nothing on purpose.
    left_out: Vec<Route>,
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
    /// How many of them an active dispatch calls on.
    pub active: usize,
    /// The first of them, those of active dispatches before others: a hundred at most.
    pub first: Arc<[UnroutedSite]>,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnroutedSite {
    pub site: String,
    pub name: String,
    /// The first live dispatch that calls on it.
    pub dispatch: String,
    /// Whether an active one does.
    pub active: bool,
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
    /// The routes of these sinks. Sites that `left_out` takes are told nothing on purpose.
    pub fn new(sinks: Vec<SinkRoute>, left_out: Vec<Route>, curtail_on_test: bool) -> Self {
        Self {
            sinks,
            left_out,
            curtail_on_test,
            last: Mutex::new((u64::MAX, Unrouted::default())),
        }
    }

    /// The sinks that get the commands of these sites, of each site in turn. Whether they
    /// do for a given dispatch depends on its program, if they are for some programs only.
    pub(super) fn sinks_of(&self, sites: &[&SiteState]) -> Vec<Vec<&str>> {
        let names = sites.iter();
        let names = names.map(|site| [site.id.as_str(), &*site.customer_location_id]);
        let names: SiteNames<&str> = names.collect();
        let mut sinks = vec![Vec::new(); sites.len()];
        for SinkRoute { sink, route } in &self.sinks {
            for site in route.commanded_among(&names) {
                if let Some(sinks) = sinks.get_mut(site) {
                    sinks.push(&**sink);
                }
            }
        }
        sinks
    }

    /// The sites of live dispatches whose commands go to no sink. None, if there is no
    /// sink at all: that is told by itself.
    pub(super) fn unrouted(&self, schedule: &Schedule) -> Unrouted {
        let gets_all = |route: &Route| {
            route.takes_commands() && !route.names_sites() && !route.names_programs()
        };
        if self.sinks.is_empty() || self.routes().any(gets_all) {
            return Unrouted::default();
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != schedule.revision() {
            *last = (schedule.revision(), self.look(schedule));
        }
        last.1.clone()
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        let sinks = self.sinks.iter().map(|one| &one.route);
        sinks.chain(&self.left_out)
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
            let names = dispatch.sites.iter();
            let names = names.map(|site| [site.id.as_str(), &*site.customer_location_id]);
            let names: SiteNames<&str> = names.collect();
            let mut routed = vec![false; dispatch.sites.len()];
            for route in self.routes().filter(|route| route.takes_program(&program)) {
                for site in route.commanded_among(&names) {
                    if let Some(routed) = routed.get_mut(site) {
                        *routed = true;
                    }
                }
            }
            let sites = dispatch.sites.iter().zip(routed);
            for (site, _) in sites.filter(|(_, routed)| !routed) {
                let site = found
                    .entry(site.id.clone())
                    .or_insert_with(|| UnroutedSite {
                        site: site.id.to_string(),
                        name: site.name.clone(),
                        dispatch: dispatch.id.to_string(),
                        active: false,
                    });
                site.active |= entry.phase == Phase::Active;
            }
        }
        let mut found: Vec<UnroutedSite> = found.into_values().collect();
        found.sort_by_key(|site| !site.active);
        Unrouted {
            sites: found.len(),
            active: found.iter().filter(|site| site.active).count(),
            first: found.into_iter().take(LISTED).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteId;
    use chrono::DateTime;

    fn sink(name: &str, sites: &[&str], events: &[&str]) -> SinkRoute {
        let strings = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        SinkRoute {
            sink: name.into(),
            route: Route::parse(&strings(sites), &[], &strings(events)).unwrap(),
        }
    }

    #[test]
    fn the_sinks_of_a_site_are_those_whose_routes_command_it_in_their_order() {
        let sinks = vec![
            sink("by-location", &["at-a"], &[]),
            sink("all", &[], &[]),
            sink("by-both", &["a", "at-a"], &[]),
            sink("begins", &["a*", "b"], &[]),
            sink("no-commands", &["a"], &["dispatch.*"]),
            sink("another", &["b"], &[]),
        ];
        let routing = Routing::new(sinks.clone(), Vec::new(), false);
        let names = [("a", "at-a"), ("b", ""), ("c", "b"), ("z", "")];
        let sites = names.map(|(id, location)| SiteState {
            customer_location_id: location.into(),
            ..SiteState::unknown(SiteId::new(id).unwrap(), DateTime::UNIX_EPOCH)
        });
        let found = routing.sinks_of(&sites.each_ref());
        for ((id, location), found) in names.into_iter().zip(found) {
            let asked_each: Vec<&str> = sinks
                .iter()
                .filter(|one| one.route.commands_site(id, location))
                .map(|one| &*one.sink)
                .collect();
            assert_eq!(found, asked_each, "{id}");
        }
    }
}
