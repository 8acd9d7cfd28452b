//! Deletes old events, a few at a time, so that commits come in between.

use chrono::{DateTime, Utc};

use super::cells::big;
use super::connect::Link;
use super::read::LIMIT;
use super::write::{Holder, OURS, roll_back};
use crate::store::error::DatabaseError;
use crate::store::{Batch, StoreError};

/// How many events one transaction looks at.
const EVENTS: i64 = 500;

/// A pass over the events that are delivered everywhere, oldest first.
#[derive(Debug)]
pub(super) struct Forgetting {
    /// Events of the daemon and of sites from before this time go.
    before: DateTime<Utc>,
    /// The last position of the pass.
    delivered: i64,
    /// The pass has come to this position.
    after: i64,
}

impl Forgetting {
    /// The pass that a batch asks for, if it asks for one.
    pub fn asked_by(batch: &Batch) -> Option<Self> {
        batch.forget_before.map(|before| Self {
            before,
            delivered: big(batch.delivered),
            after: 0,
        })
    }

    /// Looks at the next events and deletes those that are to go. Tells whether there are
    /// more to look at.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another daemon leads. Nothing is deleted then.
    pub fn go_on(&mut self, link: &Link, holder: &Holder) -> Result<bool, StoreError> {
        let failed = StoreError::doing::<DatabaseError>("be written");
        let (after, before, delivered) = (self.after, self.before, self.delivered);
        let looked = link.run(LIMIT, |client| async move {
            client.batch_execute("BEGIN").await?;
            let ours = client
                .query_opt(OURS, &[&big(holder.term), &holder.holder, &holder.session])
                .await?;
            if ours.is_none() {
                return Ok(None);
            }
            let upto = "SELECT max(position) FROM
                 (SELECT position FROM events WHERE position > $1 AND position <= $2
                  ORDER BY position LIMIT $3) AS next";
            let row = client
                .query_one(upto, &[&after, &delivered, &EVENTS])
                .await?;
            let upto: Option<i64> = row.get(0);
            if let Some(upto) = upto {
                client
                    .execute(
                        "DELETE FROM events WHERE position > $1 AND position <= $2
                         AND time < $3 AND type NOT LIKE 'dispatch.%'
                         AND (type NOT LIKE 'site.%' OR EXISTS
                         (SELECT 1 FROM events AS newer WHERE newer.type LIKE 'site.%'
                          AND newer.subject = events.subject
                          AND newer.position > events.position))",
                        &[&after, &upto, &before],
                    )
                    .await?;
                client
                    .execute(
                        "DELETE FROM events WHERE position > $1 AND position <= $2
                         AND type LIKE 'dispatch.%'
                         AND NOT EXISTS (SELECT 1 FROM dispatches WHERE id = subject)",
                        &[&after, &upto],
                    )
                    .await?;
            }
            Ok(Some(upto))
        });
        match looked.map_err(failed)? {
            None => {
                roll_back(link)?;
                Err(StoreError::Fenced)
            }
            Some(upto) => {
                // Deleted or not: if that is unknown, the next pass finds what is left.
                link.run(LIMIT, |client| client.batch_execute("COMMIT"))
                    .map_err(failed)?;
                self.after = upto.unwrap_or(self.after);
                Ok(upto.is_some())
            }
        }
    }
}
