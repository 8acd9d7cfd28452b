//! What is on disk, kept a second time; and that nothing else is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::StepEnd;
use crate::upstream::Moment;
use crate::violation::{Checked, must};
use dispatchd::model::{DispatchId, Entry, Event, Override, SiteId, SiteState};
use dispatchd::store::{Attempted, Batch, SyncRecord};

/// By how many microseconds the API's clock may differ from the machine's before it
/// is the one that numbers events.
const CLOCK_TOLERANCE: u64 = 60_000_000;

/// The state that all commits together have made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durable {
    pub entries: BTreeMap<DispatchId, Arc<Entry>>,
    sites: BTreeMap<SiteId, Arc<SiteState>>,
    pub revision: u64,
    pub sync: SyncRecord,
    /// Every event that ever was committed, by position.
    pub events: BTreeMap<u64, Event>,
    /// The positions of each key, in order.
    pub queues: BTreeMap<Arc<str>, Vec<u64>>,
    /// Dispatches that were dropped for their age.
    pub dropped: BTreeSet<DispatchId>,
    /// SubjectQueues some of whose events were dropped for their age while the daemon ran
    /// without the sink.
    pub lost: BTreeSet<(usize, Arc<str>)>,
    /// What is written down as attempted, by sink and site.
    pub attempted: BTreeMap<(Arc<str>, Arc<str>), Attempted>,
    /// The sinks and sites at which anything was ever attempted, as far as a daemon can
    /// know.
    ever_told: BTreeSet<(Arc<str>, Arc<str>)>,
    /// The positions behind which events are owed to each sink that is on disk.
    /// A sink exists from its first record there on.
    owed: BTreeMap<Arc<str>, u64>,
    /// The position of the last event when the daemon started.
    at_boot: u64,
    /// The term whose commits were last seen.
    term: u64,
    /// The highest numbers that any event had, of this state or one before it.
    highest: Highest,
    /// Whether the running daemon has seen the API's clock.
    pub clock_known: bool,
    /// Whether it had when the last commit began, and whether it saw it first while that was
    /// under way. The events of the next commit may have had their numbers then.
    known_at_commit: bool,
    learnt_meanwhile: bool,
    /// Whether it had when it numbered the events that are being written.
    numbered_by_it: bool,
    /// The earliest time that the daemon's clock showed at an answer, of each dispatch
    /// since the last commit that has it began. An answer may undo a start or an end that
    /// bears on nothing, and that is written with what comes next.
    answered: BTreeMap<DispatchId, DateTime<Utc>>,
    /// The same up to the commit under way.
    answered_before: BTreeMap<DispatchId, DateTime<Utc>>,
    /// Whether a clock that was ahead numbered events, and the API's clock did not
    /// give it away: it was not known yet, or differed by no more than a minute.
    ran_ahead: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Highest {
    position: u64,
    term: u64,
}

impl Durable {
    /// A commit begins: its events have their numbers.
    pub fn numbered(&mut self) {
        self.numbered_by_it = self.clock_known && !self.learnt_meanwhile;
        self.known_at_commit = self.clock_known;
        self.learnt_meanwhile = false;
    }

    /// A step takes in that a commit has ended.
    pub fn commit_ended(&mut self) {
        self.learnt_meanwhile = self.clock_known && !self.known_at_commit;
    }

    /// The daemon takes in an answer, while its clock shows this.
    pub fn answered(&mut self, wall: DateTime<Utc>) {
        for id in self.entries.keys() {
            let earliest = self.answered.entry(id.clone()).or_insert(wall);
            *earliest = wall.min(*earliest);
        }
    }

    /// A commit begins.
    pub fn begun(&mut self, batch: &Batch) {
        for entry in &batch.entries {
            if let Some(wall) = self.answered.remove(entry.id()) {
                let before = self.answered_before.entry(entry.id().clone());
                let earliest = before.or_insert(wall);
                *earliest = wall.min(*earliest);
            }
        }
    }

    /// A batch is about to be written.
    pub fn may_follow(&self, batch: &Batch, now: Duration) -> Checked {
        let fits = batch.expected_revision == self.revision && batch.revision >= self.revision;
        must(fits, now, "a commit follows the one before", || {
            format!(
                "revision {} on top of {}, but {} is on disk",
                batch.revision, batch.expected_revision, self.revision
            )
        })?;
        must(batch.term >= self.term, now, "terms only grow", || {
            format!("term {} after {}", batch.term, self.term)
        })
    }

