//! The place in the event stream from which a client goes on.

use http::HeaderMap;

/// The last event that a listener has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The store that numbered it. `None` if the listener gave a bare number.
    store: Option<String>,
    position: u64,
}

/// Why it cannot be gone on from there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Last-Event-ID {0}: it is an event's id, or its position")]
pub(super) struct CursorError(String);

impl Cursor {
    /// Reads `Last-Event-ID`, else `last_event_id` of the query: what imitates
    /// a browser's `EventSource` often can send no headers. `None` if neither
    /// is there, or empty.
    pub fn read(headers: &HeaderMap, query: &str) -> Result<Option<Self>, CursorError> {
        let header = headers
            .get("last-event-id")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let given = header.filter(|text| !text.is_empty()).or_else(|| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(name, value)| name == "last_event_id" && !value.is_empty())
                .map(|(_, value)| value.into_owned())
        });
        given.map(|text| Self::parse(&text)).transpose()
    }

    fn parse(text: &str) -> Result<Self, CursorError> {
        // STORE-TERM-POSITION, or STORE-POSITION for events of older versions.
        let mut parts = text.split('-');
        let fields = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(position), None, ..) => Some((None, position)),
            (Some(store), Some(position), None, _) => Some((Some(store), position)),
            (Some(store), Some(term), Some(position), None) if number(term).is_some() => {
                Some((Some(store), position))
            }
            _ => None,
        };
        match fields.and_then(|(store, position)| Some((store, number(position)?))) {
            Some((store, position)) if store != Some("") => Ok(Self {
                store: store.map(str::to_owned),
                position,
            }),
            _ => Err(CursorError(text.to_owned())),
        }
    }

    /// The position to go on behind, in the store with this id whose last event
    /// is at `newest`.
    ///
    /// A position in another store says nothing about this one: all in it is new
    /// to the listener. A position that is not reached yet is from a state that a
    /// backup has replaced since: the listener has seen what the backup holds.
    pub fn after(&self, store_id: &str, newest: u64) -> u64 {
        let ours = self.store.as_ref().is_none_or(|store| store == store_id);
        if ours { self.position.min(newest) } else { 0 }
    }
}

/// A number written in digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, query: &str) -> Result<Option<Cursor>, CursorError> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("last-event-id", header.parse().unwrap());
        }
        Cursor::read(&headers, query)
    }

    fn cursor(store: Option<&str>, position: u64) -> Cursor {
        Cursor {
            store: store.map(str::to_owned),
            position,
        }
    }

    #[test]
    fn an_id_or_a_position_is_taken_from_header_or_query() {
        for (header, query, read_as) in [
            (None, "", None),
            (Some(""), "type=site.", None),
            (Some("17"), "", Some(cursor(None, 17))),
            (Some("0"), "last_event_id=5", Some(cursor(None, 0))),
            (Some("ab12-17"), "", Some(cursor(Some("ab12"), 17))),
            (
                None,
                "x=1&last_event_id=ab12-3",
                Some(cursor(Some("ab12"), 3)),
            ),
            (Some("ab12-6-17"), "", Some(cursor(Some("ab12"), 17))),
            (None, "last_event_id=", None),
        ] {
            assert_eq!(read(header, query), Ok(read_as), "{header:?} {query}");
        }
        for wrong in [
            "x",
            "ab12-",
            "-3",
            "+3",
            "1.5",
            "ab-12x",
            "ab-x-12",
            "ab-1-2-3",
            "-1-2",
            "99999999999999999999",
        ] {
            assert!(read(Some(wrong), "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_position_of_another_store_starts_from_the_first_event_and_one_not_reached_from_the_last() {
        assert_eq!(cursor(Some("ours"), 7).after("ours", 9), 7);
        assert_eq!(cursor(None, 9).after("ours", 9), 9);
        assert_eq!(cursor(Some("theirs"), 7).after("ours", 9), 0);
        assert_eq!(cursor(None, 10).after("ours", 9), 9);
        assert_eq!(cursor(Some("ours"), 10).after("ours", 9), 9);
    }
}
