//! Who leads: the lease, as a store that several daemons share keeps it (rule R14).
//!
//! [`LeaseStore`] is what each daemon does with it. When it does so is decided by
//! `sync::Lease`.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::StoreError;

/// Who leads, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Grows with each take-over. Commits of an older term are refused.
    pub term: u64,
    /// The random name that the leader's process drew for itself. The name of its
    /// machine would not do: two processes can have that.
    pub holder: Arc<str>,
    /// Raised by each renewal. A standby that sees it stand still takes over.
    pub beat: u64,
    /// The leader's name for people (`--node`).
    pub node: Arc<str>,
    /// Where other daemons reach the leader's webhook listener (`--advertise`).
    pub advertise: Option<Arc<str>>,
    /// When this leader took over, by its own wall clock. For people only.
    pub since: DateTime<Utc>,
    /// Stands for the leader's configuration: daemons that would act differently
    /// have different ones.
    pub fingerprint: Arc<str>,
    /// The leader has ended its last attempt and given the lease back. Not told of a
    /// database that may lack who took it next.
    pub given_back: bool,
    /// Which database this was read from: one that takes its place may lack what was
    /// written last. Empty where there is only ever one.
    pub server: Arc<str>,
}

impl LeaseRow {
    /// Whether nothing has happened to the lease since this row was `watched`: no
    /// take-over, no renewal, it was not given back, and no other database has taken the
    /// place of the one it was read from.
    pub fn is_still(&self, watched: &Self) -> bool {
        let bound = |row: &Self| (row.term, row.beat, row.given_back);
        bound(self) == bound(watched)
            && self.holder == watched.holder
            && self.server == watched.server
    }

    /// Whether `holder` leads with `term`: both are the row's, and it was not given
    /// back.
    pub fn is_held(&self, term: u64, holder: &str) -> bool {
        (self.term, &*self.holder) == (term, holder) && !self.given_back
    }
}

/// What a daemon says of itself when it takes the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// A random name for this process, drawn at its start.
    pub holder: Arc<str>,
    /// As [`LeaseRow::node`].
    pub node: Arc<str>,
    /// As [`LeaseRow::advertise`].
    pub advertise: Option<Arc<str>>,
    /// As [`LeaseRow::fingerprint`].
    pub fingerprint: Arc<str>,
}

/// The lease of a shared store. Each call is one transaction.
///
/// After an error nobody knows whether the call has changed, or will still change,
/// something: only a later [`look`](Self::look) tells.
pub trait LeaseStore: Send + 'static {
    /// Reads who leads. `None` before anybody has led.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn look(&mut self) -> Result<Option<LeaseRow>, StoreError>;

    /// Raises the beat, if the row has this term and holder, was not given back (a renewal
    /// that arrives late must not delay who takes the lease next), and the database is the
    /// one at which this leader took over: another one may lack what it has committed.
    /// `false`: nothing is changed.
    ///
    /// # Errors
    /// When the store did not answer, so that the outcome is unknown.
    fn renew(&mut self, term: u64, holder: &str) -> Result<bool, StoreError>;

    /// Takes the lease if the row is still exactly `watched`, as [`LeaseRow::is_still`]
    /// says, or if there is still none. `None`: it is not, and nothing is changed; it
    /// must be watched anew.
    ///
    /// Returns the new term: above the last one, above each event's position / 1000, and
    /// above the wall clock `now` in milliseconds since 1970. From then on commits of
    /// older terms are refused. If commits may have been lost,
    /// [`Stored::commits_lost`](super::Stored::commits_lost) says so from then on.
    ///
    /// # Errors
    /// When the store did not answer, so that the outcome is unknown.
    fn take_over(
        &mut self,
        watched: Option<&LeaseRow>,
        candidate: &Candidate,
        now: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError>;

    /// Gives the lease back, if the row has this term and holder, so that another daemon
    /// takes over at once. `false`: it has another one, and nothing is changed. What was
    /// given back already can be given back once more, which changes nothing.
    ///
    /// # Errors
    /// When the store did not answer, so that the outcome is unknown.
    fn give_back(&mut self, term: u64, holder: &str) -> Result<bool, StoreError>;
}
