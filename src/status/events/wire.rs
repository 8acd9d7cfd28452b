//! Writes an event as a Server-Sent Event.

use bytes::Bytes;

use crate::model::Event;
use crate::seldom::Rarely;

/// How long a browser waits before it connects again, in ms.
const RETRY_MS: u32 = 2000;

/// The first thing that is sent. The id stands there so that somebody who is
/// cut off before the first event can still go on without a gap.
pub(super) fn opening(store_id: &str, after: u64) -> Bytes {
    format!("retry: {RETRY_MS}\nid: {store_id}-{after}\n\n").into()
}

/// Shows that the connection is alive.
pub(super) fn heartbeat() -> Bytes {
    Bytes::from_static(b": still here\n\n")
}

/// An event. `None` if it cannot be written.
pub(super) fn event(event: &Event) -> Option<Bytes> {
    let json = serde_json::to_string(event)
        .inspect_err(|error| {
            static LINE: Rarely = Rarely::new();
            if let Some(count) = LINE.count() {
                tracing::error!(%error, count, id = %event.id, "an event cannot be shown");
            }
        })
        .ok()?;
    // A line break in JSON is white space, but would end the line here.
    let json = if json.contains(['\n', '\r']) {
        json.replace(['\n', '\r'], " ")
    } else {
        json
    };
    let (id, event_type) = (&event.id, &event.event_type);
    Some(format!("id: {id}\nevent: {event_type}\ndata: {json}\n\n").into())
}
