//! Fields that the upstream sent and that we do not know (rule R11): start at [`Extra`].
//!
//! No meaning is given to them. They are kept as they came, to the last digit of a
//! number, which an `f64` would round.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The most that is kept of the unknown fields of one dispatch and its sites together,
/// in bytes: names and values.
pub const EXTRA_MAX: usize = 64 * 1024;

/// The deepest nesting of an unknown field that is kept. Readers of JSON often take
/// 128 levels, of which an event has some of its own.
pub const EXTRA_DEPTH_MAX: usize = 64;

/// A JSON value as it came, without the space between its parts.
///
/// Two are equal if they mean the same: the order of keys, the spelling of a number
/// and the escapes of a text are no difference.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The value as it came. Space is left out, as a line break in it would break
    /// streams with one event a line.
    pub fn new(raw: &RawValue) -> Self {
        Self(without_space(raw))
    }

    /// This value as JSON.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// The value `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// How deep lists and objects are nested in it.
    fn depth(&self) -> usize {
        let (mut depth, mut deepest) = (0_usize, 0);
        outside_texts(self.get(), |byte| match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        });
        deepest
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get() || Meaning::of(self.get()) == Meaning::of(other.get())
    }
}

/// Calls `look` with each byte that belongs to no text.
fn outside_texts(json: &str, mut look: impl FnMut(u8)) {
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            in_text = byte == b'"';
            look(byte);
        }
    }
}

fn without_space(raw: &RawValue) -> Box<RawValue> {
    let mut has_space = false;
    outside_texts(raw.get(), |byte| has_space |= byte.is_ascii_whitespace());
    if !has_space {
        return raw.to_owned();
    }
    let (mut in_text, mut escaped) = (false, false);
    let mut text = String::with_capacity(raw.get().len());
    for char in raw.get().chars() {
        if in_text {
            in_text = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char.is_ascii_whitespace() {
            continue;
        } else {
            in_text = char == '"';
        }
        text.push(char);
    }
    RawValue::from_string(text).unwrap_or_else(|_| raw.to_owned())
}

/// What a JSON text means. Of a key that is there twice the last one counts, as in
/// most readers.
#[derive(PartialEq)]
enum Meaning<'a> {
    Object(BTreeMap<String, Meaning<'a>>),
    List(Vec<Meaning<'a>>),
    Text(String),
    /// A number: the sign, the digits without zeros at either end, and the power of
    /// ten of the last digit.
    Number(bool, Vec<u8>, i128),
    /// Anything else, also a text with half a surrogate pair and a number with an
    /// absurd exponent: as it is written.
    Written(&'a str),
}

impl<'a> Meaning<'a> {
    /// The nesting is bounded: see [`EXTRA_DEPTH_MAX`].
    fn of(json: &'a str) -> Self {
        let meaning = match json.bytes().next() {
            Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(json)
                .ok()
                .map(|fields| {
                    let fields = fields.into_iter();
                    Self::Object(
                        fields
                            .map(|(key, raw)| (key, Self::of(raw.get())))
                            .collect(),
                    )
                }),
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json)
                .ok()
                .map(|items| Self::List(items.iter().map(|raw| Self::of(raw.get())).collect())),
            Some(b'"') => serde_json::from_str(json).ok().map(Self::Text),
            Some(b'-' | b'0'..=b'9') => Self::number(json),
            _ => None,
        };
        meaning.unwrap_or(Self::Written(json))
    }

    fn number(json: &str) -> Option<Self> {
        let (negative, size) = match json.strip_prefix('-') {
            Some(size) => (true, size),
            None => (false, json),
        };
        let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut exponent = i128::from(exponent.parse::<i64>().ok()?);
        exponent -= i128::try_from(fraction.len()).ok()?;
        let mut digits = [whole, fraction].concat().into_bytes();
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent += 1;
        }
        let leading = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..leading);
        Some(if digits.is_empty() {
            Self::Number(false, digits, 0)
        } else {
            Self::Number(negative, digits, exponent)
        })
    }
}

/// The unknown fields of a dispatch or of a site, by name. Eight bytes where there are
/// none, for there may be 100,000 sites.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extra(Option<Arc<BTreeMap<Box<str>, Json>>>);

