//! The tables, and how older files become newer ones.

/// Marks a file as ours: "dspd".
pub(super) const APPLICATION_ID: i32 = 0x6473_7064;

/// One step a version. A step that was released is never edited.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store_id TEXT NOT NULL,
    api_origin TEXT NOT NULL,
    term INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    position INTEGER NOT NULL,
    last_poll TEXT,
    stale INTEGER NOT NULL
) STRICT;
CREATE TABLE dispatches (
    id TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    cancel_reason TEXT,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    first_seen TEXT NOT NULL,
    last_changed TEXT NOT NULL,
    last_confirmed TEXT NOT NULL,
    over_since TEXT,
    discovered_by TEXT NOT NULL,
    last_changed_by TEXT NOT NULL,
    asked_term INTEGER NOT NULL,
    asked_count INTEGER NOT NULL,
    dispatch TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
    dispatch_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (dispatch_id, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    time TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject);
CREATE TABLE sinks (
    sink TEXT PRIMARY KEY,
    settled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE settled_beyond (
    sink TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (sink, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE retries (
    sink TEXT NOT NULL,
    lane TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (sink, lane)
) STRICT, WITHOUT ROWID;
CREATE TABLE told (
    sink TEXT NOT NULL,
    site TEXT NOT NULL,
    position INTEGER NOT NULL,
    curtailed INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (sink, site)
) STRICT, WITHOUT ROWID;
"];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;
