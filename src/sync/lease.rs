//! Decides when a daemon looks at the lease, renews it, takes it over and gives it
//! back, and whether it may act as the leader (rule R14).
//!
//! [`Lease`] reads no clock and does no I/O. It says which call to the store is
//! [`next`](Lease::next), and is told when the call was sent, when it ended and
//! what came of it. All times are those of this daemon's own [`Mono`] clock: no two
//! clocks are compared.
//!
//! Why two daemons never lead at once: a renewal that was sent at `s` is in the
//! store at `s` or later, so that each standby that has seen the row for
//! [`WATCHED_FOR`] since does so at least that long after `s`. By then the leader's
//! [`TRUST`] of `s` has run out. The take-over is conditioned on the row that was
//! watched, so that a renewal that arrives late and a take-over cannot both succeed.

mod call;
mod turns;

use std::sync::Arc;
use std::time::Duration;

pub use call::{LeaseAnswer, LeaseCall};
pub use turns::Turns;

use crate::clock::Mono;
use crate::store::{LeaseRow, StoreError};

/// How long after it has *sent* its last good renewal a leader trusts itself. Three
/// renewals fit in, so that two of them may fail.
pub const TRUST: Duration = Duration::from_millis(3500);

/// How long a standby must see the same row before it takes over.
pub const WATCHED_FOR: Duration = Duration::from_secs(5);

/// The longest time from the end of one look to the end of the next, or to the
/// take-over. If it is longer, this process or the store stood still, and the leader
/// may not have had the time to renew: the watch starts anew.
const LOOKS_APART: Duration = Duration::from_millis(1500);

/// The time from one renewal to the next, and from one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// A leader renews only if its coordinator has finished a turn within this time. Before it
/// trusts itself for the first time there is no coordinator, and it renews without.
const TURN_WITHIN: Duration = Duration::from_secs(1);

/// How soon a leader whose coordinator is late looks again whether it has turned.
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// How often a leader whose coordinator stands still looks who leads.
const LOOK_WHILE_STUCK: Duration = Duration::from_secs(2);

/// Whether a daemon leads, as it knows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// Another daemon leads, or none.
    Standby {
        /// What the last good look has shown.
        leader: Option<LeaseRow>,
    },
    /// This daemon leads, and may act.
    Leading {
        /// The term of its commits and events.
        term: u64,
        /// It may act until then, that moment excluded, if it is not renewed.
        trusted_until: Mono,
    },
    /// This daemon led when it last heard of the store, and must not act until a
    /// renewal succeeds. It keeps what it knows.
    Suspended {
        /// As in [`Self::Leading`].
        term: u64,
    },
    /// This daemon has lost the lead. It stands by once [`Lease::stand_by`] is
    /// called.
    Deposed {
        /// The term with which it led.
        term: u64,
        /// Who leads now, as far as it is known.
        by: Option<LeaseRow>,
    },
}

/// What a daemon does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextCall {
    /// It makes this call to the store.
    Now(LeaseCall),
    /// Nothing before this time. If it is told something before, it asks again.
    At(Mono),
    /// Nothing any more: it has been told to give the lease back, and has nothing
    /// (left) to give.
    Never,
}

#[derive(Debug)]
enum Role {
    Standby {
        watch: Option<Watch>,
    },
    Leader {
        term: u64,
        /// Zero before the first good renewal, if it was not told that it leads.
        trusted_until: Mono,
    },
    Deposed {
        term: u64,
        by: Option<LeaseRow>,
    },
}

/// Successful looks, close enough together, that have all shown the same row.
#[derive(Debug)]
struct Watch {
    row: Option<LeaseRow>,
    /// When the first look ended: the store showed the row at that time or before,
    /// so that the row is counted as younger than it is, never as older.
    since: Mono,
    /// When the last look ended.
    until: Mono,
}

impl Watch {
    /// Whether nobody renews the row any more.
    fn is_over(&self) -> bool {
        let free = self.row.as_ref().is_none_or(|row| row.given_back);
        free || self.until.saturating_sub(self.since) >= WATCHED_FOR
    }

    /// Whether this look goes on with the watch.
    fn goes_on(&self, row: Option<&LeaseRow>, ended: Mono) -> bool {
        let same = match (row, &self.row) {
            (Some(row), Some(watched)) => row.is_still(watched),
            (None, None) => true,
            _ => false,
        };
        same && self.is_recent(ended)
    }

    fn is_recent(&self, now: Mono) -> bool {
        now.saturating_sub(self.until) <= LOOKS_APART
    }
}

