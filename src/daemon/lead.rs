//! What a daemon has while it leads: everything that decides, asks and commands. Where no
//! other daemon shares the store, it leads from its start to its end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::base::{Base, Leads};
use super::engine_thread::{Ended, EngineThread, no_thread};
use super::kept::{Kept, stored_error};
use super::{DaemonError, Loaded};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::delivery::Sink;
use crate::delivery::sinks::{HttpClients, SinkContext, SinkSpec, wall_clock};
use crate::engine::{CHUNK, Rules};
use crate::http::Endpoint;
use crate::inventory::InventoryKeeper;
use crate::listener::Listener;
use crate::model::Route;
use crate::registration::Registration;
use crate::status::{EventStream, Identity, LeaseView, LongAnswers, Routing, Status};
use crate::store::Closed;
use crate::sync::{Coordinator, Driver, FirstPoll, Inbox, Settings, Turns, View};
use crate::trust::Trust;
use crate::voltus::{Admin, Client, ClientSettings, Environment, Signals};

/// Long answers of the status listener at once. With 100,000 sites each holds
/// 30 MB until its client has read it.
const LONG_ANSWERS: usize = 8;

/// Scrapes of the metrics at once, where the sites are many.
const SCRAPES: usize = 2;

/// How long sinks may take to close their connections.
pub(super) const SINK_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the store may take to close when another daemon leads.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a leader has that shares its store with other daemons.
pub(super) struct Sharing {
    /// It acts while there is trust.
    pub trust: Trust,
    /// Where each turn of the driver is noted.
    pub turns: Arc<Turns>,
    pub lease: LeaseView,
    /// The state could not be loaded the last time. Then the API is asked only once it is:
    /// each try would be a request that counts in no budget (rule R9).
    pub loads_again: bool,
}

/// The parts of a daemon that leads.
pub(super) struct Lead {
    /// `None` once it has ended.
    pub driver: Option<Ended>,
    /// Tells the driver to end what is under way, and then to end.
    pub stop_driver: CancellationToken,
    /// Tells it to break everything off.
    step_down: CancellationToken,
    pub stop_sinks: CancellationToken,
    /// Ends answers that have no end.
    pub stop_streams: CancellationToken,
    /// Keeps the webhook registered, if that is asked for.
    pub registration: Option<JoinHandle<()>>,
    /// Asks which sites are enrolled.
    pub inventory: JoinHandle<()>,
    pub sink_tasks: TaskTracker,
    pub closed: Closed,
    pub loaded: Loaded,
    pub view: watch::Receiver<View>,
    pub inbox: Inbox,
    /// What the listeners answer, until that is handed to them. It keeps the store open.
    routes: Option<Routes>,
}

/// What the listeners answer.
pub(super) struct Routes {
    pub webhooks: Endpoint,
    pub status: Endpoint,
}

