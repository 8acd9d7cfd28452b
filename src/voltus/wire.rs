//! Reads the API's answers.
//!
//! Sources disagree on some forms (see the comments below); all are read. What
//! says whether and when a dispatch holds its sites is read strictly, the rest as
//! far as it can be: what cannot be read is reported, and the engine decides what
//! that means (rule R11).

mod extra;
mod list;
mod site;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use self::extra::{bounded, read_with_extra};
use self::list::Wrapped;
use self::site::{Sites, read_sites};
use super::{ApiError, Part, Problems};
use crate::model::{Dispatch, DispatchId, Extra, List, Program, Reading, Site, UnreadParts};

pub use self::list::ListReader;

/// Reads an answer to `GET /dispatches` by itself.
///
/// # Errors
/// As [`ListReader::read`].
pub fn read_list(body: &[u8]) -> Result<(Arc<List>, Problems), ApiError> {
    ListReader::default().read(body)
}

/// Reads the answer to `GET /dispatches/{id}`.
///
/// The reference says that it is a bare dispatch, the webhook tutorial shows it
/// in a list of one. Both are taken, the first at one go.
///
/// # Errors
/// [`ApiError::Unreadable`] when it is neither, [`ApiError::Another`] when it
/// is about another dispatch.
pub fn read_dispatch_answer(body: &[u8], id: &DispatchId) -> Result<(Reading, Problems), ApiError> {
    let mut sites = Sites::default();
    let mut problems = Problems::default();
    if let Ok(reading) = read_dispatch(body, &mut sites, &mut problems)
        && reading.id() == id
    {
        return Ok((reading, problems));
    }
    let candidates = match read_object::<Wrapped>(body) {
        Ok(wrapped) => wrapped.dispatches,
        Err(_) => vec![serde_json::from_slice(body).map_err(unreadable)?],
    };
    if candidates.is_empty() {
        return Err(ApiError::Unreadable(format!(
            "no dispatch in the answer about {id}"
        )));
    }
    let mut nameless = true;
    for raw in candidates {
        let mut problems = Problems::default();
        if let Some(reading) = read_one(raw, &mut sites, &mut problems) {
            nameless = false;
            if reading.id() == id {
                return Ok((reading, problems));
            }
        }
    }
    Err(if nameless {
        ApiError::Unreadable(format!("no dispatch in the answer about {id}"))
    } else {
        ApiError::Another(id.clone())
    })
}

/// The API's own error body.
#[derive(Deserialize)]
pub(super) struct ErrorBody {
    /// A sentence for people.
    pub message: String,
    /// The status phrase. Gateways in between have a `message` too, but not this.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "only its presence counts")]
    kind: String,
}

/// The API's own error body, if `body` is one.
pub(super) fn read_error(body: &[u8]) -> Option<ErrorBody> {
    read_object(body).ok()
}

/// `json` as the object that it must be. By itself, serde takes a list of a
/// struct's fields for the struct: `[[]]` would be a list without dispatches.
fn read_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    if json.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(json)
    } else {
        Err(serde::de::Error::custom("it is no object"))
    }
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Unreadable(error.to_string())
}

#[derive(Deserialize)]
struct OnlyId {
    id: DispatchId,
}

/// The dispatch's fields. Those that say whether and when it holds its sites are
/// required; the rest is raw. `S` is how the sites are taken.
#[derive(Deserialize)]
struct Wire<'a, S> {
    id: DispatchId,
    authorized: bool,
    #[serde(default)]
    test: Option<bool>,
    start_time: DateTime<Utc>,
    /// `null` or absent while unknown.
    #[serde(default)]
    end_time: Option<DateTime<Utc>>,
    #[serde(default)]
    modification_number: Option<Value>,
    sites: S,
    #[serde(default, borrow)]
    creation_time: Option<&'a RawValue>,
    #[serde(default, borrow)]
    program: Option<&'a RawValue>,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
}

/// Sites as they should be.
type Listed<'a> = Vec<&'a RawValue>;

/// Sites that are anything else.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Unlisted(IgnoredAny);

/// Reads one dispatch. `None` when not even its id can be read.
fn read_one(raw: &RawValue, sites: &mut Sites, problems: &mut Problems) -> Option<Reading> {
    let json = raw.get().as_bytes();
    match read_dispatch(json, sites, problems) {
        Ok(reading) => Some(reading),
        Err(reason) => {
            let OnlyId { id } = read_object(json).ok()?;
            problems.push(Some(&id), Part::Dispatch, || reason.clone());
            Some(Reading::Unreadable { id, reason })
        }
    }
}

/// Reads one dispatch, or says why it cannot be read. Nothing is added to the
/// problems then.
fn read_dispatch(
    json: &[u8],
    sites: &mut Sites,
    problems: &mut Problems,
) -> Result<Reading, String> {
    match read_with_extra::<Wire<Listed>>(json) {
        Ok((wire, extra)) => {
            let number = read_number(wire.modification_number.as_ref())?;
            let mut unread = UnreadParts::default();
            let read = read_sites(&wire.sites, sites, &wire.id, &mut unread, problems);
            Ok(whole(&wire, number, read, extra, unread, problems))
        }
        Err(error) => {
            let (wire, extra) = read_with_extra::<Wire<Option<Unlisted>>>(json)
                .map_err(|error| culprit(json, &error))?;
            let number = read_number(wire.modification_number.as_ref())?;
            problems.push(Some(&wire.id), Part::Site, || {
                format!("its sites: {}", without_place(&error))
            });
            let unread = UnreadParts {
                sites: true,
                ..UnreadParts::default()
            };
            Ok(whole(&wire, number, Vec::new(), extra, unread, problems))
        }
    }
}

