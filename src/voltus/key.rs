//! The API key, as the header that it travels in.

use std::fmt;
use std::path::Path;

use arc_swap::ArcSwap;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::KeySource;
use crate::secret::{Secret, SecretError};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file has no key in it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// It is empty.
    #[error("the API key is empty")]
    Empty,
    /// It cannot stand in a header.
    #[error("the API key has a character that cannot stand in an HTTP header")]
    Unusable,
}

/// The key to the API. One that came from a file is read again when the API
/// refuses it, so that a rotated key needs no restart.
pub struct ApiKey {
    secret: Secret,
    source: KeySource,
    header: ArcSwap<HeaderValue>,
}

impl ApiKey {
    /// The key that is `secret`. White space around it does not count.
    ///
    /// # Errors
    /// When it cannot be used as a header.
    pub fn new(secret: Secret) -> Result<Self, KeyError> {
        let header = ArcSwap::from_pointee(header(&secret.get())?);
        Ok(Self {
            secret,
            source: KeySource::default(),
            header,
        })
    }

    /// The same key, with where it came from, for messages.
    #[must_use]
    pub fn from_source(mut self, source: KeySource) -> Self {
        self.source = source;
        self
    }

    /// Where it came from, as far as that is known.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// A key that was given as such.
    ///
    /// # Errors
    /// When it cannot be used as a header.
    pub fn fixed(key: &SecretString) -> Result<Self, KeyError> {
        Self::new(Secret::fixed(key.clone()))
    }

    /// The key as a header's value, marked so that nothing logs it.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.header.load())
    }

    /// The file that it came from.
    pub fn file(&self) -> Option<&Path> {
        self.secret.file()
    }

    /// Reads the file again, if there is one. Tells whether the key is another
    /// now.
    ///
    /// # Errors
    /// When the file cannot be read, or what it holds cannot be used; the key
    /// stays as it was.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let Some(fresh) = self.secret.read_again()? else {
            return Ok(false);
        };
        self.header.store(header(&fresh)?.into());
        self.secret.set(fresh);
        Ok(true)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("file", &self.file())
            .finish_non_exhaustive()
    }
}

fn header(key: &SecretString) -> Result<HeaderValue, KeyError> {
    let key = key.expose_secret().trim();
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    let mut value = HeaderValue::from_str(key).map_err(|_| KeyError::Unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_again_and_its_white_space_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "first\n").unwrap();
        let key = ApiKey::new(Secret::from_file(path.clone()).unwrap()).unwrap();
        assert_eq!(key.header(), "first");
        assert!(!key.reload().unwrap());
        std::fs::write(&path, "  second\n").unwrap();
        assert!(key.reload().unwrap());
        assert_eq!(key.header(), "second");
        for unusable in ["\n", "a\nb"] {
            std::fs::write(&path, unusable).unwrap();
            assert!(key.reload().is_err());
        }
        assert_eq!(key.header(), "second", "an unusable file changes nothing");
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::fixed(&"hush-hush".to_owned().into()).unwrap();
        assert!(!format!("{key:?} {:?}", key.header()).contains("hush"));
    }
}
