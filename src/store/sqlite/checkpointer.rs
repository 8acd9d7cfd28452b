//! Folds SQLite's log into the state file, away from the writer.
//!
//! That takes milliseconds, and would hold up all who wait for the commit that
//! happens to be next. Under load the log never is folded in whole, as the
//! writer goes on meanwhile. So the writer does what is left once the log is
//! long ([`LONG_LOG`]): little after large commits, all of it where commits of a
//! few rows have made it long before this thread had its turn.
//!
//! A reader that holds a transaction open keeps the log from being folded in:
//! it grows by all that is written. That is warned about (see [`Hold`]). Then the
//! writer leaves all of the log to this thread, which cuts the file short once
//! the reader has gone: what may be hundreds of megabytes holds up no commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use super::hold::{Folded, Hold, Notice};
use crate::clock::{Clock, Mono, SystemClock};
use crate::seldom::Rarely;
use crate::store::LogHealth;

/// Pages of 4 KiB from which on the writer folds the log in itself.
pub(super) const LONG_LOG: i32 = 12288;

/// How many rows are written between two folds: in large commits not much fewer
/// than what makes a long log. Each fold slows the commits beside it.
const ROWS: u64 = 90_000;

/// How often the size of the log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How often it is looked at while somebody seems to hold it.
const LOOK_CLOSELY: Duration = Duration::from_secs(1);

/// A log of fewer bytes is left alone between folds: nobody needs it shorter.
const SHORT_LOG: u64 = 4 << 20;

/// How long cutting the log short may hold up the writer.
const CUT_WITHIN: Duration = Duration::from_millis(100);

/// A thread with a way of its own into the state file.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    folded_at: u64,
    /// Whether the writer is to leave the log to the thread.
    takes_over: Arc<AtomicBool>,
    health: Arc<LogHealth>,
}

impl Checkpointer {
    /// Starts it for the state file at `path`.
    pub fn start(path: &Path) -> Result<Self, CheckpointerError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(CUT_WITHIN)?;
        let (wake, woken) = sync_channel(1);
        let takes_over = Arc::new(AtomicBool::new(false));
        let health = Arc::new(LogHealth::default());
        let mut folder = Folder {
            connection,
            log: log_of(path),
            hold: Hold::default(),
            to_cut: false,
            takes_over: Arc::clone(&takes_over),
            health: Arc::clone(&health),
        };
        let thread = thread::Builder::new()
            .name("checkpointer".into())
            .spawn(move || {
                let clock = SystemClock::new();
                loop {
                    match woken.recv_timeout(folder.look_within()) {
                        Ok(()) => folder.fold(clock.now().mono),
                        Err(RecvTimeoutError::Timeout) => folder.look(clock.now().mono),
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            folded_at: 0,
            takes_over,
            health,
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

    /// Whether the writer is to leave the log alone, however long it is.
    pub fn takes_over(&self) -> bool {
        self.takes_over.load(Ordering::Relaxed)
    }

    /// How the log stands.
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
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

/// What the thread works with.
struct Folder {
    connection: Connection,
    /// The log's path.
    log: PathBuf,
    hold: Hold,
    /// The log has grown long, and is to be cut short once it can be.
    to_cut: bool,
    takes_over: Arc<AtomicBool>,
    health: Arc<LogHealth>,
}

impl Folder {
    /// How long to wait for the next look.
    fn look_within(&self) -> Duration {
        if self.to_cut || self.hold.is_suspected() {
            LOOK_CLOSELY
        } else {
            LOOK_EVERY
        }
    }

    /// Folds the log in if it is not short.
    fn look(&mut self, now: Mono) {
        if self.size() > SHORT_LOG || self.to_cut || self.hold.is_suspected() {
            self.fold(now);
        }
    }

    /// The size of the log in bytes.
    fn size(&self) -> u64 {
        let bytes = std::fs::metadata(&self.log).map_or(0, |file| file.len());
        self.health.set_bytes(bytes);
        bytes
    }

    fn fold(&mut self, now: Mono) {
        // Whoever reads or writes meanwhile is not waited for.
        let folded = match self.checkpoint("PASSIVE") {
            Ok((_, folded)) => folded,
            Err(error) => {
                static LINE: Rarely = Rarely::new();
                if let Some(count) = LINE.count() {
                    tracing::warn!(%error, count, "the state file's log cannot be folded in and grows until it can");
                }
                return;
            }
        };
        let bytes = self.size();
        match self.hold.folded(folded, now) {
            Notice::None => {}
            Notice::Held => {
                tracing::warn!(
                    log = %self.log.display(),
                    bytes,
                    "another program has read the state file within one transaction for over a \
                     minute: the log cannot be folded in and grows with every commit; end that \
                     program"
                );
                self.health.set_held(true);
                self.to_cut = true;
            }
            Notice::Free => {
                tracing::info!(bytes, "the state file's log is folded in again");
                self.health.set_held(false);
            }
        }
        self.to_cut |= folded.log > 2 * i64::from(LONG_LOG);
        if self.to_cut && !self.hold.is_suspected() {
            self.cut();
        }
        self.takes_over.store(self.to_cut, Ordering::Relaxed);
    }

    /// Cuts the log short. Most of it is folded in already, so that the writer
    /// waits for little.
    fn cut(&mut self) {
        match self.checkpoint("TRUNCATE") {
            Ok((false, _)) => self.to_cut = false,
            // Somebody reads or writes just now.
            Ok((true, _)) => {}
            Err(error) => tracing::debug!(%error, "the state file's log cannot be cut short yet"),
        }
        self.size();
    }

    /// Tells also whether somebody was in the way.
    fn checkpoint(&self, mode: &str) -> rusqlite::Result<(bool, Folded)> {
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        self.connection.query_row(&pragma, [], |row| {
            let folded = Folded {
                log: row.get(1)?,
                done: row.get(2)?,
            };
            Ok((row.get(0)?, folded))
        })
    }
}

/// The path of a state file's log.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}
