//! Runs the coordinator on a thread of its own.

use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use crate::clock::Clock;
use crate::sync::Driver;
use crate::voltus::Api;

/// How the driver ended. Nothing comes if it panicked.
pub(super) type Ended = oneshot::Receiver<Result<(), DaemonError>>;

/// The thread on which the driver runs, and its runtime, which has the sockets to the API.
///
/// What decides is one task. Among those of the listeners it moved from one
/// processor to the other and woke both, and waited in line behind webhooks when
/// a commit had ended.
pub(super) struct EngineThread<A, C> {
    runtime: Handle,
    hand_over: oneshot::Sender<(Driver<A, C>, CancellationToken)>,
    ended: Ended,
}

impl<A: Api, C: Clock> EngineThread<A, C> {
    /// Starts the thread. It ends if this is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> Result<Self, DaemonError> {
        let (hand_over, handed_over) = oneshot::channel::<(Driver<A, C>, CancellationToken)>();
        let (ended, ends) = oneshot::channel();
        let (built, runtime) = mpsc::channel();
        // It is built where it is dropped: not among tasks of another one.
        let run = move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(built.send(Err(error))),
            };
            // Whoever started the thread waits for it.
            let _ = built.send(Ok(runtime.handle().clone()));
            let end = runtime.block_on(async {
                match handed_over.await {
                    Ok((driver, stop)) => driver.run(stop).await.map_err(Into::into),
                    Err(_) => Ok(()),
                }
            });
            // A name look-up that hangs holds nobody up.
            runtime.shutdown_background();
            // Nobody waits for it while a test takes the daemon down.
            let _ = ended.send(end);
        };
        let thread = thread::Builder::new().name("engine".into());
        thread.spawn(run).map_err(no_thread)?;
        let runtime = runtime
            .recv()
            .map_err(|_| DaemonError::Task("the engine"))?;
        Ok(Self {
            runtime: runtime.map_err(no_thread)?,
            hand_over,
            ended: ends,
        })
    }

    /// What runs on the thread before the driver does is spawned here.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs `driver` on the thread until `stop`.
    pub fn run(self, driver: Driver<A, C>, stop: CancellationToken) -> Ended {
        // If the thread has died, that shows at the end.
        let _ = self.hand_over.send((driver, stop));
        self.ended
    }
}

pub(super) fn no_thread(source: std::io::Error) -> DaemonError {
    DaemonError::System {
        what: "thread",
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::{CHUNK, Rules};
    use crate::store::{MemoryStore, Store, StoreHandle};
    use crate::sync::{Coordinator, FirstPoll, Settings};
    use crate::trace::Tracer;
    use crate::voltus::{ApiError, ApiResponse, Question};

    /// An API whose name is looked up for ever, by a system call that nothing
    /// can break off.
    struct NoName(Arc<AtomicBool>);

    impl Api for NoName {
        async fn ask(&self, _: Question) -> Result<ApiResponse, ApiError> {
            let begun = Arc::clone(&self.0);
            let look_up = tokio::task::spawn_blocking(move || {
                begun.store(true, Ordering::SeqCst);
                thread::sleep(Duration::from_secs(120));
            });
            let _ = look_up.await;
            Err(ApiError::TimedOut("the API".into()))
        }
    }

    #[tokio::test]
    async fn a_name_look_up_that_hangs_does_not_hold_up_the_end() {
        let clock = SystemClock::new();
        let settings = Settings {
            poll_interval: Duration::from_secs(30),
            webhook_deadline: Duration::from_secs(5),
            api_rate: NonZeroU32::new(240).unwrap(),
            rules: Rules {
                retain: Duration::from_secs(3600),
                pre_curtail: Duration::ZERO,
                curtail_on_test: false,
                chunk: CHUNK,
            },
        };
        let store = MemoryStore::new("test", clock.now().wall);
        let stored = store.clone().load().unwrap();
        let coordinator = Coordinator::new(settings, stored, Vec::new(), clock.now(), 7);
        let (_, handle) = StoreHandle::start(store.clone(), store).unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let api = NoName(Arc::clone(&begun));
        let thread = EngineThread::start().unwrap();
        let first_poll = FirstPoll::issue(api, clock, Tracer::default(), thread.runtime());
        let driver = Driver::new(coordinator, first_poll, handle, Vec::new());
        let stop = CancellationToken::new();
        let ended = thread.run(driver, stop.clone());
        let asked = async {
            while !begun.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), asked).await.unwrap();
        stop.cancel();
        let ended = timeout(Duration::from_secs(5), ended).await;
        ended.expect("an end in time").unwrap().unwrap();
    }
}
