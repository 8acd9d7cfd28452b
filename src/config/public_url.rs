//! The public URL under which webhooks reach this daemon.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Problem;
use crate::listener::path_with;
use crate::model::WEBHOOK_PATH;
use crate::secret::Secret;
use crate::voltus::{WebhookUrl, listener_end};

const OPTION: &str = "--public-url";

/// The URL that webhooks are to be registered at: what the operator wrote, and
/// what comes of it with the secret.
#[derive(Debug, Clone)]
pub struct PublicUrl {
    /// It may hold the secret.
    written: SecretString,
    url: WebhookUrl,
}

impl PublicUrl {
    pub(super) fn read(written: SecretString, secret: Option<&Secret>) -> Result<Self, Problem> {
        let secret = secret.map(Secret::get);
        let url = read(&written, secret.as_deref())?;
        Ok(Self { written, url })
    }

    /// The URL with the secret that there was at the start.
    pub fn url(&self) -> &WebhookUrl {
        &self.url
    }

    /// The URL with another secret.
    ///
    /// # Errors
    /// When what was written ends in the former secret.
    pub fn with_secret(&self, secret: &SecretString) -> Result<WebhookUrl, Problem> {
        read(&self.written, Some(secret))
    }
}

/// The URL to register: what was written, with the listener's path and the
/// secret behind it unless they are there. What is wrong is told without
/// repeating it, as it may hold the secret.
fn read(text: &SecretString, secret: Option<&SecretString>) -> Result<WebhookUrl, Problem> {
    const EXAMPLE: &str = "write it as https://dispatch.example.com";
    let problem = |problem: &str| Problem::new(OPTION, format!("{problem}; {EXAMPLE}"));
    let mut url = match Url::parse(text.expose_secret()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => return Err(problem("the value is not an http or https URL")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("the URL has a user or password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(problem("the URL has a query (?) or a fragment (#)"));
    }
    let path = url.path().trim_end_matches('/');
    let whole = match listener_end(path).and_then(|end| path.split_at_checked(end)) {
        None => format!("{path}{}", path_with(secret)),
        Some((listener, "")) => {
            let before = listener.strip_suffix(WEBHOOK_PATH).unwrap_or_default();
            format!("{before}{}", path_with(secret))
        }
        // Something in between may know what follows, and take it away.
        Some(_) if secret.is_none() => path.to_owned(),
        Some((_, rest)) => {
            let there = rest.strip_prefix('/');
            if there != secret.map(ExposeSecret::expose_secret) {
                return Err(Problem::new(
                    OPTION,
                    format!(
                        "what follows {WEBHOOK_PATH} in the URL is not the webhook secret; leave it out, dispatchd appends the secret"
                    ),
                ));
            }
            path.to_owned()
        }
    };
    url.set_path(&whole);
    Ok(WebhookUrl::new(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str, secret: Option<&str>) -> Result<String, String> {
        let secret = secret.map(SecretString::from);
        read(&text.into(), secret.as_ref())
            .map(|url| url.expose().to_owned())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn path_and_secret_are_appended_unless_they_are_there() {
        for (text, secret, expected) in [
            (
                "https://a.example",
                None,
                "https://a.example/dispatch-listener",
            ),
            (
                "https://a.example/",
                Some("s"),
                "https://a.example/dispatch-listener/s",
            ),
            (
                "https://a.example/x/",
                Some("s"),
                "https://a.example/x/dispatch-listener/s",
            ),
            (
                "http://a.example:8080/dispatch-listener/",
                Some("s"),
                "http://a.example:8080/dispatch-listener/s",
            ),
            (
                "https://a.example/dispatch-listener/s",
                Some("s"),
                "https://a.example/dispatch-listener/s",
            ),
            (
                "https://a.example/dispatch-listener",
                None,
                "https://a.example/dispatch-listener",
            ),
            (
                "https://a.example/dispatch-listener/proxy",
                None,
                "https://a.example/dispatch-listener/proxy",
            ),
            (
                "https://a.example/dispatch-listeners",
                None,
                "https://a.example/dispatch-listeners/dispatch-listener",
            ),
        ] {
            assert_eq!(wanted(text, secret).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_the_option_and_without_the_secret() {
        for text in [
            "hush",
            "ftp://hush.example/",
            "https://hush:hush@a.example",
            "https://a.example/?hush",
            "https://a.example/#hush",
            "https://a.example/dispatch-listener/hush",
        ] {
            let problem = wanted(text, Some("s")).unwrap_err();
            assert!(problem.starts_with("--public-url: "), "{problem}");
            assert!(!problem.contains("hush"), "{problem}");
        }
    }
}