impl Extra {
    /// These fields. Of two with one name the last one counts.
    pub fn new<N: Into<Box<str>>>(fields: impl IntoIterator<Item = (N, Json)>) -> Self {
        let fields = fields.into_iter();
        let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.into(), value)).collect();
        Self((!fields.is_empty()).then(|| Arc::new(fields)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Json)> {
        let fields = self.0.iter().flat_map(|fields| fields.iter());
        fields.map(|(name, value)| (&**name, value))
    }

    /// The field with this name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.as_ref()?.get(name)
    }

    /// Their size, names and values, in bytes.
    pub fn size(&self) -> usize {
        self.fields()
            .map(|(name, value)| name.len() + value.get().len())
            .sum()
    }

    /// The deepest nesting in any of them.
    pub fn depth(&self) -> usize {
        let depths = self.fields().map(|(_, value)| value.depth());
        depths.max().unwrap_or_default()
    }

    /// The names of the fields in which two states differ, in order.
    pub fn differences(before: &Self, after: &Self) -> Vec<Arc<str>> {
        if before == after {
            return Vec::new();
        }
        let other = after
            .fields()
            .filter(|(name, value)| before.get(name) != Some(value));
        let gone = before
            .fields()
            .filter(|(name, _)| after.get(name).is_none());
        let mut names: Vec<Arc<str>> = other.chain(gone).map(|(name, _)| name.into()).collect();
        names.sort_unstable();
        names
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<Box<str>, Json>::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::new(serde_json::from_str(text).unwrap())
    }

    fn extra(text: &str) -> Extra {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_value_is_passed_on_as_it_came_but_for_space() {
        for (came, kept) in [
            ("1e400", "1e400"),
            ("12345678901234567890.10", "12345678901234567890.10"),
            (
                "{\"b\" : [1,\n 2.0 ],\t\"a\": \"x \\\" \\\\\"}",
                r#"{"b":[1,2.0],"a":"x \" \\"}"#,
            ),
            (r#""\ud800 \u0041""#, r#""\ud800 \u0041""#),
        ] {
            assert_eq!(json(came).get(), kept);
            let written = serde_json::to_string(&json(came)).unwrap();
            assert_eq!(written, kept);
        }
    }

    #[test]
    fn another_spelling_of_the_same_value_is_the_same() {
        for (one, other) in [
            (r#"{"a":1,"b":[2]}"#, r#"{ "b": [2.0], "a": 1e0 }"#),
            (r#""\u0041/""#, r#""A\/""#),
            ("1e400", "10E+399"),
            ("0.10", "1e-1"),
            ("-0.0", "0"),
        ] {
            assert_eq!(json(one), json(other));
        }
    }

    #[test]
    fn another_value_is_another() {
        for (one, other) in [
            ("12345678901234567890.10", "12345678901234567890.11"),
            ("1e400", "1e401"),
            ("[1,2]", "[2,1]"),
            ("1", "-1"),
            ("1", "\"1\""),
            ("null", "false"),
            ("{}", "[]"),
            (r#""\ud800""#, r#""\ud801""#),
        ] {
            assert_ne!(json(one), json(other));
        }
    }

    #[test]
    fn the_fields_that_differ_are_named() {
        let before = extra(r#"{"same": {"x": 1, "y": 2}, "other": 1, "gone": null}"#);
        let after = extra(r#"{"same": {"y": 2, "x": 1}, "other": 2, "new": null}"#);
        let names = Extra::differences(&before, &after);
        assert_eq!(
            names,
            ["gone".into(), "new".into(), "other".into()] as [Arc<str>; 3]
        );
        assert!(Extra::differences(&before, &before.clone()).is_empty());
    }

    #[test]
    fn none_is_the_same_as_an_empty_object() {
        assert_eq!(extra("{}"), Extra::default());
        assert_eq!(size_of::<Extra>(), size_of::<usize>());
        assert_eq!((Extra::default().size(), Extra::default().depth()), (0, 0));
    }

    #[test]
    fn size_and_depth_are_those_of_names_and_values() {
        let extra = extra(r#"{"ab": [[1]], "c": "[[[["}"#);
        assert_eq!((extra.size(), extra.depth()), (2 + 5 + 1 + 6, 2));
    }
}
