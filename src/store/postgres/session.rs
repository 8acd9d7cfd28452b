//! The connection that commits: how it is made, so that an older one can commit no more.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::cells::big;
use super::connect::{APPLICATION, Link, said};
use super::target::PostgresTarget;
use super::write::Holder;
use crate::store::StoreError;
use crate::store::error::DatabaseError;

/// How long a statement about the leader may take, with the second for which it waits for
/// a lock.
const LIMIT: Duration = Duration::from_secs(3);

/// The server plans a prepared statement while the tables are almost empty, and keeps the
/// plan while they grow: it must find rows by their keys from the beginning. With a plan
/// that it takes for this dear it would compile code for each statement.
const FIND_BY_KEYS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off;
     SET enable_mergejoin = off; SET jit = off";

/// Which server this is. Another one may lack what was committed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub system_identifier: String,
    pub timeline: String,
}

/// The timeline of the server that is asked. The control file shows the old one for a while
/// after a promotion.
pub(super) const TIMELINE: &str = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

impl Identity {
    pub async fn of(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let sql = format!("SELECT system_identifier::text, {TIMELINE} FROM pg_control_system()");
        let row = client.query_one(sql.as_str(), &[]).await?;
        Ok(Self {
            system_identifier: row.get(0),
            timeline: row.get(1),
        })
    }
}

/// A connection that may commit, and what it has found.
pub(super) struct Session {
    pub link: Link,
    pub number: i64,
    /// How many commits there were.
    pub commits: u64,
}

/// Connects for commits of the leader with this term and holder. From then on no older
/// connection commits.
///
/// # Errors
/// [`StoreError::Fenced`] when another daemon leads; [`StoreError::Replaced`] when the
/// server is another one than the leader took the lead at.
pub(super) fn begin(target: &PostgresTarget, holder: &Holder) -> Result<Session, StoreError> {
    let failed = StoreError::doing::<DatabaseError>("be written");
    let link = Link::connect(target).map_err(StoreError::doing("be reached"))?;
    let (identity, raised, commits) = link
        .run(LIMIT, |client| async move {
            client.batch_execute(FIND_BY_KEYS).await?;
            let identity = Identity::of(client).await?;
            let raised = loop {
                match seen(client, holder).await? {
                    None => break None,
                    Some(seen) => {
                        if let Some(number) = raise(client, holder, seen.number).await? {
                            break Some((seen.led_at, number));
                        }
                    }
                }
            };
            let commits = client.query_one("SELECT commits FROM daemon", &[]).await?;
            Ok((identity, raised, commits))
        })
        .map_err(failed)?;
    let Some((before, number)) = raised else {
        return Err(StoreError::Fenced);
    };
    if before != identity {
        return Err(StoreError::Replaced(format!(
            "it is server {} on timeline {}, and this daemon took the lead at server {} on timeline {}",
            identity.system_identifier,
            identity.timeline,
            before.system_identifier,
            before.timeline
        )));
    }
    Ok(Session {
        link,
        number,
        commits: u64::try_from(commits.get::<_, i64>(0)).unwrap_or_default(),
    })
}

/// What the leader's row says to a new connection of the leader.
pub(super) struct SeenSession {
    pub number: i64,
    /// The server at which it took the lead.
    led_at: Identity,
}

/// Reads the number of the newest session. `None`: another daemon leads.
pub(super) async fn seen(
    client: &Client,
    holder: &Holder,
) -> Result<Option<SeenSession>, tokio_postgres::Error> {
    let sql = "SELECT session, system_identifier, timeline FROM leader
         WHERE term = $1 AND holder = $2";
    let row = client
        .query_opt(sql, &[&big(holder.term), &holder.holder])
        .await?;
    Ok(row.map(|row| SeenSession {
        number: row.get(0),
        led_at: Identity {
            system_identifier: row.get(1),
            timeline: row.get(2),
        },
    }))
}

/// Bars all older connections. `None` if one has begun since `seen` was read: a request that
/// was given up, and reaches the database late, must not bar the connections made after it.
pub(super) async fn raise(
    client: &Client,
    holder: &Holder,
    seen: i64,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let sql = "UPDATE leader SET session = session + 1, pids = ARRAY[pg_backend_pid()]
         WHERE term = $1 AND holder = $2 AND session = $3 RETURNING session";
    let term = big(holder.term);
    let params: [&(dyn ToSql + Sync); 3] = [&term, &holder.holder, &seen];
    let raised = match client.query_opt(sql, &params).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            end_recorded(client).await?;
            client.query_opt(sql, &params).await?
        }
        raised => raised?,
    };
    Ok(raised.map(|row| row.get(0)))
}

/// Notes in the leader's row that commits were lost, for whoever takes over.
pub(super) fn mark_lost(link: &Link, holder: &Holder) {
    let (term, name) = (big(holder.term), holder.holder.as_str());
    let sql = "UPDATE leader SET commits_lost = true WHERE term = $1 AND holder = $2";
    let marked = link.run(LIMIT, |client| async move {
        client.execute(sql, &[&term, &name]).await
    });
    if let Err(error) = marked {
        tracing::warn!(%error, "it could not be noted in the database that commits were lost");
    }
}

/// Ends the server processes of the leader's older connections: one that hangs in a commit
/// holds a lock for which others wait.
pub(super) async fn end_recorded(client: &Client) -> Result<(), tokio_postgres::Error> {
    // A process id may be another program's by now.
    let sql = "SELECT pg_terminate_backend(activity.pid) FROM pg_stat_activity AS activity, leader
         WHERE activity.pid = ANY(leader.pids) AND activity.pid <> pg_backend_pid()
         AND activity.application_name = $1";
    match client.execute(sql, &[&APPLICATION]).await {
        Ok(ended) => {
            if ended > 0 {
                tracing::warn!(
                    ended,
                    "a connection of the leader hung in the database and was ended"
                );
            }
            Ok(())
        }
        Err(error) => {
            tracing::warn!(
                error = said(&error),
                "a connection of the leader hangs in the database and cannot be ended"
            );
            Err(error)
        }
    }
}
