//! Reads the configuration file, which is TOML: [`ConfigFile`].
//!
//! Its keys are the long names of the options of `dispatchd run`. Which keys there
//! are, what values each takes and what is wrong with a value come from the command
//! line's own table of options, [`RunOptions`](super::RunOptions).

mod options;
mod sinks;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, Command};

use super::{Origin, Place, Problem, address};
pub(super) use sinks::{SinkTable, Written};

/// The longest file that is read, in bytes. 20,000 sites, each named in a sink, take
/// less than 1 MiB.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// The most problems that are told. A file with more of them is something else.
const PROBLEMS_MAX: usize = 100;

/// A configuration file as it was read: what it sets, and all that is wrong with it.
pub struct ConfigFile {
    path: Arc<Path>,
    /// Its folder, where relative paths in it begin.
    folder: PathBuf,
    /// What it sets, by the long names of the options. Sinks are apart.
    settings: BTreeMap<String, Setting>,
    sinks: Vec<SinkTable>,
    /// Options that it sets to a value that cannot be used.
    refused: BTreeSet<String>,
    /// Whether parts of it cannot be read, so that it may set any option.
    broken: bool,
    problems: Vec<FileProblem>,
}

/// The value of an option, or its values if it is repeatable.
struct Setting {
    texts: Vec<String>,
    line: usize,
}

/// Something wrong with the file.
struct FileProblem {
    /// The option that is meant, by its long name. `None` if it may be any.
    about: Option<String>,
    problem: Problem,
}

/// Leaves out the values, which may be secret.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigFile").field(&self.path).finish()
    }
}

impl ConfigFile {
    /// Reads the file that `--config` names, wherever that was given. It can always
    /// be made: what is wrong with it is in [`problems`](Self::problems).
    pub fn read(path: &Path, named: Origin) -> Self {
        match bytes(path) {
            Ok(bytes) => Self::parse(path, &bytes),
            Err(problem) => {
                let mut file = Self::empty(path);
                file.broken = true;
                file.problems.push(FileProblem {
                    about: None,
                    problem: Problem {
                        origin: named,
                        ..Problem::new("--config", problem)
                    },
                });
                file
            }
        }
    }

