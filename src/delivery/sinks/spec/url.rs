//! Reads the sinks that are written as URLs.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use super::{HttpTarget, MqttTarget, SinkSpecError};
use crate::delivery::sinks::SinkSecrets;
use crate::delivery::sinks::secrets::Credentials;

const HTTP_FORM: &str = "http://host[:port]/path or https://host[:port]/path";
const MQTT_FORM: &str = "mqtt://[user:pass@]host[:port]/prefix[?discovery=homeassistant]";

/// How many characters are shown of a text that nothing can be told of.
const SHOWN: usize = 16;

/// The text with everything left out that may be secret. For texts that could
/// not be read, so it cuts generously.
pub(super) fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Without a scheme nothing tells where a secret might be.
        let mut head: String = text.chars().take(SHOWN).collect();
        if head.len() < text.len() {
            head.push('…');
        }
        return match text.split_once(':') {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                format!("{scheme}:…")
            }
            _ if text.contains('@') => "…".to_owned(),
            _ => head,
        };
    };
    // The last one: a password may hold an unescaped `@`, or a `?`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{rest}")
}

fn read(text: &str, wanted: &'static str) -> Result<Url, SinkSpecError> {
    let refused = |reason: String| SinkSpecError::Url {
        shown: shown(text),
        reason,
        wanted,
    };
    let url = Url::parse(text).map_err(|e| refused(e.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host".to_owned()));
    }
    Ok(url)
}

fn credentials(url: &Url, text: &str) -> Result<Option<Credentials>, SinkSpecError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |part: &str| {
        percent_decode_str(part)
            .decode_utf8()
            .map(|text| SecretString::from(text.into_owned()))
            .map_err(|_| SinkSpecError::Credentials { shown: shown(text) })
    };
    Ok(Some(Credentials {
        user: decode(url.username())?,
        password: decode(url.password().unwrap_or_default())?,
    }))
}

pub(super) fn http(
    text: &str,
    secrets: &SinkSecrets,
) -> Result<(String, HttpTarget), SinkSpecError> {
    let mut url = read(text, HTTP_FORM)?;
    let credentials = credentials(&url, text)?;
    let cannot = || SinkSpecError::Url {
        shown: shown(text),
        reason: "user and password cannot be taken out".to_owned(),
        wanted: HTTP_FORM,
    };
    url.set_username("").map_err(|()| cannot())?;
    url.set_password(None).map_err(|()| cannot())?;
    url.set_fragment(None);

    // Piece by piece, so that the rest of the query reaches the receiver
    // exactly as it was written.
    let mut batch = false;
    let mut kept = Vec::new();
    for piece in url.query().into_iter().flat_map(|query| query.split('&')) {
        match piece.split_once('=').unwrap_or((piece, "")) {
            ("batch", "true") => batch = true,
            ("batch", "false") => batch = false,
            ("batch", _) => return Err(SinkSpecError::Batch { shown: shown(text) }),
            _ => kept.push(piece),
        }
    }
    let query = kept.join("&");
    let names: Vec<&str> = kept
        .iter()
        .map(|piece| piece.split_once('=').map_or("…", |(key, _)| key))
        .collect();
    let names = names.join("&");

    url.set_query(None);
    let mut name = url.as_str().to_owned();
    if !query.is_empty() {
        name = format!("{name}?{names}");
        url.set_query(Some(&query));
    }
    let target = HttpTarget {
        url: SecretString::from(String::from(url)),
        credentials,
        batch,
        key: secrets.key(),
    };
    Ok((name, target))
}

pub(super) fn mqtt(text: &str) -> Result<(String, MqttTarget), SinkSpecError> {
    let url = read(text, MQTT_FORM)?;
    let credentials = credentials(&url, text)?;
    let tls = url.scheme() == "mqtts";
    let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
    let prefix_refused = |reason| SinkSpecError::Prefix {
        shown: shown(text),
        reason,
    };
    let prefix = percent_decode_str(url.path())
        .decode_utf8()
        .map_err(|_| prefix_refused("it is not UTF-8"))?;
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Err(prefix_refused("it is empty"));
    }
    let discovery = match url.query() {
        None => false,
        Some("discovery=homeassistant") => true,
        Some(query) if query.starts_with("discovery=") => {
            return Err(SinkSpecError::Discovery { shown: shown(text) });
        }
        Some(_) => return Err(prefix_refused("it holds `+`, `#` or `?`")),
    };
    if url.fragment().is_some() || prefix.contains(['+', '#']) {
        return Err(prefix_refused("it holds `+`, `#` or `?`"));
    }
    if prefix.starts_with('$') {
        return Err(prefix_refused(
            "topics that begin with `$` are the broker's own",
        ));
    }
    if prefix.chars().any(char::is_control) {
        return Err(prefix_refused("it holds control characters"));
    }
    if prefix.len() > 1024 {
        return Err(prefix_refused("it is longer than 1024 bytes"));
    }
    let shown_host = url.host_str().unwrap_or_default();
    let name = format!("{}://{shown_host}:{port}/{prefix}", url.scheme());
    let target = MqttTarget {
        tls,
        // An IPv6 address is written in brackets only inside a URL.
        host: shown_host.trim_matches(['[', ']']).to_owned(),
        port,
        prefix: prefix.to_owned(),
        credentials,
        discovery,
    };
    Ok((name, target))
}
