//! Opens a state file, and leaves a file alone that is not a state file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use super::checkpointer::{Checkpointer, CheckpointerError, LONG_LOG};
use super::probe;
use super::schema::{APPLICATION_ID, MIGRATIONS, VERSION};
use super::{SeenFile, SqliteReader, SqliteStore};
use crate::store::lock::Lock;
use crate::store::term::next_term;
use crate::store::{OpenError, StoreError};
use crate::system::{for_owner_only, open_to_all};

/// How long to wait for somebody who looks into the file with `sqlite3`.
const BUSY: Duration = Duration::from_secs(2);

pub(super) fn open(
    path: &Path,
    origin: &str,
    now: DateTime<Utc>,
) -> Result<SqliteStore, OpenError> {
    let mut fresh = look(path)?;
    let lock = Lock::take(path)?;
    make_private(path).map_err(|error| unusable(path, &error.to_string()))?;
    let fail = |error: rusqlite::Error| describe(path, &error);
    let mut connection = Connection::open(path).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    if !fresh {
        // A file that turns out to be another's is closed without a trace.
        let trace = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(trace, true).map_err(fail)?;
        fresh = check(path, &connection, origin)?;
        connection.set_db_config(trace, false).map_err(fail)?;
    }
    prepare(&mut connection, fresh, origin).map_err(fail)?;
    let (id, term) = begin_term(&connection, now).map_err(fail)?;
    let checkpointer = Checkpointer::start(path).map_err(|error| match error {
        CheckpointerError::Database(error) => describe(path, &error),
        CheckpointerError::Thread(error) => unusable(path, &error.to_string()),
    })?;
    Ok(SqliteStore {
        checkpointer,
        seen: SeenFile::at(path).map_err(|error| unusable(path, &error.to_string()))?,
        path: path.to_owned(),
        connection,
        log_left: false,
        forgetting: None,
        term,
        id,
        _lock: lock,
    })
}

/// Begins the next term. Tells the store's id and the term.
fn begin_term(connection: &Connection, now: DateTime<Utc>) -> rusqlite::Result<(String, u64)> {
    let (last, position) =
        connection.query_row("SELECT term, position FROM daemon", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let term = next_term(last, position, now);
    connection.query_row(
        "UPDATE daemon SET term = ?1 RETURNING store_id",
        [term],
        |row| Ok((row.get(0)?, term)),
    )
}

/// Makes the file if there is none, for its owner alone: SQLite would let the
/// umask decide. What SQLite makes beside it gets the same mode. The mode of a
/// file that is there was set by the operator, or by an earlier version, and
/// stays.
fn make_private(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) => {
            if let Some(mode) = open_to_all(&file) {
                tracing::warn!(
                    "--state {0}: every user of this machine can read the file (mode {mode:04o}); to change that, stop dispatchd and run `chmod 600 {0}*`",
                    path.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut options = File::options();
            let options = for_owner_only(options.create(true).truncate(false).write(true));
            options.open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    };
    open().map_err(StoreError::doing::<rusqlite::Error>(
        "be opened for reading",
    ))
}

/// Opens a file that no daemon uses, for reading, and keeps daemons off.
pub(super) fn unused(path: &Path) -> Result<SqliteReader, OpenError> {
    if look(path)? {
        return Err(OpenError::Absent {
            path: path.to_owned(),
        });
    }
    let lock = Lock::take(path)?;
    let fail = |error: rusqlite::Error| describe(path, &error);
    // Without a log nothing needs to be made beside the file for reading it.
    let connection = if probe::has_log(path) {
        reader(path).map_err(|error| unusable(path, &error.to_string()))?
    } else {
        probe::open(path, true)?
    };
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(fail)?;
    if found > VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    if found < VERSION {
        let reason = "it is of an older version; start the daemon with it once";
        return Err(unusable(path, reason));
    }
    let id = connection
        .query_row("SELECT store_id FROM daemon", [], |row| row.get(0))
        .optional()
        .map_err(fail)?
        .ok_or_else(|| half_copy(path))?;
    Ok(SqliteReader {
        connection,
        id,
        _lock: Some(lock),
    })
}

/// Looks at the file's first bytes, before SQLite does. Tells whether the file
/// is to be made.
pub(super) fn look(path: &Path) -> Result<bool, OpenError> {
    /// Where SQLite keeps the application id, big-endian.
    const ID: std::ops::Range<usize> = 68..72;
    const MAGIC: &[u8] = b"SQLite format 3\0";

    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut head),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => Err(error),
    }
    .map_err(|error| unusable(path, &error.to_string()))?;
    if head.is_empty() {
        return Ok(true);
    }
    let ours = head.starts_with(MAGIC) && head.get(ID) == Some(&APPLICATION_ID.to_be_bytes());
    if ours {
        Ok(false)
    } else {
        Err(OpenError::NotOurs {
            path: path.to_owned(),
        })
    }
}