/// The lease, as one daemon goes about it. One call to the store is under way at a
/// time.
#[derive(Debug)]
pub struct Lease {
    holder: Arc<str>,
    role: Role,
    /// What the last good look has shown.
    seen: Option<LeaseRow>,
    /// When the last look was sent.
    looked: Option<Mono>,
    /// When the last renewal, or the take-over, was sent.
    renewed: Option<Mono>,
    /// When giving back was last tried.
    gave_back: Option<Mono>,
    /// When the coordinator last finished a turn.
    turned: Option<Mono>,
    /// The newest term with which this daemon has led.
    led: u64,
    /// A take-over had no answer. It may have succeeded, or may still do so.
    claimed: bool,
    /// It could not lead, and takes nothing over.
    barred: bool,
    /// It was told to give the lease back.
    leaving: bool,
    /// It has nothing left to do.
    left: bool,
}

impl Lease {
    /// A standby that has not looked yet. `holder` is random, and drawn anew for each
    /// process: a row with this holder is known to be this process's.
    pub fn new(holder: Arc<str>) -> Self {
        Self {
            holder,
            role: Role::Standby { watch: None },
            seen: None,
            looked: None,
            renewed: None,
            gave_back: None,
            turned: None,
            led: 0,
            claimed: false,
            barred: false,
            leaving: false,
            left: false,
        }
    }

    /// Whether this daemon leads at `now`.
    pub fn leadership(&self, now: Mono) -> Leadership {
        match &self.role {
            Role::Leader {
                term,
                trusted_until,
            } if !self.leaving => {
                let (term, trusted_until) = (*term, *trusted_until);
                if now < trusted_until {
                    Leadership::Leading {
                        term,
                        trusted_until,
                    }
                } else {
                    Leadership::Suspended { term }
                }
            }
            Role::Standby { .. } | Role::Leader { .. } => Leadership::Standby {
                leader: self.seen.clone(),
            },
            Role::Deposed { term, by } => Leadership::Deposed {
                term: *term,
                by: by.clone(),
            },
        }
    }

    /// The coordinator has finished a turn at this time. While a new leader loads, before
    /// it has a coordinator, what loads says so instead.
    pub fn turned(&mut self, at: Mono) {
        self.turned = self.turned.max(Some(at));
    }

    /// A deposed daemon has let go of everything that the lead gave it: it watches the
    /// lease from now on, and may lead again.
    pub fn stand_by(&mut self) {
        if let Role::Deposed { .. } = self.role {
            self.role = Role::Standby { watch: None };
        }
    }

    /// Whether this daemon could not lead if it took over. While that is so it watches the
    /// lease and takes nothing over. A daemon that leads goes on.
    pub fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Whether this daemon stands by and has watched for long enough to know that nobody
    /// leads.
    pub fn is_vacant(&self) -> bool {
        match &self.role {
            Role::Standby { watch } => watch.as_ref().is_some_and(Watch::is_over),
            Role::Leader { .. } | Role::Deposed { .. } => false,
        }
    }

    /// This daemon stops, and has ended its last attempt: it gives back what it has, and
    /// takes nothing over. It does not lead from now on.
    pub fn give_back(&mut self) {
        self.leaving = true;
    }

    /// What to do next, at `now`. Not to be asked while a call is under way.
    pub fn next(&self, now: Mono) -> NextCall {
        if self.left {
            return NextCall::Never;
        }
        match &self.role {
            Role::Standby { watch } => self.next_of_standby(watch.as_ref(), now),
            Role::Leader { term, .. } if self.leaving => {
                let give_back = LeaseCall::GiveBack { term: *term };
                due(after(self.gave_back, EVERY), give_back, now)
            }
            Role::Leader {
                term,
                trusted_until,
            } => self.next_of_leader(*term, !trusted_until.is_zero(), now),
            Role::Deposed { .. } if self.leaving => NextCall::Never,
            Role::Deposed { .. } => due(after(self.looked, EVERY), LeaseCall::Look, now),
        }
    }

    fn next_of_standby(&self, watch: Option<&Watch>, now: Mono) -> NextCall {
        // A take-over without an answer may have left something to give back.
        if self.leaving && !self.claimed {
            return NextCall::Never;
        }
        let next_look = after(self.looked, EVERY);
        let Some(watch) = watch.filter(|_| !self.leaving) else {
            return due(next_look, LeaseCall::Look, now);
        };
        if watch.is_over() && watch.is_recent(now) && !self.barred {
            return NextCall::Now(LeaseCall::TakeOver {
                watched: watch.row.clone(),
            });
        }
        // The look that ends the watch comes when the time has passed.
        let end = watch.since + WATCHED_FOR;
        let at = if end > watch.until {
            next_look.min(end)
        } else {
            next_look
        };
        due(at, LeaseCall::Look, now)
    }

