//! The upstream's identifiers of dispatches and sites.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest dispatch id taken, in characters.
pub const DISPATCH_ID_MAX: usize = 64;

/// Why a text is no dispatch id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a dispatch id is 1 to {DISPATCH_ID_MAX} of A-Z a-z 0-9 _ -")]
pub struct InvalidId;

/// A dispatch's id: 1 to 64 of `A-Z a-z 0-9 _ -`.
///
/// The upstream calls it a short opaque token. The shape is ours: an id goes
/// into a URL path, so nothing that could steer one is let in (rule R8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DispatchId(Arc<str>);

impl DispatchId {
    /// Takes `text` as an id.
    ///
    /// # Errors
    /// [`InvalidId`] when it is empty, too long, or has another character.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=DISPATCH_ID_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DispatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A site's id: any text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteId(Arc<str>);

impl SiteId {
    /// Takes `text` as an id. `None` when it is empty.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Arc::from(text)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
