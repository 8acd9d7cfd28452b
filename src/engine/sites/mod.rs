//! What each site must do: the union of the dispatches that name it (rule R7).
//!
//! A dispatch *holds* its sites from its start, less the lead
//! ([`Rules::pre_curtail`](super::Rules)), until it is over. A site is curtailed
//! while anything holds it. Here `#` is a dispatch and `-` its lead; the site is
//! curtailed where there is a `C`, and released at `R`:
//!
//! ```text
//! overlapping: one curtailment, with the larger commitment of those that hold
//!   a             ####
//!   b               ######
//!   site          CCCCCCCCR
//!
//! abutting: nothing is released in between
//!   a             ####
//!   b                 ####
//!   site          CCCCCCCCR
//!
//! a gap shorter than the lead, or as long: the next lead has begun already
//!   a           --####
//!   b                --####
//!   site        CCCCCCCCCCCR
//!
//! a gap longer than the lead: released, and curtailed again
//!   a           --####
//!   b                    --####
//!   site        CCCCCCR  CCCCCCR
//!
//! an open end: held until it is told to end, `until` is null
//!   a             ####............
//!   site          CCCCCCCCCCCCCCCC
//! ```
//!
//! `until` is the end of the unbroken chain as known now. A dispatch joins the
//! chain when its lead begins no later than the chain ends:
//!
//! ```text
//!   now            |
//!   a           --####
//!   b                 --####
//!   c                        --####   no link: its lead begins too late
//!   until                   |
//! ```
//!
//! An operator may order otherwise for a time (an *override*): the site is kept out of
//! its dispatches, or curtailed without any. While it lasts, dispatches that come and go
//! are taken in all the same, and what they ask for counts again when it ends. An
//! override that curtails is one more link of the chain.
//!
//! Who watches which time: starts and ends are phases of the schedule's
//! entries, so [`Schedule::next_due`](super::Schedule::next_due) brings them,
//! and they reach the plan as changes. The begin of a lead concerns sites only,
//! so [`SitePlan::next_due`] brings it. Time alone moves no `until`: the chain
//! is made of starts, leads and ends.

mod cause;
mod chain;
mod change;
mod claim;
mod news;
mod plan;
mod site_step;
mod step;

pub use change::{Cause, SiteChange, SiteChangeKind};
pub use plan::SitePlan;
pub use step::{Planned, plan};

#[cfg(test)]
mod tests;
