//! The driver under clocks that jump (rule R4): a wall clock that is wrong for a
//! while, and a machine that is suspended.

use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::model::{Kilowatts, Phase, Site, SiteId};
use crate::sync::State;

const DAY: TimeDelta = TimeDelta::days(1);

/// The system's clocks, moved by as much as a test says. Copies share that.
#[derive(Clone)]
struct MovedClock {
    system: SystemClock,
    /// By how much the wall clock is ahead, and for how long the machine has slept.
    moved: Arc<Mutex<(TimeDelta, Duration)>>,
}

impl MovedClock {
    fn new() -> Self {
        Self {
            system: SystemClock::new(),
            moved: Arc::default(),
        }
    }

    /// The wall clock is ahead by this much from now on.
    fn set_ahead(&self, ahead: TimeDelta) {
        self.moved.lock().unwrap().0 = ahead;
    }

    /// The machine slept for so long, and has just woken.
    fn suspend(&self, lasts: Duration) {
        let mut moved = self.moved.lock().unwrap();
        moved.0 += TimeDelta::from_std(lasts).unwrap();
        moved.1 += lasts;
    }

    fn ahead(&self) -> TimeDelta {
        self.moved.lock().unwrap().0
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Now {
        let now = self.system.now();
        let (ahead, slept) = *self.moved.lock().unwrap();
        Now {
            wall: now.wall + ahead,
            mono: now.mono + slept,
        }
    }

    async fn sleep_until(&self, mono: Mono) {
        // As the system's clock does it: a second at most, then a look.
        while let left = mono.saturating_sub(self.now().mono)
            && !left.is_zero()
        {
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }
}

/// An API whose clock is right, with one dispatch of one site.
struct OneDispatch {
    clock: MovedClock,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    down: Arc<AtomicBool>,
}

impl Api for OneDispatch {
    async fn ask(&self, _: Question) -> Result<ApiResponse, ApiError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(ApiError::Unreachable("the network is down".into()));
        }
        let site = Site {
            extra: Default::default(),
            id: SiteId::new("s").unwrap(),
            name: String::new(),
            customer_location_id: String::new(),
            commitment: Some(Kilowatts(1.0)),
        };
        let Reading::Dispatch(dispatch) = dispatch(id(1)) else {
            unreachable!("it can be read");
        };
        let dispatch = Dispatch {
            start_time: self.start,
            end_time: Some(self.end),
            sites: vec![Arc::new(site)],
            ..Dispatch::clone(&dispatch)
        };
        let list = List::new(vec![Reading::Dispatch(Arc::new(dispatch))], 0);
        Ok(ApiResponse {
            answer: Answer::List(Arc::new(list)),
            problems: Problems::default(),
            stamp: Stamp {
                age: Duration::ZERO,
                clock: Some(ApiClock {
                    showed: self.clock.now().wall - self.clock.ahead(),
                    came: self.clock.now(),
                }),
            },
        })
    }
}

struct World {
    clock: MovedClock,
    down: Arc<AtomicBool>,
    view: watch::Receiver<View>,
    events: broadcast::Receiver<Event>,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    /// A driver that polls every hour, or so often, and a dispatch from `start` on,
    /// in seconds, for an hour.
    fn new(start: i64, poll_interval: Duration) -> Self {
        let clock = MovedClock::new();
        let start = clock.now().wall + TimeDelta::seconds(start);
        let down = Arc::new(AtomicBool::new(false));
        let api = OneDispatch {
            clock: clock.clone(),
            start,
            end: start + TimeDelta::hours(1),
            down: Arc::clone(&down),
        };
        let settings = Settings {
            poll_interval,
            ..settings()
        };
        let store = MemoryStore::new("test", clock.now().wall);
        let stored = store.clone().load().unwrap();
        let coordinator = Coordinator::new(settings, stored, Vec::new(), clock.now(), 7);
        let (_, handle) = StoreHandle::start(store.clone(), store).unwrap();
        let first_poll =
            FirstPoll::issue(api, clock.clone(), Tracer::default(), &Handle::current());
        let driver = Driver::new(coordinator, first_poll, handle, Vec::new());
        let stop = CancellationToken::new();
        let (view, events) = (driver.view(), driver.events().subscribe());
        TaskTracker::new().spawn(driver.run(stop.clone()));
        Self {
            clock,
            down,
            view,
            events,
            _stop: stop.drop_guard(),
        }
    }

    fn phase(&self) -> Option<Phase> {
        let view = self.view.borrow();
        view.schedule.get(&id(1)).map(|entry| entry.phase)
    }

    fn is_curtailed(&self) -> bool {
        let view = self.view.borrow();
        let site = view.plan.get(&SiteId::new("s").unwrap());
        site.is_some_and(|site| site.is_curtailed())
    }

    fn polls(&self) -> u64 {
        self.view.borrow().health.polls_succeeded
    }

    /// The types of the events since the last call.
    fn events(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.map(|event| event.event_type.to_string()).collect()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_a_clock_a_day_ahead_released_is_curtailed_again_once_the_clock_is_right() {
    let mut world = World::new(-10, HOUR);
    until("the site is curtailed", || world.is_curtailed()).await;
    world.clock.set_ahead(DAY);
    until("the clock is noticed", || !world.is_curtailed()).await;
    assert_eq!(world.phase(), Some(Phase::Ended));
    world.events();
    world.clock.set_ahead(TimeDelta::zero());
    // The jump asks for a poll by itself; the next one by interval is an hour away.
    until("the site is curtailed again", || world.is_curtailed()).await;
    assert_eq!(world.phase(), Some(Phase::Active));
    let events = ["dispatch.updated", "dispatch.started", "site.curtail"];
    until("the events are told", || world.events.len() == events.len()).await;
    assert_eq!(world.events(), events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_falls_two_hours_back_for_a_while_changes_nothing() {
    let mut world = World::new(-10, HOUR);
    until("the site is curtailed", || world.is_curtailed()).await;
    world.events();
    for ahead in [-TimeDelta::hours(2), TimeDelta::zero()] {
        let polls = world.polls();
        world.clock.set_ahead(ahead);
        until("the jump was followed by a poll", || world.polls() > polls).await;
        assert!(world.is_curtailed());
        assert_eq!(world.events(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_passed_in_suspend_is_caught_up_with_after_waking() {
    let world = World::new(1800, HOUR);
    until("it is known", || world.phase() == Some(Phase::Scheduled)).await;
    world.clock.suspend(Duration::from_secs(2000));
    until("the site is curtailed", || world.is_curtailed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspend_with_the_network_down_is_stale_at_once_and_said_to_be() {
    let interval = Duration::from_secs(30);
    let mut world = World::new(-10, interval);
    until("a poll has succeeded", || world.polls() > 0).await;
    world.down.store(true, Ordering::SeqCst);
    world.events();
    world.clock.suspend(8 * HOUR);
    let state = world.view.borrow().health.state(world.clock.now().mono);
    assert_eq!(state, State::Stale, "before anything else has happened");
    let mut told = Vec::new();
    until("it is told", || {
        told.extend(world.events());
        told.iter().any(|event| event == "sync.stale")
    })
    .await;
}
