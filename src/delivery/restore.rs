//! Outboxes as the last start left them.

use crate::clock::Now;
use crate::delivery::{Outbox, Sink};
use crate::store::{StoreError, StoreReader, Stored};

/// How many events are read at once.
const PAGE: usize = 1000;

/// An outbox for each of `sinks`, filled with what it is still to get.
///
/// # Errors
/// When the events cannot be read.
pub fn restore<'s>(
    sinks: impl IntoIterator<Item = &'s dyn Sink>,
    stored: &Stored,
    reader: &mut dyn StoreReader,
    now: Now,
) -> Result<Vec<Outbox>, StoreError> {
    let mut outboxes: Vec<Outbox> = sinks
        .into_iter()
        .map(|sink| {
            let state = stored.sinks.get(sink.name()).cloned();
            Outbox::new(sink.name(), sink.batch(), state, stored.position, now)
        })
        .collect();
    let settled = outboxes.iter().map(Outbox::settled).min();
    let mut after = settled.unwrap_or(stored.position);
    while after < stored.position {
        let events = reader.events(after, PAGE)?;
        let Some(last) = events.last() else {
            break;
        };
        after = last.position;
        for outbox in &mut outboxes {
            outbox.offer(&events);
        }
    }
    // A sink that is new must know which sites are curtailed.
    for event in reader.newest_site_events()? {
        if &*event.event_type != "site.release" {
            for outbox in &mut outboxes {
                outbox.offer_site(&event);
            }
        }
    }
    Ok(outboxes)
}
