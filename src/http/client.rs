//! How we ask others: with every part of it bounded (rule R8).

use std::error::Error;
use std::time::Duration;

use http::HeaderMap;
use reqwest::{ClientBuilder, Response, redirect};
use url::Url;

/// The longest that a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for the host of `base`. It follows no redirect, tells nobody where
/// it comes from, and takes no proxy to reach this machine. `pause` is the
/// longest silence within an answer.
///
/// # Errors
/// When the system has no CA certificates and `base` needs them.
pub fn bounded_client(base: &Url, pause: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let builder = || {
        let builder = ClientBuilder::new()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(pause)
            .user_agent(concat!("dispatchd/", env!("CARGO_PKG_VERSION")));
        if is_loopback(base) {
            builder.no_proxy()
        } else {
            builder
        }
    };
    match builder().build() {
        // One that never speaks TLS needs no certificates.
        Err(_) if base.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    }
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// It broke off, or came too slowly.
    #[error(transparent)]
    Broken(#[from] reqwest::Error),
}

/// The body, unless it is longer than `limit` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn read_body(mut response: Response, limit: u64) -> Result<Vec<u8>, BodyError> {
    let announced = content_length(response.headers()).unwrap_or(0);
    if announced > limit {
        return Err(BodyError::TooLong { limit });
    }
    // In one piece, so that all of it goes back to the system afterwards. Of an
    // empty promise no page is touched, and one too large is not relied on.
    let mut body = Vec::new();
    let announced = usize::try_from(announced).unwrap_or_default();
    if body.try_reserve_exact(announced).is_err() {
        tracing::debug!(announced, "no room for all of a body at once");
    }
    while let Some(chunk) = response.chunk().await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(BodyError::TooLong { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(http::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether a URL's host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The error with its causes, without the URL, which may hold a secret.
pub fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