impl Lead {
    /// Builds and starts everything on an open store.
    pub fn start(
        base: &Base,
        mut kept: Kept,
        sharing: Option<Sharing>,
    ) -> Result<Self, DaemonError> {
        let shared = sharing.as_ref();
        let trust = shared.map_or_else(Trust::endless, |sharing| sharing.trust.clone());
        let (config, clock) = (&*base.config, base.clock);
        let engine = EngineThread::start()?;
        let begin = || Asking::begin(base, engine.runtime());
        let (asking, mut stored) = match shared.is_some_and(|sharing| sharing.loads_again) {
            true => {
                let stored = kept.load(config)?;
                (begin()?, stored)
            }
            // The API answers while the state is loaded.
            false => thread::scope(|scope| {
                let asking = thread::Builder::new().name("clients".into());
                let asking = asking.spawn_scoped(scope, begin).map_err(no_thread)?;
                let stored = kept.load(config)?;
                let asking = asking.join();
                let asking = asking.map_err(|_| DaemonError::Task("the API's client"))??;
                Ok::<_, DaemonError>((asking, stored))
            })?,
        };
        kept.forget_sinks(config, &mut stored)?;
        let loaded = Loaded::of(&stored);
        let stop_sinks = CancellationToken::new();
        let (sink_tasks, sinks) = sinks(config, clock, trust.clone(), stop_sinks.clone())?;
        let now = clock.now();
        let store_id = Arc::clone(&stored.id);
        let routes = config.receiving_sinks().map(SinkSpec::route);
        let receivers = sinks.iter().map(|sink| &**sink).zip(routes);
        let outboxes = kept
            .restore(receivers, &stored, now)
            .map_err(|source| stored_error(config, source))?;
        let mut coordinator =
            Coordinator::new(settings(config), stored, outboxes, now, rand::random());
        let left_out: Vec<Route> = left_out(config).cloned().collect();
        coordinator.leave_out(left_out.clone());
        let kept_secret = kept.secret();
        let (closed, store) = kept.start().map_err(no_thread)?;
        let mut driver =
            Driver::new(coordinator, asking.first_poll, store.clone(), sinks).with_trust(trust);
        if let Some(sharing) = &sharing {
            driver = driver.with_turns(Arc::clone(&sharing.turns));
        }

        let registration = asking
            .registration
            .map(|registration| registration.within(driver.inbox(), driver.timings()));
        // A site that is routed to `none` is left out on purpose.
        let site_routes = config.sinks.iter().map(SinkSpec::sink_route);
        let inventory = InventoryKeeper::new(
            asking.inventory,
            driver.inbox(),
            driver.timings(),
            site_routes.collect(),
            clock,
            rand::random(),
        );
        let listener = Listener {
            inbox: driver.inbox(),
            secret: config.webhook_secret.clone(),
            store_secret: kept_secret,
            peers: Arc::clone(&base.peers),
            traffic: Arc::clone(&base.traffic),
            tracer: base.tracer.clone(),
            clock,
        };
        let view = driver.view();
        let stop_streams = base.stop_listeners.child_token();
        let status = Status {
            view: driver.view(),
            inbox: driver.inbox(),
            events: EventStream::new(
                store_id,
                store.clone(),
                driver.view(),
                driver.events(),
                stop_streams.clone(),
            ),
            store,
            traffic: Arc::clone(&base.traffic),
            listeners: base.places.clone(),
            timings: driver.timings(),
            signals: asking.signals,
            long: LongAnswers::new(LONG_ANSWERS),
            scrapes: LongAnswers::new(SCRAPES),
            identity: identity(config),
            routing: Arc::new(Routing::new(
                config.receiving_sinks().map(SinkSpec::sink_route).collect(),
                left_out,
                config.curtail_on_test,
            )),
            inventory: inventory.inventory(),
            inventory_wanted: inventory.wanted(),
            lease: sharing.map(|sharing| sharing.lease),
            tracer: base.tracer.clone(),
            started_at: base.started_at,
            clock,
        };
        let inbox = driver.inbox();
        let (stop_driver, step_down) = (CancellationToken::new(), driver.step_down());
        let tasks = TaskTracker::new();
        Ok(Self {
            driver: Some(engine.run(driver, stop_driver.clone())),
            // Behind the listener, which the API asks before it registers it.
            registration: registration
                .map(|registration| tasks.spawn(registration.run(stop_streams.clone()))),
            inventory: tasks.spawn(inventory.run(stop_streams.clone())),
            stop_driver,
            step_down,
            stop_sinks,
            stop_streams,
            sink_tasks,
            closed,
            loaded,
            view,
            inbox,
            routes: Some(Routes {
                webhooks: listener.routes(),
                status: status.routes(base.guard.clone()),
            }),
        })
    }

    /// Whom to ask while it leads.
    pub fn leads(&self) -> Leads {
        Leads {
            view: self.view.clone(),
            inbox: self.inbox.clone(),
        }
    }

    /// What the listeners are to answer from now on. To be asked for once.
    pub fn take_routes(&mut self) -> Option<Routes> {
        self.routes.take()
    }

    /// Runs until a part of it ends by itself, and says why.
    pub async fn ended(&mut self) -> DaemonError {
        tokio::select! {
            ended = of_driver(&mut self.driver) => driver_ended(ended),
            _ = &mut self.inventory => DaemonError::Task("the inventory"),
            () = ended(&mut self.registration) => DaemonError::Task("the webhook's registration"),
        }
    }

