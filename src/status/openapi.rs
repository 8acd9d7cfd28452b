//! `GET /openapi.json`: the description of this interface.
//!
//! It is written by hand: what is promised to others is decided, not derived. A
//! test holds it against what is served.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use warp::reply::Response;

use super::cached::Known;
use crate::http::refusal;

const DOCUMENT: &str = include_str!("openapi/document.json");
const PATHS: &str = include_str!("openapi/paths.json");
const SCHEMAS: &str = include_str!("openapi/schemas.json");

/// The document as it is sent, and its tag. `None` if its parts are no JSON.
static WRITTEN: LazyLock<Option<(Bytes, String)>> = LazyLock::new(|| {
    let written = document()
        .inspect_err(|error| tracing::error!(%error, "the description of the interface is broken"))
        .ok()?
        .to_string();
    let mut hasher = DefaultHasher::new();
    written.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    Some((written.into(), etag))
});

fn document() -> serde_json::Result<Value> {
    let mut document: Value = serde_json::from_str(DOCUMENT)?;
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["paths"] = serde_json::from_str(PATHS)?;
    document["components"]["schemas"] = serde_json::from_str(SCHEMAS)?;
    Ok(document)
}

/// The document, unless the client has it.
pub(super) fn show(headers: &HeaderMap) -> Response {
    let Some((written, etag)) = &*WRITTEN else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log");
    };
    Known::read(headers).answer(etag, || {
        let mut reply = Response::new(written.clone().into());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in `value`.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.push(reference);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_part_is_there_and_every_schema_is_used() {
        let document = document().unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in &found {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            let reference = format!("#/components/schemas/{name}");
            // The stream carries it, which OpenAPI has no words for.
            let is_used = name == "Event" || found.contains(&reference.as_str());
            assert!(is_used, "{name}");
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    /// What the description allows is accepted, and a number that is too large for
    /// us is not.
    #[test]
    fn every_number_that_can_be_asked_for_has_bounds() {
        let document = document().unwrap();
        let operations = document["paths"].as_object().unwrap().values();
        let operations = operations.flat_map(|path| path.as_object().unwrap().values());
        let parameters = operations.filter_map(|one| one["parameters"].as_array());
        let mut numbers = 0;
        for parameter in parameters.flatten() {
            let schema = &parameter["schema"];
            if schema["type"] == "integer" {
                numbers += 1;
                let bounds = ["minimum", "maximum"].map(|bound| schema[bound].is_u64());
                assert_eq!(bounds, [true, true], "{parameter}");
            }
        }
        assert_eq!(numbers, 2);
    }

    #[test]
    fn a_client_that_has_it_is_not_sent_it_again() {
        let reply = show(&HeaderMap::new());
        assert_eq!(reply.status(), 200);
        let tag = reply.headers()["etag"].clone();
        let asked = HeaderMap::from_iter([(http::header::IF_NONE_MATCH, tag)]);
        assert_eq!(show(&asked).status(), 304);
    }
}
