//! Where the coordinator is told what happens outside: [`Inbox`].

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::Mono;
use crate::model::{DispatchId, OverrideOrder};
use crate::sync::{Input, PendingRequest, RegistrationHealth, SkipRequest, WaiterReply};
use crate::trace::TraceContext;
use crate::voltus::{ApiError, RedirectLimiter};

/// Somebody who waits for an answer.
#[derive(Debug)]
pub struct Waiter {
    /// Where the answer goes.
    pub(super) reply: oneshot::Sender<WaiterReply>,
    /// What follows from what was asked belongs under this.
    pub(super) trace: Option<TraceContext>,
}

/// Where the coordinator is told what happens outside. Copies lead to the same one.
#[derive(Debug, Clone)]
pub struct Inbox(pub(super) mpsc::UnboundedSender<Input<Waiter>>);

impl Inbox {
    /// A webhook says: look at this dispatch. Ends when that is settled, or the
    /// deadline has passed.
    /// What follows belongs under `trace`.
    pub async fn webhook(&self, id: DispatchId, trace: Option<TraceContext>) -> WaiterReply {
        self.ask_within(trace, |waiter| Input::Webhook { id, waiter })
            .await
    }

    /// Asks for a poll, and ends after it.
    pub async fn poll(&self) -> WaiterReply {
        self.ask(|waiter| Input::Poll { waiter }).await
    }

    /// Waits until the budget allows one request more. `false` when the daemon
    /// stops instead.
    pub async fn token(&self) -> bool {
        self.ask(|waiter| Input::Token { waiter }).await == WaiterReply::Granted
    }

    /// Waits until the budget has a token that nothing else wants. `false` when the
    /// daemon stops instead.
    pub async fn spare_token(&self) -> bool {
        self.ask(|waiter| Input::SpareToken { waiter }).await == WaiterReply::Granted
    }

    /// Has redirects wait here until the budget allows one request more.
    pub fn redirect_limiter(&self) -> RedirectLimiter {
        let inbox = self.clone();
        RedirectLimiter::new(move || {
            let inbox = inbox.clone();
            async move { inbox.ask(|waiter| Input::Redirect { waiter }).await == WaiterReply::Granted }
        })
    }

    /// A request that keeps the webhook registered, sent at `issued`, was
    /// answered so.
    pub fn registered<T>(&self, issued: Mono, result: &Result<T, ApiError>) {
        let result = result.as_ref().map(|_| ()).map_err(Clone::clone);
        // Nobody counts it while the daemon stops.
        let _ = self.0.send(Input::Registered { issued, result });
    }

    /// The registration of the daemon's webhook stands so.
    pub fn registration(&self, health: RegistrationHealth) {
        // Nobody counts by it while the daemon stops.
        let _ = self.0.send(Input::Registration(health));
    }

    /// A request for the enrolled sites, sent at `issued`, failed.
    pub fn inventory_failed(&self, issued: Mono, error: ApiError) {
        // Nobody counts it while the daemon stops.
        let _ = self.0.send(Input::InventoryFailed { issued, error });
    }

    /// Lists pending events: [`WaiterReply::Pending`], or [`WaiterReply::Unknown`] if no sink
    /// has the name that was asked for.
    pub async fn pending(&self, request: PendingRequest) -> WaiterReply {
        self.ask(|waiter| Input::ListPending { request, waiter })
            .await
    }

    /// Gives an event up at one sink: [`WaiterReply::Skipped`] once that is on disk,
    /// [`WaiterReply::Unknown`] if no such event is pending, or [`WaiterReply::PendingAt`] if
    /// the sink must be named.
    pub async fn skip(&self, request: SkipRequest) -> WaiterReply {
        self.ask(|waiter| Input::Skip { request, waiter }).await
    }

    /// Orders what a site must do: [`WaiterReply::Applied`] once that is on disk.
    pub async fn override_site(&self, order: OverrideOrder) -> WaiterReply {
        self.ask(|waiter| Input::Override { order, waiter }).await
    }

    async fn ask(&self, input: impl FnOnce(Waiter) -> Input<Waiter>) -> WaiterReply {
        self.ask_within(None, input).await
    }

    async fn ask_within(
        &self,
        trace: Option<TraceContext>,
        input: impl FnOnce(Waiter) -> Input<Waiter>,
    ) -> WaiterReply {
        let (reply, outcome) = oneshot::channel();
        if self.0.send(input(Waiter { reply, trace })).is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        WaiterReply::Unavailable {
            reason: "dispatchd is stopping".into(),
            retry_after: Duration::from_secs(5),
        }
    }
}