    /// `begun` says whether it has trusted itself.
    fn next_of_leader(&self, term: u64, begun: bool, now: Mono) -> NextCall {
        let renewal = after(self.renewed, EVERY);
        if now < renewal {
            return NextCall::At(renewal);
        }
        let turns = self
            .turned
            .is_some_and(|turned| now.saturating_sub(turned) <= TURN_WITHIN);
        if turns || !begun {
            return NextCall::Now(LeaseCall::Renew { term });
        }
        // Without a renewal only a look tells that another daemon leads.
        let look = after(self.renewed.max(self.looked), LOOK_WHILE_STUCK);
        if now >= look {
            return NextCall::Now(LeaseCall::Look);
        }
        NextCall::At(look.min(now + TURN_PAUSE))
    }

    /// `call` has ended. `sent` is a time before the call went out, `ended` one after its
    /// answer came in. An error means that nobody knows what came of it.
    pub fn ended(
        &mut self,
        call: &LeaseCall,
        sent: Mono,
        ended: Mono,
        answer: Result<LeaseAnswer, StoreError>,
    ) {
        match call {
            LeaseCall::Look => self.looked = Some(sent),
            LeaseCall::Renew { .. } => self.renewed = Some(sent),
            LeaseCall::TakeOver { .. } => {}
            LeaseCall::GiveBack { .. } => self.gave_back = Some(sent),
        }
        match (call, answer) {
            (LeaseCall::Look, Ok(LeaseAnswer::Row(row))) => self.looked_at(row, ended),
            (LeaseCall::Renew { term }, Ok(LeaseAnswer::Renewed(held))) => {
                self.renewed(*term, held, sent, ended);
            }
            (LeaseCall::TakeOver { .. }, Ok(LeaseAnswer::Term(Some(term)))) => {
                self.lead(term, sent + TRUST);
                self.renewed = Some(sent);
                self.begins(ended);
            }
            (LeaseCall::GiveBack { .. }, Ok(LeaseAnswer::GaveBack(_))) => self.left = true,
            // The watch starts anew after a look that failed, and after a take-over that
            // did, or that found another row.
            (LeaseCall::Look | LeaseCall::TakeOver { .. }, answer) => {
                self.claimed |= matches!(call, LeaseCall::TakeOver { .. }) && answer.is_err();
                if let Role::Standby { watch } = &mut self.role {
                    *watch = None;
                }
            }
            // A renewal of unknown outcome gives no trust; giving back is tried again.
            (LeaseCall::Renew { .. } | LeaseCall::GiveBack { .. }, _) => {}
        }
    }

    fn looked_at(&mut self, row: Option<LeaseRow>, ended: Mono) {
        let is_ours = |term, row: &LeaseRow| row.is_held(term, &self.holder);
        match &mut self.role {
            Role::Standby { watch } => match &row {
                // A take-over whose answer got lost has succeeded. Who knows how long
                // ago: the first renewal gives the trust.
                Some(row) if row.term > self.led && is_ours(row.term, row) => {
                    self.renewed = None;
                    self.lead(row.term, Mono::ZERO);
                }
                _ if self.leaving => self.left = true,
                row => match watch {
                    Some(watch) if watch.goes_on(row.as_ref(), ended) => watch.until = ended,
                    _ => {
                        *watch = Some(Watch {
                            row: row.clone(),
                            since: ended,
                            until: ended,
                        });
                    }
                },
            },
            Role::Leader { term, .. } => {
                let term = *term;
                if !row.as_ref().is_some_and(|row| is_ours(term, row)) {
                    self.role = Role::Deposed {
                        term,
                        by: row.clone(),
                    };
                }
            }
            Role::Deposed { by, .. } => by.clone_from(&row),
        }
        self.seen = row;
    }

    fn renewed(&mut self, term: u64, held: bool, sent: Mono, ended: Mono) {
        if let Role::Leader { trusted_until, .. } = &mut self.role {
            if held {
                let begins = trusted_until.is_zero();
                *trusted_until = (*trusted_until).max(sent + TRUST);
                if begins {
                    self.begins(ended);
                }
            } else {
                self.role = Role::Deposed { term, by: None };
                // Look at once who leads.
                self.looked = None;
            }
        }
    }

    /// The lead begins: what loads has a second for its first turn.
    fn begins(&mut self, at: Mono) {
        self.turned(at);
    }

    fn lead(&mut self, term: u64, trusted_until: Mono) {
        self.role = Role::Leader {
            term,
            trusted_until,
        };
        self.led = term;
        self.claimed = false;
    }
}

/// `pause` after `last`, and at once if that has never been.
fn after(last: Option<Mono>, pause: Duration) -> Mono {
    last.map_or(Mono::ZERO, |last| last + pause)
}

/// Makes `call` at `at`.
fn due(at: Mono, call: LeaseCall, now: Mono) -> NextCall {
    if now >= at {
        NextCall::Now(call)
    } else {
        NextCall::At(at)
    }
}

#[cfg(test)]
mod tests;