    /// The state was lost or replaced: this is what the new one holds.
    ///
    /// Nobody can know of the numbers that a clock chose which was ahead of `now`,
    /// and has been set back (rule R12).
    pub fn replace(&mut self, durable: Self, now: DateTime<Utc>) {
        let mut highest = self.highest;
        highest.term = highest.term.min(millis(now));
        if self.ran_ahead {
            highest.position = highest.position.min(micros(now));
        }
        *self = Self { highest, ..durable };
    }

    /// A daemon starts.
    pub fn booted(&mut self) {
        self.at_boot = self.events.last_key_value().map_or(0, |(last, _)| *last);
        self.clock_known = false;
        self.known_at_commit = false;
        self.learnt_meanwhile = false;
    }

    /// Whether the event is in this state, not in one that was lost.
    pub fn has(&self, event: &Event) -> bool {
        let same = self.events.get(&event.position);
        same.is_some_and(|same| same.id == event.id)
    }

    /// The positions of a subject queue that a sink is to get.
    pub fn owed(&self, sink: &str, key: &str) -> &[u64] {
        let all = self.queues.get(key).map_or(&[][..], |all| all);
        let behind = self.owed.get(sink).copied().unwrap_or(u64::MAX);
        let from = all.partition_point(|position| *position <= behind);
        all.get(from..).unwrap_or_default()
    }

    /// Whether the site is at the receiver of `sink` as a state has left it that was
    /// lost since, and was given no command from then on, or none but a release
    /// while the daemon ran without the sink, or of what was never attempted there.
    /// Then nobody can know.
    pub fn is_out_of_reach(&self, sink: &str, site: &str, obeyed: &Event) -> bool {
        let behind = self.owed.get(sink).copied().unwrap_or(u64::MAX);
        let missed = |newest: &Event| {
            let release = &*newest.event_type == "site.release";
            let never_told = !self.ever_told.contains(&(sink.into(), site.into()));
            newest.position < obeyed.position
                || (release && newest.position <= behind)
                || (release && never_told && !newest.unconditional)
        };
        !self.has(obeyed) && self.newest_of_site(site).is_none_or(missed)
    }

    /// A command to a site is attempted.
    pub fn told(&mut self, sink: &str, site: &Arc<str>) {
        self.ever_told.insert((sink.into(), Arc::clone(site)));
    }

    /// The daemon is no more. The next one takes what is written down as attempted for
    /// attempted.
    pub fn daemon_gone(&mut self) {
        self.ever_told.extend(self.attempted.keys().cloned());
        self.answered.clear();
        self.answered_before.clear();
    }

    /// A batch lets events go that sinks without which the daemon runs did not
    /// get.
    pub fn lose(&mut self, batch: &Batch, absent: &[usize]) {
        let pruned = batch
            .pruned
            .iter()
            .map(|id| format!("dispatch/{id}").into());
        let old = batch.forget_before.map(|_| {
            let queues = self.queues.keys();
            queues.filter(|key| key.starts_with("sync/")).cloned()
        });
        let queues: Vec<Arc<str>> = pruned.chain(old.into_iter().flatten()).collect();
        for sink in absent {
            self.lost
                .extend(queues.iter().map(|key| (*sink, Arc::clone(key))));
        }
    }

    /// A batch was written.
    pub fn written(&mut self, batch: &Batch, stored: &Batch, moment: Moment) -> Checked {
        let now = moment.at;
        self.term = batch.term;
        for entry in &batch.entries {
            self.keeps_its_phase(entry, now)?;
            self.answered_before.remove(entry.id());
            self.entries.insert(entry.id().clone(), Arc::clone(entry));
        }
        for id in &batch.pruned {
            self.entries.remove(id);
            self.dropped.insert(id.clone());
        }
        for site in &batch.sites {
            self.sites.insert(site.id.clone(), Arc::clone(site));
        }
        for id in &batch.forgotten {
            self.sites.remove(id);
        }
        self.revision = batch.revision;
        for event in &batch.events {
            must(
                event.position > self.highest.position
                    && event.term >= self.highest.term
                    && event.sequence == event.position,
                now,
                "the numbers of events only grow",
                || {
                    format!(
                        "{} of term {} after {:?}",
                        event.position, event.term, self.highest
                    )
                },
            )?;
            let ahead = event.position.saturating_sub(micros(moment.wall));
            self.ran_ahead |= ahead > 0 && (!self.numbered_by_it || ahead <= CLOCK_TOLERANCE);
            self.highest = Highest {
                position: event.position,
                term: event.term,
            };
            self.alternates(event, now)?;
            self.queues
                .entry(event.subject_key())
                .or_default()
                .push(event.position);
            self.events.insert(event.position, event.clone());
        }
        if let Some(sync) = batch.sync {
            self.sync = sync;
        }
        for record in &stored.sinks {
            let sink = Arc::clone(&record.sink);
            self.owed.entry(sink).or_insert(self.at_boot);
            for (site, told) in &record.attempted {
                let key = (Arc::clone(&record.sink), Arc::clone(site));
                match told {
                    Some(told) => self.attempted.insert(key, *told),
                    None => self.attempted.remove(&key),
                };
            }
        }
        Ok(())
    }

