//! The tables, and the migrations of older files.

/// Marks a file as ours: "dspd".
pub(super) const APPLICATION_ID: i32 = 0x6473_7064;

/// One step a version. A step that was released is never edited.
///
/// rusqlite_migration commits each step by itself. Here one transaction holds
/// them all, the file's mark and its first row, so that none is there without
/// the others.
pub(super) const MIGRATIONS: &[&str] = &[
    "
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
",
    "
-- Rows that come together lie together: what is new goes to the end of each table.
CREATE TABLE dispatches_by_key (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
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
) STRICT;
INSERT INTO dispatches_by_key
    (id, phase, cancel_reason, started, ended, first_seen, last_changed, last_confirmed,
     over_since, discovered_by, last_changed_by, asked_term, asked_count, dispatch)
SELECT
    id, phase, cancel_reason, started, ended, first_seen, last_changed, last_confirmed,
    over_since, discovered_by, last_changed_by, asked_term, asked_count, dispatch
FROM dispatches ORDER BY first_seen, id;
CREATE TABLE history_by_key (
    dispatch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (dispatch, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO history_by_key (dispatch, revision, item)
SELECT key, revision, item FROM history
JOIN dispatches_by_key ON id = dispatch_id ORDER BY key, revision;
DROP TABLE dispatches;
DROP TABLE history;
ALTER TABLE dispatches_by_key RENAME TO dispatches;
ALTER TABLE history_by_key RENAME TO history;
DROP INDEX events_by_subject;
CREATE INDEX events_of_sites ON events (subject) WHERE type GLOB 'site.*';
",
    "
-- The first line of a dispatch's history lies with the dispatch: most have no other.
ALTER TABLE dispatches ADD COLUMN created TEXT;
UPDATE dispatches SET created =
    (SELECT item FROM history WHERE dispatch = key ORDER BY revision LIMIT 1);
DELETE FROM history WHERE (dispatch, revision) IN
    (SELECT dispatch, min(revision) FROM history GROUP BY dispatch);
",
    "
-- Events that were stored before have term 0, and keep their ids, which have no term.
ALTER TABLE events ADD COLUMN term INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN unconditional INTEGER NOT NULL DEFAULT 0;
",
    "
-- A row holds a range of positions: few, although one event may be pending for long.
ALTER TABLE settled_beyond ADD COLUMN upto INTEGER NOT NULL DEFAULT 0;
-- In milliseconds. Where it was not stored, the longest that was possible.
ALTER TABLE retries ADD COLUMN pause INTEGER NOT NULL DEFAULT 60000;
",
    "
-- Lines of a history that tell of no change: several may be of one revision.
CREATE TABLE skipped (
    key INTEGER PRIMARY KEY,
    dispatch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    item TEXT NOT NULL
) STRICT;
CREATE INDEX skipped_by_dispatch ON skipped (dispatch);
",
    "
-- The route that the sites of a sink are commanded by. Before there were routes it was
-- that of every site.
ALTER TABLE sinks ADD COLUMN route TEXT;
",
    "
-- What proves afterwards how a dispatch was carried out. Times are microseconds since
-- 1970, UTC.
-- The answer of the API that told the newest state of a dispatch. The dispatch is that
-- state; one that another state replaces is copied to the table of states.
ALTER TABLE dispatches ADD COLUMN way TEXT;
ALTER TABLE dispatches ADD COLUMN asked INTEGER;
ALTER TABLE dispatches ADD COLUMN answered INTEGER;
-- How many lines about its commands were left out.
ALTER TABLE dispatches ADD COLUMN left_out INTEGER;
-- Numbered from 1: a gap tells how many were left out in the middle. A state without a
-- body tells that the API did not know the dispatch any more.
CREATE TABLE states (
    key INTEGER PRIMARY KEY,
    dispatch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    way TEXT,
    asked INTEGER,
    answered INTEGER,
    bytes INTEGER NOT NULL,
    body TEXT,
    UNIQUE (dispatch, n)
) STRICT;
-- When a site's command had to be given, and when that was known; if that is the same,
-- it is stored once.
ALTER TABLE events ADD COLUMN due INTEGER;
ALTER TABLE events ADD COLUMN known INTEGER;
-- The commands of each dispatch, once their delivery to a sink has come to an end: in
-- each row those that one commit wrote, as JSON. Each is an array of the position of its
-- event, the site, what was sent, when it was due and when that was known (null if it is
-- the same), when the first and the last attempt began and how many did (null if none
-- did), when it was acknowledged (null if it was not), whether an operator gave it up,
-- and why the last attempt that failed did (null if none did).
CREATE TABLE commands (
    key INTEGER PRIMARY KEY,
    dispatch INTEGER NOT NULL,
    sink TEXT NOT NULL,
    lines TEXT NOT NULL
) STRICT;
CREATE INDEX commands_by_dispatch ON commands (dispatch);
-- The attempts at the newest command of a site, if the lane is one.
ALTER TABLE retries ADD COLUMN first_attempt INTEGER;
ALTER TABLE retries ADD COLUMN last_attempt INTEGER;
ALTER TABLE retries ADD COLUMN tries INTEGER;
",
];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;
