//! Compares the enrolled sites with those of the look before, and with the routes.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{Mono, Now};
use crate::model::{SinkRoute, SiteId, SiteNames, SiteState, first_of};
use crate::voltus::EnrolledSites;

/// How many sites are named.
const NAMED: usize = 10;

/// How long it is told that a site is not enrolled any more.
const VANISHED_FOR: TimeDelta = TimeDelta::hours(24);

/// The most vanished sites that are kept.
const VANISHED_MAX: usize = 1000;

/// What is known of the enrolled sites.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The newest good look. `None` until there was one.
    pub known: Option<Known>,
    /// Why the last look failed. `None` if it did not, and before the first one.
    pub problem: Option<String>,
    /// When the next look is due, UTC. It waits for the budget then. `None` before the
    /// first look has ended.
    pub next_look: Option<DateTime<Utc>>,
}

impl Inventory {
    /// Whether the site is enrolled. `None` if that is not known.
    pub fn is_enrolled(&self, id: &SiteId) -> Option<bool> {
        let known = self.known.as_ref()?;
        let found = known.get(id).is_some();
        (found || known.gap.is_none()).then_some(found)
    }

    /// The enrolled sites, by id.
    pub fn sites(&self) -> &[Arc<SiteState>] {
        self.known.as_ref().map_or(&[], |known| &known.sites)
    }
}

/// A good look at the enrolled sites.
#[derive(Debug, Clone)]
pub struct Known {
    /// The sites by id, as those that no dispatch names: normal, since the first look
    /// of this start that showed them.
    pub sites: Arc<[Arc<SiteState>]>,
    /// When the answer came, UTC.
    pub looked_at: DateTime<Utc>,
    /// When the answer came, on the clock that does not jump.
    pub looked_at_mono: Mono,
    /// Why the list may lack sites, if it may.
    pub gap: Option<String>,
    /// How they compare with the routes.
    pub comparison: Comparison,
    /// The sites that were enrolled and are not any more, for 24 hours or until they
    /// are enrolled again, the newest first.
    pub vanished: Arc<[VanishedSite]>,
}

/// A site that is not enrolled any more.
#[derive(Debug, Clone)]
pub struct VanishedSite {
    /// The site as it was.
    pub site: Arc<SiteState>,
    /// The look that lacked it first, UTC.
    pub since: DateTime<Utc>,
}

/// How the enrolled sites compare with the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many enrolled sites no sink gets the commands of.
    pub unrouted: usize,
    /// The first of them by id, ten at most.
    pub first_unrouted: Vec<SiteId>,
    /// The patterns of sites that match no enrolled site.
    pub unmatched: Vec<UnmatchedPattern>,
}

/// A pattern that matches no enrolled site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedPattern {
    /// The sink with the pattern.
    pub sink: Arc<str>,
    /// The pattern as it was written.
    pub pattern: String,
}

impl Known {
    /// What `told` says after `before`.
    pub fn new(told: EnrolledSites, before: Option<&Self>, routes: &[SinkRoute], now: Now) -> Self {
        let gap = gap(&told);
        let sites: Arc<[Arc<SiteState>]> = told
            .sites
            .into_iter()
            .map(|site| {
                let earlier = before.and_then(|before| before.get(&site.id));
                let since = earlier.map_or(now.wall, |earlier| earlier.since);
                Arc::new(SiteState {
                    name: site.name,
                    customer_location_id: site.customer_location_id,
                    ..SiteState::unknown(site.id, since)
                })
            })
            .collect();
        let comparison = Comparison::new(&sites, gap.is_none(), routes);
        let mut known = Self {
            sites,
            looked_at: now.wall,
            looked_at_mono: now.mono,
            gap,
            comparison,
            vanished: Arc::default(),
        };
        if let Some(before) = before {
            known.vanished = known.vanished_since(before);
        }
        known
    }

    /// The enrolled site with this id.
    pub fn get(&self, id: &SiteId) -> Option<&Arc<SiteState>> {
        let at = self.sites.binary_search_by(|site| site.id.cmp(id)).ok()?;
        self.sites.get(at)
    }

    fn vanished_since(&self, before: &Self) -> Arc<[VanishedSite]> {
        let is_gone = |site: &SiteState| self.get(&site.id).is_none();
        let missing = before.sites.iter().filter(|site| is_gone(site));
        let new = missing.map(|site| VanishedSite {
            site: Arc::clone(site),
            since: self.looked_at,
        });
        // What a list that is not whole lacks may be enrolled all the same.
        let new = new.take(if self.gap.is_none() { VANISHED_MAX } else { 0 });
        let still = before.vanished.iter().filter(|vanished| {
            is_gone(&vanished.site) && self.looked_at - vanished.since < VANISHED_FOR
        });
        new.chain(still.cloned()).take(VANISHED_MAX).collect()
    }
}