    /// The newest event of a site.
    pub fn newest_of_site(&self, site: &str) -> Option<&Event> {
        let last = self.queues.get(&*format!("site/{site}"))?.last()?;
        self.events.get(last)
    }

    /// A start or an end that came is undone by an update, or because it is more
    /// than a minute ahead of the clock at the answer that undoes it (rule R4).
    fn keeps_its_phase(&self, entry: &Entry, now: Duration) -> Checked {
        let Some(before) = self.entries.get(entry.id()) else {
            return Ok(());
        };
        let (was, is) = (&before.dispatch, &entry.dispatch);
        let answered = self.answered_before.get(entry.id()).copied();
        let answered = answered.map_or(entry.last_confirmed, |at| at.min(entry.last_confirmed));
        let soon = answered + TimeDelta::minutes(1);
        let start_undone = before.started
            && !entry.started
            && is.start_time <= was.start_time
            && is.start_time <= soon;
        let end_undone = before.ended
            && !entry.ended
            && is.end_time.is_some()
            && was.end_time.is_some()
            && is.end_time <= was.end_time
            && is.end_time.is_some_and(|end| end <= soon);
        must(
            !start_undone && !end_undone,
            now,
            "no clock undoes a start or an end",
            || {
                let stands = |entry: &Entry| {
                    let dispatch = &entry.dispatch;
                    format!(
                        "{:?}, started {} ({}), ended {} ({:?})",
                        entry.phase,
                        entry.started,
                        dispatch.start_time,
                        entry.ended,
                        dispatch.end_time
                    )
                };
                let (is, was) = (stands(entry), stands(before));
                let confirmed = entry.last_confirmed;
                format!("{} is {is} at {confirmed}, and was {was}", entry.id())
            },
        )
    }

    /// `sync.stale` and `sync.recovered` take turns (rule R10).
    fn alternates(&self, event: &Event, now: Duration) -> Checked {
        if event.family() != "sync" {
            return Ok(());
        }
        let last = self.queues.get("sync/dispatchd").and_then(|key| key.last());
        let last = last.and_then(|last| self.events.get(last));
        let was_stale = last.is_some_and(|last| &*last.event_type == "sync.stale");
        let is_stale = &*event.event_type == "sync.stale";
        must(
            was_stale != is_stale,
            now,
            "stale and recovered take turns",
            || format!("{} twice", event.event_type),
        )
    }

    /// Readers see what is committed, and nothing else (rule R13).
    pub fn seen(&self, end: &StepEnd<'_>) -> Checked {
        let schedule = &end.view.schedule;
        must(
            schedule.revision() == self.revision,
            end.now,
            "readers see what is committed",
            || format!("revision {} of {}", schedule.revision(), self.revision),
        )?;
        let same = schedule.len() == self.entries.len()
            && schedule.entries().all(|entry| {
                self.entries.get(entry.id()).is_some_and(|kept| {
                    kept.phase == entry.phase && kept.dispatch == entry.dispatch
                })
            });
        must(same, end.now, "readers see what is committed", || {
            "entries are not those on disk".into()
        })?;
        let shown = held_or_ordered(end.view.plan.sites());
        let kept = held_or_ordered(self.sites.values());
        must(
            shown == kept,
            end.now,
            "a restart finds the sites as readers see them",
            || format!("readers see {shown:?}, on disk is {kept:?}"),
        )
    }
}

/// The sites that are curtailed, or for which an operator has ordered something. Of others
/// nothing need be on disk.
fn held_or_ordered<'s>(
    sites: impl Iterator<Item = &'s Arc<SiteState>>,
) -> BTreeMap<&'s SiteId, (bool, Option<&'s Arc<Override>>)> {
    sites
        .map(|site| {
            let ordered = site.site_override.as_ref();
            (&site.id, (site.is_curtailed(), ordered))
        })
        .filter(|(_, (curtailed, ordered))| *curtailed || ordered.is_some())
        .collect()
}

fn millis(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_millis()).unwrap_or(0)
}

fn micros(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_micros()).unwrap_or(0)
}
