//! Keeps the daemon's webhook registered at the API.
//!
//! It is looked at on start and every ten minutes: a registration that is gone
//! is made again, one that lacks an event or has an old secret is replaced, the
//! new one first, so that there is no moment without one. When the URL to be
//! registered becomes another, that is seen to at once.
//!
//! These requests come out of the one budget as well (rule R9), before look-ups
//! and never from the token that is kept for a poll. They are few: a look is one
//! request, a replacement four as a rule, and what fails is tried again ever
//! more slowly.

mod decide;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::retry::backoff;
use crate::seldom::{Trouble, spoken};
use crate::sync::{Inbox, RegistrationHealth, Timings};
use crate::voltus::{Admin, ApiError, Webhook, WebhookId, WebhookUrl};

pub use decide::{Action, decide};

/// Registrations deleted in one look, at most. What is left is the next one's.
const DELETED_AT_ONCE: usize = 5;

/// How often is looked.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// The time between two looks.
    interval: Duration,
    /// The pause after a first failure.
    first_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(600),
            first_pause: Duration::from_secs(5),
        }
    }
}

/// Keeps one URL registered, the newest that it is told.
#[derive(Debug)]
pub struct Registration<C> {
    admin: Admin<C>,
    daemon: Option<(Inbox, Arc<Timings>)>,
    news: watch::Receiver<WebhookUrl>,
    wanted: WebhookUrl,
    /// The one that was made here. The API may write its URL in another way.
    own: Option<WebhookId>,
    /// How it stands since the URL became this one.
    health: RegistrationHealth,
    trouble: Trouble,
    clock: C,
    random: SmallRng,
    pace: Pace,
}

impl<C: Clock> Registration<C> {
    /// Will keep what `wanted` holds registered. All that is random follows
    /// from `seed`.
    pub fn new(
        admin: Admin<C>,
        mut wanted: watch::Receiver<WebhookUrl>,
        clock: C,
        seed: u64,
    ) -> Self {
        let first = wanted.borrow_and_update().clone();
        Self {
            admin,
            daemon: None,
            news: wanted,
            wanted: first,
            own: None,
            health: RegistrationHealth::default(),
            trouble: Trouble::default(),
            clock,
            random: SmallRng::seed_from_u64(seed),
            pace: Pace::default(),
        }
    }

    /// Asks for the budget's leave there before each request, and has it
    /// counted.
    #[must_use]
    pub fn within(mut self, budget: Inbox, timings: Arc<Timings>) -> Self {
        self.admin.limit_redirects(budget.redirect_limiter());
        self.daemon = Some((budget, timings));
        self
    }

