//! Looks at a state file without changing it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::open::{check, describe, look, unusable};
use super::read;
use super::schema::VERSION;
use crate::store::lock::Lock;
use crate::store::{OpenError, SinkState};
use crate::system::may_write;

/// What a state file is fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// There is none, and one can be made.
    Absent,
    /// A daemon can go on with it.
    Usable,
    /// A daemon can go on with it. The last one was killed, and left a write-ahead log
    /// whose content the next start takes over.
    Interrupted,
    /// A daemon uses it.
    InUse,
    /// It has the format of an older program. A daemon can go on with it, or goes on with
    /// it now.
    Older,
}

/// What is known of each sink, without a change to the file, by the sinks' names.
/// `found` is what [`probe`] says of the file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn sinks(path: &Path, found: Probe) -> Result<BTreeMap<Arc<str>, SinkState>, OpenError> {
    let sinks = |connection: &Connection| {
        read::sinks(connection).map_err(|error| unusable(path, &error.to_string()))
    };
    match found {
        // Older files lack columns that are asked for.
        Probe::Absent | Probe::Older => Ok(BTreeMap::new()),
        Probe::InUse | Probe::Usable | Probe::Interrupted => {
            sinks(&for_reading(path, found == Probe::InUse)?)
        }
    }
}

pub(super) fn probe(path: &Path, origin: &str) -> Result<Probe, OpenError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // SQLite makes files of its own beside it.
    let writable =
        |path: &Path| may_write(path).map_err(|error| unusable(path, &error.to_string()));
    let fresh = look(path)?;
    writable(folder).map_err(|error| match error {
        OpenError::Unusable { reason, .. } => unusable(path, &format!("its folder: {reason}")),
        other => other,
    })?;
    if fresh {
        return Ok(Probe::Absent);
    }
    writable(path)?;
    let in_use = Lock::is_taken(path)?;
    let connection = for_reading(path, in_use)?;
    if check(path, &connection, origin)? {
        return Ok(Probe::Absent);
    }
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| describe(path, &error))?;
    Ok(if version < VERSION {
        Probe::Older
    } else if in_use {
        Probe::InUse
    } else if has_log(path) {
        Probe::Interrupted
    } else {
        Probe::Usable
    })
}

/// Whether there is something in the write-ahead log. A daemon that is not killed
/// removes the log when it ends.
pub(super) fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Opens the file for reading; `in_use` says whether a daemon uses it. If none does and
/// there is a log, the file alone may be of two states: its content is copied by half when
/// the disk is full.
pub(super) fn for_reading(path: &Path, in_use: bool) -> Result<Connection, OpenError> {
    if in_use || !has_log(path) {
        return open(path, !in_use);
    }
    match open_with_log(path) {
        // Somebody who has the file open with `sqlite3` has made what SQLite needs to
        // share it.
        Err(OpenError::Locked { .. }) => open(path, false),
        opened => opened,
    }
}

/// Opens a file that nobody uses for reading, together with its write-ahead log, and
/// leaves both as they are. While it is open nobody else can use it.
fn open_with_log(path: &Path) -> Result<Connection, OpenError> {
    let fail = |error: rusqlite::Error| describe(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    let untouched = || {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "query_only", true)?;
        // With it SQLite keeps the index of the log in memory instead of in a file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.query_row("SELECT count(*) FROM daemon", [], |_| Ok(()))
    };
    untouched().map_err(fail)?;
    Ok(connection)
}

/// Opens the file for reading. If nobody writes to it, SQLite is told so, so that
/// nothing is written for reading either.
pub(super) fn open(path: &Path, is_idle: bool) -> Result<Connection, OpenError> {
    let fail = |error: rusqlite::Error| describe(path, &error);
    let absolute = path
        .canonicalize()
        .map_err(|error| unusable(path, &error.to_string()))?;
    let mut uri = url::Url::from_file_path(&absolute)
        .map_err(|()| unusable(path, "its name cannot be written as a URI"))?;
    uri.set_query(is_idle.then_some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri.as_str(), flags).map_err(fail)
}
