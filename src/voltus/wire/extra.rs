//! The fields of an object that we do not know, read at one go with those that we do.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use crate::model::{EXTRA_DEPTH_MAX, EXTRA_MAX, Extra, Json, Site};

type Unknown<'de> = Vec<(Cow<'de, str>, &'de RawValue)>;

/// Reads a struct from the object that `json` must be, and the fields of the object
/// that the struct does not have.
pub(super) fn read_with_extra<'a, T: Deserialize<'a>>(
    json: &'a [u8],
) -> Result<(T, Extra), serde_json::Error> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Error::custom("it is no object"));
    }
    let mut unknown = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = T::deserialize(Sifted {
        reader: &mut reader,
        unknown: &mut unknown,
    })?;
    reader.end()?;
    let fields = unknown.into_iter();
    let extra = Extra::new(fields.map(|(name, raw)| (name.into_owned(), Json::new(raw))));
    Ok((read, extra))
}

/// Drops the unknown fields of a dispatch and of its sites if together they are more
/// than is kept. Part of them would be misunderstood.
///
/// # Errors
/// Why they were dropped.
pub(super) fn bounded(extra: &mut Extra, sites: &mut [Arc<Site>]) -> Result<(), String> {
    let each = || std::iter::once(&*extra).chain(sites.iter().map(|site| &site.extra));
    let size: usize = each().map(Extra::size).sum();
    let reason = if size > EXTRA_MAX {
        format!(
            "its unknown fields have {size} bytes and at most {EXTRA_MAX} are kept; all of them are dropped"
        )
    } else if each().any(|extra| extra.depth() > EXTRA_DEPTH_MAX) {
        format!(
            "its unknown fields are nested deeper than {EXTRA_DEPTH_MAX} levels; all of them are dropped"
        )
    } else {
        return Ok(());
    };
    *extra = Extra::default();
    for site in sites.iter_mut().filter(|site| !site.extra.is_empty()) {
        Arc::make_mut(site).extra = Extra::default();
    }
    Err(reason)
}

/// Reads a struct and puts aside what the struct has no field for. The struct itself
/// tells which fields it has.
struct Sifted<'a, D, U> {
    reader: D,
    unknown: &'a mut U,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Sifted<'_, D, Unknown<'de>> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.reader.deserialize_map(SiftedVisitor {
            visitor,
            fields,
            unknown: self.unknown,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.reader.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
        ignored_any
    }
}

struct SiftedVisitor<'a, V, U> {
    visitor: V,
    fields: &'static [&'static str],
    unknown: &'a mut U,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for SiftedVisitor<'_, V, Unknown<'de>> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        V::visit_map(
            self.visitor,
            SiftedMap {
                map,
                fields: self.fields,
                unknown: self.unknown,
            },
        )
    }
}

struct SiftedMap<'a, A, U> {
    map: A,
    fields: &'static [&'static str],
    unknown: &'a mut U,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for SiftedMap<'_, A, Unknown<'de>> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            if self.fields.contains(&&*name) {
                let name: StrDeserializer<'_, A::Error> = (&*name).into_deserializer();
                return seed.deserialize(name).map(Some);
            }
            let value = self.map.next_value()?;
            self.unknown.push((name, value));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
