//! Locks a state file, so that one daemon uses it at a time.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::system::for_owner_only;

/// Held while a daemon uses a state file. The system lets go of it when the
/// process ends, however it ends.
///
/// It is a file of its own beside the state file: SQLite's locks on that one
/// are dropped when any handle to it is closed.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the lock for the state file at `path`.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let unusable = |error: std::io::Error| match error.kind() {
            ErrorKind::StorageFull => OpenError::Full {
                path: path.to_owned(),
            },
            _ => OpenError::Unusable {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        };
        let file = for_owner_only(File::options().create(true).truncate(false).write(true))
            .open(lock_path(path))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Whether a daemon holds the lock. Nothing is made for it.
    pub fn is_taken(path: &Path) -> Result<bool, OpenError> {
        let unusable = |error: std::io::Error| OpenError::Unusable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = match File::options().write(true).open(lock_path(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unusable(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

/// Two names of one file share a lock.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path
        .canonicalize()
        .unwrap_or_else(|_| path.to_owned())
        .into_os_string();
    name.push(".lock");
    name.into()
}
