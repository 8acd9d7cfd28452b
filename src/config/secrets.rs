//! Reads secrets that are given as a value or in a file.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use secrecy::SecretString;

use super::Problem;
use crate::secret::{Secret, SecretError};

/// The names under which one secret can be given.
#[derive(Debug)]
pub(super) struct Names {
    text: Name,
    file: Name,
}

/// An option, and how the command line's parser calls it.
#[derive(Debug, Clone, Copy)]
struct Name {
    id: &'static str,
    option: &'static str,
    variable: &'static str,
}

macro_rules! names {
    ($id:literal, $option:literal, $variable:literal) => {
        Names {
            text: Name {
                id: $id,
                option: $option,
                variable: $variable,
            },
            file: Name {
                id: concat!($id, "_file"),
                option: concat!($option, "-file"),
                variable: concat!($variable, "_FILE"),
            },
        }
    };
}

pub(super) const API_KEY: Names = names!("api_key", "--api-key", "VOLTUS_API_KEY");
pub(super) const WEBHOOK_SECRET: Names = names!(
    "webhook_secret",
    "--webhook-secret",
    "DISPATCHD_WEBHOOK_SECRET"
);
pub(super) const SINK_SECRET: Names =
    names!("sink_secret", "--sink-secret", "DISPATCHD_SINK_SECRET");
pub(super) const STATUS_TOKEN: Names =
    names!("status_token", "--status-token", "DISPATCHD_STATUS_TOKEN");

impl Names {
    /// Something wrong with the secret, told by the option that it came by.
    pub fn problem(&self, secret: &Secret, problem: impl Into<String>) -> Problem {
        let name = match secret.file() {
            Some(_) => self.file,
            None => self.text,
        };
        Problem::new(name.option, problem)
    }

    /// The option or variable by which the secret came.
    pub fn used(&self, secret: &Secret, matches: &ArgMatches) -> &'static str {
        let name = match secret.file() {
            Some(_) => self.file,
            None => self.text,
        };
        match matches.value_source(name.id) {
            Some(ValueSource::EnvVariable) => name.variable,
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
/// wins over a variable; two of one kind contradict each other.
pub(super) fn choose(
    names: &Names,
    text: Option<SecretString>,
    file: Option<PathBuf>,
    matches: &ArgMatches,
) -> Result<Option<Given>, Problem> {
    let written = |name: Name| matches.value_source(name.id) == Some(ValueSource::CommandLine);
    let given = match (text, file) {
        (None, None) => return Ok(None),
        (Some(text), None) => Given::Text(text),
        (None, Some(file)) => Given::File(file),
        (Some(text), Some(file)) => match (written(names.text), written(names.file)) {
            (true, false) => Given::Text(text),
            (false, true) => Given::File(file),
            _ => {
                let called = |name: Name| match written(name) {
                    true => name.option.to_owned(),
                    false => format!("the variable {}", name.variable),
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
