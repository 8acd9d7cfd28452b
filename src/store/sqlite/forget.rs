//! Deletes old events, a few at a time.
//!
//! After a receiver was down for long, or after busy hours, a million events are
//! old at once. To delete them in one transaction takes many seconds, and every
//! commit would wait for it: webhooks would be answered 503 and sites be told late.
//! So [`Forgetting`] deletes in transactions of their own, each of a few
//! milliseconds, and commits come in between.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::model::rfc3339;
use crate::store::{Batch, StoreError};

/// How many events one transaction looks at.
const EVENTS: usize = 500;

/// A pass over the events that are delivered everywhere, oldest first.
#[derive(Debug)]
pub(super) struct Forgetting {
    /// Events of the daemon and of sites from before this time go.
    before: String,
    /// The last position of the pass.
    delivered: u64,
    /// The pass has come to this position.
    after: u64,
}

impl Forgetting {
    /// The pass that a batch asks for, if it asks for one.
    pub fn asked_by(batch: &Batch) -> Option<Self> {
        batch.forget_before.map(|before| Self {
            before: rfc3339(before),
            delivered: batch.delivered,
            after: 0,
        })
    }

    /// Looks at the next events and deletes those that are to go. Tells whether
    /// there are more to look at.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another daemon than the one of `term` owns the
    /// file now. Nothing is deleted then.
    pub fn go_on(&mut self, connection: &mut Connection, term: u64) -> Result<bool, StoreError> {
        let upto = self.delete(connection, term);
        let upto = upto.map_err(StoreError::doing("be written"))?;
        match upto {
            Some(Some(upto)) => {
                self.after = upto;
                Ok(true)
            }
            Some(None) => Ok(false),
            None => Err(StoreError::Fenced),
        }
    }

    /// Tells up to which position events were looked at, if there were any; `None`
    /// when the file belongs to another term.
    fn delete(
        &self,
        connection: &mut Connection,
        term: u64,
    ) -> rusqlite::Result<Option<Option<u64>>> {
        // Dropped without a commit, it rolls back.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ours = transaction
            .prepare_cached("SELECT 1 FROM daemon WHERE term = ?1")?
            .query_row([term], |_| Ok(()))
            .optional()?;
        if ours.is_none() {
            return Ok(None);
        }
        let upto: Option<u64> = transaction
            .prepare_cached(
                "SELECT max(position) FROM
                 (SELECT position FROM events WHERE position > ?1 AND position <= ?2
                  ORDER BY position LIMIT ?3)",
            )?
            .query_row((self.after, self.delivered, EVENTS), |row| row.get(0))?;
        let Some(upto) = upto else {
            return Ok(Some(None));
        };
        transaction
            .prepare_cached(
                "DELETE FROM events WHERE position > ?1 AND position <= ?2 AND time < ?3
                 AND type NOT GLOB 'dispatch.*' AND (type NOT GLOB 'site.*' OR EXISTS
                 (SELECT 1 FROM events AS newer WHERE newer.type GLOB 'site.*'
                  AND newer.subject = events.subject AND newer.position > events.position))",
            )?
            .execute((self.after, upto, &self.before))?;
        transaction
            .prepare_cached(
                "DELETE FROM events WHERE position > ?1 AND position <= ?2
                 AND type GLOB 'dispatch.*'
                 AND NOT EXISTS (SELECT 1 FROM dispatches WHERE id = subject)",
            )?
            .execute((self.after, upto))?;
        transaction.commit()?;
        Ok(Some(Some(upto)))
    }
}
