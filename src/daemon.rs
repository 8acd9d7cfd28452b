//! Builds all parts of the daemon, runs them, and stops them in order.
//!
//! [`Daemon`] has what lives as long as the process: sockets, and what counts for all of
//! it. What decides and commands is in `lead.rs`. Where no other daemon shares the store
//! that is there from the start to the end; else it comes and goes with the lease, as
//! `roles.rs` says.

mod base;
mod candidacy;
mod engine_thread;
mod error;
mod front;
mod kept;
mod lead;
mod lease_keeper;
mod reload;
mod roles;
mod stop;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http::{describe, listen, serve_at};
use crate::model::{Entry, Phase, SiteMode, SiteState, count};
use crate::store::Stored;
use crate::trace::{Exporter, Tracer};

use base::Base;
pub use base::Leads;
use candidacy::Candidacy;
pub use error::{DaemonError, GoneSink, GoneSinks, cannot_listen};
use front::Front;
use kept::Opened;
pub use kept::gone_sinks;
use lead::{Lead, Routes};
pub use lease_keeper::{LeaseKeeper, Participant};
pub use reload::Reload;
use roles::Shared;

/// A daemon that is running.
pub struct Daemon {
    base: Arc<Base>,
    listen: SocketAddr,
    status_listen: SocketAddr,
    webhooks: JoinHandle<()>,
    status: JoinHandle<()>,
    /// What the listeners answer by.
    fronts: Fronts,
    /// `None` while another daemon leads.
    lead: Option<Lead>,
    /// `None` if no other daemon shares the store.
    shared: Option<Shared>,
    reload: Reload,
    /// Sends spans, if they go anywhere.
    exporter: Option<Exporter>,
}

/// The services of both listeners.
#[derive(Clone)]
struct Fronts {
    webhooks: Front,
    status: Front,
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
    /// Whether the last commits may be missing.
    pub commits_lost: bool,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dispatches = count(self.dispatches as u64, "dispatch", "dispatches");
        write!(f, "loaded {dispatches}, {} active", self.active)
    }
}

impl Loaded {
    fn of(stored: &Stored) -> Self {
        let active = |entry: &&Entry| entry.phase == Phase::Active;
        let curtailed = |site: &&SiteState| site.state == SiteMode::Curtailed;
        Self {
            dispatches: stored.entries.len(),
            active: stored.entries.iter().filter(active).count(),
            curtailed: stored.sites.iter().filter(curtailed).count(),
            commits_lost: stored.commits_lost,
        }
    }
}

impl Daemon {
    /// Starts the daemon. Both listeners are bound when this returns.
    ///
    /// # Errors
    /// When the state cannot be used, an address is taken, or the system
    /// refuses something.
    pub async fn start(config: &Arc<Config>) -> Result<Self, DaemonError> {
        let clock = SystemClock::new();
        let opened = kept::open(config, clock.now().wall).await?;
        let listen = bind("--listen", config.listen)?;
        let status_listen = bind("--status-listen", config.status_listen)?;
        let status_address = local(&status_listen)?;
        let (to_register, wanted) = match &config.public_url {
            Some(url) => {
                let (sender, wanted) = watch::channel(url.url().clone());
                (Some(sender), Some(wanted))
            }
            None => (None, None),
        };
        let (tracer, exporter) = tracing_of(config);
        let base = Base::new(Arc::clone(config), clock, status_address, wanted, tracer);
        let base = Arc::new(base);
        let reload = Reload::new(config, to_register, base.leads.subscribe());
        let (lead, shared, routes) = match opened {
            Opened::Alone(kept) => {
                let mut lead = Lead::start(&base, kept, None)?;
                let routes = lead.take_routes();
                (Some(lead), None, routes)
            }
            Opened::Shared { database, gone } => {
                let candidacy = Candidacy::new(&base, &database, gone.as_ref());
                let shared = Shared::join(&base, database, candidacy, local(&listen)?)?;
                let routes = shared.standing_by(&base);
                (None, Some(shared), Some(routes))
            }
        };
        let routes = routes.ok_or(DaemonError::Task("the listeners"))?;
        let fronts = Fronts::new(routes);
        if let Some(lead) = &lead {
            base.leads.send_replace(Some(lead.leads()));
        }
        let tasks = TaskTracker::new();
        let [webhook_places, status_places] = base.places.clone();
        Ok(Self {
            listen: local(&listen)?,
            status_listen: status_address,
            webhooks: tasks.spawn(serve_at(
                listen,
                fronts.webhooks.clone(),
                webhook_places,
                base.stop_listeners.clone(),
            )),
            status: tasks.spawn(serve_at(
                status_listen,
                fronts.status.clone(),
                status_places,
                base.stop_listeners.clone(),
            )),
            base,
            fronts,
            lead,
            shared,
            reload,
            exporter,
        })
    }

    /// What the state held at the start. `None` if this daemon stands by.
    pub fn loaded(&self) -> Option<Loaded> {
        self.lead.as_ref().map(|lead| lead.loaded)
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

    /// Whom to ask while this daemon leads, now and later.
    pub fn leads(&self) -> watch::Receiver<Option<Leads>> {
        self.base.leads.subscribe()
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
            error = Self::lead_ended(
                &self.base, &self.fronts, &mut self.lead, self.shared.as_mut()
            ) => Err(error),
            _ = &mut self.webhooks => Err(DaemonError::Task("the webhook listener")),
            _ = &mut self.status => Err(DaemonError::Task("the status listener")),
        };
        match ended {
            Err(error @ DaemonError::Driver(_)) => Err(error),
            ended => stop::take_apart(self, ended).await,
        }
    }

    /// Runs until a part of a leader has ended by itself. Where daemons share a store,
    /// takes turns with others until then.
    async fn lead_ended(
        base: &Arc<Base>,
        fronts: &Fronts,
        lead: &mut Option<Lead>,
        shared: Option<&mut Shared>,
    ) -> DaemonError {
        match (lead, shared) {
            (lead, Some(shared)) => shared.take_turns(base, fronts, lead).await,
            (Some(lead), None) => lead.ended().await,
            (None, None) => std::future::pending().await,
        }
    }
}

impl Fronts {
    fn new(routes: Routes) -> Self {
        Self {
            webhooks: Front::new(routes.webhooks),
            status: Front::new(routes.status),
        }
    }

    fn set(&self, routes: Routes) {
        self.webhooks.set(routes.webhooks);
        self.status.set(routes.status);
    }
}

/// Begins to send traces, if they go anywhere. What is wrong with that keeps no daemon from
/// its work.
fn tracing_of(config: &Config) -> (Tracer, Option<Exporter>) {
    let started = match &config.traces {
        Ok(None) => return (Tracer::off(), None),
        Ok(Some(settings)) => {
            let started = Tracer::start(settings, &TaskTracker::new());
            started.map_err(describe)
        }
        Err(error) => Err(error.to_string()),
    };
    match started {
        Ok((tracer, exporter)) => (tracer, Some(exporter)),
        Err(reason) => {
            tracing::warn!(reason, "no traces are sent");
            (Tracer::off(), None)
        }
    }
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
