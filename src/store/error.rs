//! The errors of stores.

use std::path::PathBuf;

/// Why something was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed. It may be tried again.
    #[error("the state file could not {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's word.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is no longer what it was: what is written would be lost.
    #[error(
        "the state file {0} was removed, replaced or cut short: stop dispatchd, restore the file, start again"
    )]
    Removed(PathBuf),
    /// A row says what cannot be.
    #[error(
        "the state file is damaged: {what}; restore it from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// Which row, and what is wrong.
        what: String,
    },
    /// Another daemon writes to this store now.
    #[error("another dispatchd process now owns the state file; exiting")]
    Fenced,
    /// The thread that writes has ended.
    #[error("the store has been closed")]
    Closed,
}

/// Why the daemon cannot start on a state file. The file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error(
        "--state {path}: another dispatchd is using it; stop that one, or give this one its own file"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("--state {path}: this is not a state file of dispatchd; give another path")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "--state {path}: written by a newer dispatchd (format {found}, this one knows {known}); install that version, or give another path"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// It holds the schedule of another API.
    #[error(
        "--state {path}: holds the schedule of {theirs}, but --api-url says {ours}; give each API its own file"
    )]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// The API that it belongs to.
        theirs: String,
        /// The API that is configured.
        ours: String,
    },
    /// It cannot be opened.
    #[error(
        "--state {path}: cannot be opened: {reason}; check that its folder exists and that this user may write to folder and file"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is damaged.
    #[error(
        "--state {path}: the file is damaged ({reason}); restore it from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
