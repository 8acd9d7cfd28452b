//! Reads secrets that are given as a value or in a file.

use std::cmp::Ordering;
use std::path::PathBuf;

use secrecy::SecretString;

use super::{Origin, Origins, Problem};
use crate::secret::{Secret, SecretError};

/// The names under which one secret can be given.
#[derive(Debug)]
pub(super) struct Names {
    text: Name,
    file: Name,
}

/// An option and its variable.
#[derive(Debug, Clone, Copy)]
struct Name {
    option: &'static str,
    variable: &'static str,
}

macro_rules! names {
    ($option:literal, $variable:literal) => {
        Names {
            text: Name {
                option: $option,
                variable: $variable,
            },
            file: Name {
                option: concat!($option, "-file"),
                variable: concat!($variable, "_FILE"),
            },
        }
    };
}

pub(super) const API_KEY: Names = names!("--api-key", "VOLTUS_API_KEY");
pub(super) const WEBHOOK_SECRET: Names = names!("--webhook-secret", "DISPATCHD_WEBHOOK_SECRET");
pub(super) const SINK_SECRET: Names = names!("--sink-secret", "DISPATCHD_SINK_SECRET");
pub(super) const STATUS_TOKEN: Names = names!("--status-token", "DISPATCHD_STATUS_TOKEN");

impl Names {
    /// Something wrong with the secret, told by the option that it came by.
    pub fn problem(&self, secret: &Secret, problem: impl Into<String>) -> Problem {
        let name = match secret.file() {
            Some(_) => self.file,
            None => self.text,
        };
        Problem::new(name.option, problem)
    }

    /// Whether the configuration file may give the secret in a way that cannot be read.
    pub fn is_unreadable(&self, origins: &Origins<'_>) -> bool {
        let names = [self.text, self.file];
        names.iter().any(|name| origins.is_unreadable(name.option))
    }

    /// The option, variable or key of the file by which the secret came.
    pub fn used(&self, secret: &Secret, origins: &Origins<'_>) -> &'static str {
        let name = match secret.file() {
            Some(_) => self.file,
            None => self.text,
        };
        match origins.of(name.option) {
            Origin::Variable(_) => name.variable,
            Origin::File(_) => name.option.trim_start_matches("--"),
            _ => name.option,
        }
    }
}

/// Where a secret comes from.
pub(super) enum Given {
    Text(SecretString),
    File(PathBuf),
}

/// Chooses between a secret and a file with it. What was written as an option
/// wins over a variable, and that over the configuration file; two of one kind
/// contradict each other.
pub(super) fn choose(
    names: &Names,
    text: Option<SecretString>,
    file: Option<PathBuf>,
    origins: &Origins<'_>,
) -> Result<Option<Given>, Problem> {
    let [by_text, by_file] = [names.text, names.file].map(|name| origins.of(name.option).rank());
    let given = match (text, file) {
        (None, None) => return Ok(None),
        (Some(text), None) => Given::Text(text),
        (None, Some(file)) => Given::File(file),
        (Some(text), Some(file)) => match by_text.cmp(&by_file) {
            Ordering::Less => Given::Text(text),
            Ordering::Greater => Given::File(file),
            Ordering::Equal => {
                let called = |name: Name| match origins.of(name.option) {
                    Origin::Variable(variable) => format!("the variable {variable}"),
                    _ => name.option.to_owned(),
                };
                let problem = format!(
                    "{} and {} are both given; give one of them",
                    called(names.text),
                    called(names.file)
                );
                return Err(Problem::new(names.text.option, problem));
            }
        },
    };
    Ok(Some(given))
}

/// The secret itself. White space around it in a file does not count.
pub(super) fn read(names: &Names, given: Option<Given>) -> Result<Option<Secret>, Problem> {
    match given {
        None => Ok(None),
        Some(Given::Text(text)) => Ok(Some(Secret::fixed(text))),
        Some(Given::File(path)) => {
            let unusable = |error: SecretError| Problem::new(names.file.option, error.to_string());
            Secret::from_file(path).map(Some).map_err(unusable)
        }
    }
}
