//! The calls to a store's lease, and their answers, as values.

use chrono::{DateTime, Utc};

use crate::store::{Candidate, LeaseRow, LeaseStore, StoreError};

/// One call of a [`LeaseStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseCall {
    /// [`LeaseStore::look`].
    Look,
    /// [`LeaseStore::renew`].
    Renew {
        /// The term that this daemon leads with.
        term: u64,
    },
    /// [`LeaseStore::take_over`].
    TakeOver {
        /// The row that was watched.
        watched: Option<LeaseRow>,
    },
    /// [`LeaseStore::give_back`].
    GiveBack {
        /// The term that this daemon leads with.
        term: u64,
    },
}

/// What a [`LeaseStore`] said to a [`LeaseCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// To [`LeaseCall::Look`]: who leads.
    Row(Option<LeaseRow>),
    /// To [`LeaseCall::Renew`]: whether the row has our term and holder.
    Renewed(bool),
    /// To [`LeaseCall::TakeOver`]: the new term, or none if the row is another one.
    Term(Option<u64>),
    /// To [`LeaseCall::GiveBack`]: whether the row had our term and holder.
    GaveBack(bool),
}

impl LeaseCall {
    /// Makes this call for the daemon that says this of itself. `now` is its wall clock.
    ///
    /// # Errors
    /// When the store did not answer, so that the outcome is unknown.
    pub fn make(
        &self,
        store: &mut dyn LeaseStore,
        candidate: &Candidate,
        now: DateTime<Utc>,
    ) -> Result<LeaseAnswer, StoreError> {
        let holder = &candidate.holder;
        Ok(match self {
            Self::Look => LeaseAnswer::Row(store.look()?),
            Self::Renew { term } => LeaseAnswer::Renewed(store.renew(*term, holder)?),
            Self::TakeOver { watched } => {
                LeaseAnswer::Term(store.take_over(watched.as_ref(), candidate, now)?)
            }
            Self::GiveBack { term } => LeaseAnswer::GaveBack(store.give_back(*term, holder)?),
        })
    }
}
