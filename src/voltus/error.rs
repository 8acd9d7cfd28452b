//! The errors of requests to the API.

use std::time::Duration;

use crate::model::DispatchId;

/// Why a question has no answer. Nothing in the schedule changes by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection could be made.
    #[error("the API cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke before the answer was whole.
    #[error("the API cannot be reached: the connection broke: {0}")]
    Interrupted(String),
    /// It took too long.
    #[error("the API did not answer in time")]
    TimedOut,
    /// 401 or 403: the key is not accepted.
    #[error(
        "the API refuses the key ({status}): set --api-key or --api-key-file to a key that is valid there"
    )]
    KeyRefused {
        /// 401 or 403.
        status: u16,
    },
    /// 429: too fast.
    #[error("the API asks us to slow down (429)")]
    TooFast {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other status that is no answer.
    #[error("the API answered {status}: {message}")]
    Status {
        /// The status.
        status: u16,
        /// The API's own message where it gave one.
        message: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// A redirect that is not followed (rule R8).
    #[error("the API answered with a redirect ({status}){refusal}")]
    Redirect {
        /// The status.
        status: u16,
        /// Where to, and why it is not followed.
        refusal: RedirectRefusal,
    },
    /// The answer is longer than allowed.
    #[error("the API's answer is longer than {limit} bytes: raise --api-max-body if it is right")]
    TooLong {
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// The answer is not what the interface promises.
    #[error("the API's answer cannot be read: {0}")]
    Unreadable(String),
    /// The answer is about another dispatch.
    #[error("the API answered about another dispatch than {0}")]
    Another(DispatchId),
}

impl ApiError {
    /// How long the API asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooFast { retry_after } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The name used in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Interrupted(_) => "unreachable",
            Self::TimedOut => "timeout",
            Self::KeyRefused { .. } => "key_refused",
            Self::TooFast { .. } => "too_fast",
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::TooLong { .. } => "too_long",
            Self::Unreadable(_) | Self::Another(_) => "unreadable",
        }
    }
}

/// Why a redirect is not followed. The key travels to the configured origin
/// alone: scheme, host and port of `--api-url`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectRefusal {
    /// It leads to another scheme, host or port.
    #[error(
        " to {0}, which is not followed because the API key would go there; if the API has moved, set --api-url"
    )]
    OtherOrigin(String),
    /// It names no address that can be read.
    #[error(" without an address that can be read; check --api-url and --api-version")]
    NoAddress,
    /// One redirect led to the next.
    #[error(" after {0} others, which is not followed; check --api-url and --api-version")]
    TooMany(usize),
    /// The limiter on requests did not allow it in the time that the request has.
    #[error(" which could not be followed in time within --api-rate; raise --api-rate")]
    NoBudget,
    /// The daemon sends nothing any more.
    #[error(" which is not followed because dispatchd is stopping")]
    Stopping,
    /// The request changes something, and the redirect does not say that it is
    /// to be repeated.
    #[error(
        " to {0}, which is not followed because the request is not a GET; check --api-url and --api-version"
    )]
    NotRepeatable(String),
}

/// Why the client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client could not be made. For want of CA certificates as a rule.
    #[error(
        "the HTTPS client cannot start: {0}; install the system's CA certificates (package ca-certificates)"
    )]
    Build(String),
    /// The API's URL takes no path.
    #[error("--api-url {0} cannot be a base for paths: give it as https://host")]
    Base(url::Url),
}
