//! What receivers get: everything, in order, and nothing stale (rule R6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Durable;
use crate::receivers::Receiver;
use crate::routes::SimulatedRoute;
use crate::scenario::Knobs;
use crate::violation::{Checked, must};
use dispatchd::delivery::{Attempt, Sink, Start};
use dispatchd::model::Event;

/// The queues and attempts of all sinks.
#[derive(Debug)]
pub(crate) struct Deliveries {
    sinks: Vec<SubjectQueues>,
}

#[derive(Debug)]
struct SubjectQueues {
    batch: usize,
    under_way: BTreeMap<u64, Vec<Event>>,
    /// The positions that have arrived, by subject queue.
    arrived: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// The last position that was sent, by subject queue.
    sent: BTreeMap<Arc<str>, u64>,
    /// The last one that was sent before the state was lost or replaced, though it may
    /// arrive later. What the state says of the receiver may be older.
    sent_before: BTreeMap<Arc<str>, u64>,
    /// The type under which each event went out.
    types: BTreeMap<u64, Arc<str>>,
    /// What was last attempted of each site.
    attempted: BTreeMap<Arc<str>, Tried>,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    sequence: u64,
    /// Curtailment was attempted, and no release was confirmed since.
    owes_release: bool,
    /// The release that was confirmed last.
    released: u64,
}

impl Deliveries {
    pub(super) fn new(knobs: &Knobs) -> Self {
        let queues = |batch: &usize| SubjectQueues {
            batch: *batch,
            under_way: BTreeMap::new(),
            arrived: BTreeMap::new(),
            sent: BTreeMap::new(),
            sent_before: BTreeMap::new(),
            types: BTreeMap::new(),
            attempted: BTreeMap::new(),
        };
        Self {
            sinks: knobs.batches.iter().map(queues).collect(),
        }
    }

    /// The daemon is no more. The next one cannot know whether what is written
    /// down as attempted was: it must take it for done.
    pub(super) fn daemon_gone(&mut self, durable: &Durable) {
        for (sink, queues) in self.sinks.iter_mut().enumerate() {
            queues.under_way.clear();
            let written = durable
                .attempted
                .iter()
                .filter(|((name, _), _)| **name == *format!("sink{sink}"));
            for ((_, site), told) in written {
                let tried = queues.attempted.entry(Arc::clone(site)).or_insert(Tried {
                    sequence: told.position,
                    owes_release: true,
                    released: 0,
                });
                tried.owes_release = true;
            }
        }
    }

    /// The state was lost or replaced: what it says was attempted counts.
    pub(super) fn state_replaced(&mut self, durable: &Durable) {
        for queues in &mut self.sinks {
            queues.attempted.clear();
            queues.types.clear();
            queues.sent_before = queues.sent.clone();
        }
        self.daemon_gone(durable);
    }

    /// An attempt starts.
    pub fn starts(
        &mut self,
        sink: usize,
        receiver: &Receiver,
        start: &Start,
        durable: &Durable,
        now: Duration,
    ) -> Checked {
        let Some(queues) = self.sinks.get_mut(sink) else {
            return Ok(());
        };
        let size = start.events.len();
        must(
            (1..=queues.batch).contains(&size),
            now,
            "a batch is no larger than the sink takes",
            || format!("{size} events for sink{sink}"),
        )?;
        for event in &start.events {
            let key = event.subject_key();
            let busy = queues.under_way.values().flatten();
            let busy = busy
                .map(Event::subject_key)
                .any(|under_way| under_way == key);
            must(!busy, now, "one attempt a subject at a time", || {
                format!("sink{sink}, {key}")
            })?;
            queues.is_the_same(sink, receiver.route, event, durable, now)?;
            let sent = queues.sent.entry(key).or_default();
            *sent = event.position.max(*sent);
            if event.family() == "site" {
                queues.command(sink, receiver, event, durable, now)?;
            }
        }
        queues.under_way.insert(start.attempt, start.events.clone());
        Ok(())
    }

