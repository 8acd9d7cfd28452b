//! Reads what the operator wrote after `--sink`.

mod error;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};

use super::SinkSecrets;
use super::secrets::{Credentials, SigningKey};
use crate::model::{Route, SinkRoute};
use crate::system::may_execute;
pub use error::SinkSpecError;

/// One sink as the operator wrote it, checked but not yet at work.
///
/// | written | means |
/// |---|---|
/// | `stdout` | one JSON event a line |
/// | `none` | nobody |
/// | `exec:PATH` | a program, run for each event |
/// | `http://…`, `https://…` | a POST for each event; with `?batch=true` up to 100 in one |
/// | `mqtt://[user:pass@]host[:port]/prefix`, `mqtts://…` | topics below the prefix |
#[derive(Clone)]
pub struct SinkSpec {
    name: String,
    kind: Kind,
    route: Route,
}

#[derive(Clone)]
pub(super) enum Kind {
    Stdout,
    None,
    Exec(PathBuf),
    Http(HttpTarget),
    Mqtt(MqttTarget),
}

/// Whom an HTTP sink calls, and how.
#[derive(Clone)]
pub(super) struct HttpTarget {
    /// The whole address less user and password. Secret, since tokens are given
    /// in queries.
    pub(super) url: SecretString,
    pub(super) credentials: Option<Credentials>,
    pub(super) batch: bool,
    pub(super) key: Option<Arc<ArcSwap<SigningKey>>>,
}

/// Where an MQTT sink publishes.
#[derive(Clone)]
pub(super) struct MqttTarget {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) prefix: String,
    pub(super) credentials: Option<Credentials>,
    /// Whether sites are announced to Home Assistant.
    pub(super) discovery: bool,
}

/// The name only: the rest may be secret.
impl fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SinkSpec").field(&self.name).finish()
    }
}

impl SinkSpec {
    /// Reads one sink. Looks whether the program of `exec:` can be run, so that
    /// a slip of the pen shows at the start and not at the first dispatch.
    pub fn parse(text: &str, secrets: &SinkSecrets) -> Result<Self, SinkSpecError> {
        let text = text.trim();
        let plain = |kind| {
            Ok(Self {
                name: text.to_owned(),
                kind,
                route: Route::default(),
            })
        };
        match text {
            "stdout" => return plain(Kind::Stdout),
            "none" => return plain(Kind::None),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("exec:") {
            return plain(Kind::Exec(program(path)?));
        }
        let (name, kind) = match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => {
                let (name, target) = url::http(text, secrets)?;
                (name, Kind::Http(target))
            }
            Some("mqtt" | "mqtts") => {
                let (name, target) = url::mqtt(text)?;
                (name, Kind::Mqtt(target))
            }
            _ => {
                return Err(SinkSpecError::Unknown {
                    shown: url::shown(text),
                });
            }
        };
        Ok(Self {
            name,
            kind,
            route: Route::default(),
        })
    }

    /// The same sink under a name that the operator gave it.
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// The same sink with a route of its own, instead of that of everything.
    pub fn routed(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// Its name and its route.
    pub fn sink_route(&self) -> SinkRoute {
        SinkRoute {
            sink: self.name.as_str().into(),
            route: self.route.clone(),
        }
    }

    /// Where and how it delivers, without what may be secret: user, password and a query
    /// that is not ours.
    pub fn receiver(&self) -> String {
        match &self.kind {
            Kind::Stdout => "stdout".to_owned(),
            Kind::None => "none".to_owned(),
            Kind::Exec(program) => format!("exec:{}", program.display()),
            Kind::Http(target) => {
                let url = target.url.expose_secret();
                let bare = url.split_once('?').map_or(url, |(bare, _)| bare);
                let kind = if target.batch { "batches" } else { "events" };
                format!("{kind} to {bare}")
            }
            Kind::Mqtt(target) => {
                let scheme = if target.tls { "mqtts" } else { "mqtt" };
                let announces = if target.discovery {
                    "?discovery=homeassistant"
                } else {
                    ""
                };
                format!(
                    "{scheme}://{}:{}/{}{announces}",
                    target.host, target.port, target.prefix
                )
            }
        }
    }

    /// Which events it gets.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Reads several. Two of one name are refused: what is still to be
    /// delivered is kept by name.
    pub fn parse_all<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        secrets: &SinkSecrets,
    ) -> Result<Vec<Self>, Vec<SinkSpecError>> {
        let mut specs: Vec<Self> = Vec::new();
        let mut errors = Vec::new();
        for text in texts {
            match Self::parse(text, secrets) {
                Ok(spec) if specs.iter().any(|other| other.name == spec.name) => {
                    errors.push(SinkSpecError::Twice { name: spec.name });
                }
                Ok(spec) => specs.push(spec),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(specs)
        } else {
            Err(errors)
        }
    }

    /// Whether it is `none`: there is nobody to deliver to.
    pub fn is_none(&self) -> bool {
        matches!(self.kind, Kind::None)
    }

    /// Names the sink in logs, metrics and the store. Leaves out user, password
    /// and the values of a query, and stays the same when they change. A secret
    /// in the path of a URL is not known as one and shows.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }
}

/// A file that can be run, as an absolute path: a bare name would be searched
/// for in `PATH`.
fn program(path: &str) -> Result<PathBuf, SinkSpecError> {
    let refused = |reason: String| SinkSpecError::Program {
        path: path.to_owned(),
        reason,
    };
    if path.is_empty() {
        return Err(refused("no path is given".to_owned()));
    }
    let found = std::path::absolute(Path::new(path)).map_err(|e| refused(e.to_string()))?;
    let meta = std::fs::metadata(&found).map_err(|e| refused(e.to_string()))?;
    if !meta.is_file() {
        return Err(refused("it is not a file".to_owned()));
    }
    may_execute(&found).map_err(|_| refused("this user may not execute it".to_owned()))?;
    Ok(found)
}

#[cfg(test)]
mod tests;
