//! Builds all parts of the daemon, runs them, and stops them in order.

mod engine_thread;
mod error;
mod kept;
mod lease_keeper;
mod reload;
mod shield;
mod stop;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, StatePath};
use crate::delivery::Sink;
use crate::delivery::sinks::{SinkContext, SinkSpec, wall_clock};
use crate::engine::{CHUNK, Rules};
use crate::http::{Bounds, Places, listen, serve_at};
use crate::inventory::InventoryKeeper;
use crate::listener::{Listener, Peers, Traffic};
use crate::model::{Entry, Phase, Route, SiteMode, SiteState};
use crate::registration::Registration;
use crate::status::{EventStream, Guard, Identity, LongAnswers, Routing, Status};
use crate::store::{Closed, Stored};
use crate::sync::{Coordinator, Driver, Settings, View};
use crate::trust::Trust;
use crate::voltus::{Admin, Client, ClientSettings, Environment};

pub use error::{DaemonError, GoneSink, GoneSinks, cannot_listen};
pub use kept::gone_sinks;
use kept::{Kept, stored_error};
pub use lease_keeper::{LeaseKeeper, Participant};
pub use reload::Reload;
pub use shield::shield_secrets;

/// Long answers of the status listener at once. With 100,000 sites each holds
/// 30 MB until its client has read it.
const LONG_ANSWERS: usize = 8;

/// Scrapes of the metrics at once, where the sites are many.
const SCRAPES: usize = 2;

/// A daemon that is running.
pub struct Daemon {
    listen: SocketAddr,
    status_listen: SocketAddr,
    stop_listeners: CancellationToken,
    stop_driver: CancellationToken,
    stop_sinks: CancellationToken,
    webhooks: JoinHandle<()>,
    status: JoinHandle<()>,
    driver: engine_thread::Ended,
    /// Keeps the webhook registered, if that is asked for.
    registration: Option<JoinHandle<()>>,
    /// Asks which sites are enrolled.
    inventory: JoinHandle<()>,
    sink_tasks: TaskTracker,
    closed: Closed,
    /// Nothing is kept: what is not delivered at the end never is.
    in_memory: bool,
    traffic: Arc<Traffic>,
    loaded: Loaded,
    view: watch::Receiver<View>,
    reload: Reload,
}

/// What the state held at the start.
#[derive(Debug, Clone, Copy)]
pub struct Loaded {
    /// Dispatches of all phases.
    pub dispatches: usize,
    /// Those of them that were active.
    pub active: usize,
    /// Sites that were curtailed.
    pub curtailed: usize,
}

impl Loaded {
    fn of(stored: &Stored) -> Self {
        let active = |entry: &&Entry| entry.phase == Phase::Active;
        let curtailed = |site: &&SiteState| site.state == SiteMode::Curtailed;
        Self {
            dispatches: stored.entries.len(),
            active: stored.entries.iter().filter(active).count(),
            curtailed: stored.sites.iter().filter(curtailed).count(),
        }
    }
}

