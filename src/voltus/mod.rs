//! The upstream: how it is asked, and how its answers are read.

mod admin;
mod client;
mod connections;
mod enrolled;
mod environment;
mod error;
mod key;
mod limiter;
mod problems;
mod redirects;
mod signals;
#[cfg(test)]
mod testing;
mod transport;
mod webhook;
mod wire;

use std::future::Future;

use crate::model::{Answer, DispatchId};

pub use admin::{Admin, Look};
pub use client::{Client, ClientSettings};
pub use enrolled::{EnrolledSite, EnrolledSites, read_enrolled_sites};
pub use environment::Environment;
pub use error::{ApiError, ClientError, KeySource, RedirectRefusal};
pub use key::{ApiKey, KeyError};
pub use limiter::RedirectLimiter;
pub use problems::{DETAILED, Part, Problem, Problems, Unreadable};
pub use signals::{ApiClock, Signals, Stamp};
pub(crate) use webhook::listener_end;
pub use webhook::{EVENTS, InvalidWebhookId, Webhook, WebhookId, WebhookUrl};
pub use wire::{ListReader, read_dispatch_answer, read_list};

/// A question to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `GET /dispatches`
    List,
    /// `GET /dispatches/{id}`
    Dispatch(DispatchId),
}

impl Question {
    /// The name used in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Dispatch(_) => "dispatch",
        }
    }
}

/// What the API told us.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiResponse {
    /// What it says of the world.
    pub answer: Answer,
    /// Parts of it that could not be read (rule R11).
    pub problems: Problems,
    /// When it was made.
    pub stamp: Stamp,
}

/// Somebody who answers questions about dispatches.
pub trait Api: Send + Sync + 'static {
    /// Asks once, and ends within a bounded time.
    ///
    /// # Errors
    /// [`ApiError`] when there is no answer that says anything of the world.
    fn ask(&self, question: Question)
    -> impl Future<Output = Result<ApiResponse, ApiError>> + Send;

    /// From now on each redirect waits for `limiter` before it is followed (rule
    /// R9). For one that follows none this does nothing.
    fn limit_redirects(&mut self, limiter: RedirectLimiter) {
        drop(limiter);
    }
}