    /// Another daemon leads: everything is broken off, programs with their process groups,
    /// and connections are closed. When this returns nothing of it runs any more that could
    /// still send.
    pub async fn step_down(mut self) {
        self.step_down.cancel();
        self.routes = None;
        self.stop_streams.cancel();
        self.stop_sinks.cancel();
        if let Some(registration) = &self.registration {
            registration.abort();
        }
        self.inventory.abort();
        if let Some(driver) = self.driver.take() {
            // However it ends, it has ended.
            let _ = driver.await;
        }
        self.sink_tasks.close();
        if timeout(SINK_TIMEOUT, self.sink_tasks.wait()).await.is_err() {
            tracing::warn!("a sink did not close its connection in time");
        }
        if timeout(CLOSE_TIMEOUT, self.closed.wait()).await.is_err() {
            tracing::warn!("the connection to the database is still being closed");
        }
    }
}

/// The sinks, and the tasks that keep their connections.
fn sinks(
    config: &Config,
    clock: SystemClock,
    trust: Trust,
    stop: CancellationToken,
) -> Result<(TaskTracker, Vec<Arc<dyn Sink>>), DaemonError> {
    let tasks = TaskTracker::new();
    let context = SinkContext {
        clock: wall_clock(Arc::new(clock)),
        tasks: tasks.clone(),
        stop,
        trust,
        http: HttpClients::default(),
    };
    let sinks = config.receiving_sinks().map(|spec| spec.build(&context));
    Ok((tasks, sinks.collect::<Result<_, _>>()?))
}

/// What asks the API. Each of its clients reads the system's certificates, which takes time.
struct Asking {
    first_poll: FirstPoll<Client<SystemClock>, SystemClock>,
    signals: Arc<Signals>,
    inventory: Admin<SystemClock>,
    registration: Option<Registration<SystemClock>>,
}

impl Asking {
    /// Asks for the list in `runtime`, and builds the rest.
    fn begin(base: &Base, runtime: &Handle) -> Result<Self, DaemonError> {
        let (config, clock) = (&*base.config, base.clock);
        let settings = api_settings(config);
        let key = || Arc::clone(&config.api_key);
        let api = Client::new(&settings, key(), clock)?;
        let signals = api.signals();
        let first_poll = FirstPoll::issue(api, clock, base.tracer.clone(), runtime);
        let registration = base.wanted.as_ref().map(|wanted| {
            let admin = Admin::new(&settings, key(), clock)?;
            let registration = Registration::new(admin, wanted.clone(), clock, rand::random());
            Ok::<_, DaemonError>(registration)
        });
        Ok(Self {
            first_poll,
            signals,
            inventory: Admin::new(&settings, key(), clock)?,
            registration: registration.transpose()?,
        })
    }
}

/// Returns when the driver has ended, and never if that is known already.
async fn of_driver(driver: &mut Option<Ended>) -> Result<Result<(), DaemonError>, RecvError> {
    let ended = match driver {
        Some(driver) => driver.await,
        None => std::future::pending().await,
    };
    *driver = None;
    ended
}

/// Returns when the task has ended, and never if there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}

pub(super) fn driver_ended(ended: Result<Result<(), DaemonError>, RecvError>) -> DaemonError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => DaemonError::Task("the engine"),
    }
}

/// How the API is asked.
pub(super) fn api_settings(config: &Config) -> ClientSettings {
    ClientSettings {
        base: config.api_url.clone(),
        version: config.api_version.clone(),
        max_body: config.api_max_body,
    }
}

/// Which daemon this is, and whom it follows.
pub(super) fn identity(config: &Config) -> Identity {
    Identity {
        node: config.node.as_str().into(),
        api_host: api_host(&config.api_url).into(),
        environment: Environment::of(&config.api_url),
    }
}

/// The host of the API, with its port if that is not the usual one.
fn api_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The routes of sites that are told nothing on purpose.
fn left_out(config: &Config) -> impl Iterator<Item = &Route> {
    let none = config.sinks.iter().filter(|sink| sink.is_none());
    none.map(SinkSpec::route)
}

fn settings(config: &Config) -> Settings {
    Settings {
        poll_interval: config.poll_interval,
        webhook_deadline: config.webhook_deadline,
        api_rate: config.api_rate,
        rules: Rules {
            retain: config.retain,
            pre_curtail: config.pre_curtail,
            curtail_on_test: config.curtail_on_test,
            chunk: CHUNK,
        },
    }
}
