//! What the API's answers look like, and what we make of them.
//!
//! Sources disagree on some forms (see the comments below); all are read. What
//! decides about curtailment is read strictly, the rest as well as may be.

mod list;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::list::{Sites, Wrapped};
use super::{ApiError, Problems};
use crate::engine::{List, Reading};
use crate::model::{Dispatch, DispatchId, Kilowatts, Program, Site, SiteId};

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
    if let Ok(dispatch) = read_whole(body, &mut sites, &mut problems)
        && dispatch.id == *id
    {
        return Ok((Reading::Dispatch(dispatch.into()), problems));
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

/// The dispatch's fields. Those that decide are required; the rest is raw.
#[derive(Deserialize)]
struct Wire<'a> {
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
    #[serde(borrow)]
    sites: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    creation_time: Option<&'a RawValue>,
    #[serde(default, borrow)]
    program: Option<&'a RawValue>,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
}

/// Reads one dispatch. `None` when not even its id can be read.
fn read_one(raw: &RawValue, sites: &mut Sites, problems: &mut Problems) -> Option<Reading> {
    let json = raw.get().as_bytes();
    match read_whole(json, sites, problems) {
        Ok(dispatch) => Some(Reading::Dispatch(dispatch.into())),
        Err(reason) => {
            let OnlyId { id } = read_object(json).ok()?;
            problems.push(|| format!("dispatch {id}: {reason}"));
            Some(Reading::Unreadable { id, reason })
        }
    }
}

/// Reads one dispatch, or says why it cannot be read.
fn read_whole(json: &[u8], sites: &mut Sites, problems: &mut Problems) -> Result<Dispatch, String> {
    let wire: Wire = read_object(json).map_err(|error| error.to_string())?;
    let modification_number = read_number(wire.modification_number.as_ref())?;
    Ok(Dispatch {
        authorized: wire.authorized,
        test: wire.test.unwrap_or(false),
        start_time: wire.start_time,
        end_time: wire.end_time,
        creation_time: wire.creation_time.and_then(read_leniently),
        modification_number,
        program: wire.program.map(read_program).unwrap_or_default(),
        sites: read_sites(&wire.sites, sites, &wire.id, problems),
        metadata: wire
            .metadata
            .and_then(read_leniently)
            .filter(|metadata: &Value| !metadata.is_null())
            .unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        id: wire.id,
    })
}

/// A field that decides nothing: absent where it cannot be read.
fn read_leniently<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
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
struct ProgramWire {
    id: Value,
    name: Value,
    market: Value,
    program_type: Value,
    timezone: Value,
}

fn read_program(raw: &RawValue) -> Program {
    let wire: ProgramWire = read_object(raw.get().as_bytes()).unwrap_or_default();
    Program {
        id: wire.id.as_i64(),
        name: text_or_number(wire.name),
        market: text_or_number(wire.market),
        program_type: text_or_number(wire.program_type),
        timezone: text_or_number(wire.timezone),
    }
}

fn text_or_number(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[derive(Deserialize)]
struct SiteWire {
    id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    customer_location_id: Value,
    #[serde(default)]
    commitment: Option<f64>,
    /// The deprecated twin of `commitment`.
    #[serde(default)]
    drop_by: Option<f64>,
}

/// Reads the sites, in the order of their ids, so that another order upstream
/// is no change. One that cannot be read is left out; of one named twice the
/// larger commitment counts (rule R11).
fn read_sites(
    elements: &[&RawValue],
    known: &mut Sites,
    dispatch: &DispatchId,
    problems: &mut Problems,
) -> Vec<Arc<Site>> {
    let mut sites = Vec::with_capacity(elements.len());
    for (index, raw) in elements.iter().enumerate() {
        match known.read(raw) {
            Ok(site) => sites.push(site),
            Err(reason) => problems
                .push(|| format!("dispatch {dispatch}: site number {}: {reason}", index + 1)),
        }
    }
    sites.sort_by(|one, other| one.id.cmp(&other.id));
    sites.dedup_by(|later, first| {
        let double = later.id == first.id;
        if double && later.commitment != first.commitment {
            Arc::make_mut(first).commitment = larger(first.commitment, later.commitment);
        }
        double
    });
    sites
}

fn read_site(raw: &RawValue) -> Result<Site, String> {
    let wire: SiteWire = read_object(raw.get().as_bytes()).map_err(|error| error.to_string())?;
    let id = text_or_number(wire.id)
        .and_then(|id| SiteId::new(&id))
        .ok_or("no usable id")?;
    Ok(Site {
        id,
        name: text_or_number(wire.name).unwrap_or_default(),
        customer_location_id: text_or_number(wire.customer_location_id).unwrap_or_default(),
        commitment: wire.commitment.or(wire.drop_by).map(Kilowatts),
    })
}

fn larger(a: Option<Kilowatts>, b: Option<Kilowatts>) -> Option<Kilowatts> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
