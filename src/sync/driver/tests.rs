//! The driver under load, told to stop; and under clocks that jump.

mod clocks;
mod trust;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock::{Mono, Now, SystemClock};
use crate::delivery::{Attempt, DeliveryTrace, restore};
use crate::engine::Rules;
use crate::model::{Answer, Dispatch, DispatchId, List, Program, Reading, Route};
use crate::store::{Batch, MemoryStore, Store};
use crate::sync::Settings;
use crate::trace::Tracer;
use crate::voltus::{ApiClock, ApiError, ApiResponse, Problems, Question, Stamp};

/// Longer than anything here takes on a busy coordinator.
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that goes so many times faster than the system's.
#[derive(Clone, Copy)]
struct FastClock(SystemClock, u32);

impl Clock for FastClock {
    fn now(&self) -> Now {
        let now = self.0.now();
        Now {
            mono: now.mono * self.1,
            ..now
        }
    }

    async fn sleep_until(&self, mono: Mono) {
        self.0.sleep_until(mono / self.1).await;
    }
}

/// An API with so many dispatches, whose look-ups take this long.
struct FakeApi {
    dispatches: usize,
    look_up: Duration,
    look_ups: Arc<AtomicUsize>,
}

fn id(number: usize) -> DispatchId {
    DispatchId::new(&format!("d{number}")).unwrap()
}

fn dispatch(id: DispatchId) -> Reading {
    Reading::Dispatch(Arc::new(Dispatch {
        id,
        authorized: true,
        test: false,
        start_time: SystemClock::new().now().wall + Duration::from_secs(3600),
        end_time: None,
        creation_time: None,
        modification_number: None,
        program: Program::default(),
        sites: Vec::new(),
        metadata: serde_json::json!({}),
        extra: Default::default(),
    }))
}

impl Api for FakeApi {
    async fn ask(&self, question: Question) -> Result<ApiResponse, ApiError> {
        let answer = match question {
            Question::List => {
                let all = (0..self.dispatches).map(|number| dispatch(id(number)));
                Answer::List(Arc::new(List::new(all.collect(), 0)))
            }
            Question::Dispatch(id) => {
                self.look_ups.fetch_add(1, Ordering::SeqCst);
                sleep(self.look_up).await;
                Answer::Found(dispatch(id))
            }
        };
        Ok(ApiResponse {
            answer,
            problems: Problems::default(),
            stamp: Stamp::default(),
        })
    }
}

/// A receiver that takes this long for each delivery.
#[derive(Default)]
struct SlowSink {
    takes: Duration,
    begun: AtomicUsize,
    finished: AtomicUsize,
}

impl SlowSink {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }
}

impl Sink for SlowSink {
    fn name(&self) -> &str {
        "slow"
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            sleep(self.takes).await;
            self.finished.fetch_add(1, Ordering::SeqCst);
            Attempt::Delivered
        })
    }
}

/// A store whose commits hang while it is told so.
struct HangingStore(MemoryStore, Arc<AtomicBool>);

impl Store for HangingStore {
    fn load(&mut self) -> Result<crate::store::Stored, StoreError> {
        self.0.load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        while self.1.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        self.0.commit(batch)
    }
}

fn settings() -> Settings {
    Settings {
        poll_interval: Duration::from_secs(3600),
        webhook_deadline: Duration::from_secs(60),
        api_rate: std::num::NonZeroU32::new(60_000).unwrap(),
        rules: Rules {
            retain: Duration::from_secs(3600),
            pre_curtail: Duration::ZERO,
            curtail_on_test: false,
            chunk: usize::MAX,
        },
    }
}

struct Running {
    inbox: Inbox,
    step_down: CancellationToken,
    stop: CancellationToken,
    hangs: Arc<AtomicBool>,
    ended: tokio::task::JoinHandle<Result<(), DriverError>>,
}

impl Running {
    fn start(api: FakeApi, sink: &Arc<SlowSink>, speed: u32) -> Self {
        let sinks: Vec<Arc<dyn Sink>> = vec![Arc::<SlowSink>::clone(sink)];
        Self::with(api, sinks, speed, Trust::endless())
    }