    /// The daemon is told what came of an attempt.
    pub(super) fn attempted(&mut self, sink: usize, attempt: u64, result: &Attempt) {
        let Some(queues) = self.sinks.get_mut(sink) else {
            return;
        };
        let events = queues.under_way.remove(&attempt).unwrap_or_default();
        match result {
            Attempt::Delivered => {
                for event in events.iter().filter(|event| is_release(event)) {
                    if let Some(tried) = queues.attempted.get_mut(&event.subject) {
                        tried.owes_release = false;
                        tried.released = event.sequence;
                    }
                }
            }
            Attempt::Failed { .. } | Attempt::Unreachable { .. } | Attempt::BrokenOff => {}
        }
    }

    /// The daemon drops an attempt.
    pub(super) fn abandoned(&mut self, sink: usize, attempt: u64) {
        if let Some(queues) = self.sinks.get_mut(sink) {
            queues.under_way.remove(&attempt);
        }
    }

    /// An event reaches a receiver.
    pub fn arrives(
        &mut self,
        sink: usize,
        receiver: &Receiver,
        event: &Event,
        now: Duration,
    ) -> Checked {
        let Some(queues) = self.sinks.get_mut(sink) else {
            return Ok(());
        };
        if &*event.event_type == "site.adjust" {
            let position = event.position;
            let late = queues
                .attempted
                .get(&event.subject)
                .is_some_and(|tried| tried.sequence > position);
            // Released by a later event, or before the state was lost or replaced.
            let before = queues.sent_before.get(&event.subject_key()).copied();
            let overtaken = receiver.obeyed(&event.subject).is_some_and(|obeyed| {
                obeyed.position > position || Some(obeyed.position) <= before
            });
            must(
                late || overtaken || receiver.curtails(&event.subject),
                now,
                "only a site that was told to curtail is told to adjust",
                || format!("sink{sink}, {}, event {position}", event.subject),
            )?;
        }
        let arrived = queues.arrived.entry(event.subject_key()).or_default();
        arrived.insert(event.position);
        Ok(())
    }

    /// Whether what arrives came behind all that was before it in its key.
    pub fn in_order(
        &self,
        sink: usize,
        event: &Event,
        durable: &Durable,
        now: Duration,
    ) -> Checked {
        let key = event.subject_key();
        // What a state has sent that was lost since may come at any time.
        if event.family() == "site"
            || !durable.has(event)
            || durable.lost.contains(&(sink, Arc::clone(&key)))
        {
            return Ok(());
        }
        let arrived = self
            .sinks
            .get(sink)
            .and_then(|queues| queues.arrived.get(&key));
        let positions = durable.owed(&format!("sink{sink}"), &key);
        let missing = positions
            .iter()
            .take_while(|position| **position < event.position)
            .find(|position| arrived.is_none_or(|arrived| !arrived.contains(position)));
        must(
            missing.is_none(),
            now,
            "dispatch events arrive in order, without gaps",
            || format!("sink{sink}, {key}: {} before {missing:?}", event.position),
        )
    }

    /// Once all is quiet, all has arrived.
    pub(super) fn settled(
        &self,
        receivers: &[Receiver],
        durable: &Durable,
        now: Duration,
    ) -> Checked {
        for (sink, (queues, receiver)) in self.sinks.iter().zip(receivers).enumerate() {
            for key in durable.queues.keys() {
                if key.starts_with("site/")
                    || receiver.was_routed
                    || durable.lost.contains(&(sink, Arc::clone(key)))
                {
                    continue;
                }
                let arrived = queues.arrived.get(key);
                let missing = durable
                    .owed(&format!("sink{sink}"), key)
                    .iter()
                    .find(|position| arrived.is_none_or(|all| !all.contains(position)));
                must(
                    missing.is_none(),
                    now,
                    "every dispatch event is delivered",
                    || format!("sink{sink}, {key}: not {missing:?}"),
                )?;
            }
            for (site, tried) in &queues.attempted {
                let obeyed = receiver.obeyed(site);
                if obeyed.is_some_and(|obeyed| {
                    durable.is_out_of_reach(receiver.stub.name(), site, obeyed)
                }) {
                    continue;
                }
                let newest = durable.newest_of_site(site);
                let normal = newest.is_some_and(|newest| !receiver.route.curtails(newest));
                must(
                    !(normal && tried.owes_release) && receiver.curtails(site) != normal,
                    now,
                    "a curtailment that was attempted is released",
                    || format!("sink{sink}, {site}: {tried:?}, normal: {normal}"),
                )?;
            }
        }
        Ok(())
    }
}