    /// Makes a request.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let Some((budget, timings)) = &self.daemon else {
            return request.await;
        };
        if !budget.token().await {
            // The daemon stops, and this with it.
            return std::future::pending().await;
        }
        let begun = self.clock.now().mono;
        let result = request.await;
        timings.registration(&result, self.clock.now().mono.saturating_sub(begun));
        budget.registered(begun, &result);
        result
    }

    /// Looks, and sees to what is wrong, until `stop`. The listener must answer
    /// by now: the API asks it before it takes a registration.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        self.tell();
        while let Some(looked) = stop.run_until_cancelled(self.look()).await {
            let pause = match looked {
                Ok(()) => {
                    failures = 0;
                    self.health.error = None;
                    self.tell();
                    if let Some(failed_for) = self.trouble.over(self.clock.now().mono) {
                        tracing::info!(
                            url = %self.wanted,
                            failed_for = %spoken(failed_for),
                            "the webhook's registration is as it must be again"
                        );
                    }
                    self.pace.interval
                }
                Err(error) => {
                    failures = u32::saturating_add(failures, 1);
                    self.health.error = Some(error.to_string());
                    self.tell();
                    let Pace {
                        interval,
                        first_pause,
                    } = self.pace;
                    let ours = backoff(failures, self.random.random(), first_pause, interval);
                    let pause = ours.max(error.retry_after().unwrap_or_default());
                    if let Some(count) = self.trouble.lasts(self.clock.now().mono) {
                        tracing::warn!(
                            url = %self.wanted,
                            %error,
                            count,
                            next_try = %format_args!("in {}", spoken(pause)),
                            "the webhook's registration could not be checked or made; polls go on"
                        );
                    }
                    pause
                }
            };
            let due = self.clock.now().mono.saturating_add(pause);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(due) => {}
                // Without a sender there is no news any more.
                Ok(()) = self.news.changed() => {
                    self.wanted = self.news.borrow_and_update().clone();
                    self.own = None;
                    self.set_registered(false);
                    failures = 0;
                }
            }
        }
    }

    /// One look, and what follows from it.
    async fn look(&mut self) -> Result<(), ApiError> {
        let before = self.ask(self.admin.webhooks()).await?;
        let mut action = self.decide(&before);
        if action == Action::Register {
            self.register(&before).await?;
            let after = self.ask(self.admin.webhooks()).await?;
            self.adopt(&before, &after);
            action = self.decide(&after);
        }
        match action {
            Action::Nothing => self.found(),
            // Yet another one would only double it.
            Action::Register => tracing::warn!(
                url = %self.wanted,
                next_try = %format_args!("in {}", spoken(self.pace.interval)),
                "the webhook was registered, but the API does not list it"
            ),
            Action::Delete(ids) => {
                self.found();
                self.delete(&ids).await?;
            }
        }
        Ok(())
    }

    fn decide(&self, list: &[Webhook]) -> Action {
        decide(list, &self.wanted, self.own.as_ref())
    }

    /// The webhook is registered as it must be.
    fn found(&mut self) {
        if !self.set_registered(true) {
            tracing::info!(url = %self.wanted, "the webhook is registered already");
        }
    }

    /// Notes whether the webhook is registered, and tells the daemon. Returns what was
    /// so before.
    fn set_registered(&mut self, registered: bool) -> bool {
        let before = std::mem::replace(&mut self.health.registered, registered);
        self.tell();
        before
    }

    /// Tells the daemon how the registration stands.
    fn tell(&self) {
        if let Some((daemon, _)) = &self.daemon {
            daemon.registration(self.health.clone());
        }
    }

    async fn register(&mut self, before: &[Webhook]) -> Result<(), ApiError> {
        let replaced = before.iter().any(|w| w.url.is_of_listener(&self.wanted));
        if self.set_registered(false) {
            tracing::warn!(
                url = %self.wanted,
                reason = if replaced {
                    "it lacks an event, or has another secret"
                } else {
                    "the API does not list it any more"
                },
                "the webhook's registration was lost; dispatchd registers it again"
            );
        }
        self.own = self.ask(self.admin.register(&self.wanted)).await?;
        self.set_registered(true);
        tracing::info!(
            url = %self.wanted,
            webhook = self.own.as_ref().map(tracing::field::display),
            "{}",
            if replaced {
                "the webhook was registered anew: the registration lacked an event, or had another secret"
            } else {
                "the webhook was registered"
            }
        );
        Ok(())
    }

    /// Finds the one that was just made, where its id was not told.
    fn adopt(&mut self, before: &[Webhook], after: &[Webhook]) {
        let is_new = |id: &WebhookId| before.iter().all(|webhook| webhook.id != *id);
        self.own = self.own.take().or_else(|| {
            after
                .iter()
                .find(|webhook| webhook.url.is_of_listener(&self.wanted) && is_new(&webhook.id))
                .map(|webhook| webhook.id.clone())
        });
    }

    async fn delete(&self, ids: &[WebhookId]) -> Result<(), ApiError> {
        for id in ids.iter().take(DELETED_AT_ONCE) {
            self.ask(self.admin.delete(id)).await?;
            tracing::info!(
                webhook = %id,
                "an older registration of the webhook was deleted"
            );
        }
        Ok(())
    }
}
