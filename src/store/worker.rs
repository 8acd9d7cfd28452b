//! The threads that wait for the disk, so that nobody else has to.

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::{Batch, LogHealth, Store, StoreError, StoreReader};
use crate::model::{DispatchId, Event, HistoryItem};

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
                for (batch, reply) in to_write {
                    // Nobody waits any more: it is written all the same.
                    let _ = reply.send(store.commit(&batch));
                }
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
