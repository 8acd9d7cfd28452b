//! `GET /`: a page for people.
//!
//! One answer with everything in it, so that it works where nothing else can
//! be reached, and a policy that lets the browser run and ask nothing else. It
//! holds no data: what it shows it asks for, as any client would, and with the
//! token if there is one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use warp::reply::Response;

use super::cached::Known;

const HTML: &str = include_str!("page/index.html");
const STANDBY_HTML: &str = include_str!("page/standby.html");
const STYLE: &str = include_str!("page/style.css");

/// One script of several files, in the order in which they need one another.
const SCRIPT: &str = concat!(
    include_str!("page/dom.js"),
    include_str!("page/times.js"),
    include_str!("page/ask.js"),
    include_str!("page/live.js"),
    include_str!("page/model.js"),
    include_str!("page/inventory.js"),
    include_str!("page/health.js"),
    include_str!("page/timeline.js"),
    include_str!("page/controls.js"),
    include_str!("page/tables.js"),
    include_str!("page/detail.js"),
    include_str!("page/report.js"),
    include_str!("page/main.js"),
);

/// The script of a standby's page.
const STANDBY_SCRIPT: &str = concat!(
    include_str!("page/dom.js"),
    include_str!("page/times.js"),
    include_str!("page/ask.js"),
    include_str!("page/standby.js"),
);

/// The page, put together once.
#[derive(Debug, Clone)]
pub(super) struct Page {
    html: Bytes,
    etag: Arc<str>,
    policy: Option<HeaderValue>,
}

impl Page {
    /// The page of a daemon that leads.
    pub fn new() -> Self {
        Self::of(HTML, SCRIPT)
    }

    /// The page of a daemon that stands by.
    pub fn of_standby() -> Self {
        Self::of(STANDBY_HTML, STANDBY_SCRIPT)
    }

    fn of(html: &str, script: &str) -> Self {
        let html = html
            .replace("/*STYLE*/", STYLE)
            .replace("/*SCRIPT*/", script);
        // The script and the style are known by what they are, so that nothing
        // that is smuggled into the page can run.
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            digest(script),
            digest(STYLE),
        );
        let mut hasher = DefaultHasher::new();
        html.hash(&mut hasher);
        Self {
            etag: format!("\"{:016x}\"", hasher.finish()).into(),
            policy: HeaderValue::from_str(&policy).ok(),
            html: html.into(),
        }
    }

    /// The page, unless the browser has it.
    pub fn show(&self, headers: &HeaderMap) -> Response {
        Known::read(headers).answer(&self.etag, || {
            let mut reply = Response::new(self.html.clone().into());
            let headers = reply.headers_mut();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/html; charset=utf-8"),
            );
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            if let Some(policy) = &self.policy {
                headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
            }
            reply
        })
    }
}

/// What a policy calls a script or a style.
fn digest(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each page with its script.
    type WithScript = (fn() -> Page, &'static str);
    const PAGES: [WithScript; 2] = [(Page::new, SCRIPT), (Page::of_standby, STANDBY_SCRIPT)];

    #[test]
    fn everything_is_in_it_and_nothing_breaks_out() {
        for (page, script) in PAGES {
            let page = page();
            let html = std::str::from_utf8(&page.html).unwrap();
            assert!(!html.contains("/*STYLE*/") && !html.contains("/*SCRIPT*/"));
            for (part, end) in [(script, "</script"), (STYLE, "</style")] {
                assert!(!part.to_lowercase().contains(end));
                assert!(html.contains(part));
            }
            for elsewhere in ["src=", "@import", "url(http", "href=\"http"] {
                assert!(!html.contains(elsewhere), "{elsewhere}");
            }
        }
    }

    /// What comes from the API must never be read as markup.
    #[test]
    fn no_text_becomes_markup() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            for (_, script) in PAGES {
                assert!(!script.contains(way), "{way}");
            }
        }
    }

    #[test]
    fn the_policy_names_the_script_and_the_style() {
        for (page, script) in PAGES {
            let reply = page().show(&HeaderMap::new());
            let policy = reply.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains(&digest(script)), "{policy}");
            assert!(policy.contains(&digest(STYLE)), "{policy}");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }

    #[test]
    fn a_browser_that_has_it_is_not_sent_it_again() {
        let page = Page::new();
        let tag = page.show(&HeaderMap::new()).headers()["etag"].clone();
        let asked = HeaderMap::from_iter([(http::header::IF_NONE_MATCH, tag)]);
        assert_eq!(page.show(&asked).status(), 304);
    }
}
