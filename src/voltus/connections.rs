//! The connections to the API. [`Connections`] gives the client to send the next
//! request with, and sees to it that no connection is kept for ever.
//!
//! A connection leads to the address that the API's name had when it was made.
//! When the API moves, the old address may go on answering, with 503 for ever.
//! So a connection is given up after a failed poll and after a few minutes; the
//! next one looks the name up anew (rule R9).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use crate::clock::Mono;
use crate::http::describe;
use crate::seldom::Rarely;

/// How long requests are begun on a connection. With the longest request, of a
/// minute, no connection is kept for longer than five minutes.
const LONGEST_USE: Duration = Duration::from_secs(240);

type Build = dyn Fn() -> Result<reqwest::Client, reqwest::Error> + Send + Sync;

/// The connections that requests are sent on now.
#[derive(Debug, Clone)]
struct Current {
    client: reqwest::Client,
    since: Mono,
    given_up: bool,
    /// Where permanent redirects have led to, in place of base and version.
    moved_to: Option<Url>,
}

/// Gives the client to send the next request with.
pub(super) struct Connections {
    build: Arc<Build>,
    longest_use: Duration,
    current: Mutex<Current>,
    /// Held by the one that makes new connections, so that the others wait for
    /// these and make none of their own.
    renewing: tokio::sync::Mutex<()>,
}

impl Connections {
    /// Connections of clients that `build` makes, the first of them now.
    ///
    /// # Errors
    /// As `build` says.
    pub fn new(
        build: impl Fn() -> Result<reqwest::Client, reqwest::Error> + Send + Sync + 'static,
        now: Mono,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            current: Mutex::new(Current {
                client: build()?,
                since: now,
                given_up: false,
                moved_to: None,
            }),
            build: Arc::new(build),
            longest_use: LONGEST_USE,
            renewing: tokio::sync::Mutex::default(),
        })
    }

    /// The client for a request that is sent at `now`, and where permanent
    /// redirects have led to. Requests under way keep the client that they have.
    pub async fn client(&self, now: Mono) -> (reqwest::Client, Option<Url>) {
        if self.is_due(now) {
            let _only_one = self.renewing.lock().await;
            if self.is_due(now) {
                self.renew(now).await;
            }
        }
        self.with(|current| (current.client.clone(), current.moved_to.clone()))
    }

    /// A poll failed: no request is begun on today's connections any more.
    pub fn give_up(&self) {
        self.with(|current| current.given_up = true);
    }

    /// Permanent redirects lead there, or no longer.
    pub fn moved_to(&self, root: Option<Url>) {
        self.with(|current| current.moved_to = root);
    }

    fn is_due(&self, now: Mono) -> bool {
        self.with(|current| {
            current.given_up || now.saturating_sub(current.since) >= self.longest_use
        })
    }

    /// A client is made away from the thread that decides: it reads the system's
    /// certificates.
    async fn renew(&self, now: Mono) {
        let build = Arc::clone(&self.build);
        let reason = match tokio::task::spawn_blocking(move || build()).await {
            Ok(Ok(client)) => {
                // The old connections close once their last request has ended.
                self.with(|current| {
                    *current = Current {
                        client,
                        since: now,
                        given_up: false,
                        moved_to: None,
                    }
                });
                return;
            }
            Ok(Err(error)) => describe(error),
            Err(error) => error.to_string(),
        };
        static LINE: Rarely = Rarely::new();
        if let Some(count) = LINE.count() {
            tracing::warn!(
                reason,
                count,
                "no new connections to the API can be prepared, so the old ones are used on"
            );
        }
        // Tried again as late as if it had worked.
        self.with(|current| {
            current.since = now;
            current.given_up = false;
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Current) -> T) -> T {
        work(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
