//! The errors of requests to the API.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::DispatchId;

/// Why a question has no answer. Nothing in the schedule changes by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection could be made: where, and why.
    #[error("the API cannot be reached at {0}; check --api-url and the network")]
    Unreachable(String),
    /// The connection broke before the answer was whole: where, and why.
    #[error("the API cannot be reached: the connection broke: {0}")]
    Interrupted(String),
    /// It took too long: what was asked for.
    #[error("the API did not answer in time: {0}; check --api-url and the network")]
    TimedOut(String),
    /// 401 or 403: the key is not accepted.
    #[error("the API refuses {key} ({status}): {}", .key.remedy())]
    KeyRefused {
        /// 401 or 403.
        status: u16,
        /// Where the key came from.
        key: KeySource,
    },
    /// 429: too fast.
    #[error("the API asks us to slow down (429)")]
    TooFast {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other status that is no answer, in the API's own words.
    #[error("the API answered {status}: {message}")]
    Status {
        /// The status.
        status: u16,
        /// The API's own message.
        message: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// A status of failure with a body that the API never writes: another server
    /// answers at the URL, or something in between.
    #[error("{url} answered {status}, and not in the API's words: {}", foreign_remedy(*.status))]
    Foreign {
        /// The status.
        status: u16,
        /// What was asked for.
        url: String,
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
    #[error(
        "the API's answer is longer than {limit} bytes; if that is right, raise --api-max-body of `dispatchd run`"
    )]
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
    /// The same, with the URL whose answer cannot be read.
    #[must_use]
    pub(super) fn at(self, url: &url::Url) -> Self {
        match self {
            Self::Unreadable(reason) => {
                Self::Unreadable(format!("{reason} ({url}); is --api-url right?"))
            }
            other => other,
        }
    }

    /// How long the API asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooFast { retry_after }
            | Self::Status { retry_after, .. }
            | Self::Foreign { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The name used in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Interrupted(_) => "unreachable",
            Self::TimedOut(_) => "timeout",
            Self::KeyRefused { .. } => "key_refused",
            Self::TooFast { .. } => "too_fast",
            Self::Status { .. } | Self::Foreign { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::TooLong { .. } => "too_long",
            Self::Unreadable(_) | Self::Another(_) => "unreadable",
        }
    }
}

/// What to look at when another server than the API answers with `status`.
fn foreign_remedy(status: u16) -> &'static str {
    match status {
        500 | 502..=504 => {
            "a gateway in front of the API may be at fault; if that lasts, check --api-url"
        }
        _ => "is --api-url right, and --api-version?",
    }
}

/// Where the API key came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeySource {
    /// Nothing is known of it.
    #[default]
    Unknown,
    /// From this option or variable.
    Given(&'static str),
    /// From the file that this option or variable names.
    File(&'static str, PathBuf),
    /// None was given: it is the public key of the sandbox.
    Public,
}

impl KeySource {
    /// What to do when the API refuses the key.
    fn remedy(&self) -> String {
        match self {
            Self::Unknown | Self::Public => {
                "set --api-key or --api-key-file to a key that is valid there".to_owned()
            }
            Self::Given(name) => format!("set {name} to a key that is valid there"),
            Self::File(_, path) => {
                format!("write a key that is valid there to {}", path.display())
            }
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the key"),
            Self::Given(name) => write!(f, "the key of {name}"),
            Self::File(name, path) => write!(f, "the key of {name} {}", path.display()),
            Self::Public => f.write_str("the sandbox's public key `secret`"),
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
