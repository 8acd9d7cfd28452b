//! The first poll, which is issued before there is a coordinator: [`FirstPoll`].

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::traces::Traces;
use super::{Inbox, Request, Waiter};
use crate::clock::{Clock, Now};
use crate::sync::{Input, Timings};
use crate::trace::{TraceContext, Tracer};
use crate::voltus::{Api, ApiError, ApiResponse, Question};

/// A list that the API is asked for while the state is loaded, which takes as long.
///
/// The coordinator is told when that was: what the list lacks may have come since then.
pub struct FirstPoll<A, C> {
    pub(super) issued: Now,
    pub(super) answer: Answer,
    pub(super) traces: Option<Traces>,
    /// The span of this request.
    pub(super) trace: Option<TraceContext>,
    pub(super) api: Arc<A>,
    pub(super) clock: Arc<C>,
    pub(super) timings: Arc<Timings>,
    pub(super) sender: Inbox,
    pub(super) inbox: mpsc::UnboundedReceiver<Input<Waiter>>,
}

impl<A: Api, C: Clock> FirstPoll<A, C> {
    /// Asks `api` for the list, in `runtime`. A redirect waits until a driver goes on from
    /// here. `tracer` opens a span for this request and for all that the driver does.
    pub fn issue(mut api: A, clock: C, tracer: Tracer, runtime: &Handle) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let sender = Inbox(sender);
        api.limit_redirects(sender.redirect_limiter());
        let span = tracer.poll();
        let (api, clock, timings) = (Arc::new(api), Arc::new(clock), Arc::<Timings>::default());
        let issued = clock.now();
        let trace = span.context();
        let request = Request {
            api: Arc::clone(&api),
            clock: Arc::clone(&clock),
            timings: Arc::clone(&timings),
            span,
        };
        let asking = runtime.spawn(request.send(Question::List));
        Self {
            issued,
            answer: Answer(AbortOnDropHandle::new(asking)),
            traces: Traces::new(tracer),
            trace,
            api,
            clock,
            timings,
            sender,
            inbox,
        }
    }
}

/// The answer, once it is there. Dropped, the request is broken off.
pub(super) struct Answer(AbortOnDropHandle<Result<ApiResponse, ApiError>>);

impl Answer {
    pub async fn get(self) -> Result<ApiResponse, ApiError> {
        match self.0.await {
            Ok(result) => result,
            // As any other request that dies.
            Err(died) if died.is_panic() => std::panic::resume_unwind(died.into_panic()),
            // Its runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}
