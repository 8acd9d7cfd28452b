//! Tells which variable gave an option its value, for messages.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The variable that gave `option`, written as `--name`, its value. `None` if the
/// option was written on the command line, has its default, or is none of
/// `command`'s.
pub(crate) fn set_by(option: &str, command: &Command, matches: &ArgMatches) -> Option<String> {
    let long = option.strip_prefix("--")?;
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))?;
    if matches.value_source(arg.get_id().as_str()) != Some(ValueSource::EnvVariable) {
        return None;
    }
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// What a message about an option ends with, so that the operator looks for its
/// value in the right place. Nothing if the message names the variable already.
pub(crate) fn suffix(variable: Option<&str>, message: &str) -> String {
    match variable {
        Some(variable) if !message.contains(variable) => {
            format!(" (set by the variable {variable})")
        }
        _ => String::new(),
    }
}
