//! Keeps the inventory: the sites that are enrolled at the API, compared with the
//! routes of the sinks.
//!
//! [`InventoryKeeper`] asks for `GET /sites` on start, every hour, and when somebody asks
//! for a poll. Readers see the newest [`Inventory`]. No dispatch depends on it: a request
//! waits until nothing else wants a token of the budget, and an API that does not tell
//! its sites is no fault. The inventory is not stored. After a restart nothing has vanished.

mod compare;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, wall_after};
use crate::model::SinkRoute;
use crate::retry::backoff;
use crate::sync::{Inbox, Timings};
use crate::voltus::{Admin, ApiError, EnrolledSites};

pub use compare::{Comparison, Inventory, Known, UnmatchedPattern, VanishedSite, named};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(3600);

/// The pause after a first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Asks for the enrolled sites, one request at a time.
#[derive(Debug)]
pub struct InventoryKeeper<C> {
    admin: Admin<C>,
    budget: Inbox,
    timings: Arc<Timings>,
    routes: Arc<[SinkRoute]>,
    told: watch::Sender<Arc<Inventory>>,
    wanted: Arc<Notify>,
    clock: C,
    random: SmallRng,
}

impl<C: Clock> InventoryKeeper<C> {
    /// Will compare the sites with `routes`. All that is random follows from `seed`.
    pub fn new(
        mut admin: Admin<C>,
        budget: Inbox,
        timings: Arc<Timings>,
        routes: Vec<SinkRoute>,
        clock: C,
        seed: u64,
    ) -> Self {
        admin.limit_redirects(budget.redirect_limiter());
        Self {
            admin,
            budget,
            timings,
            routes: routes.into(),
            told: watch::Sender::new(Arc::default()),
            wanted: Arc::default(),
            clock,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Where to see the newest inventory.
    pub fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.told.subscribe()
    }

    /// Where to ask for a look now, which waits for the budget like every other.
    pub fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.wanted)
    }

    /// Looks, and looks again, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures: u32 = 0;
        while let Some(looked) = stop.run_until_cancelled(self.look()).await {
            let now = self.clock.now();
            let pause = match looked {
                Ok(sites) => {
                    failures = 0;
                    self.found(sites, wall_after(now.wall, INTERVAL)).await;
                    INTERVAL
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = if is_refusal(&error) {
                        INTERVAL
                    } else {
                        backoff(failures, self.random.random(), FIRST_PAUSE, INTERVAL)
                            .max(error.retry_after().unwrap_or_default())
                    };
                    self.failed(&error, wall_after(now.wall, pause));
                    pause
                }
            };
            let due = now.mono.saturating_add(pause);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(due) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn look(&self) -> Result<EnrolledSites, ApiError> {
        if !self.budget.spare_token().await {
            // The daemon stops, and this with it.
            return std::future::pending().await;
        }
        let issued = self.clock.now().mono;
        let result = self.admin.sites().await;
        let took = self.clock.now().mono.saturating_sub(issued);
        self.timings.inventory(&result, took);
        if let Err(error) = &result {
            self.budget.inventory_failed(issued, error.clone());
        }
        result
    }

    async fn found(&self, told: EnrolledSites, next_look: DateTime<Utc>) {
        let before = Arc::clone(&self.told.borrow());
        let (earlier, routes) = (Arc::clone(&before), Arc::clone(&self.routes));
        let now = self.clock.now();
        // With 20,000 sites and 200 sinks this takes long for a thread that serves others.
        let compare = move || Known::new(told, earlier.known.as_ref(), &routes, now);
        let Ok(known) = tokio::task::spawn_blocking(compare).await else {
            return;
        };
        log_news(&known, &before);
        self.told.send_replace(Arc::new(Inventory {
            known: Some(known),
            problem: None,
            next_look: Some(next_look),
        }));
    }

    fn failed(&self, error: &ApiError, next_look: DateTime<Utc>) {
        let before = Arc::clone(&self.told.borrow());
        let problem = reason(error);
        // Failures of one kind are told once.
        if before.problem.as_deref() != Some(&*problem) {
            tracing::info!(
                reason = %problem,
                "the enrolled sites cannot be asked for; dispatches do not depend on it"
            );
        }
        self.told.send_replace(Arc::new(Inventory {
            known: before.known.clone(),
            problem: Some(problem),
            next_look: Some(next_look),
        }));
    }
}

/// Whether the API says that it does not tell its sites: to ask again soon is no use.
fn is_refusal(error: &ApiError) -> bool {
    match error {
        ApiError::KeyRefused { .. } => true,
        ApiError::Status { status, .. } | ApiError::Foreign { status, .. } => {
            matches!(status, 404 | 405 | 410 | 501)
        }
        _ => false,
    }
}

/// Why the enrolled sites are not known, for people.
pub fn reason(error: &ApiError) -> String {
    match error {
        ApiError::KeyRefused { status, .. } => {
            format!("the API does not show GET /sites to this key ({status})")
        }
        ApiError::Status { status, .. } | ApiError::Foreign { status, .. } if is_refusal(error) => {
            format!("the API has no GET /sites ({status})")
        }
        error => error.to_string(),
    }
}

/// Logs what the newest look found that the one before had not.
fn log_news(known: &Known, before: &Inventory) {
    let earlier = before.known.as_ref();
    let compared = &known.comparison;
    let sites = known.sites.len();
    if earlier.is_none_or(|earlier| earlier.sites.len() != sites) || before.problem.is_some() {
        tracing::info!(sites, "the API tells which sites are enrolled");
    }
    if let Some(gap) = &known.gap
        && earlier.is_none_or(|earlier| earlier.gap.as_ref() != Some(gap))
    {
        tracing::warn!(reason = %gap, "the list of enrolled sites is not whole; what it lacks counts as unknown");
    }
    let changed =
        earlier.is_none_or(|earlier| earlier.comparison.first_unrouted != compared.first_unrouted);
    if compared.unrouted > 0 && changed {
        tracing::warn!(
            count = compared.unrouted,
            sites = %named(&compared.first_unrouted, compared.unrouted),
            "enrolled sites are routed to no sink: nobody will be told when a dispatch calls on them; \
             name them in `sites` of a [[sink]] and restart dispatchd, or route them to \"none\""
        );
    }
    let known_patterns = earlier.map_or(&[][..], |earlier| &earlier.comparison.unmatched);
    for UnmatchedPattern { sink, pattern } in &compared.unmatched {
        let is_new = |one: &UnmatchedPattern| one.sink == *sink && one.pattern == *pattern;
        if !known_patterns.iter().any(is_new) {
            tracing::warn!(%sink, %pattern, "a pattern of a route matches no enrolled site");
        }
    }
    let news = known.vanished.iter();
    let mut news = news.filter(|vanished| vanished.since == known.looked_at);
    if let Some(first) = news.next() {
        tracing::warn!(
            count = 1 + news.count(),
            first = %first.site.id,
            "sites are not enrolled any more"
        );
    }
}
