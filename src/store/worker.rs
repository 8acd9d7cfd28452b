//! The threads that wait for the disk.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Batch, DispatchRecord, LogHealth, Store, StoreError, StoreReader};
use crate::model::{DispatchId, Event, HistoryItem};

/// The pause before the store tidies up a little more.
const TIDY_PAUSE: Duration = Duration::from_millis(20);

/// The pause before the store is asked again what became of a commit.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// After so many commits the store tidies up without such a pause: under load there
/// is none.
const MOST_COMMITS: u32 = 32;

type Write = (Box<Batch>, oneshot::Sender<Result<(), StoreError>>);
type Read = Box<dyn FnOnce(&mut dyn StoreReader) + Send>;

/// A way to the store for those who must not block. Copies are the same store.
/// The threads end, and the store closes, with the last copy.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    log: Arc<LogHealth>,
}

impl StoreHandle {
    /// Starts a thread for `store` and one for `reader`. The first thing that is
    /// returned ends when the store is closed.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        mut store: impl Store,
        mut reader: impl StoreReader,
    ) -> std::io::Result<(Closed, Self)> {
        let (writes, to_write) = mpsc::channel::<Write>();
        let (reads, to_read) = mpsc::channel::<Read>();
        let (closed, is_closed) = oneshot::channel::<()>();
        let log = store.log();
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                write(&mut store, &to_write);
                drop(store);
                drop(closed);
            })?;
        thread::Builder::new()
            .name("store-reader".into())
            .spawn(move || {
                for read in to_read {
                    read(&mut reader);
                }
            })?;
        Ok((Closed(is_closed), Self { writes, reads, log }))
    }

    /// How the write-ahead log stands.
    pub fn log(&self) -> &LogHealth {
        &self.log
    }

    /// Writes a batch, also if nobody waits for the answer.
    ///
    /// # Errors
    /// As [`Store::commit`] says.
    pub fn commit(
        &self,
        batch: Box<Batch>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        // If the thread has ended, the reply goes with the batch.
        let _ = self.writes.send((batch, reply));
        async move { answer.await.unwrap_or(Err(StoreError::Closed)) }
    }

    /// What happened to a dispatch, oldest first.
    ///
    /// # Errors
    /// As [`StoreReader::history`] says.
    pub async fn history(&self, id: DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        self.read(move |reader| reader.history(&id)).await
    }

    /// What is kept of a dispatch to prove how it was carried out.
    ///
    /// # Errors
    /// As [`StoreReader::record`] says.
    pub async fn record(&self, id: DispatchId) -> Result<DispatchRecord, StoreError> {
        self.read(move |reader| reader.record(&id)).await
    }

    /// Up to `limit` events behind position `after`, oldest first.
    ///
    /// # Errors
    /// As [`StoreReader::events`] says.
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |reader| reader.events(after, limit)).await
    }

    /// The positions of the newest event of each site, oldest first.
    ///
    /// # Errors
    /// As [`StoreReader::newest_site_positions`] says.
    pub async fn newest_site_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.read(|reader| reader.newest_site_positions()).await
    }

    /// The events at these positions, without those that have gone.
    ///
    /// # Errors
    /// As [`StoreReader::events_at`] says.
    pub async fn events_at(&self, positions: Vec<u64>) -> Result<Vec<Event>, StoreError> {
        self.read(move |reader| reader.events_at(&positions)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn StoreReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |reader| {
            // Nobody waits any more: the answer is for nobody.
            let _ = reply.send(read(reader));
        });
        self.reads.send(read).map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Commits what comes until nobody can send any more. Between commits the store
/// tidies up, with pauses, so that commits find the disk free.
fn write(store: &mut impl Store, to_write: &mpsc::Receiver<Write>) {
    let mut untidy = false;
    let mut commits = 0;
    loop {
        let next = if !untidy {
            to_write.recv().map_err(Into::into)
        } else if commits < MOST_COMMITS {
            to_write.recv_timeout(TIDY_PAUSE)
        } else {
            Err(RecvTimeoutError::Timeout)
        };
        match next {
            Ok((batch, reply)) => {
                untidy |= batch.forget_before.is_some();
                commits += 1;
                let mut outcome = store.commit(&batch);
                if let Err(StoreError::Unknown(error)) = &outcome {
                    tracing::warn!(%error, "the database did not say whether it wrote the state; dispatchd asks until it knows, and writes nothing else meanwhile");
                    outcome = settle(store, &reply);
                }
                // Nobody waits any more: it is written all the same.
                let _ = reply.send(outcome);
            }
            Err(RecvTimeoutError::Timeout) => {
                commits = 0;
                untidy = store.tidy().unwrap_or_else(|error| {
                    tracing::warn!(%error, "old events cannot be deleted from the state; dispatchd tries again within the hour");
                    false
                });
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks what became of a commit until that is known, or nobody waits for it any more.
fn settle(
    store: &mut impl Store,
    reply: &oneshot::Sender<Result<(), StoreError>>,
) -> Result<(), StoreError> {
    loop {
        let outcome = store.settle();
        if !matches!(outcome, Err(StoreError::Unknown(_))) || reply.is_closed() {
            return outcome;
        }
        thread::sleep(SETTLE_PAUSE);
    }
}

/// Ends when the store is closed: everything is on disk, the file unlocked.
#[derive(Debug)]
pub struct Closed(oneshot::Receiver<()>);

impl Closed {
    /// Waits for it.
    pub async fn wait(self) {
        // The sender is never used, only dropped.
        let _ = self.0.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::{MemoryStore, Stored};

    /// Notes what is done, and has so much to tidy up after each commit that asks
    /// for it.
    struct Noting {
        done: Arc<Mutex<Vec<&'static str>>>,
        left: u32,
    }

    impl Store for Noting {
        fn load(&mut self) -> Result<Stored, StoreError> {
            Ok(Stored::default())
        }

        fn commit(&mut self, _: &Batch) -> Result<(), StoreError> {
            self.done.lock().unwrap().push("commit");
            Ok(())
        }

        fn tidy(&mut self) -> Result<bool, StoreError> {
            self.done.lock().unwrap().push("tidy");
            self.left -= 1;
            Ok(self.left > 0)
        }
    }

    fn forgets() -> Box<Batch> {
        Box::new(Batch {
            forget_before: Some(chrono::DateTime::UNIX_EPOCH),
            ..Batch::default()
        })
    }

    /// What a store with so much to tidy up does when these commits are there at
    /// once, of which the first one asks for it.
    fn done(commits: usize, left: u32) -> Vec<&'static str> {
        let done = Arc::default();
        let mut store = Noting {
            done: Arc::clone(&done),
            left,
        };
        let (writes, to_write) = mpsc::channel();
        for number in 0..commits {
            let batch = if number == 0 {
                forgets()
            } else {
                Box::default()
            };
            writes.send((batch, oneshot::channel().0)).unwrap();
        }
        drop(writes);
        write(&mut store, &to_write);
        drop(store);
        Arc::try_unwrap(done).unwrap().into_inner().unwrap()
    }

    #[test]
    fn commits_go_before_tidying_up_but_do_not_put_it_off_for_ever() {
        let done = done(100, 1000);
        let most = MOST_COMMITS as usize;
        assert_eq!(done.first(), Some(&"commit"));
        let tidied = done.iter().filter(|what| **what == "tidy").count();
        assert!(tidied >= 100 / most, "{tidied}");
        let at = done.iter().position(|what| *what == "tidy").unwrap();
        assert_eq!(at, most, "{done:?}");
        let last = done.iter().rposition(|what| *what == "commit").unwrap();
        assert_eq!(last, 99 + 100 / most, "{done:?}");
    }

    #[tokio::test]
    async fn all_is_tidied_up_while_no_commit_comes() {
        let notes = Arc::default();
        let store = Noting {
            done: Arc::clone(&notes),
            left: 3,
        };
        let reader = MemoryStore::new("test", chrono::DateTime::UNIX_EPOCH);
        let (_, handle) = StoreHandle::start(store, reader).unwrap();
        handle.commit(Box::default()).await.unwrap();
        handle.commit(forgets()).await.unwrap();
        let expected = ["commit", "commit", "tidy", "tidy", "tidy"];
        while notes.lock().unwrap().len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        handle.commit(Box::default()).await.unwrap();
        let done = notes.lock().unwrap().clone();
        assert_eq!(done[..5], expected);
        assert_eq!(done[5..], ["commit"], "nothing is left");
    }
}
