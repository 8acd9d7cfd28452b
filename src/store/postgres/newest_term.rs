//! What a process has seen of a database: if there is less later, commits were lost.
//!
//! This finds what system identifier and timeline do not tell: a server that was put back
//! to an older state of its own.

use std::sync::{Mutex, PoisonError};

/// The newest term that this process has seen, and how many commits there were under it.
#[derive(Debug, Default)]
pub(super) struct NewestTerm(Mutex<State>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    term: u64,
    commits: u64,
}

impl NewestTerm {
    /// The database has so many commits, and the lease this term.
    pub fn note(&self, term: u64, commits: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if term > state.term {
            // Whoever leads with a newer term goes on from fewer commits if some were lost,
            // and has seen to that.
            *state = State { term, commits };
        } else if term == state.term {
            state.commits = state.commits.max(commits);
        }
    }

    /// Whether a database with this term and so many commits lacks some that were seen.
    pub fn misses(&self, term: u64, commits: u64) -> bool {
        let state = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        term < state.term || (term == state.term && commits < state.commits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_with_less_than_was_seen_misses_commits() {
        let seen = NewestTerm::default();
        assert!(!seen.misses(0, 0), "nothing was seen");
        seen.note(7, 10);
        seen.note(7, 9);
        seen.note(6, 99);
        assert!(!seen.misses(7, 10) && !seen.misses(7, 11) && !seen.misses(8, 1));
        assert!(seen.misses(7, 9) && seen.misses(6, 99));
        seen.note(8, 3);
        assert!(
            !seen.misses(8, 3),
            "the leader of this term goes on from there"
        );
        assert!(seen.misses(7, 10));
    }
}
