//! Looks at a state file without changing it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};

use super::open::{check, describe, look, unusable};
use super::read;
use crate::store::lock::Lock;
use crate::store::{OpenError, SinkState};

/// What a state file is fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// There is none, and one can be made.
    Absent,
    /// A daemon can go on with it.
    Usable,
    /// A daemon uses it.
    InUse,
}

/// What is known of each sink, without a change to the file, by the sinks' names. It can
/// be read while a daemon uses the file.
///
/// # Errors
/// When it cannot be read, or when a daemon that was killed left a journal that only a
/// daemon reads.
pub(super) fn sinks(path: &Path, in_use: bool) -> Result<BTreeMap<Arc<str>, SinkState>, OpenError> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    let has_journal = std::fs::metadata(journal).is_ok_and(|journal| journal.len() > 0);
    if has_journal && !in_use {
        return Err(unusable(path, "a daemon that was killed left a journal"));
    }
    let connection = open(path, !in_use)?;
    read::sinks(&connection).map_err(|error| unusable(path, &error.to_string()))
}

pub(super) fn probe(path: &Path, origin: &str) -> Result<Probe, OpenError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // SQLite makes files of its own beside it.
    let writable = |path: &Path| {
        access(path, Access::WRITE_OK)
            .map_err(|error| unusable(path, &std::io::Error::from(error).to_string()))
    };
    let fresh = look(path)?;
    writable(folder).map_err(|error| match error {
        OpenError::Unusable { reason, .. } => unusable(path, &format!("its folder: {reason}")),
        other => other,
    })?;
    if fresh {
        return Ok(Probe::Absent);
    }
    writable(path)?;
    if Lock::is_taken(path)? {
        return Ok(Probe::InUse);
    }
    // What it may not see is in the journal, and that has neither the format nor the
    // origin.
    let connection = open(path, true)?;
    check(path, &connection, origin).map(|_| Probe::Usable)
}

/// Opens the file for reading. If nobody writes to it, SQLite is told so, so that
/// nothing is written for reading either.
fn open(path: &Path, is_idle: bool) -> Result<Connection, OpenError> {
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
