//! The lease in PostgreSQL: two rows, so that renewals and commits do not wait for each
//! other (rule R14).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::cells::{Cells, big};
use super::connect::{Link, spoken};
use super::newest_term::NewestTerm;
use super::session::{Identity, TIMELINE, end_recorded};
use super::target::PostgresTarget;
use crate::store::StoreError;
use crate::store::error::DatabaseError;
use crate::store::lease::{Candidate, LeaseRow, LeaseStore};
use crate::store::term::{clock, next_term};

/// How long a call may take. A renewal that takes longer is late in any case.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a take-over may take: it waits for a lock for a second, ends who holds it, and
/// waits once more.
const TAKE_OVER: Duration = Duration::from_secs(4);

/// Which server this is.
fn server() -> String {
    format!("(SELECT system_identifier::text || '/' || {TIMELINE} FROM pg_control_system())")
}

/// Whether this is the server at which the leader took over.
fn is_same_server() -> String {
    format!(
        "(leader.system_identifier || '/' || leader.timeline = {})",
        server()
    )
}

/// Whether the lease may be taken at once. On a server that may lack the last take-over it
/// is watched first: the leader that took over last may still trust itself.
fn is_free() -> String {
    format!("(given_back AND {})", is_same_server())
}

/// A daemon's way to the lease.
pub struct PostgresLease {
    target: Arc<PostgresTarget>,
    /// `None` after a failure.
    link: Option<Link>,
    seen: Arc<NewestTerm>,
}

impl PostgresLease {
    pub(super) fn new(target: Arc<PostgresTarget>, seen: Arc<NewestTerm>) -> Self {
        Self {
            target,
            link: None,
            seen,
        }
    }

    fn run<'l, T, F>(
        &'l mut self,
        limit: Duration,
        ask: impl FnOnce(&'l Client) -> F,
    ) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        // What failed before may be half done: nothing is asked on that connection again.
        let link = match self.link.take().filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => Link::connect(&self.target)?,
        };
        let link = self.link.insert(link);
        link.run(limit, ask)
    }

    /// Drops the connection if the call on it failed.
    fn ended<T>(&mut self, result: Result<T, DatabaseError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.link = None;
        }
        result.map_err(StoreError::doing("be reached"))
    }
}

impl LeaseStore for PostgresLease {
    fn look(&mut self) -> Result<Option<LeaseRow>, StoreError> {
        let sql = format!(
            "SELECT beat.term, beat.holder, beat.beat, node, advertise, since, fingerprint,
             {}, {}, commits FROM daemon, beat, leader
             WHERE beat.term = leader.term AND beat.holder = leader.holder AND leader.term > 0",
            is_free(),
            server()
        );
        let looked = self.run(LIMIT, |client| async move {
            client.query_opt(sql.as_str(), &[]).await
        });
        let row = self.ended(looked)?;
        let row = row.as_ref().map(lease_row).transpose()?;
        Ok(row.map(|(row, commits)| {
            self.seen.note(row.term, commits);
            row
        }))
    }

