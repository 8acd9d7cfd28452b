//! The errors with which the daemon does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::delivery::sinks::SinkBuildError;
use crate::model::{count, first_of};
use crate::store::{OpenError, StoreError};
use crate::sync::DriverError;
use crate::voltus::ClientError;

/// Says that a listener got no address, why, and what to do.
pub fn cannot_listen(option: &str, address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "choose another address, or stop what uses it",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one of its own, or 0.0.0.0 for all"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a higher one, and put a proxy in front"
        }
        _ => "choose another address",
    };
    format!("{option} {address}: cannot listen there: {error}; {remedy}")
}

/// Why the daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the state file holds cannot be used.
    #[error("--state {path}: {source}")]
    Stored {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Sinks that may hold sites curtailed are not named any more.
    #[error(transparent)]
    SinksGone(GoneSinks),
    /// A daemon that could not lead finds at its start that nobody leads.
    #[error("{0}")]
    Barred(Arc<str>),
    /// A listener got no address.
    #[error("{}", cannot_listen(.option, *.address, .source))]
    Bind {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The client of the API could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A sink could not be made.
    #[error("--sink: {0}")]
    Sink(#[from] SinkBuildError),
    /// The system refused something.
    #[error("the system gives no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The engine's task ended.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A listener's task ended.
    #[error("the task of {0} ended, so nothing can be relied on")]
    Task(&'static str),
}

impl DaemonError {
    /// Whether the operator must change something before another try.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Open(error) => error.is_configuration(),
            Self::Stored { .. } | Self::Sink(_) | Self::SinksGone(_) | Self::Barred(_) => true,
            Self::Bind { .. }
            | Self::Client(_)
            | Self::System { .. }
            | Self::Driver(_)
            | Self::Task(_) => false,
        }
    }
}

/// Sinks that the configuration does not name any more, though they may hold sites
/// curtailed.
#[derive(Debug, thiserror::Error)]
#[error("{named_by}: {}", .sinks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct GoneSinks {
    /// What names the sinks that are used: an option, a variable, or places in a file.
    pub named_by: String,
    /// The sinks.
    pub sinks: Vec<GoneSink>,
}

/// A sink that the configuration does not name any more, though it may hold sites
/// curtailed.
#[derive(Debug, thiserror::Error)]
#[error(
    "no sink is named `{name}` any more, and it may hold {} curtailed ({}): nobody would release \
     {}; name it again, or give --forget-sink {name} if it is gone for good",
    count(.sites.len() as u64, "site", "sites"), first_of(.sites.iter().take(3).map(String::as_str), .sites.len()),
    if .sites.len() == 1 { "it" } else { "them" }
)]
pub struct GoneSink {
    /// Its name.
    pub name: String,
    /// The ids of those sites.
    pub sites: Vec<String>,
}
