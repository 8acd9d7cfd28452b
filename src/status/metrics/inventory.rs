//! Metrics of the enrolled sites. They have no sample until these are known.

use std::fmt;

use super::page::{Metric, Page};
use crate::clock::Mono;
use crate::inventory::{Inventory, Known};

const ENROLLED: Metric = Metric::plain(
    "enrolled_sites",
    "Sites that are enrolled at the API. No value until the API has told them.",
);
const UNROUTED: Metric = Metric::plain(
    "enrolled_sites_unrouted",
    "Enrolled sites that are routed to no sink: nobody would be told of a dispatch there. Sites that are routed to a sink `none` are left out on purpose and not counted.",
);
const VANISHED: Metric = Metric::plain(
    "enrolled_sites_vanished",
    "Sites that were enrolled within 24 hours and are not any more, since the start.",
);
const UNMATCHED: Metric = Metric::plain(
    "route_patterns_unmatched",
    "Patterns of sites in routes that match no enrolled site.",
);
const AGE: Metric = Metric::seconds(
    "inventory_age",
    "How long ago the API last told which sites are enrolled. It is asked every hour.",
);

pub(super) fn enrolled(page: &mut Page<'_>, inventory: &Inventory, now: Mono) -> fmt::Result {
    let known = inventory.known.as_ref();
    let one = |value: &dyn Fn(&Known) -> f64| known.map(|known| ([("", ""); 0], value(known)));
    let count = |count: usize| count as f64;
    page.gauge(&ENROLLED, one(&|known| count(known.sites.len())))?;
    page.gauge(&UNROUTED, one(&|known| count(known.comparison.unrouted)))?;
    page.gauge(&VANISHED, one(&|known| count(known.vanished.len())))?;
    page.gauge(
        &UNMATCHED,
        one(&|known| count(known.comparison.unmatched.len())),
    )?;
    let age = |known: &Known| now.saturating_sub(known.looked_at_mono).as_secs_f64();
    page.gauge(&AGE, one(&age))
}
