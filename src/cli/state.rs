//! `dispatchd state`

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::output::line;
use super::{Failure, logging, note};
use crate::config::{LogFormat, Problem, StatePath};
use crate::model::count;
use crate::store::{
    Checksums, Kind, OpenError, PostgresCopy, PostgresWhole, SqliteCopy, SqliteReader, WholeSource,
    WholeTarget, carry_over,
};

/// The options of `dispatchd state`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct StateOptions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copies a whole state: from a file to a PostgreSQL database, or back
    #[command(after_help = AFTER_COPY)]
    Copy {
        /// The state to copy: the path of a file, or postgres://...; no daemon may use it
        #[arg(value_name = "FROM")]
        from: PathBuf,

        /// Where it goes: the path of a file that is not there, or postgres://... with
        /// nothing in it
        #[arg(value_name = "TO")]
        to: PathBuf,

        /// A file with the password of a PostgreSQL database whose URL has none; PGPASSWORD
        /// works too
        #[arg(long, value_name = "PATH", env = "DISPATCHD_STATE_PASSWORD_FILE")]
        state_password_file: Option<PathBuf>,
    },
}

const AFTER_COPY: &str = "\
Stop every daemon of both first. FROM is only read. TO is read back and compared at the
end, and is a state only then: no daemon starts with half a copy. Afterwards use one of
the two: two daemons on copies of one state would both command its sites.";

/// One side of the copy: how the command line calls it, and where it is.
struct Side {
    name: &'static str,
    path: StatePath,
}

/// Does what is asked.
pub(super) fn run(options: StateOptions) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "error")?;
    let Action::Copy {
        from,
        to,
        state_password_file,
    } = options.action;
    let password = state_password_file.as_deref();
    let from = Side::read("FROM", &from, password)?;
    let to = Side::read("TO", &to, password)?;
    // Before a database is watched for some seconds.
    to.is_free()?;
    match &from.path {
        StatePath::Memory => Err(from.kept_nowhere()),
        StatePath::File(path) => {
            let source = SqliteReader::of_unused(path).map_err(|error| from.refused(&error))?;
            copy(source, &from, &to)
        }
        StatePath::Postgres(target) => {
            note("FROM: looks for some seconds whether a daemon uses the database");
            let source = PostgresWhole::of_unused(target).map_err(|error| from.refused(&error))?;
            copy(source, &from, &to)
        }
    }
}

/// Without a password.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            StatePath::Memory => f.write_str(":memory:"),
            StatePath::File(path) => write!(f, "{}", path.display()),
            StatePath::Postgres(target) => write!(f, "{target}"),
        }
    }
}

impl Side {
    fn read(name: &'static str, path: &Path, password: Option<&Path>) -> Result<Self, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let read = StatePath::read(path, password.map(Path::to_owned), &env);
        let path = read.map_err(|mut problem: Problem| {
            if problem.option == "--state" {
                problem.option = name.into();
            }
            Failure::Usage(problem.to_string())
        })?;
        Ok(Self { name, path })
    }

    /// Makes sure that nothing is there. Nothing is made.
    fn is_free(&self) -> Result<(), Failure> {
        match &self.path {
            StatePath::Memory => return Err(self.kept_nowhere()),
            StatePath::File(path) => SqliteCopy::is_free(path),
            StatePath::Postgres(target) => PostgresCopy::is_free(target),
        }
        .map_err(|error| self.refused(&error))
    }

    fn kept_nowhere(&self) -> Failure {
        Failure::Usage(format!(
            "{}: `:memory:` is kept nowhere; give the path of a file, or postgres://USER@HOST/DATABASE",
            self.name
        ))
    }

    /// The store's words name the option of `dispatchd run`.
    fn refused(&self, error: &OpenError) -> Failure {
        let text = error.to_string();
        let text = text.strip_prefix("--state ").unwrap_or(&text);
        let text = match error {
            OpenError::Locked { path } => format!(
                "{} {}: another dispatchd is using it; stop that one first",
                self.name,
                path.display()
            ),
            _ => format!("{} {text}", self.name),
        };
        match error.is_configuration() {
            true => Failure::Usage(text),
            false => Failure::Runtime(text),
        }
    }
}

/// Copies `source`, and tells what was copied.
fn copy(mut source: impl WholeSource, from: &Side, to: &Side) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Runtime(error.to_string());
    let head = source.head().map_err(|error| failed(&error))?;
    let id = head.map(|head| head.id).unwrap_or_default();
    let checksums = match &to.path {
        StatePath::Memory => return Err(to.kept_nowhere()),
        StatePath::File(path) => {
            let target = SqliteCopy::begin(path, &id).map_err(|error| to.refused(&error))?;
            carry(&mut source, target)
        }
        StatePath::Postgres(target) => {
            let target = PostgresCopy::begin(target, &id).map_err(|error| to.refused(&error))?;
            carry(&mut source, target)
        }
    }?;
    for kind in Kind::ALL {
        let (one, many) = kind.words();
        line(&count(checksums.count(kind), one, many))?;
    }
    line(&format!("{to} was read back and holds the same as {from}")).map(drop)
}

fn carry(
    source: &mut impl WholeSource,
    mut target: impl WholeTarget,
) -> Result<Checksums, Failure> {
    carry_over(source, &mut target).map_err(|error| {
        Failure::Runtime(format!(
            "{error}; FROM is as it was, and TO may hold half a copy, with which no daemon starts"
        ))
    })
}
