//! How we ask others: with every part of it bounded (rule R8).

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use reqwest::{ClientBuilder, Response, redirect};
use url::Url;

/// The longest that a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where every HTTP client begins: TLS by `ring`, no redirect followed, no
/// referer sent. reqwest's own `Client::new` and `Client::builder` panic, as
/// reqwest is built without a TLS provider.
pub fn client_builder() -> ClientBuilder {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    ClientBuilder::new()
        .redirect(redirect::Policy::none())
        .referer(false)
}

/// A client for the host of `base`, with what `limits` adds. It gives up a
/// connection that takes 5 s to make, and takes no proxy to reach this machine.
///
/// # Errors
/// When the system has no CA certificates and `base` needs them, or a proxy
/// that the environment names is no URL.
pub fn client_for(
    base: &Url,
    limits: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = || {
        let builder = client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("dispatchd/", env!("CARGO_PKG_VERSION")));
        let builder = match is_loopback(base) {
            true => builder.no_proxy(),
            false => builder,
        };
        limits(builder)
    };
    match builder().build() {
        // One that never speaks TLS needs no certificates.
        Err(_) if base.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    }
}

/// Whether [`client_for`] `base` may ask a proxy that the environment names.
pub fn takes_proxy(base: &Url) -> bool {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_loopback(base)
        && names
            .into_iter()
            .any(|name| set(name) || set(&name.to_lowercase()))
}

/// [`client_for`] `base`, whose answers may be silent for `pause` at most.
///
/// # Errors
/// As [`client_for`].
pub fn bounded_client(base: &Url, pause: Duration) -> Result<reqwest::Client, reqwest::Error> {
    client_for(base, |builder| builder.read_timeout(pause))
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
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Why a request has no answer, in a few words: the innermost cause.
pub fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = match cause.downcast_ref::<reqwest::Error>() {
        // Its own text names the URL, which may hold a secret.
        Some(_) => "no answer".to_owned(),
        None => cause.to_string(),
    };
    plain_reason(&text)
}

/// The same for what the system itself refused.
pub fn io_reason(error: &io::Error) -> String {
    plain_reason(&error.to_string())
}

/// The system's words without their number: `Connection refused (os error 111)`
/// becomes `Connection refused`.
fn plain_reason(text: &str) -> String {
    // What rustls says when the answer to its greeting is plain HTTP.
    if text.contains("InvalidContentType") {
        return "the server there does not speak TLS (write http:// if that is meant)".to_owned();
    }
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words.to_owned(),
        _ => text.to_owned(),
    }
}

/// The error with its causes, without the URL, which may hold a secret.
pub fn describe(error: reqwest::Error) -> String {
    causes(&error.without_url())
}

/// An error with its causes on one line. Many errors say at the top only that
/// something failed.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_without_the_numbers_of_the_system() {
        let refused = "Connection refused (os error 111)";
        assert_eq!(plain_reason(refused), "Connection refused");
        assert_eq!(plain_reason("operation timed out"), "operation timed out");
        let tls = "received corrupt message of type InvalidContentType";
        assert!(plain_reason(tls).contains("http://"));
    }

    #[test]
    fn hosts_on_this_machine_are_told_from_others() {
        for url in [
            "http://localhost/",
            "http://a.localhost:8080/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in [
            "http://localhost.example/",
            "http://10.0.0.1/",
            "http://[::2]/",
        ] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
