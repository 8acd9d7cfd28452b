//! Secrets that are given as such or in a file.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use secrecy::{ExposeSecret, SecretString};

use super::Problem;
use crate::secret::Secret;

/// Where a secret comes from.
pub(super) enum Given {
    Text(SecretString),
    File(PathBuf),
}

/// Chooses between a secret and a file with it. What was written as an option
/// wins over a variable; two of one kind contradict each other. An empty
/// variable counts as none.
pub(super) fn choose(
    option: &'static str,
    text: Option<SecretString>,
    file: Option<PathBuf>,
    matches: &ArgMatches,
) -> Result<Option<Given>, Problem> {
    let text = text.filter(|text| !text.expose_secret().is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    let id = option.trim_start_matches("--").replace('-', "_");
    match (text, file) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Given::Text(text))),
        (None, Some(file)) => Ok(Some(Given::File(file))),
        (Some(text), Some(file)) => {
            let written = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
            match (written(&id), written(&format!("{id}_file"))) {
                (true, false) => Ok(Some(Given::Text(text))),
                (false, true) => Ok(Some(Given::File(file))),
                _ => Err(Problem {
                    option,
                    problem: format!("given together with {option}-file; give one of them"),
                }),
            }
        }
    }
}

/// The secret itself. White space around it in a file does not count.
pub(super) fn read(option: &'static str, given: Option<Given>) -> Result<Option<Secret>, Problem> {
    match given {
        None => Ok(None),
        Some(Given::Text(text)) => Ok(Some(Secret::fixed(text))),
        Some(Given::File(path)) => Secret::from_file(path)
            .map(Some)
            .map_err(|error| Problem::new(option, error.to_string())),
    }
}
