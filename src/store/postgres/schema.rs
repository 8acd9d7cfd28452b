//! The tables in PostgreSQL, and how they are made.

use tokio_postgres::Client;

/// One step a version. A step that was released is never edited.
const MIGRATIONS: &[&str] = &["
CREATE TABLE schema_version (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    -- The format, and the oldest format whose daemons can use it too.
    version INTEGER NOT NULL,
    compatible INTEGER NOT NULL
);
INSERT INTO schema_version (version, compatible) VALUES (1, 1);
CREATE TABLE daemon (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    store_id TEXT NOT NULL,
    api_origin TEXT NOT NULL,
    -- By this the daemons know each other when one passes a webhook on.
    secret TEXT NOT NULL,
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    -- How many commits there were: what tells whether the last one was written.
    commits BIGINT NOT NULL,
    last_poll TIMESTAMPTZ,
    stale BOOLEAN NOT NULL
);
-- Who leads. Every commit holds a share lock on the row.
CREATE TABLE leader (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    term BIGINT NOT NULL,
    -- Random for each process.
    holder TEXT NOT NULL,
    -- Raised with each connection that commits: an older one can commit no more.
    session BIGINT NOT NULL,
    -- The server processes of those connections.
    pids INTEGER[] NOT NULL,
    node TEXT NOT NULL,
    advertise TEXT,
    since TIMESTAMPTZ NOT NULL,
    fingerprint TEXT NOT NULL,
    given_back BOOLEAN NOT NULL,
    -- The server that this leader writes to. Another one may lack the last commits.
    system_identifier TEXT NOT NULL,
    timeline TEXT NOT NULL,
    -- Whether commits may have been lost that no start has made up for yet.
    commits_lost BOOLEAN NOT NULL
);
-- How long it leads: a row of its own, so that renewals and commits do not wait for each
-- other.
CREATE TABLE beat (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    term BIGINT NOT NULL,
    holder TEXT NOT NULL,
    beat BIGINT NOT NULL
);
INSERT INTO leader
    (term, holder, session, pids, node, since, fingerprint, given_back, system_identifier,
     timeline, commits_lost)
VALUES (0, '', 0, '{}', '', now(), '', true, '', '', false);
INSERT INTO beat (term, holder, beat) VALUES (0, '', 0);
-- In names that others gave, a backslash is written as two, and a zero character, which
-- PostgreSQL cannot store, as \\0.
CREATE TABLE dispatches (
    id TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    cancel_reason TEXT,
    started BOOLEAN NOT NULL,
    ended BOOLEAN NOT NULL,
    first_seen TIMESTAMPTZ NOT NULL,
    last_changed TIMESTAMPTZ NOT NULL,
    last_confirmed TIMESTAMPTZ NOT NULL,
    over_since TIMESTAMPTZ,
    discovered_by TEXT NOT NULL,
    last_changed_by TEXT NOT NULL,
    asked_term BIGINT NOT NULL,
    asked_count BIGINT NOT NULL,
    -- JSON, as text: PostgreSQL's own type does not keep every number as it came.
    dispatch TEXT NOT NULL,
    -- The answer of the API that told this state.
    way TEXT,
    asked TIMESTAMPTZ,
    answered TIMESTAMPTZ,
    -- How many lines about its commands were left out.
    left_out BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE history (
    key BIGINT GENERATED ALWAYS AS IDENTITY,
    dispatch TEXT NOT NULL REFERENCES dispatches ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    -- False for lines about events that operators gave up: they come behind the changes.
    is_change BOOLEAN NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (dispatch, revision, is_change, key)
);
-- The states that others replaced. Numbered from 1: a gap tells how many were left out
-- in the middle. A state without a body tells that the API did not know the dispatch.
CREATE TABLE states (
    dispatch TEXT NOT NULL REFERENCES dispatches ON DELETE CASCADE,
    n BIGINT NOT NULL,
    way TEXT,
    asked TIMESTAMPTZ,
    answered TIMESTAMPTZ,
    bytes BIGINT NOT NULL,
    body TEXT,
    PRIMARY KEY (dispatch, n)
);
-- The commands of each dispatch, once their delivery to a sink has come to an end.
CREATE TABLE commands (
    dispatch TEXT NOT NULL REFERENCES dispatches ON DELETE CASCADE,
    sink TEXT NOT NULL,
    position BIGINT NOT NULL,
    site TEXT NOT NULL,
    command TEXT NOT NULL,
    due TIMESTAMPTZ NOT NULL,
    known TIMESTAMPTZ NOT NULL,
    first_attempt TIMESTAMPTZ,
    last_attempt TIMESTAMPTZ,
    tries BIGINT NOT NULL,
    acknowledged TIMESTAMPTZ,
    skipped BOOLEAN NOT NULL,
    last_error TEXT,
    PRIMARY KEY (dispatch, position, sink)
);
CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL
);
CREATE TABLE events (
    position BIGINT PRIMARY KEY,
    term BIGINT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    unconditional BOOLEAN NOT NULL,
    -- Of a site's command the dispatch that caused it, when it had to be given, and when
    -- that was known.
    cause TEXT,
    due TIMESTAMPTZ,
    known TIMESTAMPTZ,
    data TEXT NOT NULL
);
CREATE INDEX events_of_sites ON events (subject, position) WHERE type LIKE 'site.%';
CREATE TABLE sinks (
    sink TEXT PRIMARY KEY,
    settled BIGINT NOT NULL,
    route TEXT
);
CREATE TABLE settled_beyond (
    sink TEXT NOT NULL,
    position BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    PRIMARY KEY (sink, position)
);
CREATE TABLE retries (
    sink TEXT NOT NULL,
    queue TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    -- Milliseconds.
    pause BIGINT NOT NULL,
    first_attempt TIMESTAMPTZ,
    last_attempt TIMESTAMPTZ,
    tries BIGINT NOT NULL,
    PRIMARY KEY (sink, queue)
);
CREATE TABLE told (
    sink TEXT NOT NULL,
    site TEXT NOT NULL,
    position BIGINT NOT NULL,
    curtailed BOOLEAN NOT NULL,
    acknowledged BOOLEAN NOT NULL,
    held BOOLEAN NOT NULL,
    PRIMARY KEY (sink, site)
);
"];

/// The format that this program writes.
pub(super) const VERSION: i32 = 1;

/// Two daemons that start at once make the tables one after the other. The number is
/// arbitrary.
const LOCK: i64 = 0x6473_7064;

/// What is found where the tables are to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A copy of a state that was broken off, or still runs: the row about the daemon is
    /// written last.
    HalfCopy,
    /// Tables of this format, of which daemons of `compatible` and later know what they
    /// need.
    Ours { version: i32, compatible: i32 },
    /// Something else.
    Foreign,
}