impl SubjectQueues {
    /// An event is what was committed, and the same each time.
    fn is_the_same(
        &mut self,
        sink: usize,
        route: SimulatedRoute,
        event: &Event,
        durable: &Durable,
        now: Duration,
    ) -> Checked {
        let same = durable
            .events
            .get(&event.position)
            .is_some_and(|committed| {
                committed.id == event.id
                    && committed.subject == event.subject
                    && (committed.data.get() == event.data.get()
                        || is_share(route, committed, event))
                    && (event.family() == "site" || committed.event_type == event.event_type)
            });
        must(same, now, "only what is committed is delivered", || {
            format!("sink{sink}: {event:?}")
        })?;
        let event_type = Arc::clone(&event.event_type);
        let before = self.types.insert(event.position, Arc::clone(&event_type));
        must(
            before.as_ref().is_none_or(|before| *before == event_type),
            now,
            "an event is the same on every redelivery",
            || format!("sink{sink}: {} was {before:?}, is {event_type}", event.id),
        )
    }

    /// A site command fits what must be now and what the receiver was told.
    fn command(
        &mut self,
        sink: usize,
        receiver: &Receiver,
        event: &Event,
        durable: &Durable,
        now: Duration,
    ) -> Checked {
        let site = &event.subject;
        let newest = durable.newest_of_site(site);
        must(
            newest.is_some_and(|newest| {
                // A release that is owed may go out as it was first told: a newer
                // release need not be sent.
                let owed = event.unconditional && !receiver.route.curtails(newest);
                (newest.position == event.position || owed)
                    && receiver.route.curtails(newest) != is_release(event)
            }),
            now,
            "a site is told what must be now",
            || format!("sink{sink}: {} {site} {}", event.sequence, event.event_type),
        )?;
        let name = Arc::from(receiver.stub.name());
        let written = durable.attempted.get(&(name, Arc::clone(site)));
        must(
            written.is_some_and(|told| told.position == event.position),
            now,
            "a command is written down before it is attempted",
            || format!("sink{sink}, {site}: {written:?} for {}", event.position),
        )?;
        let before = self.attempted.get(site).copied();
        if is_release(event) {
            // A release may be owed that was superseded before it was attempted.
            let attempted = before.map_or(0, |tried| tried.sequence);
            let since = attempted.saturating_add(1)..event.position.saturating_add(1);
            let owed = (attempted < event.position)
                && durable
                    .events
                    .range(since)
                    .any(|(_, other)| other.unconditional && other.subject == *site);
            must(
                owed || before.is_some_and(|tried| {
                    // A release that was attempted and not acknowledged is still owed.
                    let open = tried.released != tried.sequence;
                    open || tried.owes_release || tried.released == event.sequence
                }),
                now,
                "whoever was never told to curtail is not released",
                || format!("sink{sink}, {site}, event {}", event.position),
            )?;
        }
        let tried = Tried {
            sequence: event.sequence,
            owes_release: !is_release(event) || before.is_some_and(|tried| tried.owes_release),
            released: before.map_or(0, |tried| tried.released),
        };
        self.attempted.insert(Arc::clone(site), tried);
        Ok(())
    }
}

/// Whether `sent` is what a receiver with this route gets of `committed`: of a dispatch
/// its own sites, of a site that it is for no longer a release.
fn is_share(route: SimulatedRoute, committed: &Event, sent: &Event) -> bool {
    match sent.family() {
        "dispatch" => route.is_for(&sent.subject) && route.shows(committed, sent),
        "site" => is_release(sent) && !route.curtails(committed),
        _ => false,
    }
}

fn is_release(event: &Event) -> bool {
    &*event.event_type == "site.release"
}
