//! The HTTP clients of all sinks: [`HttpClients`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url};

use super::LIMITS;
use crate::http::{client_for, is_loopback};

/// The HTTP clients of all sinks. Sinks whose receivers are reached in the same way share
/// one: a client has a copy of the system's certificates, 0.1 MB, and sinks of the same
/// receiver take up one another's connections. Copies lead to the same clients.
#[derive(Clone)]
pub struct HttpClients {
    /// How long a connection may take to come about.
    connect: Duration,
    made: Arc<Mutex<HashMap<Way, Client>>>,
}

/// What a client depends on.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    /// The receiver is on this machine: no proxy is asked.
    loopback: bool,
    /// It speaks TLS, which needs certificates.
    tls: bool,
}

impl Default for HttpClients {
    fn default() -> Self {
        Self::connecting_within(LIMITS.connect)
    }
}

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Clients that give up a connection that takes longer to make.
    pub(super) fn connecting_within(connect: Duration) -> Self {
        Self {
            connect,
            made: Arc::default(),
        }
    }

    /// The client for this address.
    pub(super) fn of(&self, url: &Url) -> Result<Client, reqwest::Error> {
        let way = Way {
            loopback: is_loopback(url),
            tls: url.scheme() == "https",
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&way) {
            return Ok(client.clone());
        }
        let client = client_for(url, |builder| {
            builder
                // Requests that hang on one HTTP/2 connection use up the number of
                // requests that it takes, and hold up the others.
                .http1_only()
                .connect_timeout(self.connect)
        })?;
        made.insert(way, client.clone());
        Ok(client)
    }
}
