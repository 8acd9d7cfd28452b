//! What a receiver was sent, and what it holds for true: [`Heard`].

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::spans::{Span, Spans};

/// An event, as far as a receiver looks at it.
#[derive(Debug, Deserialize)]
pub struct Incoming {
    #[serde(rename = "type")]
    pub kind: String,
    pub subject: String,
    pub sequence: u64,
    pub term: u64,
    pub data: Value,
}

impl Incoming {
    /// `dispatch`, `site` or `sync`.
    pub fn family(&self) -> &str {
        self.kind.split('.').next().unwrap_or_default()
    }
}

/// The newest word about a subject: the one with the highest sequence. A receiver
/// drops what is lower.
#[derive(Debug, Clone)]
pub struct Word {
    pub kind: String,
    pub sequence: u64,
    pub data: Value,
    term: u64,
}

/// A site's command that a receiver took.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// UTC.
    pub at: DateTime<Utc>,
    pub sequence: u64,
    pub release: bool,
}

/// How an attempt ended, as its receiver knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With 2xx.
    Acknowledged,
    /// With another answer, and the seconds of its `Retry-After`.
    Refused { retry_after: Option<u64> },
    /// The daemon closed the connection.
    GivenUp,
}

/// An attempt to deliver a site's command.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// UTC.
    pub begun: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub sequence: u64,
    pub ended: Ended,
}

/// What a receiver has heard so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Events that came, copies included.
    pub arrived: u64,
    /// The sequences that came: they are unique over all events.
    pub sequences: HashSet<u64>,
    /// The newest word by `family/subject`.
    pub newest: BTreeMap<String, Word>,
    /// The newest release by site.
    releases: BTreeMap<String, u64>,
    /// What came in an order in which it must not.
    pub disorder: Vec<String>,
    /// Commands to curtail that came after the release that supersedes them.
    pub late_curtails: Vec<String>,
    /// What was refused or not answered.
    pub refused: u64,
    /// Events that were new and below the highest sequence of their subject.
    pub dropped: u64,
    /// What was taken, by site.
    pub arrivals: BTreeMap<String, Vec<Arrival>>,
    /// What was tried, by site.
    pub attempts: BTreeMap<String, Vec<Attempt>>,
    /// When the receiver was at fault for all subjects.
    pub faults: Spans,
    /// When it was at fault for one, by subject.
    pub subject_faults: BTreeMap<String, Spans>,
    /// When it lost what it had been sent, and until when it must have it again.
    pub restorations: Vec<Span>,
}

impl Heard {
    /// Takes an event at `at`, UTC.
    pub fn take(&mut self, event: Incoming, at: DateTime<Utc>) {
        let (site, key) = (
            event.family() == "site",
            format!("{}/{}", event.family(), event.subject),
        );
        let Incoming {
            kind,
            subject,
            sequence,
            term,
            data,
        } = event;
        self.arrived += 1;
        let new = self.sequences.insert(sequence);
        let (last, last_term) = self
            .newest
            .get(&key)
            .map_or((0, 0), |word| (word.sequence, word.term));
        if site {
            let release = kind == "site.release";
            if release {
                let released = self.releases.entry(subject.clone()).or_default();
                *released = sequence.max(*released);
            } else if let Some(released) = self.releases.get(&subject)
                && *released > sequence
            {
                self.late_curtails.push(format!(
                    "{kind} {sequence} of {subject} came after the release {released}"
                ));
            }
            self.arrivals.entry(subject).or_default().push(Arrival {
                at,
                sequence,
                release,
            });
        } else if new && sequence < last {
            self.disorder
                .push(format!("{kind} {sequence} of {key} came after {last}"));
        }
        if sequence > last && term < last_term {
            self.disorder.push(format!(
                "{kind} {sequence} of {key} is of term {term}, and {last} was of term {last_term}"
            ));
        }
        if sequence >= last {
            let word = Word {
                kind,
                sequence,
                data,
                term,
            };
            self.newest.insert(key, word);
        } else {
            self.dropped += u64::from(new);
        }
    }
}
