//! Reads the standard `OTEL_*` variables, and says of one that cannot be used which it is,
//! why, and what to write instead.

use std::collections::HashMap;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// A variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct VariableError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong with it, and what would be right. Holds no secret.
    pub problem: String,
}

/// Looks variables up. One that is set and empty counts as unset, as OpenTelemetry says.
pub(super) struct Variables<'e>(pub &'e dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    pub fn get(&self, name: &'static str) -> Option<String> {
        let value = (self.0)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The first of these that is set, and its name.
    pub fn first<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Option<(&'static str, String)> {
        let mut names = names.into_iter();
        names.find_map(|name| Some((name, self.get(name)?)))
    }

    /// A whole number of 1 or more. `what` it counts is for the message.
    pub fn number<T: FromStr + From<u8> + PartialOrd>(
        &self,
        names: [&'static str; 2],
        what: &str,
    ) -> Result<Option<T>, VariableError> {
        let Some((name, value)) = self.first(names) else {
            return Ok(None);
        };
        let number = value.parse().ok().filter(|number| *number >= T::from(1));
        number.map(Some).ok_or_else(|| VariableError {
            name,
            problem: format!("`{value}` is no number of {what}: write a whole number from 1 on"),
        })
    }
}

/// Reads `key=value,key=value` with percent-encoded values. A message names the place of an
/// entry and never its value, which may be a secret.
pub(super) fn pairs(
    name: &'static str,
    text: &str,
) -> Result<Vec<(String, String)>, VariableError> {
    let wrong = |place: usize, why: &str| VariableError {
        name,
        problem: format!("entry {place} {why}: write key=value, with commas between entries"),
    };
    let mut pairs = Vec::new();
    let mut known = HashMap::new();
    for (place, entry) in (1..).zip(text.split(',')) {
        if entry.trim().is_empty() {
            continue;
        }
        let (key, value) = entry
            .split_once('=')
            .ok_or_else(|| wrong(place, "has no `=`"))?;
        let (key, value) = (key.trim(), percent_decode_str(value.trim()).decode_utf8());
        if key.is_empty() {
            return Err(wrong(place, "has no key"));
        }
        let Ok(value) = value else {
            return Err(wrong(place, "has a value that is no UTF-8"));
        };
        if let Some(first) = known.insert(key.to_owned(), place) {
            let why = format!("has the same key as entry {first}");
            return Err(wrong(place, &why));
        }
        pairs.push((key.to_owned(), value.into_owned()));
    }
    Ok(pairs)
}
