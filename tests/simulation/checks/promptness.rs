//! Nobody is in the way: what may go goes at once, whoever else hangs or fails (rule
//! R6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Durable, StepEnd};
use crate::routes::SimulatedRoute;
use crate::scenario::Knobs;
use crate::violation::{Checked, must};
use dispatchd::delivery::{Attempt, Start};
use dispatchd::model::Event;

/// How long what may go may wait for its attempt.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long after a failed attempt for its site a new command may wait.
const NEW_COMMAND: Duration = Duration::from_secs(5);

/// How long anything may wait after an attempt for its subject failed.
const AGAIN: Duration = Duration::from_secs(61);

/// When each subject at each sink must be attempted.
#[derive(Debug)]
pub(super) struct Promptness {
    sinks: Vec<Sink>,
    absent: Option<usize>,
    /// The daemon gets no processor until then.
    held_until: Duration,
    /// The disk was busy, or refused, at the end of the last step: until the next one,
    /// no command could be written down as attempted.
    disk_busy: bool,
}

#[derive(Debug, Default)]
struct Sink {
    name: String,
    /// When a subject must be attempted at the latest.
    due: BTreeMap<Arc<str>, Duration>,
    under_way: BTreeMap<u64, Vec<Event>>,
    route: Option<SimulatedRoute>,
    /// Whether it ever had one.
    was_routed: bool,
    /// Subjects whose last attempt failed, and when.
    failing: BTreeMap<Arc<str>, Duration>,
    /// Subjects of which an attempt failed, in any life.
    ever_failed: BTreeSet<Arc<str>>,
    /// Those of which none was made since the start: a pause may have been on disk.
    maybe_paused: BTreeSet<Arc<str>>,
    /// What was acknowledged, by subject.
    acknowledged: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// Sites that were sent something, and no release was acknowledged since.
    owed: BTreeSet<Arc<str>>,
    /// The wall clock was set back since the last start that had this sink.
    clock_set_back: bool,
    /// Since no connection could be made: the first attempt that can show that
    /// there is one again.
    down: Option<u64>,
    /// The number of the newest attempt.
    newest_attempt: u64,
}

impl Promptness {
    pub fn new(knobs: &Knobs) -> Self {
        Self {
            sinks: (0..knobs.batches.len())
                .map(|sink| Sink {
                    name: format!("sink{sink}"),
                    ..Sink::default()
                })
                .collect(),
            absent: None,
            held_until: Duration::ZERO,
            disk_busy: false,
        }
    }

    /// A daemon starts, perhaps without one of its sinks. What is pending already it
    /// finds by and by.
    pub fn booted(&mut self, absent: Option<usize>, routes: Vec<SimulatedRoute>, now: Duration) {
        self.absent = absent;
        for (sink, route) in self.sinks.iter_mut().zip(routes) {
            sink.route = Some(route).filter(|route| *route != SimulatedRoute::EVERYTHING);
            sink.was_routed |= sink.route.is_some();
        }
        self.gone();
        for (number, sink) in self.sinks.iter_mut().enumerate() {
            if Some(number) != absent && std::mem::take(&mut sink.clock_set_back) {
                // How long ago an attempt failed cannot be told any more.
                for failed in sink.failing.values_mut() {
                    *failed = now;
                }
            }
        }
    }

    /// The wall clock shows an earlier time than a moment ago.
    pub fn clock_set_back(&mut self) {
        for sink in &mut self.sinks {
            sink.clock_set_back = true;
        }
    }

    /// The daemon is no more.
    pub fn gone(&mut self) {
        for sink in &mut self.sinks {
            sink.due.clear();
            sink.under_way.clear();
            sink.down = None;
            sink.newest_attempt = 0;
            sink.maybe_paused = sink.ever_failed.clone();
        }
    }

    /// The state was lost or replaced. What the new one says of attempts is less than
    /// what was attempted: only what is owed unconditionally is sure to go.
    pub fn state_replaced(&mut self) {
        for sink in &mut self.sinks {
            sink.owed.clear();
        }
    }

    /// The daemon gets no processor until then.
    pub fn held(&mut self, until: Duration) {
        self.held_until = self.held_until.max(until);
    }

    /// Events are on disk, and the daemon knows it.
    pub fn shown(&mut self, events: &[Event], durable: &Durable, now: Duration) {
        let absent = self.absent;
        let present = self.sinks.iter_mut().enumerate();
        for (_, sink) in present.filter(|(sink, _)| Some(*sink) != absent) {
            for event in events {
                let subject = event.subject_key();
                let busy = sink.is_under_way(&subject);
                if event.family() == "site" {
                    if !busy {
                        sink.command(event, now);
                    }
                } else if sink.next(&subject, durable) == Some(event.position) && !busy {
                    let paused =
                        sink.failing.contains_key(&subject) || sink.maybe_paused.contains(&subject);
                    let within = if paused { AGAIN } else { AT_ONCE };
                    sink.due.entry(subject).or_insert(now + within);
                }
            }
        }
    }

