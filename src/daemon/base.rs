//! What a daemon has as long as its process runs, whether it leads or not.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http::{Bounds, Places};
use crate::listener::{Peers, Traffic};
use crate::status::Guard;
use crate::sync::{Inbox, View};
use crate::trace::Tracer;
use crate::voltus::WebhookUrl;

/// What a daemon has as long as its process runs.
pub(super) struct Base {
    pub config: Arc<Config>,
    pub clock: SystemClock,
    pub started_at: DateTime<Utc>,
    /// Counts webhooks.
    pub traffic: Arc<Traffic>,
    pub peers: Arc<Peers>,
    /// Who is connected to the webhook listener, and to the status listener.
    pub places: [Arc<Places>; 2],
    pub guard: Guard,
    /// The URL to keep registered, as it is read again.
    pub wanted: Option<watch::Receiver<WebhookUrl>>,
    /// Ends both listeners.
    pub stop_listeners: CancellationToken,
    /// Whom to ask while this daemon leads.
    pub leads: watch::Sender<Option<Leads>>,
    /// Opens spans, if they go anywhere.
    pub tracer: Tracer,
}

/// Whom to ask while a daemon leads.
#[derive(Debug, Clone)]
pub struct Leads {
    /// How the coordinator is doing. Updated after every iteration of the driver loop.
    pub view: watch::Receiver<View>,
    /// Where polls are asked for.
    pub(super) inbox: Inbox,
}

impl Base {
    pub fn new(
        config: Arc<Config>,
        clock: SystemClock,
        status_address: SocketAddr,
        wanted: Option<watch::Receiver<WebhookUrl>>,
        tracer: Tracer,
    ) -> Self {
        Self {
            started_at: clock.now().wall,
            traffic: Arc::default(),
            peers: Arc::new(Peers::new(config.peer_rate, config.trust_forwarded_for)),
            places: ["webhooks", "status"].map(|name| places(name, config.trust_forwarded_for)),
            guard: Guard::new(
                status_address,
                &config.status_hosts,
                config.status_token.clone(),
            ),
            wanted,
            stop_listeners: CancellationToken::new(),
            leads: watch::Sender::new(None),
            tracer,
            clock,
            config,
        }
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
