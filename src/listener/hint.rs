//! Reads which dispatch a webhook is about.

use serde_json::Value;

use crate::model::DispatchId;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Nothing: the API asks whether somebody is there, before it registers us.
    Handshake,
    /// This dispatch.
    Dispatch(DispatchId),
    /// Something that is no dispatch.
    Other {
        /// The word for it.
        kind: String,
    },
}

/// Why a body is no webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HintError {
    /// It is not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// It has not the two fields.
    #[error("the body is not {{\"event\":{{\"name\":\"TEXT\"}},\"resource\":\"TEXT\"}}")]
    Shape,
    /// The resource is not one that could be looked at.
    #[error("the resource is not /YYYY-MM-DD/dispatches/<id>")]
    Resource,
}

/// Reads a webhook's body. The event's name does not matter: whatever it is,
/// the resource is looked at.
pub fn read(body: &[u8]) -> Result<Hint, HintError> {
    let body: Value = serde_json::from_slice(body).map_err(|_| HintError::NotJson)?;
    let name = body.get("event").and_then(|event| event.get("name"));
    let resource = body.get("resource");
    let (Some(Value::String(name)), Some(Value::String(resource))) = (name, resource) else {
        return Err(HintError::Shape);
    };
    if name.is_empty() && resource.is_empty() {
        return Ok(Hint::Handshake);
    }
    read_resource(resource).ok_or(HintError::Resource)
}

/// `/YYYY-MM-DD/<word>/<id>` and nothing else. Any date is taken, so that a new
/// version upstream makes no hint fail.
fn read_resource(resource: &str) -> Option<Hint> {
    let mut parts = resource.strip_prefix('/')?.split('/');
    let (date, kind, id) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !is_date(date) || !is_word(kind) {
        return None;
    }
    let id = DispatchId::new(id).ok()?;
    Some(if kind == "dispatches" {
        Hint::Dispatch(id)
    } else {
        Hint::Other {
            kind: kind.to_owned(),
        }
    })
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hint(name: &str, resource: &str) -> Result<Hint, HintError> {
        let body = json!({"event": {"name": name}, "resource": resource, "more": [1]});
        read(body.to_string().as_bytes())
    }

    #[test]
    fn a_dispatch_is_hinted_at_whatever_the_event_and_the_version() {
        let id = DispatchId::new("dk_m-Q9").unwrap();
        for name in ["dispatch.create", "dispatch.update", "dispatch.other", ""] {
            for version in ["2022-04-15", "2031-01-01"] {
                let resource = format!("/{version}/dispatches/dk_m-Q9");
                assert_eq!(hint(name, &resource), Ok(Hint::Dispatch(id.clone())));
            }
        }
        let longest = format!("/2022-04-15/dispatches/{}", "x".repeat(64));
        assert!(matches!(hint("e", &longest), Ok(Hint::Dispatch(_))));
    }

    #[test]
    fn only_two_empty_texts_are_the_handshake() {
        assert_eq!(hint("", ""), Ok(Hint::Handshake));
        assert_eq!(hint("dispatch.create", ""), Err(HintError::Resource));
    }

    #[test]
    fn another_kind_of_resource_is_told_apart() {
        let kind = "sites".to_owned();
        assert_eq!(
            hint("site.update", "/2022-04-15/sites/1"),
            Ok(Hint::Other { kind })
        );
    }

    #[test]
    fn a_resource_that_could_steer_us_is_refused() {
        let long = format!("/2022-04-15/dispatches/{}", "x".repeat(65));
        let very_long = format!("/2022-04-15/dispatches/{}", "x".repeat(5000));
        for resource in [
            "dkmq",
            "/dispatches/dkmq",
            "2022-04-15/dispatches/dkmq",
            "/2022-04-15/dispatches/",
            "/2022-04-15/dispatches",
            "/2022-04-15/dispatches/a/b",
            "/2022-04-15/dispatches/a/",
            "//2022-04-15/dispatches/a",
            "/2022-04-15//dispatches/a",
            "/2022-4-15/dispatches/a",
            "/latest/dispatches/a",
            "/2022-04-15/dispatches/..",
            "/2022-04-15/dispatches/a%2Fb",
            "/2022-04-15/dispatches/a?b=c",
            "/2022-04-15/dispatches/a#b",
            "/2022-04-15/dispatches/a\n",
            "/2022-04-15/dispatches/ä",
            "/2022-04-15/dispatches/a b",
            "/2022-04-15/../dispatches/a",
            "/2022-04-15/dispatches/a\0",
            "https://evil.example/2022-04-15/dispatches/a",
            "//evil.example/2022-04-15/dispatches/a",
            "\\\\evil.example\\a",
            " /2022-04-15/dispatches/a",
            &long,
            &very_long,
        ] {
            assert_eq!(
                hint("dispatch.create", resource),
                Err(HintError::Resource),
                "{resource}"
            );
        }
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        for body in ["", "{", "<xml/>", "\u{feff}{}", &"[".repeat(20_000)] {
            assert_eq!(read(body.as_bytes()), Err(HintError::NotJson), "{body:.20}");
        }
        for body in [
            json!({}),
            json!([]),
            json!("x"),
            json!(null),
            json!({"event": "x", "resource": "/"}),
            json!({"event": {"name": "x"}}),
            json!({"event": {"name": 1}, "resource": ""}),
            json!({"event": {}, "resource": "/2022-04-15/dispatches/a"}),
            json!({"event": ["x"], "resource": "/2022-04-15/dispatches/a"}),
            json!([{"name": "x"}, "/2022-04-15/dispatches/a"]),
            json!({"event": {"name": "x"}, "resource": null}),
        ] {
            assert_eq!(
                read(body.to_string().as_bytes()),
                Err(HintError::Shape),
                "{body}"
            );
        }
    }
}
