//! Refuses options and variables that are set to an empty value.
//!
//! No option means anything by an empty value. A script whose variable is unset
//! writes one, and what it was to protect or to name would be left at the default.
//! So each of them is refused, of every command, in this one place.

use std::ffi::{OsStr, OsString};

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::config::empty_variable;

/// Which options, arguments and variables are set and empty, and the remedy. `None`
/// if none is, or if the command line cannot be read at all.
pub(super) fn refusal(command: Command, args: &[OsString]) -> Option<String> {
    let mut command = untyped(command);
    command.build();
    let matches = command.clone().try_get_matches_from(args).ok()?;
    let problems = look(&command, &matches);
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// The same command, with values that are not looked at yet: the complaint about an
/// empty value is to be the same for all types.
pub(super) fn untyped(command: Command) -> Command {
    command
        .mut_args(|arg| {
            // What is missing is told when all is read.
            let arg = arg.required(false);
            if takes_value(&arg) {
                arg.value_parser(ValueParser::os_string())
            } else {
                arg
            }
        })
        .mut_subcommands(untyped)
        .subcommand_required(false)
        .arg_required_else_help(false)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn look(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let mut problems = Vec::new();
    for arg in command.get_arguments().filter(|arg| takes_value(arg)) {
        let id = arg.get_id().as_str();
        let is_empty = matches
            .try_get_raw(id)
            .is_ok_and(|values| values.into_iter().flatten().any(is_blank));
        if is_empty {
            problems.push(problem(arg, matches.value_source(id)));
        }
    }
    if let Some((name, own)) = matches.subcommand()
        && let Some(subcommand) = command.find_subcommand(name)
    {
        problems.extend(look(subcommand, own));
    }
    problems
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

fn problem(arg: &Arg, source: Option<ValueSource>) -> String {
    let name = match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => {
            let names = arg.get_value_names().unwrap_or_default();
            let name = names.first().map(|name| name.as_str());
            return format!(
                "{}: is empty; give a value",
                name.unwrap_or(arg.get_id().as_str())
            );
        }
    };
    match arg
        .get_env()
        .filter(|_| source == Some(ValueSource::EnvVariable))
    {
        Some(variable) => format!("{name}: {}", empty_variable(&variable.to_string_lossy())),
        None => format!("{name}: is empty; give a value, or leave the option out"),
    }
}
