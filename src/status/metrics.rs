//! `GET /metrics`
//!
//! Each part of the daemon keeps its own counts: the machine in the health that
//! it publishes, the driver in its timings, the client in its signals, the
//! listener in its traffic. They know nothing of metrics. Here they are read
//! when somebody scrapes, so a scrape shows one committed state (rule R13), and
//! nothing has to be kept in step.
//!
//! A scrape looks at every site once, so where they are many it is done away from
//! the threads that serve others.

mod delivery;
mod format;
mod inventory;
mod lease;
mod page;
mod process;
mod schedule;
mod sync;
mod traces;

use std::fmt;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use warp::reply::Response;

use super::lease::{Lead, LeaseHealth, LeaseView};
use super::{Routing, Status};
use crate::clock::{Clock, Now};
use crate::http::{Places, refusal};
use crate::inventory::Inventory;
use crate::listener::Traffic;
use crate::seldom::Rarely;
use crate::store::StoreHandle;
use crate::sync::{Taken, View};
use crate::trace::Tracer;
use crate::voltus::Signals;

use format::Format;
use page::Page;
use process::Process;

/// What every name starts with, but those that are the same everywhere.
const PREFIX: &str = "dispatchd";

impl<C: Clock + Clone> Status<C> {
    /// The metrics, in the format that `headers` ask for.
    pub(super) async fn metrics(&self, headers: &HeaderMap) -> Response {
        let format = Format::wanted(headers);
        let scrape = Scrape {
            now: self.clock.now(),
            view: self.view.borrow().clone(),
            traffic: Arc::clone(&self.traffic),
            listeners: self.listeners.clone(),
            taken: self.timings.taken(),
            signals: Arc::clone(&self.signals),
            store: self.store.clone(),
            routing: Arc::clone(&self.routing),
            inventory: Arc::clone(&self.inventory.borrow()),
            lease: self.lease.as_ref().map(|lease| self.lease_now(lease)),
            tracer: self.tracer.clone(),
        };
        let items = scrape.view.plan.len();
        let write = move || written(format, scrape);
        self.scrapes.written(items, write).await
    }

    fn lease_now(&self, lease: &LeaseView) -> (Lead, LeaseHealth) {
        let now = self.clock.now().mono;
        let health = lease.health.borrow().clone();
        (lease.lead(&self.identity.node, now), health)
    }
}

/// What `scrape` shows, in the format that `headers` ask for.
pub(super) fn scraped(headers: &HeaderMap, scrape: impl Collector) -> Response {
    written(Format::wanted(headers), scrape)
}

fn written(format: Format, scrape: impl Collector) -> Response {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process::read()));
    registry
        .sub_registry_with_prefix(PREFIX)
        .register_collector(Box::new(scrape));
    match format.write(&registry) {
        Ok(text) => reply(text, format),
        Err(error) => failed(&error),
    }
}

fn reply(text: String, format: Format) -> Response {
    let mut reply = Response::new(text.into());
    for (name, value) in [
        (CONTENT_TYPE, format.content_type()),
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn failed(error: &dyn fmt::Display) -> Response {
    static LINE: Rarely = Rarely::new();
    if let Some(count) = LINE.count() {
        tracing::error!(%error, count, "the metrics could not be written");
    }
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
}

/// What one scrape shows.
#[derive(Debug)]
struct Scrape {
    now: Now,
    view: View,
    traffic: Arc<Traffic>,
    listeners: [Arc<Places>; 2],
    taken: Taken,
    signals: Arc<Signals>,
    store: StoreHandle,
    routing: Arc<Routing>,
    inventory: Arc<Inventory>,
    lease: Option<(Lead, LeaseHealth)>,
    tracer: Tracer,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        sync::build(&mut page)?;
        sync::health(&mut page, &self.view.health, self.now)?;
        if let Some((lead, health)) = &self.lease {
            lease::lease(&mut page, lead, health, self.now.mono)?;
        }
        sync::webhooks(&mut page, &self.traffic)?;
        sync::connections(&mut page, &self.listeners)?;
        sync::polls(&mut page, &self.view.health)?;
        sync::requests(&mut page, &self.taken, &self.signals)?;
        sync::commits(&mut page, &self.taken)?;
        sync::log(&mut page, self.store.log())?;
        schedule::standing(&mut page, &self.view, self.now.wall)?;
        schedule::doings(&mut page, &self.view.health)?;
        inventory::enrolled(&mut page, &self.inventory, self.now.mono)?;
        let unrouted = self.routing.unrouted(&self.view.schedule);
        traces::spans(&mut page, self.tracer.counts())?;
        delivery::unrouted(&mut page, &unrouted, self.view.health.unrouted_commands)?;
        delivery::sinks(&mut page, &self.view.sinks, self.now.wall)
    }
}

/// What one scrape of a standby shows.
#[derive(Debug)]
pub(super) struct StandbyScrape {
    /// Whether it may take over, as `/readyz` says.
    pub ready: bool,
    pub now: Now,
    pub lead: Lead,
    pub health: LeaseHealth,
    pub traffic: Arc<Traffic>,
    pub listeners: [Arc<Places>; 2],
    pub tracer: Tracer,
}

impl Collector for StandbyScrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        sync::build(&mut page)?;
        sync::ready(&mut page, self.ready)?;
        lease::lease(&mut page, &self.lead, &self.health, self.now.mono)?;
        sync::webhooks(&mut page, &self.traffic)?;
        sync::connections(&mut page, &self.listeners)?;
        traces::spans(&mut page, self.tracer.counts())
    }
}