    /// An attempt starts.
    pub fn starts(&mut self, sink: usize, start: &Start) {
        let Some(sink) = self.sinks.get_mut(sink) else {
            return;
        };
        for event in &start.events {
            sink.due.remove(&event.subject_key());
            sink.maybe_paused.remove(&event.subject_key());
            if event.family() == "site" {
                sink.owed.insert(event.subject_key());
            }
        }
        sink.newest_attempt = start.attempt;
        sink.under_way.insert(start.attempt, start.events.clone());
    }

    /// An attempt has ended, or was abandoned.
    pub fn ended(
        &mut self,
        sink: usize,
        attempt: u64,
        result: Option<&Attempt>,
        durable: &Durable,
        now: Duration,
    ) {
        // While it is held, the daemon learns of nothing.
        let now = now.max(self.held_until);
        let Some(sink) = self.sinks.get_mut(sink) else {
            return;
        };
        let events = sink.under_way.remove(&attempt).unwrap_or_default();
        match result {
            Some(Attempt::Unreachable { .. }) => {
                sink.down = Some(sink.newest_attempt + 1);
            }
            // What failed may have begun on a connection of before.
            Some(Attempt::Failed { .. }) if sink.down.is_some_and(|first| attempt < first) => {}
            Some(Attempt::Delivered | Attempt::Failed { .. }) if sink.down.is_some() => {
                sink.down = None;
                for due in sink.due.values_mut() {
                    *due = (*due).max(now + AT_ONCE);
                }
            }
            _ => {}
        }
        for event in &events {
            let subject = event.subject_key();
            let batch = events.len() > 1;
            match result {
                Some(Attempt::Delivered) => sink.delivered(event, durable, now),
                Some(Attempt::Failed { .. }) if !batch => {
                    sink.failing.insert(Arc::clone(&subject), now);
                    sink.ever_failed.insert(Arc::clone(&subject));
                    sink.due.insert(Arc::clone(&subject), now + AGAIN);
                    if event.family() == "site"
                        && let Some(newest) = durable.newest_of_site(&event.subject)
                        && newest.position > event.position
                    {
                        sink.command(newest, now);
                    }
                }
                _ => {
                    sink.due.insert(subject, now + AT_ONCE);
                }
            }
        }
    }

    /// The coordinator has been stepped.
    pub fn stepped(&mut self, end: &StepEnd<'_>) -> Checked {
        let now = end.now;
        let is_busy = end.writing || end.view.health.store_error.is_some();
        let was_busy = std::mem::replace(&mut self.disk_busy, is_busy);
        for (number, sink) in self.sinks.iter_mut().enumerate() {
            if is_busy || was_busy {
                // A command waits until it is written down as attempted.
                for (_, due) in sink.due.iter_mut().filter(|(key, _)| is_site(key)) {
                    *due = (*due).max(now + AT_ONCE);
                }
            }
            for due in sink.due.values_mut() {
                *due = (*due).max(self.held_until + AT_ONCE);
            }
            if sink.down.is_some() || end.stopping {
                continue;
            }
            let late = sink.due.iter().find(|(_, due)| **due < now);
            must(late.is_none(), now, "nobody is in the way", || {
                format!("sink{number}, {late:?} is not attempted")
            })?;
        }
        Ok(())
    }
}

impl Sink {
    fn is_under_way(&self, subject: &str) -> bool {
        let mut events = self.under_way.values().flatten();
        events.any(|event| *event.subject_key() == *subject)
    }

    /// The position of the next event of a subject that is no site.
    fn next(&self, subject: &Arc<str>, durable: &Durable) -> Option<u64> {
        if self.was_routed {
            // Which of them go there depends on the sites of each.
            return None;
        }
        let acknowledged = self.acknowledged.get(subject);
        let positions = durable.owed(&self.name, subject);
        let mut pending = positions.iter().filter(|position| {
            !acknowledged.is_some_and(|acknowledged| acknowledged.contains(position))
        });
        pending.next().copied()
    }

    /// A site's newest command may go.
    fn command(&mut self, newest: &Event, now: Duration) {
        let subject = newest.subject_key();
        let curtails = match self.route {
            Some(route) => route.curtails(newest),
            None => &*newest.event_type != "site.release",
        };
        let named = self.route.is_none_or(|route| route.names(&newest.subject));
        let is_owed = self.owed.contains(&subject);
        let goes = curtails || is_owed || (newest.unconditional && named);
        if !goes {
            self.due.remove(&subject);
            return;
        }
        let paused = self.failing.get(&subject);
        let latest = paused.map_or(now, |failed| (*failed + NEW_COMMAND).max(now)) + AT_ONCE;
        let due = self.due.entry(subject).or_insert(latest);
        *due = (*due).min(latest);
    }

    fn delivered(&mut self, event: &Event, durable: &Durable, now: Duration) {
        let subject = event.subject_key();
        self.failing.remove(&subject);
        if event.family() != "site" {
            let acknowledged = self.acknowledged.entry(Arc::clone(&subject)).or_default();
            acknowledged.insert(event.position);
            if self.next(&subject, durable).is_some() {
                self.due.insert(subject, now + AT_ONCE);
            }
            return;
        }
        if &*event.event_type == "site.release" {
            self.owed.remove(&subject);
        }
        if let Some(newest) = durable.newest_of_site(&event.subject)
            && newest.position > event.position
        {
            self.command(newest, now);
        }
    }
}

fn is_site(subject: &str) -> bool {
    subject.starts_with("site/")
}
