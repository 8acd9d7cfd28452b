//! Reads the options in the file, by the command line's own table of options.

use std::any::TypeId;
use std::path::{Path, PathBuf};

use clap::builder::ArgAction;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command};
use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::syntax::{Text, in_order};
use super::{ConfigFile, Setting, sinks};
use crate::config::RunOptions;

/// The options that the file can set.
pub(super) fn table() -> Command {
    RunOptions::augment_args(Command::new("run"))
}

/// Something wrong with a value.
pub(super) struct Wrong {
    /// Where it begins, in bytes.
    pub at: usize,
    pub text: String,
}

/// Takes what `table` sets over into `file`.
pub(super) fn read(file: &mut ConfigFile, text: &Text<'_>, table: &DeTable<'_>) {
    let options = self::table();
    for (key, value) in in_order(table) {
        if file.has_enough_problems() {
            break;
        }
        let name: &str = key.get_ref();
        let line = text.line(key.span().start);
        if name == "sink" {
            sinks::read(file, text, &options, line, value);
            continue;
        }
        if text.is_garbled(&(key.span().start..value.span().end)) {
            file.refused.insert(name.to_owned());
            continue;
        }
        match usable(&options, name, value.get_ref()) {
            Err(Unusable {
                about,
                key,
                problem,
            }) => {
                file.add_problem(line, Some(&about), key, problem);
            }
            Ok(arg) => match texts(arg, value, text).and_then(|texts| {
                fits(arg, &texts).map_err(|text| Wrong {
                    at: value.span().start,
                    text,
                })?;
                Ok(texts)
            }) {
                Ok(texts) => {
                    let texts = texts
                        .into_iter()
                        .map(|text| located(arg, text, &file.folder));
                    let texts = texts.collect();
                    file.settings
                        .insert(name.to_owned(), Setting { texts, line });
                }
                Err(wrong) => file.add_problem(text.line(wrong.at), Some(name), name, wrong.text),
            },
        }
    }
}

/// Why a key of the file sets no option.
struct Unusable<'n> {
    /// The option that is meant, as far as that is known, else the key.
    about: String,
    /// What the message begins with.
    key: &'n str,
    problem: String,
}

/// The option of this name, unless a file cannot set it.
fn usable<'o, 'n>(
    options: &'o Command,
    name: &'n str,
    value: &DeValue<'_>,
) -> Result<&'o Arg, Unusable<'n>> {
    let find = |name: &str| {
        let mut args = options.get_arguments();
        args.find(|arg| arg.get_long() == Some(name))
    };
    let refused = |about: &str, key, problem| {
        let about = about.to_owned();
        Err(Unusable {
            about,
            key,
            problem,
        })
    };
    if name == "config" {
        let problem = "cannot be set in the file itself; leave it out";
        return refused(name, name, problem.to_owned());
    }
    let file = format!("{name}-file");
    if find(&file).is_some() {
        let problem = format!(
            "a secret does not belong in this file; write it into a file of its own and name that here: {file} = \"PATH\""
        );
        return refused(name, name, problem);
    }
    if let Some(arg) = find(name) {
        return Ok(arg);
    }
    if value.is_table() {
        let problem = format!(
            "unknown table `{}`; options stand at the top of the file, each by its name, and the only tables are [[sink]]",
            shown(name)
        );
        return refused(name, "", problem);
    }
    let names = options.get_arguments().filter_map(Arg::get_long);
    let guess = guess(name, names);
    let problem = match &guess {
        Some(guess) => format!("unknown option `{}`: did you mean `{guess}`?", shown(name)),
        None => format!(
            "unknown option `{}`; `dispatchd run --help` lists the options",
            shown(name)
        ),
    };
    refused(guess.as_deref().unwrap_or(name), "", problem)
}

/// The known name that is most like a wrong one, if any is: the command line's guess.
pub(super) fn guess<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let args = known.into_iter().filter(|known| *known != "config");
    let command = Command::new("guess")
        .no_binary_name(true)
        .disable_help_flag(true)
        .args(args.map(|name| Arg::new(name.to_owned()).long(name.to_owned())));
    let error = command.try_get_matches_from([format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(guess) => Some(guess.trim_start_matches("--").to_owned()),
        _ => None,
    }
}

