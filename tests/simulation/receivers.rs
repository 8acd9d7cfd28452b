//! The simulated receivers: what arrives, what they believe, what they answer.

use std::collections::BTreeMap;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::dice::Dice;
use super::faults::Faults;
use super::routes::SimulatedRoute;
use super::scenario::SinkFault;
use dispatchd::delivery::{Attempt, DeliveryTrace, Sink};
use dispatchd::model::Event;

/// How long an attempt takes that is not answered.
const HANGS: Duration = Duration::from_secs(15);

/// One receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    pub stub: Stub,
    pub faults: Faults<SinkFault>,
    /// What it is for, as the daemon that runs knows.
    pub route: SimulatedRoute,
    /// What the next one will know.
    pub next_route: SimulatedRoute,
    /// Whether it ever was for less than everything.
    pub was_routed: bool,
    /// What it last obeyed, by site.
    beliefs: BTreeMap<Arc<str>, Event>,
    attempts: u64,
}

/// What becomes of an attempt.
#[derive(Debug)]
pub(super) struct Handling {
    /// When the receiver acts, if it does.
    pub acts_after: Option<Duration>,
    /// When the daemon learns what came of it.
    pub ends_after: Duration,
    /// What it learns.
    pub result: Attempt,
}

impl Receiver {
    /// The receiver with this number.
    pub fn new(sink: usize, batch: usize, route: SimulatedRoute) -> Self {
        Self {
            stub: Stub {
                name: format!("sink{sink}"),
                batch,
            },
            faults: Faults::default(),
            route,
            next_route: route,
            was_routed: false,
            beliefs: BTreeMap::new(),
            attempts: 0,
        }
    }

    /// A daemon starts: it knows the newest route.
    pub fn take_route(&mut self) {
        self.route = self.next_route;
        self.was_routed |= self.route != SimulatedRoute::EVERYTHING;
    }

    /// Decides what becomes of an attempt that starts now.
    pub fn handling(&mut self, events: &[Event], now: Duration, dice: Dice) -> Handling {
        self.attempts += 1;
        let first = events.first().map_or(0, |event| event.position);
        let mut random = dice.roll(&self.stub.name, &[first, self.attempts]);
        let usual = Duration::from_millis(random.random_range(1..80));
        let mut handling = Handling {
            acts_after: Some(usual.mul_f64(random.random())),
            ends_after: usual,
            result: Attempt::Delivered,
        };
        let failed = |retry_after| Attempt::Failed {
            reason: "simulated".into(),
            retry_after,
            gone: false,
        };
        // Each fault has subjects of its own, the same ones as long as it lasts.
        let some = |number: u64| {
            let is_one = |event: &Event| {
                let subject = event.subject_key();
                dice.roll(&subject, &[number]).random_bool(0.4)
            };
            events.iter().any(is_one)
        };
        for (number, fault) in self.faults.at(now) {
            match fault {
                SinkFault::Down => {
                    handling.acts_after = None;
                    handling.result = Attempt::unreachable("simulated");
                }
                SinkFault::Unknown if random.random_bool(0.7) => handling.result = failed(None),
                SinkFault::Late if random.random_bool(0.7) => {
                    let late = Duration::from_secs_f64(random.random_range(0.1..40.0));
                    handling.acts_after = handling.acts_after.map(|_| handling.ends_after + late);
                    handling.result = failed(None);
                }
                SinkFault::Slow => {
                    let more = Duration::from_secs_f64(random.random_range(0.1..15.0));
                    handling.ends_after += more;
                    handling.acts_after = handling.acts_after.map(|acts| acts + more.mul_f64(0.7));
                }
                SinkFault::Busy if random.random_bool(0.5) => {
                    handling.acts_after = None;
                    let wait = random.random_bool(0.5).then(|| Duration::from_secs(3));
                    handling.result = failed(wait);
                }
                SinkFault::HangsForSome if some(number) => {
                    handling.acts_after = handling.acts_after.filter(|_| random.random_bool(0.5));
                    handling.ends_after = HANGS;
                    handling.result = failed(None);
                }
                SinkFault::Gone | SinkFault::GoneForSome
                    if matches!(fault, SinkFault::Gone) || some(number) =>
                {
                    handling.acts_after = None;
                    handling.result = Attempt::Failed {
                        reason: "simulated".into(),
                        retry_after: None,
                        gone: true,
                    };
                }
                _ => {}
            }
        }
        handling
    }

    /// An event arrives. What is older than what it obeyed last it drops, as a
    /// controller does.
    pub fn act(&mut self, event: &Event) {
        if event.family() != "site" {
            return;
        }
        let obeyed = self.beliefs.get(&event.subject);
        if obeyed.is_none_or(|obeyed| event.sequence >= obeyed.sequence) {
            let site = Arc::clone(&event.subject);
            self.beliefs.insert(site, event.clone());
        }
    }

    /// The command for the site that it obeyed last.
    pub fn obeyed(&self, site: &str) -> Option<&Event> {
        self.beliefs.get(site)
    }

    /// Whether it takes the site for curtailed.
    pub fn curtails(&self, site: &str) -> bool {
        self.beliefs.get(site).is_some_and(curtails)
    }

    /// The commands by which it takes sites for curtailed.
    pub fn curtailed(&self) -> impl Iterator<Item = &Event> {
        self.beliefs.values().filter(|event| curtails(event))
    }
}

fn curtails(event: &Event) -> bool {
    &*event.event_type != "site.release"
}

/// What the daemon needs to know of a receiver at its start.
#[derive(Debug)]
pub(super) struct Stub {
    name: String,
    batch: usize,
}

impl Sink for Stub {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch(&self) -> usize {
        self.batch
    }

    /// Never called: attempts are effects of the coordinator.
    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(ready(Attempt::failed("simulated")))
    }
}