    fn with(api: FakeApi, sinks: Vec<Arc<dyn Sink>>, speed: u32, trust: Trust) -> Self {
        let clock = FastClock(SystemClock::new(), speed);
        let store = MemoryStore::new("test", clock.now().wall);
        let stored = store.clone().load().unwrap();
        let everything = Route::default();
        let outboxes = restore(
            sinks.iter().map(|sink| (&**sink, &everything)),
            &stored,
            &mut store.clone(),
            clock.now(),
        );
        let coordinator = Coordinator::new(settings(), stored, outboxes.unwrap(), clock.now(), 7);
        let hangs = Arc::new(AtomicBool::new(false));
        let hanging = HangingStore(store.clone(), Arc::clone(&hangs));
        let (_, handle) = StoreHandle::start(hanging, store).unwrap();
        let first_poll = FirstPoll::issue(api, clock, Tracer::default(), &Handle::current());
        let driver = Driver::new(coordinator, first_poll, handle, sinks).with_trust(trust);
        let stop = CancellationToken::new();
        Self {
            inbox: driver.inbox(),
            step_down: driver.step_down(),
            hangs,
            ended: TaskTracker::new().spawn(driver.run(stop.clone())),
            stop,
        }
    }

    /// Sends webhooks without a pause, and does not wait for answers.
    fn flood(&self) -> Arc<AtomicBool> {
        let goes_on = Arc::new(AtomicBool::new(true));
        for _ in 0..2 {
            let (inbox, goes_on) = (self.inbox.clone(), Arc::clone(&goes_on));
            thread::spawn(move || {
                let mut number = 0;
                while goes_on.load(Ordering::SeqCst) {
                    let (reply, _) = oneshot::channel();
                    let waiter = Waiter { reply, trace: None };
                    let id = id(number % 5000);
                    if inbox.0.send(Input::Webhook { id, waiter }).is_err() {
                        return;
                    }
                    number += 1;
                    // A little slower than a step takes, so that memory lasts.
                    if number.is_multiple_of(2000) {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        goes_on
    }

    /// Waits until polls are refused for the stop.
    async fn sees_the_stop(&self) {
        let polling =
            async { while !matches!(self.inbox.poll().await, WaiterReply::Unavailable { .. }) {} };
        timeout(PATIENCE, polling).await.expect("polls are refused");
    }

    async fn stops_within(self, limit: Duration) {
        let begun = SystemClock::new();
        self.stop.cancel();
        timeout(PATIENCE, self.ended)
            .await
            .expect("an end")
            .unwrap()
            .unwrap();
        let took = begun.now().mono;
        assert!(took < limit, "{took:?}");
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

fn slow(millis: u64) -> Arc<SlowSink> {
    Arc::new(SlowSink {
        takes: Duration::from_millis(millis),
        ..SlowSink::default()
    })
}

fn quick_api(dispatches: usize) -> FakeApi {
    FakeApi {
        dispatches,
        look_up: Duration::ZERO,
        look_ups: Arc::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_flood_the_stop_signal_is_seen_and_no_delivery_begins_after_it() {
    let sink = slow(200);
    let running = Running::start(quick_api(500), &sink, 1);
    until("deliveries begin", || sink.begun() > 0).await;
    let flood = running.flood();
    let finished = sink.finished();
    until("deliveries go on in the flood", || {
        sink.finished() > finished
    })
    .await;
    running.stop.cancel();
    // The turn that the signal came in may begin some.
    running.sees_the_stop().await;
    let begun = sink.begun();
    running.stops_within(Duration::from_secs(5)).await;
    flood.store(false, Ordering::SeqCst);
    assert_eq!(sink.begun(), begun, "nothing new begins");
    assert_eq!(sink.finished(), begun, "what is under way is finished");
    assert!(begun < 500, "all were delivered before the end: no test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_being_looked_up_is_answered_and_later_ones_are_told_to_come_back() {
    let sink = slow(0);
    let api = FakeApi {
        dispatches: 0,
        look_up: Duration::from_millis(500),
        look_ups: Arc::default(),
    };
    let look_ups = Arc::clone(&api.look_ups);
    let running = Running::start(api, &sink, 1);
    let webhook = |number| {
        let inbox = running.inbox.clone();
        TaskTracker::new().spawn(async move { inbox.webhook(id(number), None).await })
    };
    let first = webhook(1);
    until("it is being looked up", || {
        look_ups.load(Ordering::SeqCst) > 0
    })
    .await;
    running.stop.cancel();
    running.sees_the_stop().await;
    let late = webhook(2);
    let polled = running.inbox.poll().await;
    assert_eq!(first.await.unwrap(), WaiterReply::Applied);
    for outcome in [late.await.unwrap(), polled] {
        assert!(
            matches!(outcome, WaiterReply::Unavailable { .. }),
            "{outcome:?}"
        );
    }
    assert!(!running.inbox.token().await);
    running.stops_within(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_or_a_store_that_hangs_is_left_after_nine_seconds() {
    // Nine seconds of a clock that goes 20 times faster.
    for store_hangs in [false, true] {
        let sink = slow(if store_hangs { 0 } else { 3_600_000 });
        let running = Running::start(quick_api(1), &sink, 20);
        let hangs = Arc::clone(&running.hangs);
        until("a delivery begins", || sink.begun() > 0).await;
        if store_hangs {
            hangs.store(true, Ordering::SeqCst);
            let inbox = running.inbox.clone();
            TaskTracker::new().spawn(async move { inbox.webhook(id(7), None).await });
            sleep(Duration::from_millis(100)).await;
        }
        running.stops_within(Duration::from_secs(3)).await;
        hangs.store(false, Ordering::SeqCst);
    }
}

/// Counts how often it is asked for the list.
struct Counting(Arc<AtomicUsize>);

impl Api for Counting {
    async fn ask(&self, _: Question) -> Result<ApiResponse, ApiError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(ApiResponse {
            answer: Answer::List(Arc::new(List::new(Vec::new(), 0))),
            problems: Problems::default(),
            stamp: Stamp::default(),
        })
    }
}

/// A clock that can be moved on by seconds.
#[derive(Clone)]
struct SteppedClock(SystemClock, Arc<AtomicUsize>);

impl SteppedClock {
    fn ahead(&self) -> Duration {
        Duration::from_secs(self.1.load(Ordering::SeqCst) as u64)
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Now {
        let now = self.0.now();
        Now {
            mono: now.mono + self.ahead(),
            ..now
        }
    }

    async fn sleep_until(&self, mono: Mono) {
        self.0.sleep_until(mono.saturating_sub(self.ahead())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_poll_counts_unless_the_state_took_long_to_load() {
    for (load, polls) in [(0, 1), (5, 2)] {
        let clock = SteppedClock(SystemClock::new(), Arc::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let api = Counting(Arc::clone(&asked));
        let runtime = Handle::current();
        let first_poll = FirstPoll::issue(api, clock.clone(), Tracer::default(), &runtime);
        until("it is asked", || asked.load(Ordering::SeqCst) == 1).await;
        clock.1.store(load, Ordering::SeqCst);
        let store = MemoryStore::new("test", clock.now().wall);
        let stored = store.clone().load().unwrap();
        let coordinator = Coordinator::new(settings(), stored, Vec::new(), clock.now(), 7);
        let (_, handle) = StoreHandle::start(store.clone(), store).unwrap();
        let driver = Driver::new(coordinator, first_poll, handle, Vec::new());
        let (view, stop) = (driver.view(), CancellationToken::new());
        let ended = TaskTracker::new().spawn(driver.run(stop.clone()));
        until("a poll succeeds", || {
            view.borrow().health.polls_succeeded == 1
        })
        .await;
        assert_eq!(asked.load(Ordering::SeqCst), polls, "{load} s");
        stop.cancel();
        ended.await.unwrap().unwrap();
    }
}
