//! What the log says about the lease: each change once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Mono;
use crate::seldom::{Trouble, spoken};
use crate::status::fingerprint_differs;
use crate::store::{LeaseRow, StoreError};
use crate::sync::{Leadership, LeaseAnswer};

/// A coordinator that has finished no turn for longer than this, or a process that has not
/// run for so long, is the reason why the lease is not renewed.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// For how long something has stood still.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Still {
    /// This process, all of its threads, or its machine.
    pub process: Duration,
    /// The coordinator: it has not finished a turn for so long.
    pub coordinator: Duration,
}

/// Writes lines about the lease.
#[derive(Debug)]
pub(super) struct LeaseLog {
    /// What this daemon would lead with.
    fingerprint: watch::Receiver<Arc<str>>,
    said: Said,
    /// Calls to the store fail.
    trouble: Trouble,
    leaves: bool,
    /// The log has said that nobody leads, and that this daemon does not.
    nobody_leads: bool,
    /// In what this daemon would act differently from the leader that was seen last.
    differs: Vec<&'static str>,
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

impl LeaseLog {
    /// Nothing was said yet. `fingerprint` is that of this daemon.
    pub fn new(fingerprint: watch::Receiver<Arc<str>>) -> Self {
        Self {
            fingerprint,
            said: Said::default(),
            trouble: Trouble::default(),
            leaves: false,
            nobody_leads: false,
            differs: Vec::new(),
        }
    }

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

    /// How this daemon stands.
    pub fn state(&mut self, leadership: &Leadership, still: Still) {
        let said = match leadership {
            Leadership::Standby { leader: Some(row) } if !row.given_back => {
                let said = self.stands_by(row);
                self.differs(row);
                said
            }
            Leadership::Standby { .. } => return,
            Leadership::Leading { term, .. } => self.leads(*term),
            Leadership::Suspended { term } => self.is_suspended(*term, still),
            Leadership::Deposed { term, by } => self.was_deposed(*term, by.as_ref()),
        };
        if let Some(said) = said {
            self.said = said;
        }
    }

    /// Whether nobody leads, and why this daemon cannot.
    pub fn vacant(&mut self, vacant: bool, barred: Option<&str>) {
        let barred = barred.filter(|_| vacant && !self.leaves);
        if let Some(reason) = barred.filter(|_| !self.nobody_leads) {
            tracing::error!(
                reason,
                "nobody leads, and this daemon does not take over: no site is told anything"
            );
        }
        self.nobody_leads = barred.is_some();
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

    /// Warns when this daemon would act differently from the leader of `row`, in other things
    /// than before.
    fn differs(&mut self, row: &LeaseRow) {
        let differs = fingerprint_differs(&self.fingerprint.borrow(), &row.fingerprint);
        if self.leaves || differs == self.differs {
            return;
        }
        let leader = &row.node;
        if differs.is_empty() {
            tracing::info!(%leader, "this standby would act as the leader does");
        } else {
            tracing::warn!(
                %leader,
                differs = differs.join(", "),
                "this standby is not ready: it would act differently from the leader; give both daemons the same configuration, and restart the one that is wrong"
            );
        }
        self.differs = differs;
    }

    fn leads(&mut self, term: u64) -> Option<Said> {
        match self.said {
            Said::Leads(said) if said == term => return None,
            Said::IsSuspended(said) if said == term => {
                tracing::info!(term, "the lease is renewed again: dispatchd leads and acts");
            }
            _ if !std::mem::take(&mut self.differs).is_empty() => tracing::warn!(
                term,
                "dispatchd has taken the lead, and acts differently from the leader before it"
            ),
            _ => tracing::info!(term, "dispatchd has taken the lead"),
        }
        Some(Said::Leads(term))
    }

    /// A daemon that has found out that it leads, and was not renewed yet, has not led.
    fn is_suspended(&self, term: u64, still: Still) -> Option<Said> {
        if self.said != Said::Leads(term) {
            return None;
        }
        let reason = if still.process > STANDS_STILL {
            let lasted = spoken(still.process);
            format!("this process, or its machine, stood still for {lasted}")
        } else if still.coordinator > STANDS_STILL {
            "the coordinator has stood still".to_owned()
        } else {
            "the store has not answered in time".to_owned()
        };
        tracing::warn!(
            term,
            reason,
            "suspended: the lease was not renewed, so this daemon does not know whether it still leads; it sends nothing and answers webhooks 503 until the lease is renewed, or another daemon leads"
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
