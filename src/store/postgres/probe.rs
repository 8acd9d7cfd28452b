//! Looks at a database without changing it.

use tokio_postgres::Client;

use super::schema::{self, Found};
use super::target::PostgresTarget;
use super::{check, pooler, reach, read, refused};
use crate::store::OpenError;
use crate::store::error::DatabaseError;

/// The oldest server that is supported, as it numbers itself.
const OLDEST: i32 = 150_000;

/// What a database is fit for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseProbe {
    /// The server's version, in its own words.
    pub version: String,
    /// Whether the tables are there. If not, the first start makes them.
    pub has_tables: bool,
    /// The name of the daemon that led last, if one did.
    pub leader: Option<String>,
    /// What a commit waits for: the server's setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// The server's setting `synchronous_standby_names`: whose disks a commit waits for,
    /// beside the server's own.
    pub synchronous_standbys: String,
}

impl DatabaseProbe {
    /// Whether what was committed outlives a crash of the server.
    pub fn is_durable(&self) -> bool {
        self.synchronous_commit != "off"
    }

    /// Whether it outlives the loss of the server.
    pub fn is_replicated(&self) -> bool {
        let waits = ["on", "remote_write", "remote_apply"];
        !self.synchronous_standbys.is_empty() && waits.contains(&&*self.synchronous_commit)
    }
}

/// Looks at the database for the API at `origin`. Nothing is made.
pub(super) fn probe(target: &PostgresTarget, origin: &str) -> Result<DatabaseProbe, OpenError> {
    let link = reach(target)?;
    pooler::check(target, &link)?;
    let refuse = |error: DatabaseError| refused(target, &error.to_string());
    let found = link
        .run(read::LIMIT, |client| schema::look(client, &target.schema))
        .map_err(refuse)?;
    let has_tables = !matches!(found, Found::Nothing);
    let (row, may_create, server) = link
        .run(read::LIMIT, |client| look(client, target, has_tables))
        .map_err(refuse)?;
    if let Some(too_old) = too_old(&server) {
        return Err(refused(target, &too_old));
    }
    if has_tables {
        check(target, &found)?;
    } else if !may_create {
        return Err(refused(target, &cannot_make(target, "permission denied")));
    }
    if let Some((theirs, _)) = row.as_ref().filter(|(theirs, _)| theirs != origin) {
        return Err(OpenError::OtherOrigin {
            path: super::path(target),
            theirs: theirs.clone(),
            ours: origin.to_owned(),
        });
    }
    Ok(DatabaseProbe {
        version: server.version,
        has_tables,
        leader: row.and_then(|(_, leader)| leader),
        synchronous_commit: server.synchronous_commit,
        synchronous_standbys: server.synchronous_standbys,
    })
}

/// Says that the tables cannot be made, and what to do.
pub(super) fn cannot_make(target: &PostgresTarget, error: &str) -> String {
    format!(
        "the tables cannot be made: {error}; let the user create schemas (GRANT CREATE ON DATABASE), or make a schema `{}` that belongs to it",
        target.schema
    )
}

/// What the server says of itself.
pub(super) struct Server {
    number: i32,
    version: String,
    synchronous_commit: String,
    synchronous_standbys: String,
}

impl Server {
    pub async fn of(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let sql = "SELECT current_setting('server_version_num')::integer,
             current_setting('server_version'), current_setting('synchronous_commit'),
             current_setting('synchronous_standby_names')";
        let row = client.query_one(sql, &[]).await?;
        Ok(Self {
            number: row.get(0),
            version: row.get(1),
            synchronous_commit: row.get(2),
            synchronous_standbys: row.get(3),
        })
    }
}

/// Says that a server is too old, if it is.
pub(super) fn too_old(server: &Server) -> Option<String> {
    (server.number < OLDEST).then(|| {
        format!(
            "the server is PostgreSQL {}, and 15 is the oldest that is supported; upgrade it",
            server.version
        )
    })
}

type OfTables = Option<(String, Option<String>)>;

/// The API and the leader that the tables name, if they are there; whether they could be
/// made; and the server.
async fn look(
    client: &Client,
    target: &PostgresTarget,
    has_tables: bool,
) -> Result<(OfTables, bool, Server), tokio_postgres::Error> {
    let server = Server::of(client).await?;
    let may = "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)
         THEN has_schema_privilege($1, 'CREATE')
         ELSE has_database_privilege(current_database(), 'CREATE') END";
    let may_create = client.query_one(may, &[&target.schema]).await?.get(0);
    if !has_tables {
        return Ok((None, may_create, server));
    }
    let sql = "SELECT api_origin, nullif(node, '') FROM daemon, leader";
    // Tables of something else have no such columns: what they are is told elsewhere.
    let row = client.query_opt(sql, &[]).await.ok().flatten();
    let row = row.map(|row| (row.get(0), row.get(1)));
    Ok((row, may_create, server))
}
