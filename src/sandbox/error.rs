//! What can go wrong that was not asked for.

use super::faults::FaultsError;

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option is out of range.
    #[error(transparent)]
    Option(#[from] FaultsError),
    /// The listener has no address.
    #[error("the listener has no address")]
    Listener(#[source] std::io::Error),
    /// It was started outside a tokio runtime.
    #[error("a sandbox runs in a tokio runtime")]
    Runtime(#[source] tokio::runtime::TryCurrentError),
    /// The HTTP client that delivers webhooks could not be made.
    #[error("no HTTP client for the webhooks")]
    Client(#[source] reqwest::Error),
}

/// Why a dispatch was not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It is no JSON object with an `id` that can stand in a path.
    #[error("a dispatch is a JSON object with an `id` of 1 to 64 of A-Z a-z 0-9 _ -")]
    Id,
}

/// What the API would say to a scenario that it does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(pub(super) String);

/// Why [`run`](super::run) came to an end without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It stopped serving by itself.
    #[error("the sandbox stopped serving")]
    Ended,
}
