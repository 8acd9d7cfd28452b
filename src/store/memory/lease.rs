//! The lease of a store in memory, which several daemons of one process can share.

use chrono::{DateTime, Utc};

use super::{MemoryStore, next_term};
use crate::store::term::clock;
use crate::store::{Candidate, LeaseRow, LeaseStore, StoreError};

impl LeaseStore for MemoryStore {
    fn look(&mut self) -> Result<Option<LeaseRow>, StoreError> {
        Ok(self.lock().lease.clone())
    }

    fn renew(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        let mut kept = self.lock();
        let held = kept.held(term, holder).filter(|row| !row.given_back);
        Ok(held.map(|row| row.beat += 1).is_some())
    }

    fn take_over(
        &mut self,
        watched: Option<&LeaseRow>,
        candidate: &Candidate,
        now: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        let mut kept = self.lock();
        let as_watched = match (&kept.lease, watched) {
            (Some(row), Some(watched)) => row.is_still(watched),
            (None, None) => true,
            _ => false,
        };
        if !as_watched {
            return Ok(None);
        }
        let lost = kept.stored.commits_lost;
        let term = next_term(kept.stored.term, kept.stored.position, clock(now, lost));
        kept.stored.term = term;
        kept.lease = Some(LeaseRow {
            term,
            holder: candidate.holder.clone(),
            beat: 0,
            node: candidate.node.clone(),
            advertise: candidate.advertise.clone(),
            since: now,
            fingerprint: candidate.fingerprint.clone(),
            given_back: false,
            server: "".into(),
        });
        Ok(Some(term))
    }

    fn give_back(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        let mut kept = self.lock();
        let held = kept.held(term, holder);
        Ok(held.map(|row| row.given_back = true).is_some())
    }
}
