//! The connection of a leader that commits to the database (rule R14): a commit without an
//! answer is of unknown outcome, and a new connection bars the older ones before it looks
//! what became of it.

use std::time::Duration;

use dispatchd::store::{Batch, StoreError};
use dispatchd::sync::Input;
use rand::RngExt;

use super::database::{Connected, Reply, Request, Session, Wanted};
use super::{Happening, Of, World};
use crate::violation::Checked;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(4);

/// The pause before it is asked again what became of a commit.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// What a leader has to commit with.
#[derive(Debug)]
pub struct Writer {
    /// `None` after a failure.
    session: Option<Session>,
    /// The timeline on which it took over.
    led_on: u64,
    /// How many commits there were, as it knows.
    commits: u64,
    /// What is to be written.
    batch: Option<Box<Batch>>,
    doing: Doing,
    calls: u64,
}

#[derive(Debug, Clone, Copy)]
enum Doing {
    Nothing,
    /// It connects, and if it has to, looks what became of this commit.
    Connecting(Option<u64>),
    Committing(u64),
}

impl Writer {
    /// For a leader that has just loaded.
    pub fn new(connected: Connected) -> Self {
        Self {
            session: Some(connected.session),
            led_on: connected.led_on,
            commits: connected.commits,
            batch: None,
            doing: Doing::Nothing,
            calls: 0,
        }
    }

    /// The timeline on which it took over.
    pub fn led_on(&self) -> u64 {
        self.led_on
    }
}

impl World {
    pub(super) fn commit(&mut self, of: Of, batch: Box<Batch>) -> Checked {
        self.counts.add("daemons: commit", 1);
        self.line(|| {
            let events = batch.events.iter();
            let told: Vec<_> = events
                .map(|event| format!("{} {} {}", event.sequence, event.event_type, event.subject))
                .collect();
            format!(
                "  {} commits {}: {}",
                of.process,
                batch.revision,
                told.join(", ")
            )
        });
        let Some(lead) = self.lead(of) else {
            return Ok(());
        };
        let idle = lead.writer.batch.is_none();
        lead.daemon.writing = true;
        lead.writer.batch = Some(batch);
        self.send_commit(of);
        self.must(idle, "one commit at a time", || format!("{of:?}"))
    }

    /// Sends what is to be written, over a new connection if there is none.
    fn send_commit(&mut self, of: Of) {
        let Some(lead) = self.lead(of) else {
            return;
        };
        let writer = &mut lead.writer;
        let (Some(session), Some(batch)) = (writer.session, &writer.batch) else {
            return self.request_session(of, None);
        };
        let number = writer.commits + 1;
        let batch = batch.clone();
        writer.doing = Doing::Committing(number);
        let what = Wanted::Commit {
            session,
            number,
            batch,
        };
        self.request(of, what);
    }

    fn request_session(&mut self, of: Of, settles: Option<u64>) {
        if let Some(lead) = self.lead(of) {
            lead.writer.session = None;
            lead.writer.doing = Doing::Connecting(settles);
            self.request(of, Wanted::Newest);
        }
    }

    fn request(&mut self, of: Of, what: Wanted) {
        let Some(lead) = self.lead(of) else {
            return;
        };
        lead.writer.calls += 1;
        let call = lead.writer.calls;
        let gives_up = Happening::Replied {
            of,
            call,
            reply: None,
        };
        self.later(LIMIT, gives_up);
        let request = Request { of, call, what };
        if let Some(there) = self.passage("to the database", of.process, 0.15) {
            self.later(there, Happening::AtDatabase(request));
        }
    }

    /// The database has answered, or has not within the limit.
    pub(super) fn replied(&mut self, of: Of, call: u64, reply: Option<Reply>) {
        let cut_off = self.processes[of.process].cut > 0 && reply.is_some();
        let Some(lead) = self
            .lead(of)
            .filter(|lead| lead.writer.calls == call && !cut_off)
        else {
            return;
        };
        let writer = &mut lead.writer;
        match (writer.doing, reply) {
            (Doing::Nothing, _) => {}
            (Doing::Committing(number), Some(Reply::Written)) => {
                writer.commits = number;
                self.committed(of, Ok(()));
            }
            (Doing::Committing(_) | Doing::Connecting(_), Some(Reply::Fenced)) => {
                self.committed(of, Err(StoreError::Fenced));
            }
            (Doing::Committing(number), _) => {
                self.counts.add("daemons: commit of unknown outcome", 1);
                self.request_session(of, Some(number));
            }
            (Doing::Connecting(_), Some(Reply::Newest(newest))) => {
                self.request(of, Wanted::Session { newest });
            }
            (Doing::Connecting(_), Some(Reply::Moved)) => self.request(of, Wanted::Newest),
            (Doing::Connecting(settles), Some(Reply::Connected(connected))) => {
                let Connected {
                    session,
                    led_on,
                    commits,
                } = connected;
                if session.timeline != led_on || commits < writer.commits {
                    let replaced = StoreError::Replaced("simulated".into());
                    return self.committed(of, Err(replaced));
                }
                writer.session = Some(session);
                writer.commits = commits;
                match settles {
                    None => self.send_commit(of),
                    Some(number) if commits == number => {
                        self.counts.add("daemons: unknown commit was written", 1);
                        self.committed(of, Ok(()));
                    }
                    Some(number) if commits + 1 == number => {
                        self.counts
                            .add("daemons: unknown commit was not written", 1);
                        self.committed(of, Err(not_written()));
                    }
                    Some(_) => self.committed(of, Err(StoreError::Fenced)),
                }
            }
            (Doing::Connecting(None), _) => self.committed(of, Err(not_written())),
            (Doing::Connecting(Some(_)), _) => {
                // An answer that comes now comes on a connection that was given up.
                writer.calls += 1;
                self.later(SETTLE_PAUSE, Happening::Settle(of));
            }
        }
    }

    /// Asks again what became of a commit.
    pub(super) fn settle(&mut self, of: Of) {
        let doing = self.lead(of).map(|lead| lead.writer.doing);
        if let Some(Doing::Connecting(settles @ Some(_))) = doing {
            self.request_session(of, settles);
        }
    }

    fn committed(&mut self, of: Of, result: Result<(), StoreError>) {
        self.line(|| format!("  commit of {} ended: {result:?}", of.process));
        if let Some(lead) = self.lead(of) {
            lead.writer.batch = None;
            lead.writer.doing = Doing::Nothing;
            lead.writer.calls += 1;
            if result.is_err() && lead.writer.session.is_some() {
                // After an error the connection is not used again.
                lead.writer.session = None;
            }
            lead.daemon.writing = false;
        }
        self.tell(of, Input::Committed(result));
    }

    /// How long something takes one way, between a process and the database. `None`: it
    /// gets lost.
    pub(super) fn passage(&self, which: &str, process: usize, loses: f64) -> Option<Duration> {
        let mut roll = self.roll(which, process);
        let lossy = self.processes[process].lossy > 0;
        if lossy && roll.random_bool(loses) {
            return None;
        }
        let longest = if lossy && roll.random_bool(0.4) {
            4000
        } else {
            20
        };
        Some(Duration::from_millis(roll.random_range(1..longest)))
    }
}

fn not_written() -> StoreError {
    StoreError::Database {
        doing: "be written",
        source: "the database was cut off before it committed".into(),
    }
}
