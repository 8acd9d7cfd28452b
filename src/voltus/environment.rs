//! Tells production from the sandbox.

use url::Url;

use crate::http::is_loopback;

/// What an API's address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Voltus's production: sites earn money.
    Production,
    /// Voltus's sandbox, or a stand-in on this machine. Its key is public.
    Sandbox,
    /// Another host.
    Other,
}

impl Environment {
    /// What `url` stands for, by its host.
    pub fn of(url: &Url) -> Self {
        match url.host_str() {
            Some("api.voltus.co") => Self::Production,
            Some("sandbox.voltus.co") => Self::Sandbox,
            _ if is_loopback(url) => Self::Sandbox,
            _ => Self::Other,
        }
    }

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
            Self::Other => "other",
        }
    }
}
