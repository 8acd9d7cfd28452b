//! The API key, and where it is read from.

use std::fmt;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is empty.
    #[error("the API key is empty")]
    Empty,
    /// The file is empty.
    #[error("{path} is empty; write the key into it")]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// It cannot stand in a header.
    #[error("the API key has a character that cannot stand in an HTTP header")]
    Unusable,
}

/// The key to the API. One that came from a file is read again when the API
/// refuses it, so that a rotated key needs no restart.
pub struct ApiKey {
    file: Option<PathBuf>,
    header: ArcSwap<HeaderValue>,
}

impl ApiKey {
    /// A key that was given as such.
    ///
    /// # Errors
    /// When it cannot be used as a header.
    pub fn fixed(key: &SecretString) -> Result<Self, KeyError> {
        Ok(Self {
            file: None,
            header: ArcSwap::from_pointee(header(key.expose_secret())?),
        })
    }

    /// A key from a file. White space around it does not count.
    ///
    /// # Errors
    /// When the file cannot be read, or what it holds cannot be used.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            file: Some(path.to_owned()),
            header: ArcSwap::from_pointee(read(path)?),
        })
    }

    /// The key as a header's value, marked so that nothing logs it.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.header.load())
    }

    /// The file that it came from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file again, if there is one. Tells whether the key is another
    /// now.
    ///
    /// # Errors
    /// When the file cannot be read; the key stays as it was.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let Some(path) = &self.file else {
            return Ok(false);
        };
        let fresh = read(path)?;
        let changed = *self.header.load_full() != fresh;
        if changed {
            self.header.store(fresh.into());
        }
        Ok(changed)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<HeaderValue, KeyError> {
    let text: SecretString = std::fs::read_to_string(path)
        .map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?
        .into();
    header(text.expose_secret()).map_err(|error| match error {
        KeyError::Empty => KeyError::EmptyFile {
            path: path.to_owned(),
        },
        other => other,
    })
}

fn header(key: &str) -> Result<HeaderValue, KeyError> {
    let key = key.trim();
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
        let key = ApiKey::from_file(&path).unwrap();
        assert_eq!(key.header(), "first");
        assert!(!key.reload().unwrap());
        std::fs::write(&path, "  second\n").unwrap();
        assert!(key.reload().unwrap());
        assert_eq!(key.header(), "second");
        std::fs::write(&path, "\n").unwrap();
        assert!(key.reload().is_err());
        assert_eq!(key.header(), "second", "an unusable file changes nothing");
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::fixed(&"hush-hush".to_owned().into()).unwrap();
        assert!(!format!("{key:?} {:?}", key.header()).contains("hush"));
    }
}
