//! Metrics of the lease. A daemon that shares its store with no other has none.

use std::fmt;

use super::page::{Metric, Page, one};
use crate::clock::Mono;
use crate::status::lease::{Lead, LeaseHealth};

const LEADER: Metric = Metric::plain(
    "leader",
    "1 while this daemon leads and may act, 0 while it stands by. Only with a shared store.",
);
const TERM: Metric = Metric::plain(
    "term",
    "The newest term of the lease that this daemon knows. Only with a shared store.",
);
const AGE: Metric = Metric::seconds(
    "lease_age",
    "How long ago this daemon last saw or renewed the lease. Left out before the first time. Only with a shared store.",
);
const CHANGES: Metric = Metric::plain(
    "leader_changes",
    "How often another daemon than before was seen to lead, since the start. Only with a shared store.",
);
const COMMITS_LOST: Metric = Metric::plain(
    "commits_lost",
    "How often this daemon took the lead of a database that may lack the last commits, since its start: another server than before, or fewer commits. Every site is then told once more what it must do. Only with a shared store.",
);

/// Who leads, and whether that can be seen.
pub(super) fn lease(
    page: &mut Page<'_>,
    lead: &Lead,
    health: &LeaseHealth,
    now: Mono,
) -> fmt::Result {
    page.gauge(&LEADER, one(u64::from(lead.is_ours)))?;
    page.gauge(&TERM, lead.term.into_iter().flat_map(one))?;
    let age = health.age(now).map(|age| age.as_secs_f64());
    page.gauge(&AGE, age.into_iter().flat_map(one))?;
    page.counter(&CHANGES, one(health.changes))?;
    page.counter(&COMMITS_LOST, one(lead.losses.count))
}