/// What an operator wrote, so that it can stand in a line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
        .chars()
        .map(|c| match c.is_control() {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        })
        .collect()
}

/// What kind of value it is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The values, as they would be written on the command line.
fn texts(arg: &Arg, value: &Spanned<DeValue<'_>>, text: &Text<'_>) -> Result<Vec<String>, Wrong> {
    let wrong = |text: String| {
        Err(Wrong {
            at: value.span().start,
            text,
        })
    };
    match (arg.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(yes)) => Ok(vec![yes.to_string()]),
        (ArgAction::SetTrue, other) => wrong(format!(
            "is {}; write true or false, without quotes",
            kind(other)
        )),
        (ArgAction::Append, DeValue::Array(values)) if values.is_empty() => {
            wrong("is an empty list; give a value, or leave the option out".to_owned())
        }
        (ArgAction::Append, DeValue::Array(values)) => values
            .iter()
            .map(|value| one_text(arg, value, text))
            .collect(),
        (_, DeValue::Array(_)) => {
            wrong("is a list and takes one value; write it without [ ]".to_owned())
        }
        _ => Ok(vec![one_text(arg, value, text)?]),
    }
}

fn one_text(arg: &Arg, value: &Spanned<DeValue<'_>>, text: &Text<'_>) -> Result<String, Wrong> {
    let wrong = |text: String| {
        Err(Wrong {
            at: value.span().start,
            text,
        })
    };
    match value.get_ref() {
        DeValue::String(string) if string.trim().is_empty() => {
            wrong("is empty; give a value, or leave the option out".to_owned())
        }
        DeValue::String(string) => Ok(string.to_string()),
        DeValue::Integer(integer) if !is_free_text(arg) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Ok(number.to_string()),
                Err(_) => wrong("is too large a number".to_owned()),
            }
        }
        other => wrong(must_be_string(other, text.written(value.span()))),
    }
}

/// Says that a value of another kind must be a string, and how to write that.
pub(super) fn must_be_string(value: &DeValue<'_>, written: &str) -> String {
    let kind = kind(value);
    match value {
        DeValue::Array(_) | DeValue::Table(_) => format!("is {kind} and must be a string"),
        _ => format!(
            "is {kind} and must be a string; write it in quotes: \"{}\"",
            shown(written)
        ),
    }
}

/// Whether an option takes any text, so that a number may be a slip of the pen.
fn is_free_text(arg: &Arg) -> bool {
    let parsed = arg.get_value_parser().type_id();
    [
        TypeId::of::<String>(),
        TypeId::of::<PathBuf>(),
        TypeId::of::<SecretString>(),
    ]
    .into_iter()
    .any(|free| parsed == free)
}

/// Has the command line's own parser look at the values.
fn fits(arg: &Arg, texts: &[String]) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Ok(());
    }
    let probe = Command::new("probe").no_binary_name(true).arg(arg.clone());
    let written = texts.iter().map(|text| format!("--{long}={text}"));
    let Err(error) = probe.try_get_matches_from(written) else {
        return Ok(());
    };
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let value = match arg.is_hide_env_values_set() {
        true => "the value".to_owned(),
        false => format!("`{}`", shown(&context(ContextKind::InvalidValue))),
    };
    Err(match error.kind() {
        ErrorKind::InvalidValue => {
            format!("{value} is not one of {}", context(ContextKind::ValidValue))
        }
        _ => {
            let why = std::error::Error::source(&error);
            let why = why.map_or_else(|| error.kind().to_string(), ToString::to_string);
            format!("{value} cannot be used: {why}")
        }
    })
}

/// A path in the file begins at the file's folder, wherever the daemon was started.
fn located(arg: &Arg, text: String, folder: &Path) -> String {
    let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let is_other = text == ":memory:" || text.contains("://");
    match is_path && !is_other {
        true => within(folder, &text),
        false => text,
    }
}

/// The path `text`, seen from `folder`.
pub(super) fn within(folder: &Path, text: &str) -> String {
    folder.join(text).to_string_lossy().into_owned()
}
