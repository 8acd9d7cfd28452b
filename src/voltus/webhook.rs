//! Registered webhooks and their URLs.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::http::is_loopback;
use crate::model::WEBHOOK_PATH;

/// What a registration must tell of, so that no dispatch is missed.
pub const EVENTS: [&str; 2] = ["dispatch.create", "dispatch.update"];

/// What stands for the part of a URL that is a secret.
const HIDDEN: &str = "<hidden>";

/// The URL of a webhook. Whoever knows it whole can post to it, so it is shown
/// without what may be a secret: what follows the listener's path, a query, a
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    text: String,
    /// `None` when the text is no URL.
    url: Option<Url>,
}

impl WebhookUrl {
    /// Takes any text, as the API may have taken any.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let url = Url::parse(&text).ok();
        Self { text, url }
    }

    /// The whole of it, with its secret.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether both lead to the same place, however they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.text == other.text || (self.url.is_some() && self.url == other.url)
    }

    /// Whether this leads to the same listener as `other`, with the same, an
    /// older or no secret.
    pub fn is_of_listener(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.listener(), other.listener()) else {
            return false;
        };
        ours == theirs
    }

    /// Whether webhooks would cross a network in the clear.
    pub fn is_unencrypted(&self) -> bool {
        let in_the_clear = |url: &Url| url.scheme() == "http" && !is_loopback(url);
        self.url.as_ref().is_some_and(in_the_clear)
    }

    /// `text` without the parts of this URL that may be a secret.
    pub fn hide_in(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        let mut hide = |part: &str, shown: &str| {
            if !part.is_empty() {
                hidden = hidden.replace(part, shown);
            }
        };
        hide(&self.text, &self.to_string());
        if let Some(url) = &self.url {
            hide(url.as_str(), &self.to_string());
            if let Some(end) = listener_end(url.path()) {
                let secret = url.path().get(end..).unwrap_or_default();
                hide(secret.trim_matches('/'), HIDDEN);
            }
        }
        hidden
    }

    /// Where it leads up to the listener's path: scheme, host, port and path.
    fn listener(&self) -> Option<(&str, url::Host<&str>, Option<u16>, &str)> {
        let url = self.url.as_ref()?;
        let end = listener_end(url.path())?;
        let path = url.path().get(..end)?;
        Some((url.scheme(), url.host()?, url.port_or_known_default(), path))
    }
}

