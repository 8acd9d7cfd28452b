//! Makes the outboxes as the last start left them.

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::delivery::{Announced, Outbox, Sink};
use crate::model::Route;
use crate::store::{SinkState, StoreError, StoreReader, Stored};

/// An outbox for each of `sinks`, with the route of each. It knows where its sites
/// stand; what else it is still to get it reads from the store by and by.
///
/// # Errors
/// When the events cannot be read.
pub fn restore<'s>(
    sinks: impl IntoIterator<Item = (&'s dyn Sink, &'s Route)>,
    stored: &Stored,
    reader: &mut dyn StoreReader,
    now: Now,
) -> Result<Vec<Outbox>, StoreError> {
    let sinks: Vec<(&dyn Sink, &Route)> = sinks.into_iter().collect();
    let states = sinks.iter().map(|(sink, _)| stored.sinks.get(sink.name()));
    let pending = pending(states.flatten(), stored.position, reader)?;
    let mut outboxes: Vec<Outbox> = sinks
        .into_iter()
        .map(|(sink, route)| {
            let state = stored.sinks.get(sink.name()).cloned();
            let beyond = state.as_ref().map(|state| pending.of(state));
            Outbox::new(
                sink,
                route,
                state,
                stored.position,
                beyond.unwrap_or_default(),
                now,
            )
        })
        .collect();
    for event in reader.newest_site_events()? {
        let announced = Announced::new(&event);
        for outbox in &mut outboxes {
            outbox.offer_site(&announced, now);
        }
    }
    Ok(outboxes)
}

/// How many events that every sink gets lie behind each position of interest.
struct Pending {
    /// Positions of interest, and the number of events up to and including each.
    up_to: BTreeMap<u64, u64>,
    all: u64,
}

impl Pending {
    fn behind(&self, position: u64) -> u64 {
        self.all - self.up_to.get(&position).copied().unwrap_or_default()
    }

    /// How many of them a sink is still to get.
    fn of(&self, state: &SinkState) -> u64 {
        let done: u64 = state
            .done_beyond
            .iter()
            .map(|(first, last)| self.behind(first.saturating_sub(1)) - self.behind(*last))
            .sum();
        self.behind(state.done).saturating_sub(done)
    }
}

/// Counts the events behind what the sinks have had, in one pass.
fn pending<'s>(
    states: impl Iterator<Item = &'s SinkState>,
    head: u64,
    reader: &mut dyn StoreReader,
) -> Result<Pending, StoreError> {
    let mut of_interest = BTreeMap::new();
    let mut first = head;
    for state in states {
        first = first.min(state.done);
        of_interest.insert(state.done, 0);
        for (begin, end) in &state.done_beyond {
            of_interest.insert(begin.saturating_sub(1), 0);
            of_interest.insert(*end, 0);
        }
    }
    let mut positions = of_interest.iter_mut().peekable();
    let mut all = 0;
    reader.positions_to_deliver(first, &mut |position| {
        while let Some((_, count)) = positions.next_if(|(of_interest, _)| **of_interest < position)
        {
            *count = all;
        }
        all += 1;
    })?;
    for (_, count) in positions {
        *count = all;
    }
    Ok(Pending {
        up_to: of_interest,
        all,
    })
}
