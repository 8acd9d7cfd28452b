//! The schedule: every dispatch known, and when the next one is due.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imbl::OrdSet;

use super::MassAbsence;
use super::entries::Entries;
use super::last_list::{LastList, Open, confirms_wholly};
use crate::clock::Mono;
use crate::model::{Asked, DispatchId, DoubtKind, Entry, Inquiry, List, Phase};

/// The dispatches known, by id.
///
/// A copy shares what it has in common with its original, so it costs next to
/// nothing: readers get one to keep, and a failed commit is undone by going
/// back to the copy from before.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    entries: Entries,
    /// The starts that are to come.
    starts: OrdSet<(DateTime<Utc>, DispatchId)>,
    /// The ends of what has started.
    ends: OrdSet<(DateTime<Utc>, DispatchId)>,
    /// The doubts about entries, by when they may be checked next.
    checks: Checks,
    /// Lists lack most of the live dispatches.
    pub(super) mass_absence: Option<MassAbsence>,
    /// Entries by phase, so that readers need not look at each.
    counts: [usize; Phase::ALL.len()],
    /// The starts of what is active without an end.
    open_ended: OrdSet<(DateTime<Utc>, DispatchId)>,
    revision: u64,
    /// The last list, which confirms what it shows without touching it.
    last_list: Option<LastList>,
}

/// The ids in doubt, by claim, each with when it may be looked up next.
#[derive(Debug, Clone, Default)]
struct Checks {
    absent: OrdSet<(Mono, DispatchId)>,
    lower: OrdSet<(Mono, DispatchId)>,
}

impl Checks {
    fn of(&mut self, kind: DoubtKind) -> &mut OrdSet<(Mono, DispatchId)> {
        match kind {
            DoubtKind::Absent => &mut self.absent,
            DoubtKind::Lower => &mut self.lower,
        }
    }
}

impl Schedule {
    /// A schedule as it was stored.
    pub fn restore(entries: impl IntoIterator<Item = Entry>, revision: u64) -> Self {
        let mut schedule = Self {
            revision,
            ..Self::default()
        };
        for entry in entries {
            schedule.put(Arc::new(entry));
        }
        schedule
    }

    /// How many changes the schedule has seen.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The entry with this id.
    pub fn get(&self, id: &DispatchId) -> Option<Arc<Entry>> {
        self.entries.get(id).map(|entry| self.confirmed(entry))
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.entries.iter().map(|entry| self.confirmed(entry))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// How many entries are in this phase.
    pub fn count(&self, phase: Phase) -> usize {
        self.counts[phase as usize]
    }

    /// When the longest active dispatch without an end started, UTC.
    pub fn oldest_open_end(&self) -> Option<DateTime<Utc>> {
        self.open_ended.get_min().map(|(start, _)| *start)
    }

    /// When the next start or end comes due, UTC. Until then the clock has
    /// nothing to say.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.first().map(|(due, _)| *due)
    }

    /// The dispatches to look up now because of a doubt, the longest due first
    /// for each claim. An id stays among them until an answer puts its next check
    /// off or settles the doubt.
    pub fn checks_due(&self, now: Mono) -> impl Iterator<Item = &DispatchId> {
        let absence_counts = self.mass_absence.is_none_or(|mass| mass.until() <= now);
        let due = move |(at, _): &&(Mono, DispatchId)| *at <= now;
        let absent = self.checks.absent.iter().take_while(due);
        let lower = self.checks.lower.iter().take_while(due);
        lower
            .chain(absent.filter(move |_| absence_counts))
            .map(|(_, id)| id)
    }

    /// When the next look-up because of a doubt is due, on the clock that does
    /// not jump.
    pub fn next_check(&self) -> Option<Mono> {
        let mass = self.mass_absence.map_or(Mono::ZERO, |mass| mass.until());
        let absent = self.checks.absent.get_min().map(|(at, _)| mass.max(*at));
        let lower = self.checks.lower.get_min().map(|(at, _)| *at);
        absent.into_iter().chain(lower).min()
    }

