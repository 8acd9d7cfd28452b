//! Looks at a state file without changing it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};

use super::open::{check, describe, look, unusable};
use crate::store::OpenError;
use crate::store::lock::Lock;

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
    // Nobody writes to it, and so that nothing is written for reading either,
    // SQLite is told so. What it may not see then is in the journal, and that
    // has neither the format nor the origin.
    let fail = |error: rusqlite::Error| describe(path, &error);
    let absolute = path
        .canonicalize()
        .map_err(|error| unusable(path, &error.to_string()))?;
    let mut uri = url::Url::from_file_path(&absolute)
        .map_err(|()| unusable(path, "its name cannot be written as a URI"))?;
    uri.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri.as_str(), flags).map_err(fail)?;
    check(path, &connection, origin).map(|_| Probe::Usable)
}
