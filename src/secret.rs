//! Secrets of the operator, which can be read again from their files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};

use crate::system::open_to_all;

/// Why a file has no secret in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("the file {path} cannot be read: {source}; {}", remedy(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("the file {path} is empty; write the secret into it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What to do about a file that cannot be read.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make the file, or correct the path",
        io::ErrorKind::PermissionDenied => "let the user that runs dispatchd read it",
        io::ErrorKind::IsADirectory => "name a file",
        io::ErrorKind::InvalidData => "the file must be text in UTF-8",
        _ => "check the file",
    }
}

/// A secret that is told to nobody. Copies share it: all who hold one see at
/// once that it is another now.
#[derive(Clone)]
pub struct Secret(Arc<Kept>);

struct Kept {
    file: Option<PathBuf>,
    value: ArcSwap<SecretString>,
}

impl Secret {
    /// One that was given as such.
    pub fn fixed(value: SecretString) -> Self {
        Self::new(None, value)
    }

    /// One from a file. White space around it does not count.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub fn from_file(path: PathBuf) -> Result<Self, SecretError> {
        let value = read(&path)?;
        Ok(Self::new(Some(path), value))
    }

    fn new(file: Option<PathBuf>, value: SecretString) -> Self {
        Self(Arc::new(Kept {
            file,
            value: ArcSwap::from_pointee(value),
        }))
    }

    /// The secret as it is now.
    pub fn get(&self) -> Arc<SecretString> {
        self.0.value.load_full()
    }

    /// The file that it came from.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// What the file says now, if there is one and it says something else. The
    /// secret stays as it was until [`Self::set`].
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub fn read_again(&self) -> Result<Option<SecretString>, SecretError> {
        let Some(path) = &self.0.file else {
            return Ok(None);
        };
        let fresh = read(path)?;
        let same = fresh.expose_secret() == self.get().expose_secret();
        Ok((!same).then_some(fresh))
    }

    /// From now on it is this.
    pub fn set(&self, value: SecretString) {
        self.0.value.store(Arc::new(value));
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("file", &self.0.file)
            .finish_non_exhaustive()
    }
}

/// Whether every user of this machine can read the file. What is no regular file, such as a
/// pipe, is not looked at.
pub fn is_open_to_all(path: &Path) -> bool {
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.is_file() && open_to_all(&metadata).is_some())
}

fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text: SecretString = std::fs::read_to_string(path)
        .map_err(|source| SecretError::Read {
            path: path.to_owned(),
            source,
        })?
        .into();
    let trimmed = text.expose_secret().trim();
    if trimmed.is_empty() {
        return Err(SecretError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(trimmed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_now_counts_once_it_is_set_and_for_every_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "first\n").unwrap();
        let secret = Secret::from_file(path.clone()).unwrap();
        let copy = secret.clone();
        assert!(secret.read_again().unwrap().is_none());
        std::fs::write(&path, " second\n").unwrap();
        let fresh = secret.read_again().unwrap().unwrap();
        assert_eq!(copy.get().expose_secret(), "first");
        secret.set(fresh);
        assert_eq!(copy.get().expose_secret(), "second");
        for unusable in [Some("\n"), None] {
            match unusable {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert!(secret.read_again().is_err());
            assert_eq!(copy.get().expose_secret(), "second");
        }
    }

    #[test]
    fn a_file_that_every_user_can_read_is_known() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o444, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_all(&path), open, "{mode:o}");
        }
        assert!(!is_open_to_all(dir.path()));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::fixed("hush-hush".into());
        assert!(!format!("{secret:?}").contains("hush"));
        assert!(secret.read_again().unwrap().is_none());
    }
}
