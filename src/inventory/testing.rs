//! An inventory for tests.

use std::time::Duration;

use chrono::DateTime;

use super::{Inventory, Known};
use crate::clock::Now;
use crate::model::{Route, SinkRoute, SiteId};
use crate::voltus::{EnrolledSite, EnrolledSites};

/// The answer that lists these sites.
pub(crate) fn enrolled(ids: &[&str]) -> EnrolledSites {
    let sites = ids.iter().map(|id| EnrolledSite {
        id: SiteId::new(id).unwrap(),
        name: format!("name of {id}"),
        customer_location_id: format!("at-{id}"),
    });
    EnrolledSites {
        sites: sites.collect(),
        ..EnrolledSites::default()
    }
}

/// The route of a sink called `plant` for these sites.
pub(crate) fn plant(sites: &[&str]) -> SinkRoute {
    let sites: Vec<String> = sites.iter().map(|site| (*site).to_owned()).collect();
    SinkRoute {
        sink: "plant".into(),
        route: Route::parse(&sites, &[], &[]).unwrap(),
    }
}

/// The time in so many hours.
pub(crate) fn hour(hours: u64) -> Now {
    let mono = Duration::from_secs(hours * 3600);
    Now {
        mono,
        wall: crate::clock::wall_after(DateTime::UNIX_EPOCH, mono),
    }
}

/// What is known when these sites are enrolled at first.
pub(crate) fn inventory(ids: &[&str], routes: &[SinkRoute]) -> Inventory {
    Inventory {
        known: Some(Known::new(enrolled(ids), None, routes, hour(0))),
        ..Inventory::default()
    }
}
