//! The topic of an event.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::Event;

/// All but what RFC 3986 calls unreserved. Ids come from elsewhere: `/`, `+`
/// and `#` would steer the topic, and brokers close the connection over control
/// characters and the like.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A topic, and whether its last event is kept for those who come later.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) retain: bool,
}

pub(super) fn status(prefix: &str) -> String {
    format!("{prefix}/status")
}

pub(super) fn of(prefix: &str, event: &Event) -> Topic {
    let kind = event.event_type.split('.').next().unwrap_or_default();
    let kind = utf8_percent_encode(kind, ENCODED);
    let subject = utf8_percent_encode(&event.subject, ENCODED);
    match &*event.event_type {
        // About the daemon, of which there is one.
        t if t.starts_with("sync.") => Topic {
            name: format!("{prefix}/sync"),
            retain: false,
        },
        // A controller that comes late must learn what its site is to do now.
        t if t.starts_with("site.") => Topic {
            name: format!("{prefix}/site/{subject}"),
            retain: true,
        },
        _ => Topic {
            name: format!("{prefix}/{kind}/{subject}"),
            retain: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::sinks::testing::event;

    fn topic(event_type: &str, subject: &str) -> (String, bool) {
        let topic = of("plant/7", &event("e", event_type, subject));
        (topic.name, topic.retain)
    }

    #[test]
    fn each_kind_of_event_has_its_place() {
        let place = |name: &str, retain| (name.to_owned(), retain);
        assert_eq!(
            topic("dispatch.created", "dkmq"),
            place("plant/7/dispatch/dkmq", false)
        );
        assert_eq!(
            topic("site.curtail", "s-1_a.b~c"),
            place("plant/7/site/s-1_a.b~c", true)
        );
        assert_eq!(
            topic("sync.stale", "dispatchd"),
            place("plant/7/sync", false)
        );
    }

    #[test]
    fn an_id_cannot_steer_its_topic() {
        assert_eq!(
            topic("site.curtail", "a/../+/#%\0é").0,
            "plant/7/site/a%2F..%2F%2B%2F%23%25%00%C3%A9"
        );
    }
}
