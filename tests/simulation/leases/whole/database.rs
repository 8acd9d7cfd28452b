//! The one database (rule R14): which connection may commit to it, how many commits there
//! were, and its standbys, one of which may be promoted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dispatchd::store::{Batch, LeaseStore, MemoryStore, Store, StoreError};
use dispatchd::sync::{LeaseAnswer, LeaseCall};

use super::super::process::Request as LeaseRequest;
use super::{Happening, Of, World};
use crate::violation::{Checked, Violation, must};

/// For so long a standby of the database may lag behind.
const LAGS_AT_MOST: Duration = Duration::from_secs(10);

/// A leader that is well has found by then that the database is another one.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// What the database knows beside the store.
#[derive(Debug, Default)]
pub struct Database {
    rows: Rows,
    /// Raised by each promotion.
    timeline: u64,
    /// When the last one was.
    promoted_at: Duration,
    /// A promotion has lost commits, and no daemon has loaded the state since.
    unsaid: bool,
    /// What the database was at some times, oldest first.
    past: VecDeque<(Duration, MemoryStore, Rows)>,
}

/// What goes with a copy of the database.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    /// The newest connection that may commit.
    session: u64,
    /// How many commits there were.
    commits: u64,
    /// The timeline on which the leader took over.
    led_on: u64,
}

/// A connection that may commit.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    pub number: u64,
    pub timeline: u64,
}

/// What a leader wants of the database.
#[derive(Debug)]
pub struct Request {
    pub of: Of,
    pub call: u64,
    pub what: Wanted,
}

#[derive(Debug)]
pub enum Wanted {
    /// The newest connection that may commit.
    Newest,
    /// A connection that may commit, all others barred, if this is still the newest.
    Session { newest: Session },
    Commit {
        session: Session,
        number: u64,
        batch: Box<Batch>,
    },
}

/// What a new connection is told.
#[derive(Debug, Clone, Copy)]
pub struct Connected {
    pub session: Session,
    /// The timeline on which the leader took over.
    pub led_on: u64,
    /// How many commits there were.
    pub commits: u64,
}

/// What the database answers.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// Another daemon leads, or another connection commits.
    Fenced,
    Newest(Session),
    /// There is a newer connection than the one that was named.
    Moved,
    Connected(Connected),
    Written,
}

impl Database {
    /// Makes a connection of the leader, and bars all others.
    pub fn connect(&mut self) -> Connected {
        self.rows.session += 1;
        Connected {
            session: self.newest(),
            led_on: self.rows.led_on,
            commits: self.rows.commits,
        }
    }

    fn newest(&self) -> Session {
        Session {
            number: self.rows.session,
            timeline: self.timeline,
        }
    }

    /// Whether this is not the database at which the leader took over.
    pub fn is_replaced(&self) -> bool {
        self.rows.led_on != self.timeline
    }

    /// A call to the lease. Where another database has taken the place of the one at which
    /// the leader took over, it is not renewed, and what was given back is not told of.
    pub fn make(
        &self,
        store: &mut MemoryStore,
        request: &LeaseRequest,
    ) -> Result<LeaseAnswer, StoreError> {
        let replaced = self.is_replaced();
        let server: Arc<str> = self.timeline.to_string().into();
        let row = store.look()?;
        let mut call = request.call.clone();
        match &mut call {
            LeaseCall::Renew { .. } if replaced => return Ok(LeaseAnswer::Renewed(false)),
            LeaseCall::TakeOver {
                watched: Some(watched),
            } => {
                if watched.server != server {
                    return Ok(LeaseAnswer::Term(None));
                }
                watched.server = "".into();
                watched.given_back |= replaced && row.as_ref().is_some_and(|row| row.given_back);
                if replaced && row.is_some_and(|row| row.is_still(watched)) {
                    store.lose_commits();
                }
            }
            _ => {}
        }
        let mut answer = call.make(store, &request.candidate, request.wall)?;
        if let LeaseAnswer::Row(Some(row)) = &mut answer {
            row.given_back &= !replaced;
            row.server = server;
        }
        Ok(answer)
    }

    /// Whether what was committed on this timeline may be gone.
    pub fn may_lack(&self, led_on: u64) -> bool {
        led_on != self.timeline
    }

    /// Another daemon has taken over: no older connection commits.
    pub fn taken_over(&mut self) {
        self.rows.session += 1;
        self.rows.led_on = self.timeline;
    }
}

impl World {
    /// Keeps a copy of what the database is now, for a standby of it.
    pub fn database_changed(&mut self) {
        let now = self.now;
        let Some(whole) = self.whole.as_mut().filter(|whole| whole.plan.promotes) else {
            return;
        };
        let database = &mut whole.database;
        let copy = (now, self.store.snapshot(), database.rows);
        database.past.push_back(copy);
        while database.past.len() > 1 && database.past[1].0 + LAGS_AT_MOST <= now {
            database.past.pop_front();
        }
    }

