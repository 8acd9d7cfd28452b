//! Writes a batch in one transaction of three round trips: what must be so and what is
//! known, all that is written, and the commit.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::cells::big;
use super::connect::Link;
use super::rows::{Step, steps};
use super::states::Known;
use crate::store::error::DatabaseError;
use crate::store::{Batch, StoreError};

/// How long a part of a commit may take. Longer than the daemon trusts itself without a
/// renewal: whoever waits is not held up by it.
const LIMIT: Duration = Duration::from_secs(4);

/// Who commits: what the row of the leader must say.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub term: u64,
    pub holder: String,
    pub session: i64,
}

/// How a commit ended that was not refused.
pub(super) enum Ended {
    Written,
    /// The answer to COMMIT did not come, or came with a warning.
    Unknown(DatabaseError),
}

/// Statements that the server has prepared for this connection.
pub(super) type Prepared = HashMap<&'static str, Statement>;

/// Writes a batch as the commit with this number, or nothing of it.
///
/// # Errors
/// [`StoreError::Fenced`] when another daemon leads, [`StoreError::OutOfStep`] when the
/// store is not as the batch expects it; otherwise when nothing was written.
pub(super) fn commit(
    link: &Link,
    prepared: &mut Prepared,
    holder: &Holder,
    batch: &Batch,
    number: u64,
) -> Result<Ended, StoreError> {
    let failed = StoreError::doing::<DatabaseError>("be written");
    let ids: Vec<&str> = batch
        .entries
        .iter()
        .map(|entry| entry.id().as_str())
        .collect();
    let position = batch.events.last().map(|event| big(event.position));
    prepare(link, prepared, [OURS, ADVANCE, KNOWN]).map_err(failed)?;
    let (ours, advance, known) = (&prepared[OURS], &prepared[ADVANCE], &prepared[KNOWN]);
    let (term, revision) = (big(holder.term), big(batch.revision));
    let (expected, number) = (big(batch.expected_revision), big(number));
    let begun = link.run(LIMIT, |client| async move {
        let begin = client.batch_execute("BEGIN");
        let lock_params: [&(dyn ToSql + Sync); 3] = [&term, &holder.holder, &holder.session];
        let lock = client.query_opt(ours, &lock_params);
        let advance_params: [&(dyn ToSql + Sync); 4] = [&revision, &position, &expected, &number];
        let advance = client.execute(advance, &advance_params);
        let known_params: [&(dyn ToSql + Sync); 1] = [&ids];
        let known = client.query(known, &known_params);
        let ((), lock, advanced, known) = tokio::try_join!(begin, lock, advance, known)?;
        Ok((lock.is_some(), advanced == 1, known))
    });
    let (leads, as_expected, known) = begun.map_err(failed)?;
    if !leads || batch.term != holder.term {
        roll_back(link)?;
        return Err(StoreError::Fenced);
    }
    if !as_expected {
        roll_back(link)?;
        return Err(StoreError::OutOfStep);
    }
    let known = known.iter().map(Known::of).collect::<Result<_, _>>()?;
    let steps = steps(batch, &known)?;
    take(link, prepared, &steps, LIMIT)?;
    Ok(finish(link, LIMIT))
}

/// Has the steps taken, in the transaction that is open.
pub(super) fn take(
    link: &Link,
    prepared: &mut Prepared,
    steps: &[Step],
    limit: Duration,
) -> Result<(), StoreError> {
    let failed = StoreError::doing::<DatabaseError>("be written");
    prepare(link, prepared, steps.iter().map(|step| step.sql)).map_err(failed)?;
    let taken = link.run(limit, |client| run(client, prepared, steps));
    taken.map(drop).map_err(failed)
}

/// Commits the transaction that is open.
pub(super) fn finish(link: &Link, limit: Duration) -> Ended {
    link.expect_no_warning();
    let committed = link.run(limit, |client| client.batch_execute("COMMIT"));
    match committed {
        Ok(()) if link.was_warned() => Ended::Unknown("it answered with a warning".into()),
        Ok(()) => Ended::Written,
        Err(error) => Ended::Unknown(error),
    }
}

/// Ends a transaction in which nothing is to be kept.
pub(super) fn roll_back(link: &Link) -> Result<(), StoreError> {
    link.run(LIMIT, |client| client.batch_execute("ROLLBACK"))
        .map_err(StoreError::doing("be written"))
}

/// Has the server prepare what it has not prepared yet.
pub(super) fn prepare(
    link: &Link,
    prepared: &mut Prepared,
    all: impl IntoIterator<Item = &'static str>,
) -> Result<(), DatabaseError> {
    for sql in all {
        if !prepared.contains_key(sql) {
            let statement = link.run(LIMIT, |client| client.prepare(sql))?;
            prepared.insert(sql, statement);
        }
    }
    Ok(())
}

/// Runs all steps, one behind the other, without waiting for each answer.
async fn run(
    client: &Client,
    prepared: &Prepared,
    steps: &[Step],
) -> Result<Vec<u64>, tokio_postgres::Error> {
    let all = steps.iter().map(|step| async {
        let params: Vec<&(dyn ToSql + Sync)> = step
            .params
            .iter()
            .map(|param| &**param as &(dyn ToSql + Sync))
            .collect();
        client.execute(&prepared[step.sql], &params).await
    });
    try_join_all(all).await
}

/// Finds the leader's row if it is still this daemon's, and keeps it so until the end of the
/// transaction: of the term, the holder and the session in this order.
pub(super) const OURS: &str =
    "SELECT 1 FROM leader WHERE term = $1 AND holder = $2 AND session = $3 FOR SHARE";

const ADVANCE: &str = "UPDATE daemon SET revision = $1, position = coalesce($2, position),
     commits = $4 WHERE revision = $3 AND commits + 1 = $4";

const KNOWN: &str = "SELECT id, cancel_reason IS NOT DISTINCT FROM 'withdrawn',
     (SELECT coalesce(max(n), 0) FROM states WHERE dispatch = id)
     FROM dispatches WHERE id = ANY($1)";