/// Looks what is there, without changing it.
pub(super) async fn look(client: &Client, schema: &str) -> Result<Found, tokio_postgres::Error> {
    let tables = "SELECT count(*), count(*) FILTER (WHERE tablename = 'schema_version')
         FROM pg_tables WHERE schemaname = $1";
    let row = client.query_one(tables, &[&schema]).await?;
    let (all, ours): (i64, i64) = (row.get(0), row.get(1));
    if all == 0 {
        return Ok(Found::Nothing);
    }
    if ours == 0 {
        return Ok(Found::Foreign);
    }
    let row = client
        .query_one("SELECT version, compatible FROM schema_version", &[])
        .await?;
    let (version, compatible) = (row.get(0), row.get(1));
    if compatible <= VERSION {
        let daemon = client.query_opt("SELECT 1 FROM daemon", &[]).await?;
        if daemon.is_none() {
            return Ok(Found::HalfCopy);
        }
    }
    Ok(Found::Ours {
        version,
        compatible,
    })
}

/// The row about the daemon. Without it the tables are half a copy.
pub(super) const PUT_DAEMON: &str = "INSERT INTO daemon
     (store_id, api_origin, secret, revision, position, commits, stale)
     VALUES ($1, $2, $3, $4, $5, 0, false)";

/// Draws what the daemons of a database know each other by.
pub(super) fn new_secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Makes the tables for the API at `origin`, unless another daemon has just made them. For
/// a copy, which has no origin yet, without the row about the daemon. Tells whether it made
/// them.
pub(super) async fn make(
    client: &Client,
    schema: &str,
    origin: Option<&str>,
) -> Result<bool, tokio_postgres::Error> {
    let store_id = format!("{:016x}", rand::random::<u64>());
    client.batch_execute("BEGIN").await?;
    let made = async {
        client
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        if !matches!(look(client, schema).await?, Found::Nothing) {
            return Ok(false);
        }
        // The name consists of letters, digits and `_`.
        let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        client.batch_execute(&create).await?;
        for step in MIGRATIONS {
            client.batch_execute(step).await?;
        }
        if let Some(origin) = origin {
            let secret = new_secret();
            client
                .execute(PUT_DAEMON, &[&store_id, &origin, &secret, &0_i64, &0_i64])
                .await?;
        }
        Ok(true)
    };
    let made: Result<bool, tokio_postgres::Error> = made.await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    made.and_then(|made| ended.map(|()| made))
}