    /// Whether there is a doubt about this dispatch.
    pub fn is_in_doubt(&self, id: &DispatchId) -> bool {
        let entry = self.entries.get(id);
        entry.is_some_and(|entry| entry.inquiry.doubts().next().is_some())
    }

    /// How many dispatches are in doubt by this claim.
    pub fn in_doubt(&self, kind: DoubtKind) -> usize {
        match kind {
            DoubtKind::Absent => self.checks.absent.len(),
            DoubtKind::Lower => self.checks.lower.len(),
        }
    }

    /// Lists that lack most of the live dispatches, if the newest one does.
    pub fn mass_absence(&self) -> Option<MassAbsence> {
        self.mass_absence
    }

    /// How many dispatches are not over.
    pub(super) fn live(&self) -> usize {
        self.count(Phase::Scheduled) + self.count(Phase::Active)
    }

    /// Whether a list that was asked for then is newer than the last one.
    pub(super) fn is_newest_list(&self, asked: Asked) -> bool {
        self.last_list
            .as_ref()
            .is_none_or(|last| asked > last.asked)
    }

    /// An entry that is due at `now`, the longest due first.
    pub(super) fn first_due(&self, now: DateTime<Utc>) -> Option<Arc<Entry>> {
        let (due, id) = self.first()?;
        if *due > now {
            return None;
        }
        self.get(id)
    }

    /// Whether a start that has come by `now` is not yet taken in.
    pub(super) fn has_start_due(&self, now: DateTime<Utc>) -> bool {
        self.starts.get_min().is_some_and(|(due, _)| *due <= now)
    }

    /// The earliest start or end. Of a start and an end at one time, the start:
    /// so what one dispatch lets go of, another that follows holds already.
    fn first(&self) -> Option<&(DateTime<Utc>, DispatchId)> {
        match (self.starts.get_min(), self.ends.get_min()) {
            (Some(start), Some(end)) if start.0 > end.0 => Some(end),
            (start, end) => start.or(end),
        }
    }

    /// Takes `entry` in, in place of the one with its id.
    pub(super) fn put(&mut self, entry: Arc<Entry>) {
        let id = entry.id().clone();
        if let Some(last) = &mut self.last_list {
            last.set_apart(&id);
        }
        let after = (entry.phase, entry.next_due());
        let inquiry = entry.inquiry;
        self.count_in(&entry);
        let before = self.entries.put(entry);
        if let Some(before) = &before {
            self.count_out(before);
        }
        let inquiry_before = before.as_ref().map(|before| before.inquiry);
        self.recheck(&id, inquiry_before.unwrap_or_default(), inquiry);
        let before = before.map(|before| (before.phase, before.next_due()));
        if before == Some(after) {
            return;
        }
        if let Some((phase, Some(due))) = before {
            self.due_of(phase).remove(&(due, id.clone()));
        }
        if let (phase, Some(due)) = after {
            self.due_of(phase).insert((due, id));
        }
    }

    /// Those that are over, the longest over first, with the time since when.
    pub(super) fn over(&self) -> impl Iterator<Item = &(DateTime<Utc>, DispatchId)> {
        self.entries.over()
    }

    /// Drops the entry with this id.
    pub(super) fn remove(&mut self, id: &DispatchId) {
        let Some(before) = self.entries.remove(id) else {
            return;
        };
        self.count_out(&before);
        self.recheck(id, before.inquiry, Inquiry::default());
        if let Some(due) = before.next_due() {
            self.due_of(before.phase).remove(&(due, id.clone()));
        }
    }

    /// What was found out about a dispatch is another.
    fn recheck(&mut self, id: &DispatchId, before: Inquiry, after: Inquiry) {
        for (claim, doubt) in before.doubts() {
            self.checks.of(claim).remove(&(doubt.check_at, id.clone()));
        }
        for (claim, doubt) in after.doubts() {
            self.checks.of(claim).insert((doubt.check_at, id.clone()));
        }
    }

