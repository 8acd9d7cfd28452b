//! Tells where each option got its value, for precedence and for messages:
//! [`Origins`] of a command line, [`Origin`] of one option.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::Problem;
use super::file::ConfigFile;

/// A line of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the operator named it.
    pub path: Arc<Path>,
    /// The line, the first being 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Where an option got its value. An earlier variant wins over a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// The environment variable of this name.
    Variable(String),
    /// The configuration file.
    File(Place),
    /// Nowhere: the option has its default, or no value.
    Default,
}

impl Origin {
    /// 0 for what wins over all others.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::CommandLine => 0,
            Self::Variable(_) => 1,
            Self::File(_) => 2,
            Self::Default => 3,
        }
    }
}

/// Where the options of one command got their values.
#[derive(Debug, Clone, Copy)]
pub struct Origins<'a> {
    command: &'a Command,
    matches: &'a ArgMatches,
    file: Option<&'a Arc<ConfigFile>>,
}

impl<'a> Origins<'a> {
    /// `matches` are those of `command`, whose defaults may come from `file`.
    pub fn new(
        command: &'a Command,
        matches: &'a ArgMatches,
        file: Option<&'a Arc<ConfigFile>>,
    ) -> Self {
        Self {
            command,
            matches,
            file,
        }
    }

    /// The same for the command that is named within this one, if one is.
    pub fn within(self) -> Self {
        let inner = self.matches.subcommand().and_then(|(name, matches)| {
            let command = self.command.find_subcommand(name)?;
            Some(Self::new(command, matches, self.file))
        });
        inner.unwrap_or(self)
    }

    /// The configuration file, if one was named.
    pub fn file(&self) -> Option<&'a Arc<ConfigFile>> {
        self.file
    }

    /// Where `option`, written as `--name`, got its value.
    pub fn of(&self, option: &str) -> Origin {
        let Some(long) = option.strip_prefix("--") else {
            return Origin::Default;
        };
        let mut args = self.command.get_arguments();
        let Some(arg) = args.find(|arg| arg.get_long() == Some(long)) else {
            return Origin::Default;
        };
        match self.matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Origin::CommandLine,
            Some(ValueSource::EnvVariable) => {
                let variable = arg.get_env().unwrap_or_default();
                Origin::Variable(variable.to_string_lossy().into_owned())
            }
            _ => match self.file.and_then(|file| file.place_of(long)) {
                Some(place) => Origin::File(place),
                None => Origin::Default,
            },
        }
    }

    /// What is wrong in the file with the options of this command. All that is wrong in
    /// it is the business of `dispatchd run` and `dispatchd check`.
    pub(super) fn problems_of_file(&self) -> Vec<Problem> {
        let file = self.file.map(|file| file.problems_of(self.command));
        file.unwrap_or_default()
    }

    /// Whether the file gives `option` a value that cannot be used, or may do so
    /// where it cannot be read. What depends on such an option is not checked.
    pub(super) fn is_unreadable(&self, option: &str) -> bool {
        let long = option.trim_start_matches("--");
        matches!(self.of(option), Origin::Default)
            && self.file.is_some_and(|file| file.is_unreadable(long))
    }
}

/// What a message about an option ends with, so that the operator looks for its
/// value in the right place. Nothing if the message names that place already.
pub(crate) fn suffix(origin: &Origin, message: &str) -> String {
    match origin {
        Origin::Variable(variable) if !message.contains(variable) => {
            format!(" (set by the variable {variable})")
        }
        Origin::File(place) => format!(" (set in {place})"),
        _ => String::new(),
    }
}
