//! Parts of an answer that could not be read (rule R11).

use std::fmt;

use crate::model::DispatchId;

/// How many parts of one answer are kept in words.
pub const DETAILED: usize = 50;

/// How many of them are written into one line of the log.
const IN_A_LINE: usize = 5;

/// The longest reason kept, in characters.
const LONGEST_REASON: usize = 200;

/// Which kind of part could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A whole dispatch: it keeps its last good state.
    Dispatch,
    /// A site: its dispatch keeps all sites that it held.
    Site,
    /// A site's amount, which is unknown now.
    Amount,
    /// Anything else: a name, a program, metadata. It stays as it was.
    Detail,
    /// Fields that we do not know, of a dispatch that has more of them than are kept:
    /// none of them is kept.
    Extra,
}

impl Part {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Site => "site",
            Self::Amount => "amount",
            Self::Detail => "detail",
            Self::Extra => "extra",
        }
    }
}

/// A part that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The dispatch that it belongs to. `None` if its id could not be read.
    pub dispatch: Option<DispatchId>,
    /// Which kind of part.
    pub part: Part,
    /// Which part, and what is wrong with it, in words.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dispatch {
            Some(dispatch) => write!(f, "dispatch {dispatch}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// How many parts could not be read, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Whole dispatches.
    pub dispatches: u64,
    /// Sites, and lists of sites.
    pub sites: u64,
    /// Amounts of sites.
    pub amounts: u64,
    /// Anything else.
    pub details: u64,
    /// Dispatches with more unknown fields than are kept.
    pub extras: u64,
}

impl Unreadable {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.dispatches + self.sites + self.amounts + self.details + self.extras
    }

    /// Counts those of `other` as well.
    pub fn add(&mut self, other: &Self) {
        self.dispatches += other.dispatches;
        self.sites += other.sites;
        self.amounts += other.amounts;
        self.details += other.details;
        self.extras += other.extras;
    }

    fn count(&mut self, part: Part) {
        *match part {
            Part::Dispatch => &mut self.dispatches,
            Part::Site => &mut self.sites,
            Part::Amount => &mut self.amounts,
            Part::Detail => &mut self.details,
            Part::Extra => &mut self.extras,
        } += 1;
    }
}

/// What could not be read in one answer: how much, and the first
/// [`DETAILED`] parts in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    counts: Unreadable,
    detailed: Vec<Problem>,
}

impl Problems {
    /// Adds a part of `dispatch`.
    pub fn push(
        &mut self,
        dispatch: Option<&DispatchId>,
        part: Part,
        reason: impl FnOnce() -> String,
    ) {
        self.counts.count(part);
        if self.detailed.len() < DETAILED {
            let mut reason = reason();
            // It quotes the API, which may say anything.
            if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
                reason.truncate(end);
                reason.push('…');
            }
            self.detailed.push(Problem {
                dispatch: dispatch.cloned(),
                part,
                reason,
            });
        }
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        let room = DETAILED.saturating_sub(self.detailed.len());
        self.detailed
            .extend(other.detailed.iter().take(room).cloned());
    }

    /// How many there are, by kind.
    pub fn counts(&self) -> &Unreadable {
        &self.counts
    }

    /// The first of them.
    pub fn detailed(&self) -> &[Problem] {
        &self.detailed
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.total() == 0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.detailed.iter().take(IN_A_LINE);
        let shown: Vec<String> = shown.map(ToString::to_string).collect();
        f.write_str(&shown.join("; "))?;
        match self.counts.total() - shown.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
