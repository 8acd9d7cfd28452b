//! Counts and sums what was read, so that two stores can be compared without holding
//! either in memory.

use std::fmt::Debug;

use sha2::{Digest, Sha256};

use super::Part;

/// A kind of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Dispatches of the schedule.
    Dispatches,
    /// Lines of their history.
    History,
    /// States of theirs that others replaced.
    States,
    /// Commands whose delivery has come to an end.
    Commands,
    /// Sites.
    Sites,
    /// Events.
    Events,
    /// Sinks.
    Sinks,
    /// Ranges of events that a sink is done with before others.
    Ranges,
    /// Pauses of subjects whose attempts failed.
    Pauses,
    /// What was last attempted, by sink and site.
    Attempts,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Dispatches,
        Self::History,
        Self::States,
        Self::Commands,
        Self::Sites,
        Self::Events,
        Self::Sinks,
        Self::Ranges,
        Self::Pauses,
        Self::Attempts,
    ];

    /// What one row is called, and what several are.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Dispatches => ("dispatch", "dispatches"),
            Self::History => ("line of history", "lines of history"),
            Self::States => ("replaced state", "replaced states"),
            Self::Commands => ("command on record", "commands on record"),
            Self::Sites => ("site", "sites"),
            Self::Events => ("event", "events"),
            Self::Sinks => ("sink", "sinks"),
            Self::Ranges => ("range of deliveries", "ranges of deliveries"),
            Self::Pauses => ("pause of deliveries", "pauses of deliveries"),
            Self::Attempts => ("last attempt", "last attempts"),
        }
    }
}

/// How many rows of a kind there are, and the sum of their hashes. Stores have orders of
/// their own, and the sum is the same in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u128,
}

/// How much there is of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums([Sum; Kind::ALL.len()]);

impl Checksums {
    /// Counts what is in a part.
    pub fn add(&mut self, part: &Part) {
        match part {
            Part::Dispatches(dispatches) => {
                for one in dispatches {
                    let id = one.entry.id();
                    let whole = (&one.entry, one.told, one.commands_left_out);
                    self.row(Kind::Dispatches, &whole);
                    for (number, line) in one.changes.iter().enumerate() {
                        self.row(Kind::History, &(id, true, number, line));
                    }
                    for (number, line) in one.skipped.iter().enumerate() {
                        self.row(Kind::History, &(id, false, number, line));
                    }
                    for line in &one.states {
                        self.row(Kind::States, &(id, line));
                    }
                    for command in &one.commands {
                        self.row(Kind::Commands, command);
                    }
                }
            }
            Part::Sites(sites) => sites.iter().for_each(|site| self.row(Kind::Sites, site)),
            Part::Events(events) => {
                events
                    .iter()
                    .for_each(|event| self.row(Kind::Events, event));
            }
            Part::Sink(name, sink) => {
                self.row(Kind::Sinks, &(name, sink.done, &sink.route));
                for range in &sink.done_beyond {
                    self.row(Kind::Ranges, &(name, range));
                }
                for retry in &sink.retries {
                    self.row(Kind::Pauses, &(name, retry));
                }
                for last in &sink.attempted {
                    self.row(Kind::Attempts, &(name, last));
                }
            }
        }
    }

    /// How many rows of this kind there are.
    pub fn count(&self, kind: Kind) -> u64 {
        self.0[kind as usize].rows
    }

    /// What is not the same in `other`, in words. `None` if all is.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let differs = |kind: &Kind| self.0[*kind as usize] != other.0[*kind as usize];
        let kinds: Vec<String> = Kind::ALL
            .into_iter()
            .filter(differs)
            .map(|kind| {
                let (_, name) = kind.words();
                let (copied, found) = (self.count(kind), other.count(kind));
                if copied == found {
                    format!("{name}: the content of some of {copied}")
                } else {
                    format!("{name}: {copied} copied, {found} found")
                }
            })
            .collect();
        (!kinds.is_empty()).then(|| kinds.join("; "))
    }

    /// Counts a row. Its debug text has every field that it has, also those that come
    /// later.
    fn row(&mut self, kind: Kind, row: &impl Debug) {
        let hash = Sha256::digest(format!("{row:?}"));
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        let sum = &mut self.0[kind as usize];
        sum.rows += 1;
        sum.hashes = sum.hashes.wrapping_add(u128::from_be_bytes(half));
    }
}