/// Whether a file of ours is one that this daemon may go on with. Tells whether
/// its making was cut short, so that it is to be made again.
pub(super) fn check(path: &Path, connection: &Connection, origin: &str) -> Result<bool, OpenError> {
    let fail = |error: rusqlite::Error| describe(path, &error);
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(fail)?;
    if found == 0 {
        return Ok(true);
    }
    if found > VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    let theirs: Option<String> = connection
        .query_row("SELECT api_origin FROM daemon", [], |row| row.get(0))
        .optional()
        .map_err(fail)?;
    match theirs {
        Some(theirs) if theirs == origin => Ok(false),
        Some(theirs) => Err(OpenError::OtherOrigin {
            path: path.to_owned(),
            theirs,
            ours: origin.to_owned(),
        }),
        None => Err(half_copy(path)),
    }
}

/// The row about the daemon comes with the tables, except in a copy, where it comes last.
fn half_copy(path: &Path) -> OpenError {
    OpenError::HalfCopy {
        state: path.display().to_string(),
        remedy: "delete the file and copy again".to_owned(),
    }
}

/// Makes the tables in a file that is not there, or empty, and no more: it is half a copy
/// until somebody writes the row about the daemon. `id` is that of the state to come.
pub(super) fn begin_copy(path: &Path, id: &str) -> Result<SqliteReader, OpenError> {
    is_free(path)?;
    let lock = Lock::take(path)?;
    let fail = |error: rusqlite::Error| describe(path, &error);
    make_private(path).map_err(|error| unusable(path, &error.to_string()))?;
    let mut connection = Connection::open(path).map_err(fail)?;
    let make = |connection: &mut Connection| {
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for migration in MIGRATIONS {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()
    };
    make(&mut connection).map_err(fail)?;
    Ok(SqliteReader {
        connection,
        id: id.to_owned(),
        _lock: Some(lock),
    })
}

/// Makes sure that there is no file, or an empty one.
pub(super) fn is_free(path: &Path) -> Result<(), OpenError> {
    if look(path)? {
        return Ok(());
    }
    let connection = probe::for_reading(path, Lock::is_taken(path)?)?;
    let rows: rusqlite::Result<i64> =
        connection.query_row("SELECT count(*) FROM daemon", [], |row| row.get(0));
    if rows.map_err(|error| describe(path, &error))? == 0 {
        return Err(half_copy(path));
    }
    Err(OpenError::NotEmpty {
        state: path.display().to_string(),
        found: "there is a state in it; name a file that is not there".to_owned(),
    })
}

/// Brings the file up to date and into the modes that it is written in.
fn prepare(connection: &mut Connection, fresh: bool, origin: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for migration in MIGRATIONS
        .iter()
        .skip(usize::try_from(found).unwrap_or_default())
    {
        transaction.execute_batch(migration)?;
    }
    if fresh {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        let store_id = format!("{:016x}", rand::random::<u64>());
        transaction.execute(
            "INSERT INTO daemon (id, store_id, api_origin, term, revision, position, stale)
             VALUES (1, ?1, ?2, 0, 0, 0, 0)",
            (store_id, origin),
        )?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", LONG_LOG)?;
    Ok(())
}

/// Lets the writer fold a long log in, or leave it alone.
pub(super) fn leave_log(connection: &Connection, left: bool) -> Result<(), StoreError> {
    let pages = if left { 0 } else { LONG_LOG };
    connection
        .pragma_update(None, "wal_autocheckpoint", pages)
        .map_err(StoreError::doing("be written"))
}

pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    let reason = error.to_string();
    // Where there was no `-shm` beside the file, there is no room to make it.
    let wants_room = error.sqlite_error().map(|error| error.extended_code)
        == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    match error.sqlite_error_code() {
        _ if wants_room => OpenError::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path, reason }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        _ => OpenError::Unusable { path, reason },
    }
}

pub(super) fn unusable(path: &Path, reason: &str) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
