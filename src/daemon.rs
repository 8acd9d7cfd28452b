//! The daemon: everything put together, and taken apart in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, StatePath};
use crate::delivery::sinks::{SinkBuildError, SinkContext, wall_clock};
use crate::delivery::{Sink, restore};
use crate::engine::Rules;
use crate::http::{Bounds, serve};
use crate::listener::{Listener, Peers, Traffic};
use crate::registration::Registration;
use crate::status::{EventStream, Guard, Status};
use crate::store::{
    Closed, MemoryStore, OpenError, SqliteStore, Store, StoreError, StoreHandle, StoreReader,
    Stored,
};
use crate::sync::{Driver, DriverError, Machine, Settings};
use crate::voltus::{Admin, Client, ClientError, ClientSettings};

/// How long requests that are under way may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the state file holds cannot be used.
    #[error("--state {path}: {source}")]
    Stored {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A listener got no address.
    #[error(
        "{option} {address}: cannot listen there: {source}; choose another address, or stop what uses it"
    )]
    Bind {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The client of the API could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A sink could not be made.
    #[error("--sink: {0}")]
    Sink(#[from] SinkBuildError),
    /// The system refused something.
    #[error("the system gives no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The engine's task ended.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A listener's task ended.
    #[error("the task of {0} ended, so nothing can be relied on")]
    Task(&'static str),
}

impl DaemonError {
    /// Whether the operator must change something before another try.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Stored { .. } | Self::Sink(_))
    }
}

/// A daemon that is running.
pub struct Daemon {
    listen: SocketAddr,
    status_listen: SocketAddr,
    stop_listeners: CancellationToken,
    stop_driver: CancellationToken,
    stop_sinks: CancellationToken,
    webhooks: JoinHandle<()>,
    status: JoinHandle<()>,
    driver: JoinHandle<Result<(), DriverError>>,
    /// Keeps the webhook registered, if that is asked for.
    registration: Option<JoinHandle<()>>,
    sink_tasks: TaskTracker,
    closed: Closed,
}

impl Daemon {
    /// Starts the daemon. Both listeners are bound when this returns.
    ///
    /// # Errors
    /// When the state cannot be used, an address is taken, or the system
    /// refuses something.
    pub async fn start(config: &Config) -> Result<Self, DaemonError> {
        let clock = SystemClock::new();
        let mut kept = Kept::open(config)?;
        let stored = kept.load(config)?;
        let listen = bind("--listen", config.listen).await?;
        let status_listen = bind("--status-listen", config.status_listen).await?;
        let api_settings = ClientSettings {
            base: config.api_url.clone(),
            version: config.api_version.clone(),
            max_body: config.api_max_body,
        };
        let api = Client::new(&api_settings, Arc::clone(&config.api_key), clock)?;
        let signals = api.signals();
        let registration = match &config.public_url {
            Some(url) => {
                let admin = Admin::new(&api_settings, Arc::clone(&config.api_key), clock)?;
                let seed = rand::random();
                Some(Registration::new(admin, url.clone(), clock, seed))
            }
            None => None,
        };
        let sink_tasks = TaskTracker::new();
        let stop_sinks = CancellationToken::new();
        let context = SinkContext {
            clock: wall_clock(Arc::new(clock)),
            tasks: sink_tasks.clone(),
            stop: stop_sinks.clone(),
        };
        let sinks = config
            .sinks
            .iter()
            .filter(|spec| !spec.is_none())
            .map(|spec| spec.build(&context))
            .collect::<Result<Vec<Arc<dyn Sink>>, _>>()?;
        let now = clock.now();
        let store_id = Arc::clone(&stored.id);
        let outboxes = kept
            .restore(&sinks, &stored, now)
            .map_err(|source| stored_error(config, source))?;
        let machine = Machine::new(settings(config), stored, outboxes, now, rand::random());
        let (closed, store) = kept.start().map_err(|source| DaemonError::System {
            what: "thread",
            source,
        })?;
        let driver = Driver::new(machine, api, store.clone(), sinks, clock);

        let traffic = Arc::new(Traffic::default());
        let registration = registration.map(|registration| registration.within(driver.inbox()));
        let listener = Listener {
            inbox: driver.inbox(),
            secret: config.webhook_secret.clone(),
            peers: Arc::new(Peers::new(config.peer_rate, config.trust_forwarded_for)),
            traffic: Arc::clone(&traffic),
            clock,
        };
        let status_address = local(&status_listen)?;
        let stop_listeners = CancellationToken::new();
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
            traffic,
            timings: driver.timings(),
            signals,
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
            webhooks: tasks.spawn(serve(
                listen,
                warp::service(listener.routes()),
                Bounds::default(),
                stop_listeners.clone(),
            )),
            status: tasks.spawn(serve(
                status_listen,
                warp::service(status.routes(guard)),
                Bounds::default(),
                stop_listeners.clone(),
            )),
            driver: tasks.spawn(driver.run(stop_driver.clone())),
            // Behind the listener, which the API asks before it registers it.
            registration: registration
                .map(|registration| tasks.spawn(registration.run(stop_listeners.clone()))),
            stop_listeners,
            stop_driver,
            stop_sinks,
            sink_tasks,
            closed,
        })
    }

    /// Where webhooks come in.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the status is asked for.
    pub fn status_listen(&self) -> SocketAddr {
        self.status_listen
    }

    /// Runs until `stop`, and then takes everything apart: no new requests,
    /// those under way are answered, what is being written is written. No site
    /// is commanded.
    ///
    /// # Errors
    /// When a part of it ended by itself.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = &mut self.driver => return Err(driver_ended(ended)),
            _ = &mut self.webhooks => Err(DaemonError::Task("the webhook listener")),
            _ = &mut self.status => Err(DaemonError::Task("the status listener")),
            () = ended(&mut self.registration) => Err(DaemonError::Task("the webhook's registration")),
        };
        tracing::info!("stopping: answering what is under way");
        self.stop_listeners.cancel();
        if ended.is_ok() {
            let drained = async {
                // A listener that dies now was to end anyway.
                let _ = tokio::join!(&mut self.webhooks, &mut self.status);
            };
            if tokio::time::timeout(DRAIN, drained).await.is_err() {
                tracing::warn!("some requests took too long and are cut off");
            }
        }
        self.webhooks.abort();
        self.status.abort();
        if let Some(registration) = &self.registration {
            registration.abort();
        }
        self.stop_driver.cancel();
        let driver = self.driver.await;
        self.stop_sinks.cancel();
        self.sink_tasks.close();
        if tokio::time::timeout(DRAIN, self.sink_tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("a sink did not end in time");
        }
        ended?;
        match driver {
            Ok(Ok(())) => {}
            other => return Err(driver_ended(other)),
        }
        if tokio::time::timeout(DRAIN, self.closed.wait())
            .await
            .is_err()
        {
            tracing::warn!("the state file is still being written; what was promised is on disk");
        }
        tracing::info!("stopped; everything is on disk, and no site was commanded");
        Ok(())
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

