//! Says in one line what is wrong with a command line: the option or variable at
//! fault, why, and what to write instead.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};

use crate::config::{Origin, suffix};

/// The line for `error`, which `command` found in `args`.
pub(super) fn line(error: &Error, command: &Command, args: &[OsString]) -> String {
    let path = Path::of(command, args);
    let help = format!("see `{} --help`", path.name);
    let ask = |kind| match text(error, kind) {
        Some(guess) => format!(": did you mean `{guess}`? See `{} --help`", path.name),
        None => format!("; {help}"),
    };
    let arg = text(error, ContextKind::InvalidArg);
    let name = arg.as_deref().map(option_name).unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let kind = if name.starts_with('-') {
                "option"
            } else {
                "argument"
            };
            format!("unknown {kind} `{name}`{}", ask(ContextKind::SuggestedArg))
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            let guess = ask(ContextKind::SuggestedSubcommand);
            format!("unknown command `{name}`{guess}")
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("{name}: needs a value; {help}")
        }
        ErrorKind::InvalidValue => {
            let valid = text(error, ContextKind::ValidValue).unwrap_or_default();
            let set_by = path.origin(name, &value, args);
            let message = format!("{name}: `{value}` is not one of {valid}");
            format!("{message}{}", suffix(&set_by, ""))
        }
        ErrorKind::ValueValidation => {
            let why =
                std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
            let set_by = path.origin(name, &value, args);
            format!(
                "{name}: `{value}` cannot be used: {why}{}",
                suffix(&set_by, "")
            )
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{} is missing; {help}", arg.unwrap_or_default())
        }
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_default();
            match option_name(&other) {
                other if other == name => format!("{name}: is given twice; give it once"),
                "" => format!("{name}: cannot be used together with another argument; {help}"),
                other => format!("{name}: cannot be used together with {other}; leave one out"),
            }
        }
        _ => {
            let text = error.to_string();
            // The first paragraph says what is wrong; usage and tips follow.
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.split_whitespace().collect();
            let first = words.join(" ");
            format!("{}; {help}", first.trim_start_matches("error: "))
        }
    }
}

/// The commands that `args` name, from the program itself down.
struct Path<'a> {
    /// Their names, as they are written.
    name: String,
    commands: Vec<&'a Command>,
}

impl<'a> Path<'a> {
    fn of(command: &'a Command, args: &[OsString]) -> Self {
        let mut name = command.get_name().to_owned();
        let mut commands = vec![command];
        for arg in args.iter().skip(1) {
            let last = commands.last().copied().unwrap_or(command);
            if let Some(next) = arg.to_str().and_then(|arg| last.find_subcommand(arg)) {
                name = format!("{name} {}", next.get_name());
                commands.push(next);
            }
        }
        Self { name, commands }
    }

    /// Where `option` got its `value`: written among `args`, or from its variable.
    fn origin(&self, option: &str, value: &str, args: &[OsString]) -> Origin {
        match self.variable(option, value, args) {
            Some(variable) => Origin::Variable(variable),
            None => Origin::CommandLine,
        }
    }

    fn variable(&self, option: &str, value: &str, args: &[OsString]) -> Option<String> {
        let written = |arg: &OsString| {
            let arg = arg.to_string_lossy();
            arg == option || arg.split_once('=').is_some_and(|(name, _)| name == option)
        };
        if args.iter().any(written) {
            return None;
        }
        let long = option.strip_prefix("--")?;
        let mut all = self
            .commands
            .iter()
            .flat_map(|command| command.get_arguments());
        let variable = all
            .find(|arg| arg.get_long() == Some(long))
            .and_then(Arg::get_env)?;
        (std::env::var_os(variable)? == value).then(|| variable.to_string_lossy().into_owned())
    }
}

/// `--poll-interval <D>` is called `--poll-interval`, and `[TEST]` is called `TEST`.
fn option_name(arg: &str) -> &str {
    let name = arg.split_whitespace().next().unwrap_or_default();
    name.trim_matches(['<', '>', '[', ']', '.'])
}

/// What the parser knows of its complaint.
fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(match kind {
            ContextKind::SuggestedSubcommand | ContextKind::SuggestedArg => texts.last()?.clone(),
            _ => texts.join(", "),
        }),
        _ => None,
    }
}