    fn renew(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE beat SET beat = beat + 1 WHERE term = $1 AND holder = $2
             AND EXISTS (SELECT FROM leader WHERE NOT given_back AND {})",
            is_same_server()
        );
        let renewed = self.run(LIMIT, |client| async move {
            client.execute(sql.as_str(), &[&big(term), &holder]).await
        });
        Ok(self.ended(renewed)? == 1)
    }

    fn take_over(
        &mut self,
        watched: Option<&LeaseRow>,
        candidate: &Candidate,
        now: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        // The rows that are made with the tables.
        let nobody = LeaseRow {
            term: 0,
            holder: "".into(),
            beat: 0,
            node: "".into(),
            advertise: None,
            since: now,
            fingerprint: "".into(),
            given_back: true,
            server: "".into(),
        };
        let watched = watched.unwrap_or(&nobody);
        let seen = Arc::clone(&self.seen);
        let seen = &*seen;
        let taken = self.run(TAKE_OVER, |client| async move {
            let taken = match take(client, watched, candidate, seen, now).await {
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    client.batch_execute("ROLLBACK").await?;
                    end_recorded(client).await?;
                    take(client, watched, candidate, seen, now).await?
                }
                taken => taken?,
            };
            let Some(term) = taken else {
                client.batch_execute("ROLLBACK").await?;
                return Ok(Ok(None));
            };
            let committed = client.batch_execute("COMMIT").await;
            Ok(committed.map(|()| Some(term)))
        });
        match self.ended(taken)? {
            Ok(taken) => Ok(taken),
            Err(error) => {
                self.link = None;
                Err(StoreError::Unknown(spoken(error)))
            }
        }
    }

    fn give_back(&mut self, term: u64, holder: &str) -> Result<bool, StoreError> {
        let given = self.run(LIMIT, |client| async move {
            let sql = "UPDATE leader SET given_back = true, pids = '{}'
                 WHERE term = $1 AND holder = $2";
            client.execute(sql, &[&big(term), &holder]).await
        });
        Ok(self.ended(given)? == 1)
    }
}

/// Takes the lease in a transaction, which is left open. `None` if the rows are not
/// exactly those that were watched.
async fn take(
    client: &Client,
    watched: &LeaseRow,
    candidate: &Candidate,
    seen: &NewestTerm,
    now: DateTime<Utc>,
) -> Result<Option<u64>, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let (term, holder) = (big(watched.term), &*watched.holder);
    // Waits until no commit holds the row.
    let lock = format!(
        "SELECT system_identifier, timeline, (SELECT position FROM daemon),
         (SELECT commits FROM daemon), commits_lost FROM leader
         WHERE term = $1 AND holder = $2
         AND (term = 0 OR {} = $3 AND {} = $4) FOR UPDATE",
        is_free(),
        server()
    );
    let (given_back, server) = (watched.given_back, &*watched.server);
    let Some(row) = client
        .query_opt(lock.as_str(), &[&term, &holder, &given_back, &server])
        .await?
    else {
        return Ok(None);
    };
    let before = Identity {
        system_identifier: row.get(0),
        timeline: row.get(1),
    };
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    let (position, commits) = (count(2), count(3));
    let identity = Identity::of(client).await?;
    // Nobody has led before the first term.
    let found = watched.term > 0 && (identity != before || seen.misses(watched.term, commits));
    let lost = found || row.get::<_, bool>(4);
    let new = next_term(watched.term, position, clock(now, lost));
    let beat = "UPDATE beat SET term = $1, holder = $2, beat = 0
         WHERE term = $3 AND holder = $4 AND beat = $5";
    let mine = &*candidate.holder;
    let raised = client
        .execute(
            beat,
            &[&big(new), &mine, &term, &holder, &big(watched.beat)],
        )
        .await?;
    if raised != 1 {
        return Ok(None);
    }
    client
        .execute(
            "UPDATE leader SET term = $1, holder = $2, session = session + 1, pids = '{}',
             node = $3, advertise = $4, since = $5, fingerprint = $6, given_back = false,
             system_identifier = $7, timeline = $8, commits_lost = $9",
            &[
                &big(new),
                &mine,
                &&*candidate.node,
                &candidate.advertise.as_deref(),
                &now,
                &&*candidate.fingerprint,
                &identity.system_identifier,
                &identity.timeline,
                &lost,
            ],
        )
        .await?;
    Ok(Some(new))
}

/// The row, and how many commits there were.
fn lease_row(row: &Row) -> Result<(LeaseRow, u64), StoreError> {
    let mut cells = Cells::of(row);
    let lease = LeaseRow {
        term: cells.count()?,
        holder: cells.value::<&str>()?.into(),
        beat: cells.count()?,
        node: cells.value::<&str>()?.into(),
        advertise: cells.value::<Option<&str>>()?.map(Arc::from),
        since: cells.value()?,
        fingerprint: cells.value::<&str>()?.into(),
        given_back: cells.value()?,
        server: cells.value::<&str>()?.into(),
    };
    Ok((lease, cells.count()?))
}
