//! The errors of stores.

use std::error::Error;
use std::path::PathBuf;

/// What the database itself says.
pub type DatabaseError = Box<dyn Error + Send + Sync>;

/// Why something was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed, and nothing was written. It may be tried again.
    #[error("the state could not {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's word.
        #[source]
        source: DatabaseError,
    },
    /// The database was told to commit, and its answer did not come: the batch may be
    /// written or not. [`Store::settle`](super::Store::settle) finds out.
    #[error("the database did not say whether it wrote the state: {0}")]
    Unknown(#[source] DatabaseError),
    /// The database is another one than before, or an older copy: a standby of its own
    /// was promoted, or a backup restored. What was written last may be lost.
    #[error("the database is not the one that was written to before: {0}")]
    Replaced(String),
    /// The file is no longer what it was: what is written would be lost.
    #[error(
        "the state file {0} was removed, replaced or cut short: stop dispatchd, restore the file, start again"
    )]
    Removed(PathBuf),
    /// A row says what cannot be.
    #[error(
        "the state is damaged: {what}; restore it from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// Which row, and what is wrong.
        what: String,
    },
    /// Another daemon writes to this store now.
    #[error("another dispatchd process now owns the state")]
    Fenced,
    /// No other daemon has taken over, and still the state is not as this daemon left it.
    #[error(
        "the state is not at the revision that this dispatchd process left it at; it ends, and reads the state anew at its next start"
    )]
    OutOfStep,
    /// The thread that writes has ended.
    #[error("the store has been closed")]
    Closed,
}

impl OpenError {
    /// Whether the operator must change something before another try makes sense.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Full { .. } | Self::Unreachable { .. })
    }
}

impl StoreError {
    /// Says of a database's error what was being done.
    pub(super) fn doing<E: Into<DatabaseError>>(doing: &'static str) -> impl Fn(E) -> Self + Copy {
        move |source| Self::Database {
            doing,
            source: source.into(),
        }
    }
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
    /// There is none.
    #[error(
        "--state {path}: there is no state in it: the file is not there, or is empty; name the file that the --state of its daemon names"
    )]
    Absent {
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
        "--state {path}: holds the schedule of {theirs}, but --api-url says {ours}; give each API a state of its own"
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
    /// Its disk is full.
    #[error("--state {path}: cannot be opened: its disk is full; make room, and start again")]
    Full {
        /// The file.
        path: PathBuf,
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
    /// A copy into it was broken off.
    #[error(
        "--state {state}: holds half a copy: `dispatchd state copy` was broken off, or still runs; {remedy}"
    )]
    HalfCopy {
        /// Where it is, without a password.
        state: String,
        /// What to do.
        remedy: String,
    },
    /// Something is where a copy was to go.
    #[error("--state {state}: is not empty: {found}")]
    NotEmpty {
        /// Where it is, without a password.
        state: String,
        /// What is there, and what to do.
        found: String,
    },
    /// A daemon uses the database.
    #[error(
        "--state {state}: is in use: the daemon `{node}` leads there; stop all daemons of it first"
    )]
    InUse {
        /// Where it is, without a password.
        state: String,
        /// The daemon's name for people.
        node: String,
    },
    /// The database cannot be used as it is.
    #[error("--state {state}: {reason}")]
    Refused {
        /// Where it is, without a password.
        state: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The database does not answer.
    #[error("--state {state}: cannot be reached: {reason}")]
    Unreachable {
        /// Where it is, without a password.
        state: String,
        /// Why.
        reason: String,
    },
}