    fn count_in(&mut self, entry: &Entry) {
        self.counts[entry.phase as usize] += 1;
        if let Some(start) = open_end(entry) {
            self.open_ended.insert((start, entry.id().clone()));
        }
    }

    /// `entry` is no longer in the schedule, or in its place is another that has
    /// been counted already.
    fn count_out(&mut self, entry: &Entry) {
        self.counts[entry.phase as usize] -= 1;
        let now = self.entries.get(entry.id()).and_then(|now| open_end(now));
        if let Some(start) = open_end(entry).filter(|start| now != Some(*start)) {
            self.open_ended.remove(&(start, entry.id().clone()));
        }
    }

    /// Where it stands when an entry in this phase is next due.
    fn due_of(&mut self, phase: Phase) -> &mut OrdSet<(DateTime<Utc>, DispatchId)> {
        match phase {
            Phase::Scheduled => &mut self.starts,
            Phase::Active | Phase::Ended | Phase::Cancelled => &mut self.ends,
        }
    }

    /// Counts one change and gives the revision that it makes.
    pub(super) fn bump(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// The dispatches of which `list` may say anything but what the last list says
    /// already, by id. Of all others it says the same again, or lacks them as it may: they
    /// are over.
    pub(super) fn open<'l>(
        &mut self,
        list: &'l List,
        asked: Asked,
        now: DateTime<Utc>,
    ) -> Vec<Open<'l>> {
        let last = self.last_list.clone().filter(|last| asked > last.asked);
        // On a clock that was ahead, starts and ends may have passed that have not.
        let timely = last.as_ref().is_none_or(|last| last.at <= now);
        let mut open = Vec::new();
        let mut leaving = Vec::new();
        let mut readings = list.readings().iter().peekable();
        for (id, entry) in self.entries.current() {
            while let Some(reading) = readings.next_if(|reading| reading.id() < id) {
                open.push(Open::new(reading.id(), Some(reading)));
            }
            let reading = readings.next_if(|reading| reading.id() == id);
            if last.as_ref().is_some_and(|last| last.confirms(entry)) {
                if timely && reading.is_some_and(|reading| reading.shares(&entry.dispatch)) {
                    continue;
                }
                leaving.push(Arc::clone(entry));
            }
            open.push(Open::new(id, reading));
        }
        open.extend(readings.map(|reading| Open::new(reading.id(), Some(reading))));
        // They keep what the last list has confirmed of them so far.
        for entry in leaving {
            self.put(self.confirmed(&entry));
        }
        open
    }

    /// A list was taken in: from now on it is the last list, unless it is older. It
    /// confirms all that is as it says; `open` are those that need not be.
    pub(super) fn confirm(&mut self, asked: Asked, now: DateTime<Utc>, open: Vec<Open>) {
        if self
            .last_list
            .as_ref()
            .is_some_and(|last| asked <= last.asked)
        {
            return;
        }
        let (settled, apart): (Vec<_>, Vec<_>) = open.into_iter().partition(|open| {
            let entry = self.entries.get(&open.id);
            entry.is_some_and(|entry| confirms_wholly(open.reading, asked, entry, now))
        });
        for open in settled {
            self.entries.make_current(&open.id);
        }
        let apart = apart.into_iter().map(|open| open.id).collect();
        self.last_list = Some(LastList::new(asked, now, apart));
    }

    fn confirmed(&self, entry: &Arc<Entry>) -> Arc<Entry> {
        match &self.last_list {
            Some(last)
                if last.asked > entry.asked
                    && self.entries.is_current(entry)
                    && last.confirms(entry) =>
            {
                Arc::new(Entry {
                    asked: last.asked,
                    last_confirmed: last.at,
                    ..Entry::clone(entry)
                })
            }
            _ => Arc::clone(entry),
        }
    }
}

/// When `entry` started, if it is active and has no end.
fn open_end(entry: &Entry) -> Option<DateTime<Utc>> {
    let open = entry.phase == Phase::Active && entry.dispatch.end_time.is_none();
    open.then_some(entry.dispatch.start_time)
}