fn gap(told: &EnrolledSites) -> Option<String> {
    match told.unread {
        0 if told.is_page => Some("the API answers in pages, and tells the first alone".into()),
        0 => None,
        1 => Some("1 site in the answer cannot be read".into()),
        unread => Some(format!("{unread} sites in the answer cannot be read")),
    }
}

impl Comparison {
    /// Compares `sites` with `routes`. If the list is not whole, nothing is said of
    /// patterns.
    pub fn new(sites: &[Arc<SiteState>], is_whole: bool, routes: &[SinkRoute]) -> Self {
        let mut comparison = Self::default();
        let names = sites.iter();
        let names = names.map(|site| [site.id.as_str(), &*site.customer_location_id]);
        let names: SiteNames<&str> = names.collect();
        let mut routed = vec![false; sites.len()];
        for SinkRoute { route, .. } in routes {
            for site in route.commanded_among(&names) {
                if let Some(routed) = routed.get_mut(site) {
                    *routed = true;
                }
            }
        }
        let unrouted = sites.iter().zip(routed).filter(|(_, routed)| !routed);
        for (site, _) in unrouted {
            comparison.unrouted += 1;
            if comparison.first_unrouted.len() < NAMED {
                comparison.first_unrouted.push(site.id.clone());
            }
        }
        for SinkRoute { sink, route } in routes.iter().filter(|_| is_whole) {
            for pattern in route.unmatched_sites(&names) {
                // It stands for all sites, however many there are.
                if pattern != "*" {
                    comparison.unmatched.push(UnmatchedPattern {
                        sink: Arc::clone(sink),
                        pattern,
                    });
                }
            }
        }
        comparison
    }

    /// Whether each enrolled site has a sink and each pattern a site.
    pub fn is_clean(&self) -> bool {
        self.unrouted == 0 && self.unmatched.is_empty()
    }
}

/// The first sites by id, and how many there are beside them.
pub fn named(first: &[SiteId], of: usize) -> String {
    first_of(first.iter().map(SiteId::as_str), of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing::{enrolled, hour, plant};

    fn look(ids: &[&str], before: Option<&Known>, hours: u64) -> Known {
        Known::new(enrolled(ids), before, &[plant(&[])], hour(hours))
    }

    fn vanished(known: &Known) -> Vec<&str> {
        let sites = known.vanished.iter();
        sites.map(|vanished| vanished.site.id.as_str()).collect()
    }

    fn id(text: &str) -> SiteId {
        SiteId::new(text).unwrap()
    }

    #[test]
    fn a_site_that_vanished_is_told_for_a_day_or_until_it_is_back() {
        let first = look(&["a", "b", "c"], None, 0);
        assert!(first.vanished.is_empty());
        let second = look(&["a"], Some(&first), 1);
        assert_eq!(vanished(&second), ["b", "c"]);
        let third = look(&["c"], Some(&second), 24);
        assert_eq!(vanished(&third), ["a", "b"]);
        let fourth = look(&["c"], Some(&third), 25);
        assert_eq!(vanished(&fourth), ["a"]);
    }

    #[test]
    fn a_list_that_is_not_whole_says_nothing_of_what_it_lacks() {
        let first = look(&["a", "b"], None, 0);
        let mut told = enrolled(&["a"]);
        told.unread = 1;
        let routes = [plant(&["a", "b"])];
        let second = Known::new(told, Some(&first), &routes, hour(1));
        assert!(second.vanished.is_empty());
        assert!(second.comparison.unmatched.is_empty());
        let inventory = Inventory {
            known: Some(second),
            ..Inventory::default()
        };
        assert_eq!(inventory.is_enrolled(&id("a")), Some(true));
        assert_eq!(inventory.is_enrolled(&id("b")), None);
    }

    #[test]
    fn a_site_keeps_the_time_at_which_it_was_first_listed() {
        let first = look(&["a"], None, 0);
        let second = look(&["a", "b"], Some(&first), 1);
        let since = |text| second.get(&id(text)).unwrap().since;
        assert_eq!(since("a"), hour(0).wall);
        assert_eq!(since("b"), hour(1).wall);
    }

    #[test]
    fn sites_without_a_sink_and_patterns_without_a_site_are_found() {
        let names: Vec<String> = (10..40).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let routes = [plant(&["s1*", "at-s20", "x", "y*", "*"]), plant(&[])];
        let all = Known::new(enrolled(&names), None, &routes, hour(0)).comparison;
        assert_eq!(all.unrouted, 0);
        let some = [plant(&["s1*", "at-s20", "x", "y*"])];
        let some = Known::new(enrolled(&names), None, &some, hour(0)).comparison;
        assert_eq!(some.unrouted, 19);
        assert_eq!(some.first_unrouted.len(), NAMED);
        let patterns: Vec<&str> = some.unmatched.iter().map(|one| &*one.pattern).collect();
        assert_eq!(patterns, ["x", "y*"]);
        assert_eq!(
            named(&some.first_unrouted[..2], some.unrouted),
            "s21, s22 and 17 more"
        );
    }
}