    /// A standby of the database that has lagged by this much is promoted. All
    /// connections break.
    pub fn promote(&mut self, lag: Duration) {
        let now = self.now;
        let Some(whole) = &mut self.whole else {
            return;
        };
        let database = &mut whole.database;
        // Before that there is no database to have a standby of.
        let has_led = |(_, _, rows): &&(Duration, MemoryStore, Rows)| rows.session > 0;
        let mut had = database.past.iter().filter(has_led);
        let oldest = had.clone().next();
        let copy = had.rfind(|(at, ..)| *at + lag <= now).or(oldest);
        let Some((_, store, rows)) = copy else {
            return;
        };
        let lost = database.rows.commits - rows.commits;
        (self.store, database.rows) = (store.snapshot(), *rows);
        database.timeline += 1;
        database.unsaid |= lost > 0;
        database.promoted_at = now;
        database.past.clear();
        self.counts
            .add("daemons: commits lost by a promotion", lost);
        self.line(|| format!("the database was promoted and has lost {lost} commits"));
        if let (Ok(stored), Some(whole)) = (self.stored(), &mut self.whole) {
            whole.checks.promoted(&stored, &whole.upstream, lost);
        }
        if self.away == 0 {
            self.checks.store(Some(now));
        }
        self.database_changed();
    }

    /// A new leader that finds fewer commits than there were knows that it does.
    pub(super) fn says_what_was_lost(&mut self) -> Checked {
        let knows = self.stored()?.commits_lost;
        let Some(whole) = &mut self.whole else {
            return Ok(());
        };
        let unsaid = std::mem::take(&mut whole.database.unsaid);
        self.counts
            .add("daemons: start after lost commits", u64::from(unsaid));
        self.must(knows || !unsaid, "lost commits are found", String::new)
    }

    /// A leader that is well does not go on for long on another database.
    pub(super) fn finds_replacement(&mut self, of: Of) -> Checked {
        let process = &self.processes[of.process];
        let (Some(lead), Some(whole)) = (&process.lead, &self.whole) else {
            return Ok(());
        };
        let since = whole.database.promoted_at;
        let well = process.well_since.is_some_and(|well| well <= since) && self.away == 0;
        let long = self.now.saturating_sub(since) > FOUND_WITHIN;
        let goes_on = process.leads(self.now) && whole.database.may_lack(lead.writer.led_on());
        self.must(
            !(well && long && goes_on),
            "a leader finds that the database is another one",
            || format!("{of:?} goes on since {since:?}"),
        )
    }

    pub(super) fn at_database(&mut self, request: Request) -> Checked {
        let (of, call) = (request.of, request.call);
        let process = &mut self.processes[of.process];
        if process.cut > 0 {
            let stuck = super::Event::Whole(Happening::AtDatabase(request));
            process.stuck.push(stuck);
            return Ok(());
        }
        let reply = match self.away {
            0 => self.reply(request)?,
            _ if self.refuses > 0 => None,
            _ => return Ok(()),
        };
        self.line(|| format!("  the database to {}: {reply:?}", of.process));
        if let Some(back) = self.passage("from the database", of.process, 0.2) {
            self.later(back, Happening::Replied { of, call, reply });
        }
        Ok(())
    }

    /// `None`: the connection is broken.
    fn reply(&mut self, request: Request) -> Result<Option<Reply>, Violation> {
        let of = request.of;
        let holder = self.processes[of.process].name_of(of.life);
        let held = self
            .row()
            .is_some_and(|row| (row.term, &*row.holder) == (of.term, &*holder));
        let (now, store) = (self.now, self.store.led(of.term));
        let Some(whole) = &mut self.whole else {
            return Ok(None);
        };
        let database = &mut whole.database;
        let reply = match request.what {
            Wanted::Session { newest: session } | Wanted::Commit { session, .. }
                if session.timeline != database.timeline =>
            {
                return Ok(None);
            }
            Wanted::Newest | Wanted::Session { .. } if !held => Reply::Fenced,
            Wanted::Newest => Reply::Newest(database.newest()),
            Wanted::Session { newest } if newest.number != database.rows.session => {
                self.counts.add("daemons: session asked for too late", 1);
                Reply::Moved
            }
            Wanted::Session { .. } => Reply::Connected(database.connect()),
            Wanted::Commit { session, .. } if !held || session.number != database.rows.session => {
                Reply::Fenced
            }
            Wanted::Commit { number, batch, .. } => match store.clone().commit(&batch) {
                Ok(()) => {
                    let before = std::mem::replace(&mut database.rows.commits, number);
                    must(before + 1 == number, now, "commits are counted", || {
                        format!("{number} after {before}")
                    })?;
                    Reply::Written
                }
                Err(_) => Reply::Fenced,
            },
        };
        if matches!(reply, Reply::Connected(_) | Reply::Written) {
            self.database_changed();
        }
        Ok(Some(reply))
    }
}
