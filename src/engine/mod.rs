//! Decides what changes, and what each site must do. Pure: no I/O, no clock, no randomness.
//!
//! [`reconcile`] takes a schedule, one [`Observation`] and the time, and gives
//! the schedule that follows and what changed (rule R1). Webhook, poll, clock
//! and restart all pass through it. [`Schedule::next_due`] tells when the clock
//! has something to say next.
//!
//! [`plan`] follows the schedule and tells what each site must do (rule R7).

mod doubts;
mod entries;
mod last_list;
mod observation;
mod phase;
mod reconcile;
mod schedule;
mod sites;
mod upsert;

pub use doubts::{DoubtChange, MassAbsence};
pub use observation::{Observation, Request};
pub use reconcile::{CHUNK, Outcome, Rules, reconcile};
pub use schedule::Schedule;
pub use sites::{Cause, Planned, SiteChange, SiteChangeKind, SitePlan, plan};

#[cfg(test)]
mod tests;
