//! Folds SQLite's log into the state file, away from the writer.
//!
//! That takes milliseconds, and would hold up all who wait for the commit that
//! happens to be next. Under load the log never is folded in whole, as the
//! writer goes on meanwhile. So the writer does what is left once the log is
//! long ([`LONG_LOG`]): little after large commits, all of it where commits of a
//! few rows have made it long before this thread had its turn.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

/// Pages of 4 KiB from which on the writer folds the log in itself.
pub(super) const LONG_LOG: i32 = 12288;

/// How many rows are written between two folds: in large commits not much fewer
/// than what makes a long log. Each fold slows the commits beside it.
const ROWS: u64 = 90_000;

/// A thread with a way of its own into the state file.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    folded_at: u64,
}

impl Checkpointer {
    /// Starts it for the state file at `path`.
    pub fn start(path: &Path) -> Result<Self, CheckpointerError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("checkpointer".into())
            .spawn(move || {
                for () in woken {
                    fold(&connection);
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            folded_at: 0,
        })
    }

    /// The writer has written so many rows since it opened the file.
    pub fn written(&mut self, rows: u64) {
        if rows.saturating_sub(self.folded_at) >= ROWS
            && let Some(wake) = &self.wake
        {
            self.folded_at = rows;
            // One that is woken already sees these rows as well.
            let _ = wake.try_send(());
        }
    }
}

/// It ends before the file is unlocked for the next daemon.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that folds the state file's log in has died");
        }
    }
}

/// Why the thread could not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckpointerError {
    /// The file cannot be opened once more.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The system gives no thread.
    #[error(transparent)]
    Thread(#[from] std::io::Error),
}

fn fold(connection: &Connection) {
    // Whoever reads or writes meanwhile is not waited for.
    let folded = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = folded {
        tracing::warn!(%error, "the state file's log cannot be folded in and grows until it can");
    }
}