impl Daemon {
    /// Starts the daemon. Both listeners are bound when this returns.
    ///
    /// # Errors
    /// When the state cannot be used, an address is taken, or the system
    /// refuses something.
    pub async fn start(config: &Config) -> Result<Self, DaemonError> {
        let clock = SystemClock::new();
        let mut kept = Kept::open(config, clock.now().wall)?;
        let mut stored = kept.load(config)?;
        kept.forget_sinks(config, &mut stored)?;
        let loaded = Loaded::of(&stored);
        let listen = bind("--listen", config.listen)?;
        let status_listen = bind("--status-listen", config.status_listen)?;
        let api_settings = ClientSettings {
            base: config.api_url.clone(),
            version: config.api_version.clone(),
            max_body: config.api_max_body,
        };
        let api = Client::new(&api_settings, Arc::clone(&config.api_key), clock)?;
        let signals = api.signals();
        let (wanted, registration) = match &config.public_url {
            Some(url) => {
                let admin = Admin::new(&api_settings, Arc::clone(&config.api_key), clock)?;
                let (sender, wanted) = watch::channel(url.url().clone());
                let registration = Registration::new(admin, wanted, clock, rand::random());
                (Some(sender), Some(registration))
            }
            None => (None, None),
        };
        let sink_tasks = TaskTracker::new();
        let stop_sinks = CancellationToken::new();
        let context = SinkContext {
            clock: wall_clock(Arc::new(clock)),
            trust: Trust::endless(),
            tasks: sink_tasks.clone(),
            stop: stop_sinks.clone(),
        };
        let sinks = config
            .receiving_sinks()
            .map(|spec| spec.build(&context))
            .collect::<Result<Vec<Arc<dyn Sink>>, _>>()?;
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
        let (closed, store) = kept.start().map_err(|source| DaemonError::System {
            what: "thread",
            source,
        })?;
        let driver = Driver::new(coordinator, api, store.clone(), sinks, clock);

        let traffic = Arc::new(Traffic::default());
        let registration =
            registration.map(|registration| registration.within(driver.inbox(), driver.timings()));
        // A site that is routed to `none` is left out on purpose.
        let site_routes = config.sinks.iter().map(SinkSpec::sink_route);
        let inventory = InventoryKeeper::new(
            Admin::new(&api_settings, Arc::clone(&config.api_key), clock)?,
            driver.inbox(),
            driver.timings(),
            site_routes.collect(),
            clock,
            rand::random(),
        );
        let listener = Listener {
            inbox: driver.inbox(),
            secret: config.webhook_secret.clone(),
            store_secret: None,
            peers: Arc::new(Peers::new(config.peer_rate, config.trust_forwarded_for)),
            traffic: Arc::clone(&traffic),
            clock,
        };
        let reload = Reload::new(config, wanted, driver.inbox());
        let view = driver.view();
        let status_address = local(&status_listen)?;
        let stop_listeners = CancellationToken::new();
        let webhook_places = places("webhooks", config.trust_forwarded_for);
        let status_places = places("status", config.trust_forwarded_for);
        let status = Status {
            view: driver.view(),
            inbox: driver.inbox(),
            events: EventStream::new(
                store_id,
                store.clone(),
                driver.view(),
                driver.events(),
                stop_listeners.clone(),
            ),
            store,
            traffic: Arc::clone(&traffic),
            listeners: [Arc::clone(&webhook_places), Arc::clone(&status_places)],
            timings: driver.timings(),
            signals,
            long: LongAnswers::new(LONG_ANSWERS),
            scrapes: LongAnswers::new(SCRAPES),
            identity: Identity {
                node: config.node.as_str().into(),
                api_host: api_host(&config.api_url).into(),
                environment: Environment::of(&config.api_url),
            },
            routing: Arc::new(Routing::new(
                config.receiving_sinks().map(SinkSpec::sink_route).collect(),
                left_out,
                config.curtail_on_test,
            )),
            inventory: inventory.inventory(),
            inventory_wanted: inventory.wanted(),
            lease: None,
            started_at: now.wall,
            clock,
        };
        let guard = Guard::new(
            status_address,
            &config.status_hosts,
            config.status_token.clone(),
        );
        let stop_driver = CancellationToken::new();
        let tasks = TaskTracker::new();
        Ok(Self {
            listen: local(&listen)?,
            status_listen: status_address,
            webhooks: tasks.spawn(serve_at(
                listen,
                warp::service(listener.routes()),
                webhook_places,
                stop_listeners.clone(),
            )),
            status: tasks.spawn(serve_at(
                status_listen,
                warp::service(status.routes(guard)),
                status_places,
                stop_listeners.clone(),
            )),
            driver: engine_thread::start(driver, stop_driver.clone())?,
            // Behind the listener, which the API asks before it registers it.
            registration: registration
                .map(|registration| tasks.spawn(registration.run(stop_listeners.clone()))),
            inventory: tasks.spawn(inventory.run(stop_listeners.clone())),
            stop_listeners,
            stop_driver,
            stop_sinks,
            sink_tasks,
            closed,
            in_memory: config.state == StatePath::Memory,
            traffic,
            loaded,
            view,
            reload,
        })
    }

    /// What the state held at the start.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Where webhooks come in.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the status is asked for.
    pub fn status_listen(&self) -> SocketAddr {
        self.status_listen
    }

    /// What reads key and secrets again while this runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// How the coordinator is doing. Updated after every iteration of the driver loop.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Runs until `stop`, and then takes everything apart within ten seconds,
    /// whatever hangs: nothing new is begun, requests under way are answered,
    /// what is being delivered is delivered, what is being written is written.
    /// No site is commanded.
    ///
    /// # Errors
    /// When a part of it ended by itself.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = &mut self.driver => return Err(driver_ended(ended)),
            _ = &mut self.webhooks => Err(DaemonError::Task("the webhook listener")),
            _ = &mut self.status => Err(DaemonError::Task("the status listener")),
            _ = &mut self.inventory => Err(DaemonError::Task("the inventory")),
            () = ended(&mut self.registration) => Err(DaemonError::Task("the webhook's registration")),
        };
        stop::take_apart(self, ended).await
    }
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

fn driver_ended(ended: Result<Result<(), DaemonError>, RecvError>) -> DaemonError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => DaemonError::Task("the engine"),
    }
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

/// The places of a listener. A proxy in front is one peer for all it stands for,
/// and bounds them itself: it may have all places.
fn places(name: &'static str, behind_proxy: bool) -> Arc<Places> {
    let mut bounds = Bounds {
        name,
        ..Bounds::default()
    };
    if behind_proxy {
        bounds.per_peer = bounds.connections;
    }
    Places::new(bounds)
}

fn bind(option: &'static str, address: SocketAddr) -> Result<TcpListener, DaemonError> {
    listen(address).map_err(|source| DaemonError::Bind {
        option,
        address,
        source,
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, DaemonError> {
    listener.local_addr().map_err(|source| DaemonError::System {
        what: "address of a listener",
        source,
    })
}