/// The reading of a dispatch whose deciding fields are read.
fn whole<S>(
    wire: &Wire<'_, S>,
    modification_number: Option<i64>,
    mut sites: Vec<Arc<Site>>,
    mut extra: Extra,
    mut unread: UnreadParts,
    problems: &mut Problems,
) -> Reading {
    if let Err(reason) = bounded(&mut extra, &mut sites) {
        problems.push(Some(&wire.id), Part::Extra, || reason);
    }
    let mut detail = |field: &str, reason: String| {
        problems.push(Some(&wire.id), Part::Detail, || {
            format!("{field}: {reason}")
        });
    };
    let creation_time = wire.creation_time.and_then(|raw| {
        read_detail(raw).unwrap_or_else(|reason| {
            unread.creation_time = true;
            detail("creation_time", reason);
            None
        })
    });
    let metadata = wire.metadata.and_then(|raw| {
        read_detail(raw).unwrap_or_else(|reason| {
            unread.metadata = true;
            detail("metadata", reason);
            None
        })
    });
    let program = wire.program.map(|raw| {
        let (program, unreadable) = read_program(raw);
        for (field, reason) in unreadable {
            unread.program = true;
            detail(field, reason);
        }
        program
    });
    let dispatch = Arc::new(Dispatch {
        id: wire.id.clone(),
        authorized: wire.authorized,
        test: wire.test.unwrap_or(false),
        start_time: wire.start_time,
        end_time: wire.end_time,
        creation_time,
        modification_number,
        program: program.unwrap_or_default(),
        sites,
        metadata: metadata.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        extra,
    });
    if unread.any() {
        Reading::InPart { dispatch, unread }
    } else {
        Reading::Dispatch(dispatch)
    }
}

/// Which field of a dispatch cannot be read, and why. `error` is what was said
/// of the whole.
fn culprit(json: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Deciding<'a> {
        #[serde(default, borrow)]
        authorized: Option<&'a RawValue>,
        #[serde(default, borrow)]
        test: Option<&'a RawValue>,
        #[serde(default, borrow)]
        start_time: Option<&'a RawValue>,
        #[serde(default, borrow)]
        end_time: Option<&'a RawValue>,
        #[serde(default, borrow)]
        modification_number: Option<&'a RawValue>,
    }
    fn wrong<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<String> {
        let error = serde_json::from_str::<T>(raw?.get()).err()?;
        Some(without_place(&error))
    }
    let Ok(fields) = read_object::<Deciding>(json) else {
        return without_place(error);
    };
    let wrong = [
        ("authorized", wrong::<bool>(fields.authorized)),
        ("test", wrong::<Option<bool>>(fields.test)),
        ("start_time", wrong::<DateTime<Utc>>(fields.start_time)),
        ("end_time", wrong::<Option<DateTime<Utc>>>(fields.end_time)),
        (
            "modification_number",
            wrong::<Value>(fields.modification_number),
        ),
    ];
    let wrong = wrong.into_iter().find_map(|(field, reason)| {
        let reason = reason?;
        Some(format!("{field}: {reason}"))
    });
    wrong.unwrap_or_else(|| without_place(error))
}

/// What is wrong, without where in the text: that is another place in each
/// answer, and the same fault is to be logged once.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(place) => text.get(..place).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// A field that decides nothing. `null` is absent.
fn read_detail<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<Option<T>, String> {
    serde_json::from_str(raw.get()).map_err(|error| without_place(&error))
}

/// Whole numbers, also written as `3.0` or `"3"`.
fn read_number(value: Option<&Value>) -> Result<Option<i64>, String> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().or_else(|| {
            number
                .as_f64()
                .filter(|number| number.fract() == 0.0 && number.abs() < EXACT)
                .map(
                    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
                    |number| number as i64,
                )
        }),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    number
        .map(Some)
        .ok_or_else(|| "modification_number is no whole number".to_owned())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProgramWire<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    market: Option<&'a RawValue>,
    #[serde(borrow)]
    program_type: Option<&'a RawValue>,
    #[serde(borrow)]
    timezone: Option<&'a RawValue>,
}

/// Reads a program, and says which of its fields cannot be read, and why.
fn read_program(raw: &RawValue) -> (Program, Vec<(&'static str, String)>) {
    let wire: ProgramWire = match read_object(raw.get().as_bytes()) {
        Ok(wire) => wire,
        Err(error) => {
            let reason = without_place(&error);
            return (Program::default(), vec![("program", reason)]);
        }
    };
    let mut unreadable = Vec::new();
    let id = match wire.id.map(read_detail::<Value>).transpose() {
        Ok(value) => read_number(value.flatten().as_ref()),
        Err(reason) => Err(reason),
    };
    let id = id.unwrap_or_else(|_| {
        unreadable.push(("program.id", "it is no whole number".to_owned()));
        None
    });
    let mut text = |field: &'static str, raw: Option<&RawValue>| match read_text(raw) {
        Ok(text) => text,
        Err(reason) => {
            unreadable.push((field, reason));
            None
        }
    };
    let program = Program {
        id,
        name: text("program.name", wire.name),
        market: text("program.market", wire.market),
        program_type: text("program.program_type", wire.program_type),
        timezone: text("program.timezone", wire.timezone),
    };
    (program, unreadable)
}

/// A text, also where it is written as a number. `null` is absent.
fn read_text(raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let value = match raw {
        Some(raw) => read_detail(raw)?.unwrap_or(Value::Null),
        None => Value::Null,
    };
    text_or_number(value).ok_or_else(|| "it is no text".to_owned())
}

fn text_or_number(value: Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text)),
        Value::Number(number) => Some(Some(number.to_string())),
        _ => None,
    }
}
#[cfg(test)]
mod tests;