fn driver_ended(ended: Result<Result<(), DriverError>, JoinError>) -> DaemonError {
    match ended {
        Ok(Ok(())) => DaemonError::Task("the engine"),
        Ok(Err(error)) => error.into(),
        Err(error) => DriverError::Task(error).into(),
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
        },
    }
}

async fn bind(option: &'static str, address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| DaemonError::Bind {
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

fn stored_error(config: &Config, source: StoreError) -> DaemonError {
    let path = match &config.state {
        StatePath::Memory => PathBuf::from(":memory:"),
        StatePath::File(path) => path.clone(),
    };
    DaemonError::Stored { path, source }
}

/// The store of either kind, before its threads are started.
enum Kept {
    Memory(MemoryStore),
    File(SqliteStore),
}

impl Kept {
    fn open(config: &Config) -> Result<Self, DaemonError> {
        Ok(match &config.state {
            StatePath::Memory => {
                let id = format!("{:016x}", rand::random::<u64>());
                Self::Memory(MemoryStore::new(&id))
            }
            StatePath::File(path) => Self::File(SqliteStore::open(path, &config.origin())?),
        })
    }

    fn load(&mut self, config: &Config) -> Result<Stored, DaemonError> {
        match self {
            Self::Memory(store) => store.load(),
            Self::File(store) => store.load(),
        }
        .map_err(|source| stored_error(config, source))
    }

    fn restore(
        &self,
        sinks: &[Arc<dyn Sink>],
        stored: &Stored,
        now: crate::clock::Now,
    ) -> Result<Vec<crate::delivery::Outbox>, StoreError> {
        let reader: &mut dyn StoreReader = match self {
            Self::Memory(store) => &mut store.clone(),
            Self::File(store) => &mut store.reader()?,
        };
        restore(sinks.iter().map(|sink| &**sink), stored, reader, now)
    }

    fn start(self) -> std::io::Result<(Closed, StoreHandle)> {
        match self {
            Self::Memory(store) => StoreHandle::start(store.clone(), store),
            Self::File(store) => {
                let reader = store.reader().map_err(std::io::Error::other)?;
                StoreHandle::start(store, reader)
            }
        }
    }
}
