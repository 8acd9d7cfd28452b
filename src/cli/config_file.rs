//! Finds and reads the configuration file, before the rest of the command line is
//! looked at: other options take their defaults from it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::empty::untyped;
use crate::config::{ConfigFile, Origin};

/// The file that `args` or the environment name for the command in `args`. `None` if
/// there is none, the command takes none, or the command line cannot be read.
pub(super) fn named(command: Command, args: &[OsString]) -> Option<Arc<ConfigFile>> {
    let matches = untyped(command).try_get_matches_from(args).ok()?;
    let (path, origin) = option(&matches)?;
    Some(Arc::new(ConfigFile::read(Path::new(&path), origin)))
}

/// `--config` of the command that is named last.
fn option(matches: &ArgMatches) -> Option<(OsString, Origin)> {
    const ID: &str = "config";
    if let Some((_, inner)) = matches.subcommand()
        && let Some(found) = option(inner)
    {
        return Some(found);
    }
    let path = matches.try_get_one::<OsString>(ID).ok()??.clone();
    let origin = match matches.value_source(ID) {
        Some(ValueSource::EnvVariable) => Origin::Variable("DISPATCHD_CONFIG".to_owned()),
        _ => Origin::CommandLine,
    };
    Some((path, origin))
}
