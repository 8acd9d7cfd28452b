//! A doubt: what the API seems to say of a dispatch, and is not believed yet.

use crate::clock::Mono;

use super::Asked;

/// What the API seems to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoubtKind {
    /// A list lacks the dispatch: it may be withdrawn (rule R3).
    Absent,
    /// Its modification number is lower than ours: the upstream may have been
    /// restored from a backup (rule R2).
    Lower,
}

impl DoubtKind {
    /// The name used in JSON, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Lower => "lower",
        }
    }
}

/// An answer by id that made the claim of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstAnswer {
    /// Its request.
    pub asked: Asked,
    /// When the request was issued, on the clock that does not jump.
    pub issued: Mono,
}

/// A claim about a dispatch that is not believed until two answers by id, to
/// requests issued at least ten seconds apart, have made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Only an answer to a request later than this one confirms the claim.
    pub since: Asked,
    /// The newest request whose answer made the claim. An answer to a later
    /// request that says otherwise ends the doubt.
    pub newest: Asked,
    /// The first answer by id that made the claim.
    pub first: Option<FirstAnswer>,
    /// When the dispatch may be looked up next, on the clock that does not jump.
    pub check_at: Mono,
}

/// What this process found out about an entry beside what is stored. It is not
/// stored: a restart asks anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// Whether it is withdrawn, if a list lacked it.
    pub absent: Option<Doubt>,
    /// Whether its number went back, if a lower one was shown.
    pub lower: Option<Doubt>,
    /// The newest request whose answer showed the dispatch, also where the
    /// answer could not be read or was not accepted.
    pub shown: Asked,
    /// When a lower number was taken over, on the clock that does not jump.
    /// Answers to requests issued before that are outdated.
    pub rewound: Option<Mono>,
}

impl Inquiry {
    /// The doubts, each with the claim that it is about.
    pub fn doubts(&self) -> impl Iterator<Item = (DoubtKind, Doubt)> {
        let absent = self.absent.map(|doubt| (DoubtKind::Absent, doubt));
        let lower = self.lower.map(|doubt| (DoubtKind::Lower, doubt));
        absent.into_iter().chain(lower)
    }
}
