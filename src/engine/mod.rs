//! The one place that decides. Pure: no I/O, no clock, no randomness.
//!
//! [`reconcile`] takes a schedule, one [`Observation`] and the time, and gives
//! the schedule that follows and what changed (rule R1). Webhook, poll, clock
//! and restart all pass through it. [`Schedule::next_due`] tells when the clock
//! has something to say next.
//!
//! [`plan`] follows the schedule and tells what each site must do (rule R7).

mod doubts;
mod observation;
mod phase;
mod reading;
mod reconcile;
mod roll;
mod schedule;
mod sight;
mod sites;

pub use doubts::{DoubtChange, MassAbsence};
pub use observation::{Answer, List, Observation, Request};
pub use reading::{Doubts, Reading};
pub use reconcile::{Outcome, Rules, STRIDE, reconcile};
pub use schedule::Schedule;
pub use sites::{Next, Planned, SiteChange, SiteChangeKind, SiteMode, SitePlan, SiteState, plan};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
