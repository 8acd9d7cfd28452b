//! Keeps the attempts under way at one sink, and decides which one gives way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Key;
use super::pace::Pace;
use super::queue::SubjectQueue;
use crate::clock::Mono;

/// An attempt that takes longer counts as hanging: a place that it holds is one
/// that others wait for.
const HANGS_AFTER: Duration = Duration::from_millis(500);

/// How long a batch may take. Then its events go one by one, so that a subject
/// that hangs holds up no other one (rule R6).
const BATCH_TIME: Duration = Duration::from_millis(500);

/// An attempt under way.
#[derive(Debug)]
pub(super) struct AttemptUnderWay {
    /// The subjects whose events it has, one event each.
    pub keys: Vec<Key>,
    /// When it began.
    pub started: Mono,
}

/// The places for attempts. As many attempts as the sink takes may hang; there is
/// an eighth more, so that others still get a turn then.
#[derive(Debug)]
pub(super) struct Places {
    under_way: BTreeMap<u64, AttemptUnderWay>,
    /// How many attempts may hang.
    hanging: usize,
    /// How many attempts may be under way.
    most: usize,
    /// The most events in a batch that the sink takes.
    batch: usize,
    /// The most events in a batch that came to an end in time lately.
    batch_now: usize,
    attempts: u64,
    pace: Pace,
    /// The attempts up to this number are not fresh, however young they are.
    written_off: u64,
}

impl Places {
    /// Places for a sink that takes `at_once` attempts of `batch` events.
    pub fn new(at_once: usize, batch: usize) -> Self {
        let (hanging, batch) = (at_once.max(1), batch.max(1));
        Self {
            under_way: BTreeMap::new(),
            hanging,
            most: hanging + hanging / 8,
            batch,
            batch_now: batch,
            attempts: 0,
            pace: Pace::default(),
            written_off: 0,
        }
    }

    /// Gives a place to an attempt for these subjects. Gives its number.
    pub fn begin(&mut self, keys: Vec<Key>, now: Mono) -> u64 {
        self.attempts += 1;
        let started = now;
        self.under_way
            .insert(self.attempts, AttemptUnderWay { keys, started });
        self.attempts
    }

    /// The number of the newest attempt.
    pub fn newest(&self) -> u64 {
        self.attempts
    }

    /// An attempt has ended, or is abandoned.
    pub fn end(&mut self, attempt: u64) -> Option<AttemptUnderWay> {
        self.under_way.remove(&attempt)
    }

    /// The attempt that has this subject.
    pub fn attempt_of(&self, key: &str) -> Option<u64> {
        let mut attempts = self.under_way.iter();
        let found = attempts.find(|(_, one)| one.keys.iter().any(|has| **has == *key));
        found.map(|(attempt, _)| *attempt)
    }

    /// Whether a site's command is under way.
    pub fn has_commands(&self) -> bool {
        let mut keys = self.under_way.values().flat_map(|one| &one.keys);
        keys.any(|key| SubjectQueue::site_of(key).is_some())
    }

    /// Whether no attempt is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether every place is taken.
    pub fn is_full(&self) -> bool {
        self.under_way.len() >= self.most
    }

    /// The attempts that may be fresh, the newest first, by when they began.
    fn newest_first(&self) -> impl Iterator<Item = Mono> {
        let fresh = self.under_way.range(self.written_off.saturating_add(1)..);
        fresh.rev().map(|(_, one)| one.started)
    }

    /// Whether fewer than `share` attempts are fresh.
    pub fn has_fresh_place(&self, share: usize, now: Mono) -> bool {
        self.fresh_place_at(share).is_none_or(|at| at <= now)
    }

    /// When fewer than `share` attempts are fresh, if it takes time.
    pub fn fresh_place_at(&self, share: usize) -> Option<Mono> {
        let last = self.newest_first().nth(share.saturating_sub(1))?;
        Some(self.pace.fresh_until(last))
    }

    /// How long answers take.
    pub fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// No attempt under way counts as fresh any more, so that more begin.
    pub fn write_off(&mut self, now: Mono) {
        self.written_off = self.attempts;
        self.pace.begins_more(now);
    }

    /// An attempt that has ended had waited so long for this machine.
    pub fn waited(&mut self, attempt: u64, waited: Duration, now: Mono) {
        if let Some(one) = self.under_way.get(&attempt) {
            self.pace.waited(waited, one.started, now);
        }
    }

    /// Since when something waits and no answer has come.
    pub fn silent_since(&self, now: Mono) -> Mono {
        self.pace.silent_since(now)
    }

    /// The receiver answered an attempt that began at `started`.
    pub fn answered(&mut self, started: Mono, now: Mono) {
        self.pace.answered(now.saturating_sub(started), now);
    }

    /// The most events in the next batch.
    pub fn next_batch(&self) -> usize {
        self.batch_now
    }

    /// When the attempt that is under way longest began.
    pub fn oldest(&self) -> Option<Mono> {
        let (_, oldest) = self.under_way.first_key_value()?;
        Some(oldest.started)
    }

    /// The attempt that has hung longest, if more hang than may: it is to give
    /// way.
    pub fn to_give_way(&self, now: Mono) -> Option<u64> {
        let (_, crowning) = self.under_way.iter().nth(self.hanging)?;
        let hangs = crowning.started + HANGS_AFTER <= now;
        let longest = self
            .under_way
            .first_key_value()
            .map(|(attempt, _)| *attempt);
        longest.filter(|_| hangs)
    }

    /// When an attempt is to give way at the earliest.
    pub fn gives_way_at(&self) -> Option<Mono> {
        let (_, crowning) = self.under_way.iter().nth(self.hanging)?;
        Some(crowning.started + HANGS_AFTER)
    }

    fn is_batch(&self, one: &AttemptUnderWay) -> bool {
        // A sink that takes one attempt at a time is one pipe: if it hangs, it
        // hangs for all.
        one.keys.len() > 1 && self.hanging > 1
    }

    /// A batch that has taken too long.
    pub fn late_batch(&self, now: Mono) -> Option<u64> {
        let late = self
            .under_way
            .iter()
            .take_while(|(_, one)| one.started + BATCH_TIME <= now);
        let mut batches = late.filter(|(_, one)| self.is_batch(one));
        batches.next().map(|(attempt, _)| *attempt)
    }

    /// When a batch has taken too long.
    pub fn batch_late_at(&self) -> Option<Mono> {
        if self.batch == 1 {
            return None;
        }
        let mut batches = self.under_way.values().filter(|one| self.is_batch(one));
        batches.next().map(|one| one.started + BATCH_TIME)
    }

    /// A batch of so many events came to its end in time: a larger one may, too.
    pub fn batch_in_time(&mut self, events: usize) {
        if events >= self.batch_now {
            let more = self.batch_now + (self.batch / 16).max(1);
            self.batch_now = more.min(self.batch);
        }
    }

    /// A batch of so many events took too long: the next ones are smaller.
    pub fn batch_too_late(&mut self, events: usize) {
        self.batch_now = (events / 2).max(1).min(self.batch_now);
    }
}
