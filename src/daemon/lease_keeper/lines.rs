//! What the log says about the lease: each change once.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::seldom::{Trouble, spoken};
use crate::store::{LeaseRow, StoreError};
use crate::sync::{Leadership, LeaseAnswer};

/// A coordinator that has finished no turn for longer than this is the reason why the
/// lease is not renewed.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// Writes lines about the lease.
#[derive(Debug, Default)]
pub(super) struct Lines {
    said: Said,
    /// Calls to the store fail.
    trouble: Trouble,
    leaves: bool,
}

/// What the log has said last.
#[derive(Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    StandsBy {
        term: u64,
        holder: Arc<str>,
    },
    Leads(u64),
    IsSuspended(u64),
    WasDeposed(u64),
}

impl Lines {
    /// This daemon has been told to give the lease back.
    pub fn leaves(&mut self) {
        self.leaves = true;
        if let Said::Leads(term) | Said::IsSuspended(term) = self.said {
            tracing::info!(term, "dispatchd gives the lead back");
        }
    }

    /// A call to the store has ended.
    pub fn answered(&mut self, answer: &Result<LeaseAnswer, StoreError>, now: Mono) {
        match answer {
            Ok(_) => {
                if let Some(lasted) = self.trouble.over(now) {
                    tracing::info!(lasted = %spoken(lasted), "the lease can be read and renewed again");
                }
            }
            Err(error) => {
                if let Some(times) = self.trouble.lasts(now) {
                    tracing::warn!(%error, times, "the lease could not be read or renewed");
                }
            }
        }
    }

    /// How this daemon stands, when its coordinator has not finished a turn for so long.
    pub fn state(&mut self, leadership: &Leadership, stands_still: Duration) {
        let said = match leadership {
            Leadership::Standby { leader: Some(row) } if !row.given_back => self.stands_by(row),
            Leadership::Standby { .. } => return,
            Leadership::Leading { term, .. } => self.leads(*term),
            Leadership::Suspended { term } => self.is_suspended(*term, stands_still),
            Leadership::Deposed { term, by } => self.was_deposed(*term, by.as_ref()),
        };
        if let Some(said) = said {
            self.said = said;
        }
    }

    fn stands_by(&self, row: &LeaseRow) -> Option<Said> {
        let said = Said::StandsBy {
            term: row.term,
            holder: Arc::clone(&row.holder),
        };
        if self.said == said || self.leaves {
            return None;
        }
        let (leader, term, since) = (&row.node, row.term, row.since);
        tracing::info!(%leader, term, %since, "another dispatchd leads; this one stands by and acts if that one fails");
        Some(said)
    }

    fn leads(&self, term: u64) -> Option<Said> {
        match self.said {
            Said::Leads(said) if said == term => return None,
            Said::IsSuspended(said) if said == term => {
                tracing::info!(term, "the lease is renewed again: dispatchd leads and acts");
            }
            _ => tracing::info!(term, "dispatchd has taken the lead"),
        }
        Some(Said::Leads(term))
    }

    /// A daemon that has found out that it leads, and was not renewed yet, has not led.
    fn is_suspended(&self, term: u64, stands_still: Duration) -> Option<Said> {
        if self.said != Said::Leads(term) {
            return None;
        }
        let reason = if stands_still > STANDS_STILL {
            "the coordinator has stood still"
        } else {
            "the store has not answered in time"
        };
        tracing::warn!(
            term,
            reason,
            "the lease was not renewed: dispatchd does not act until it is, or until another one leads"
        );
        Some(Said::IsSuspended(term))
    }

    fn was_deposed(&self, term: u64, by: Option<&LeaseRow>) -> Option<Said> {
        if self.said == Said::WasDeposed(term) {
            return None;
        }
        match by {
            Some(row) => {
                let leader = &row.node;
                tracing::warn!(term, %leader, "dispatchd has lost the lead");
            }
            None => tracing::warn!(term, "dispatchd has lost the lead"),
        }
        Some(Said::WasDeposed(term))
    }
}