/// Where the listener's path ends within `path`, if it is there.
pub(crate) fn listener_end(path: &str) -> Option<usize> {
    let ends = |(at, _)| {
        let end = at + WEBHOOK_PATH.len();
        let rest = path.get(end..)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(end)
    };
    path.rmatch_indices(WEBHOOK_PATH).find_map(ends)
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(url) = self.url.as_ref().filter(|url| url.has_host()) else {
            return f.write_str("<not a URL>");
        };
        write!(f, "{}://", url.scheme())?;
        if !url.username().is_empty() || url.password().is_some() {
            write!(f, "{HIDDEN}@")?;
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        let path = url.path();
        match listener_end(path).and_then(|end| path.split_at_checked(end)) {
            Some((listener, "")) => f.write_str(listener)?,
            Some((listener, _)) => write!(f, "{listener}/{HIDDEN}")?,
            None => f.write_str(path)?,
        }
        if url.query().is_some() {
            write!(f, "?{HIDDEN}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

/// A webhook as the API lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The API's id for it.
    pub id: WebhookId,
    /// Where events are posted to.
    pub url: WebhookUrl,
    /// The events that it is told of.
    pub events: Vec<String>,
}

impl Webhook {
    /// The events that it lacks.
    pub fn lacks(&self) -> impl Iterator<Item = &'static str> {
        let has = |wanted: &str| self.events.iter().any(|event| event == wanted);
        EVENTS.into_iter().filter(move |wanted| !has(wanted))
    }

    /// Whether it is told of all that matters.
    pub fn is_whole(&self) -> bool {
        self.lacks().next().is_none()
    }
}

/// The API's id for a webhook. It goes into a path, so nothing that could steer
/// one is let in (rule R8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookId(String);

/// A text that is no webhook's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a webhook's id is 1 to 128 of A-Z a-z 0-9 _ - . and not dots alone")]
pub struct InvalidWebhookId;

impl std::str::FromStr for WebhookId {
    type Err = InvalidWebhookId;

    fn from_str(text: &str) -> Result<Self, InvalidWebhookId> {
        let fits = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            && text.bytes().any(|byte| byte != b'.');
        fits.then(|| Self(text.to_owned())).ok_or(InvalidWebhookId)
    }
}

impl WebhookId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct ListWire {
    webhooks: Vec<Value>,
}

/// Reads the answer to `GET /webhooks`, and counts what in it could not be read.
pub(super) fn read_webhooks(body: &[u8]) -> Result<(Vec<Webhook>, usize), serde_json::Error> {
    let list: ListWire = serde_json::from_slice(body)?;
    let all = list.webhooks.len();
    let read: Vec<Webhook> = list.webhooks.iter().filter_map(read_webhook).collect();
    let unread = all - read.len();
    Ok((read, unread))
}

/// Reads one. Ids may be numbers, and events plain names.
pub(super) fn read_webhook(value: &Value) -> Option<Webhook> {
    let id = match value.get("id")? {
        Value::String(id) => id.parse().ok()?,
        Value::Number(id) => id.to_string().parse().ok()?,
        _ => return None,
    };
    let events = value.get("events").and_then(Value::as_array);
    let name = |event: &Value| match event {
        Value::String(name) => Some(name.clone()),
        other => Some(other.get("name")?.as_str()?.to_owned()),
    };
    Some(Webhook {
        id,
        url: WebhookUrl::new(value.get("url")?.as_str()?),
        events: events.into_iter().flatten().filter_map(name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let url = WebhookUrl::new(text);
        assert_eq!(format!("{url:?}"), format!("WebhookUrl({url})"));
        url.to_string()
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (text, expected) in [
            (
                "https://a.example/dispatch-listener",
                "https://a.example/dispatch-listener",
            ),
            (
                "https://a.example:8443/x/dispatch-listener/hush/hush",
                "https://a.example:8443/x/dispatch-listener/<hidden>",
            ),
            (
                "https://hush:hush@a.example/hooks?key=hush#hush",
                "https://<hidden>@a.example/hooks?<hidden>",
            ),
            ("https://[::1]:5/", "https://[::1]:5/"),
            ("hush", "<not a URL>"),
            ("data:hush", "<not a URL>"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn the_same_url_may_be_written_in_several_ways() {
        let ours = WebhookUrl::new("https://a.example/dispatch-listener/s");
        for text in [
            "https://a.example/dispatch-listener/s",
            "https://A.example:443/dispatch-listener/s",
        ] {
            assert!(WebhookUrl::new(text).is_same(&ours), "{text}");
        }
        for text in [
            "https://a.example/dispatch-listener/S",
            "http://a.example/dispatch-listener/s",
        ] {
            assert!(!WebhookUrl::new(text).is_same(&ours), "{text}");
        }
    }

    #[test]
    fn a_listener_is_known_by_where_its_path_is_whatever_the_secret() {
        let ours = WebhookUrl::new("https://a.example/x/dispatch-listener/s");
        for text in [
            "https://a.example/x/dispatch-listener",
            "https://a.example:443/x/dispatch-listener/",
            "https://a.example/x/dispatch-listener/old",
        ] {
            assert!(WebhookUrl::new(text).is_of_listener(&ours), "{text}");
        }
        for text in [
            "http://a.example/x/dispatch-listener/s",
            "https://b.example/x/dispatch-listener/s",
            "https://a.example:8443/x/dispatch-listener/s",
            "https://a.example/dispatch-listener/s",
            "https://a.example/x/dispatch-listeners/s",
            "https://a.example/x",
            "hush",
        ] {
            assert!(!WebhookUrl::new(text).is_of_listener(&ours), "{text}");
        }
    }

    #[test]
    fn an_id_cannot_steer_a_path() {
        for id in ["a", "12", "8f-0_x.y"] {
            assert!(id.parse::<WebhookId>().is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "a?b", "ä", &"a".repeat(129)] {
            assert!(id.parse::<WebhookId>().is_err(), "{id}");
        }
    }

    #[test]
    fn a_list_is_read_in_every_form() {
        let body = br#"{"webhooks": [
            {"id": "a", "url": "https://a.example", "events": [{"name": "dispatch.create"}, {"name": "dispatch.update"}], "new": 1},
            {"id": 7, "url": "https://b.example", "events": ["dispatch.update"]},
            {"id": "c", "url": "https://c.example"},
            {"id": "../d", "url": "https://d.example"},
            {"url": "https://e.example"}
        ], "page": 0, "perPage": 0}"#;
        let (webhooks, unread) = read_webhooks(body).unwrap();
        assert_eq!(unread, 2);
        let ids: Vec<&str> = webhooks.iter().map(|webhook| webhook.id.as_str()).collect();
        assert_eq!(ids, ["a", "7", "c"]);
        assert!(webhooks[0].is_whole());
        assert_eq!(webhooks[1].lacks().collect::<Vec<_>>(), ["dispatch.create"]);
        assert!(read_webhooks(b"[]").is_err());
    }
}