    /// Reads what is in the file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Self {
        let mut file = Self::empty(path);
        syntax::read(&mut file, bytes);
        file
    }

    fn empty(path: &Path) -> Self {
        let folder = path.parent().unwrap_or(path);
        Self {
            path: path.into(),
            // The same whatever the working directory is later.
            folder: std::path::absolute(folder.join(".")).unwrap_or_else(|_| folder.to_owned()),
            settings: BTreeMap::new(),
            sinks: Vec::new(),
            refused: BTreeSet::new(),
            broken: false,
            problems: Vec::new(),
        }
    }

    /// The file, as the operator named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file of the same name again.
    pub fn read_again(&self) -> Self {
        Self::read(&self.path, Origin::Default)
    }

    /// The options that `later` sets otherwise than this, by their long names.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.settings.keys().chain(later.settings.keys()).collect();
        let texts = |file: &Self, name: &String| {
            let setting = file.settings.get(name);
            setting.map(|setting| setting.texts.clone())
        };
        let mut differing: Vec<String> = names
            .into_iter()
            .filter(|name| texts(self, name) != texts(later, name))
            .cloned()
            .collect();
        let same_sinks = self.sinks.len() == later.sinks.len()
            && (self.sinks.iter().zip(&later.sinks)).all(|(one, other)| one.is_same(other));
        if !same_sinks {
            differing.push("sink".to_owned());
        }
        differing
    }

    /// The same command, whose options have the file's values as their defaults: the
    /// command line and the environment win over these.
    pub fn with_defaults(&self, command: Command) -> Command {
        let table = options::table();
        let is_same = |arg: &Arg, other: &Arg| {
            arg.get_id() == other.get_id()
                && arg.get_long() == other.get_long()
                && arg.get_env() == other.get_env()
        };
        self.with_defaults_of(command, &|arg| {
            let long = arg.get_long()?;
            if long == "status-url" {
                return self.status_url().map(|url| vec![url]);
            }
            // An option of another command may have the same name.
            let known = table.get_arguments().any(|known| is_same(known, arg));
            let setting = self.settings.get(long).filter(|_| known)?;
            Some(setting.texts.clone())
        })
    }

    fn with_defaults_of(
        &self,
        command: Command,
        of: &dyn Fn(&Arg) -> Option<Vec<String>>,
    ) -> Command {
        command
            .mut_args(|arg| match of(&arg) {
                Some(texts) => arg.default_values(texts),
                None => arg,
            })
            .mut_subcommands(|command| self.with_defaults_of(command, of))
    }

    /// Where the daemon of this file can be asked for its status.
    fn status_url(&self) -> Option<String> {
        let text = self.settings.get("status-listen")?.texts.first()?;
        let mut address = address(text).ok().filter(|address| address.port() != 0)?;
        if address.ip().is_unspecified() {
            address.set_ip(match address.is_ipv4() {
                true => std::net::Ipv4Addr::LOCALHOST.into(),
                false => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(format!("http://{address}"))
    }

    /// The line that sets the option of this long name.
    pub(super) fn place_of(&self, long: &str) -> Option<Place> {
        let setting = self.settings.get(long)?;
        Some(self.place(setting.line))
    }

    pub(super) fn place(&self, line: usize) -> Place {
        Place {
            path: Arc::clone(&self.path),
            line,
        }
    }

    /// Whether the file may set the option of this long name, to a value that is not
    /// known.
    pub(super) fn is_unreadable(&self, long: &str) -> bool {
        self.broken || self.refused.contains(long)
    }

    /// The sinks, in the order of the file.
    pub(super) fn sinks(&self) -> &[SinkTable] {
        &self.sinks
    }

    /// All that is wrong, in the order of the file.
    pub fn problems(&self) -> Vec<Problem> {
        let problems = self.problems.iter();
        problems.map(|problem| problem.problem.clone()).collect()
    }

    /// What is wrong with options that `command` has, or may concern them.
    pub(super) fn problems_of(&self, command: &Command) -> Vec<Problem> {
        let concerns = |problem: &&FileProblem| {
            problem.about.as_deref().is_none_or(|long| {
                let mut args = command.get_arguments();
                args.any(|arg| arg.get_long() == Some(long))
            })
        };
        let problems = self.problems.iter().filter(concerns);
        problems.map(|problem| problem.problem.clone()).collect()
    }

    /// Something wrong in a line. `about` is the long name of the option that is
    /// meant, `key` what is wrong, as it stands in the file.
    fn add_problem(&mut self, line: usize, about: Option<&str>, key: &str, text: String) {
        if self.has_enough_problems() {
            return;
        }
        if let Some(about) = about {
            self.refused.insert(about.to_owned());
        }
        let origin = Origin::File(self.place(line));
        self.problems.push(FileProblem {
            about: about.map(str::to_owned),
            problem: Problem {
                option: key.to_owned().into(),
                problem: text,
                origin,
            },
        });
    }

    /// Whether so much is wrong that the rest need not be looked at.
    fn has_enough_problems(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Says that not all problems are told, if that may be so.
    fn close(&mut self) {
        self.problems.sort_by_key(|problem| problem.problem.line());
        if self.has_enough_problems() {
            self.broken = true;
            if let Some(last) = self.problems.last_mut() {
                let text = &mut last.problem.problem;
                text.push_str("; only the first 100 errors are told, correct them first");
            }
        }
    }
}

/// What is in the file, or why it cannot be read and what to do.
fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        format!("the file {shown} cannot be read: {error}; give the path of a TOML file")
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!(
            "the file {shown} is longer than 16 MiB; give the path of a TOML file"
        ));
    }
    Ok(bytes)
}
