//! The state in PostgreSQL: one database for several daemons, of which one leads.

mod cells;
mod connect;
mod deliveries;
mod forget;
mod lease;
mod newest_term;
mod pooler;
mod probe;
mod read;
mod record;
mod rows;
mod schema;
mod session;
mod states;
mod target;
mod whole;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use self::cells::big;
use self::connect::Link;
use self::forget::Forgetting;
use self::newest_term::NewestTerm;
use self::schema::Found;
use self::write::{Ended, Holder, Prepared};
use super::error::DatabaseError;
use super::{Batch, DispatchRecord, OpenError, SinkState, Store, StoreError, StoreReader, Stored};
use crate::model::{DispatchId, Event, HistoryItem};

pub use lease::PostgresLease;
pub use probe::DatabaseProbe;
pub use target::{PostgresTarget, TargetError};
pub use whole::{PostgresCopy, PostgresWhole};

/// A database whose tables are there and belong to this daemon's API.
///
/// All of it blocks: it is for threads on which nothing else runs.
#[derive(Debug, Clone)]
pub struct Postgres {
    target: Arc<PostgresTarget>,
    store_id: Arc<str>,
    secret: Arc<str>,
    /// What this process knows that the database had.
    seen: Arc<NewestTerm>,
}

impl Postgres {
    /// Connects, and makes the tables if there are none.
    ///
    /// # Errors
    /// When the database cannot be reached, is not ours, of another API, or newer than
    /// this program understands.
    pub fn open(target: &PostgresTarget, origin: &str) -> Result<Self, OpenError> {
        let link = reach(target)?;
        pooler::check(target, &link)?;
        let refused = |error: DatabaseError| refused(target, &error.to_string());
        let server = link.run(read::LIMIT, probe::Server::of).map_err(refused)?;
        if let Some(too_old) = probe::too_old(&server) {
            return Err(self::refused(target, &too_old));
        }
        let look = || link.run(read::LIMIT, |client| schema::look(client, &target.schema));
        let mut found = look().map_err(refused)?;
        if let Found::Nothing = found {
            make(&link, target, Some(origin))?;
            tracing::info!(state = %target, "there was no state in the database: a new one was made, which knows no dispatch");
            found = look().map_err(refused)?;
        }
        check(target, &found)?;
        let row = link
            .run(read::LIMIT, |client| {
                client.query_one("SELECT store_id, api_origin, secret FROM daemon", &[])
            })
            .map_err(refused)?;
        let theirs: &str = row.get(1);
        if theirs != origin {
            return Err(OpenError::OtherOrigin {
                path: path(target),
                theirs: theirs.to_owned(),
                ours: origin.to_owned(),
            });
        }
        Ok(Self {
            target: Arc::new(target.clone()),
            store_id: row.get::<_, &str>(0).into(),
            secret: row.get::<_, &str>(2).into(),
            seen: Arc::default(),
        })
    }

    /// Whether the database could be used for the API at `origin`. Nothing is made or
    /// written.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn probe(target: &PostgresTarget, origin: &str) -> Result<DatabaseProbe, OpenError> {
        probe::probe(target, origin)
    }

    /// What is known of each sink, by the sinks' names. Nothing is written.
    ///
    /// # Errors
    /// When the database cannot be reached or read.
    pub fn probe_sinks(
        target: &PostgresTarget,
    ) -> Result<BTreeMap<Arc<str>, SinkState>, OpenError> {
        let link = reach(target)?;
        read::sinks(&link).map_err(|error| refused(target, &error.to_string()))
    }

    /// The way to the lease.
    pub fn lease(&self) -> PostgresLease {
        PostgresLease::new(Arc::clone(&self.target), Arc::clone(&self.seen))
    }

    /// What the daemons of this database know each other by.
    pub fn secret(&self) -> &Arc<str> {
        &self.secret
    }

    /// The schema of its tables.
    #[cfg(test)]
    pub(super) fn schema(&self) -> &str {
        &self.target.schema
    }

    /// The writer of the leader with this term and holder.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another daemon leads, or when the database cannot be
    /// reached.
    pub fn store(&self, term: u64, holder: &str) -> Result<PostgresStore, StoreError> {
        let mut store = PostgresStore {
            target: Arc::clone(&self.target),
            link: None,
            prepared: Prepared::new(),
            holder: Holder {
                term,
                holder: holder.to_owned(),
                session: 0,
            },
            commits: None,
            unknown: None,
            forgetting: None,
            seen: Arc::clone(&self.seen),
        };
        store.begin_session()?;
        Ok(store)
    }

    /// A way in for reads beside the writer.
    pub fn reader(&self) -> PostgresReader {
        PostgresReader {
            target: Arc::clone(&self.target),
            id: Arc::clone(&self.store_id),
            link: None,
        }
    }
}

fn reach(target: &PostgresTarget) -> Result<Link, OpenError> {
    Link::connect(target).map_err(|error| {
        let reason = error.to_string();
        if error.is_configuration() {
            refused(target, &reason)
        } else {
            OpenError::Unreachable {
                state: target.to_string(),
                reason,
            }
        }
    })
}

fn refused(target: &PostgresTarget, reason: &str) -> OpenError {
    OpenError::Refused {
        state: target.to_string(),
        reason: reason.to_owned(),
    }
}

fn path(target: &PostgresTarget) -> PathBuf {
    PathBuf::from(target.to_string())
}

/// Makes the tables. Tells whether they were not there.
fn make(link: &Link, target: &PostgresTarget, origin: Option<&str>) -> Result<bool, OpenError> {
    link.run(read::LIMIT, |client| {
        schema::make(client, &target.schema, origin)
    })
    .map_err(|error| refused(target, &probe::cannot_make(target, &error.to_string())))
}

/// Whether this program can go on with what was found.
fn check(target: &PostgresTarget, found: &Found) -> Result<(), OpenError> {
    match *found {
        Found::Ours { compatible, .. } if compatible <= schema::VERSION => Ok(()),
        Found::Ours { version, .. } => Err(OpenError::Newer {
            path: path(target),
            found: version.into(),
            known: schema::VERSION.into(),
        }),
        Found::HalfCopy => Err(OpenError::HalfCopy {
            state: target.to_string(),
            remedy: format!(
                "drop it (DROP SCHEMA {} CASCADE) and copy again",
                target.schema
            ),
        }),
        Found::Nothing | Found::Foreign => Err(refused(
            target,
            &format!(
                "the schema `{0}` holds tables of something else; name another one with options=-csearch_path%3DNAME",
                target.schema
            ),
        )),
    }
}

/// The writer of a leader.
pub struct PostgresStore {
    target: Arc<PostgresTarget>,
    /// `None` after a failure.
    link: Option<Link>,
    /// What that connection's server has prepared.
    prepared: Prepared,
    holder: Holder,
    /// How many commits there were when this daemon last knew.
    commits: Option<u64>,
    /// The number of the commit whose outcome is unknown.
    unknown: Option<u64>,
    forgetting: Option<Forgetting>,
    seen: Arc<NewestTerm>,
}

impl PostgresStore {
    /// Connects anew. Afterwards no older connection of this daemon commits. Gives how
    /// many commits there were.
    fn begin_session(&mut self) -> Result<u64, StoreError> {
        self.link = None;
        self.prepared.clear();
        let session = session::begin(&self.target, &self.holder)?;
        let commits = session.commits;
        if let Some(known) = self.commits.filter(|known| commits < *known) {
            session::mark_lost(&session.link, &self.holder);
            return Err(StoreError::Replaced(format!(
                "it has {commits} commits, and this daemon knows of {known}"
            )));
        }
        self.holder.session = session.number;
        self.link = Some(session.link);
        self.commits = Some(commits);
        self.seen.note(self.holder.term, commits);
        Ok(commits)
    }

    /// Does something on the connection for commits. If that was closed while nobody
    /// looked, on a new one. `work` must not have committed anything when it fails.
    fn on_link<T>(
        &mut self,
        mut work: impl FnMut(&Link, &mut Prepared, &Holder) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_new = self.link.is_none();
        if is_new {
            self.begin_session()?;
        }
        let Some(link) = &self.link else {
            return Err(StoreError::Closed);
        };
        let done = work(link, &mut self.prepared, &self.holder);
        if is_new || !link.is_closed() || !matches!(done, Err(StoreError::Database { .. })) {
            return done;
        }
        self.begin_session()?;
        match &self.link {
            Some(link) => work(link, &mut self.prepared, &self.holder),
            None => Err(StoreError::Closed),
        }
    }
}

impl Store for PostgresStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let term = self.holder.term;
        self.on_link(|link, _, _| read::load(link, term))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.unknown.is_some() {
            return Err(StoreError::Unknown(
                "an earlier commit is not settled".into(),
            ));
        }
        if self.link.is_none() {
            self.begin_session()?;
        }
        let number = self.commits.unwrap_or_default() + 1;
        let done = self
            .on_link(|link, prepared, holder| write::commit(link, prepared, holder, batch, number));
        match done {
            Ok(Ended::Written) => {
                self.commits = Some(number);
                self.seen.note(self.holder.term, number);
                if let Some(asked) = Forgetting::asked_by(batch) {
                    self.forgetting = Some(asked);
                }
                Ok(())
            }
            Ok(Ended::Unknown(error)) => {
                self.unknown = Some(number);
                self.link = None;
                Err(StoreError::Unknown(error))
            }
            Err(error) => {
                // It may be in the middle of a transaction.
                self.link = None;
                Err(error)
            }
        }
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.unknown else {
            return Ok(());
        };
        let commits = match self.begin_session() {
            Ok(commits) => commits,
            Err(error @ (StoreError::Fenced | StoreError::Replaced(_))) => {
                self.unknown = None;
                return Err(error);
            }
            Err(error) => return Err(StoreError::Unknown(error.into())),
        };
        self.unknown = None;
        if commits == number {
            Ok(())
        } else if commits + 1 == number {
            Err(StoreError::doing("be written")(
                "the database was cut off before it committed",
            ))
        } else {
            Err(StoreError::OutOfStep)
        }
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        let Some(mut forgetting) = self.forgetting.take() else {
            return Ok(false);
        };
        let more = self.on_link(|link, _, holder| forgetting.go_on(link, holder));
        if more.is_err() {
            self.link = None;
        }
        let more = more?;
        self.forgetting = Some(forgetting).filter(|_| more);
        Ok(more)
    }
}

/// Reads beside the writer.
pub struct PostgresReader {
    target: Arc<PostgresTarget>,
    id: Arc<str>,
    /// `None` before the first question, and after a failure.
    link: Option<Link>,
}

impl PostgresReader {
    fn read<T>(
        &mut self,
        mut read: impl FnMut(&Link, &str) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(link) = self.link.take().filter(|link| !link.is_closed()) {
            match read(&link, &self.id) {
                Err(StoreError::Database { .. }) if link.is_closed() => {}
                done => {
                    self.link = done.is_ok().then_some(link);
                    return done;
                }
            }
        }
        let link = Link::connect(&self.target).map_err(StoreError::doing("be reached"))?;
        let done = read(&link, &self.id);
        self.link = done.is_ok().then_some(link);
        done
    }
}

impl PostgresReader {
    /// Has the lease say what its `holder` leads with. It changes nothing else, and nothing
    /// if another daemon has the lease: no proof of the lead is needed.
    ///
    /// # Errors
    /// When the database cannot be reached or written.
    pub fn note_fingerprint(&mut self, holder: &str, fingerprint: &str) -> Result<(), StoreError> {
        self.read(|link, _| {
            link.run(read::LIMIT, |client| async move {
                let sql = "UPDATE leader SET fingerprint = $2
                     WHERE holder = $1 AND fingerprint <> $2";
                client.execute(sql, &[&holder, &fingerprint]).await
            })
            .map(drop)
            .map_err(StoreError::doing::<DatabaseError>("be written"))
        })
    }

    /// The sinks beside `kept` that may hold sites curtailed, each with those sites' ids.
    ///
    /// # Errors
    /// When the database cannot be reached or read.
    pub fn held_beside(
        &mut self,
        kept: &[&str],
    ) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
        self.read(|link, _| read::held_beside(link, kept))
    }
}

impl StoreReader for PostgresReader {
    fn history(&mut self, id: &DispatchId) -> Result<Vec<HistoryItem>, StoreError> {
        self.read(|link, _| read::history(link, id))
    }

    fn record(&mut self, id: &DispatchId) -> Result<DispatchRecord, StoreError> {
        self.read(|link, store_id| record::read(link, store_id, id))
    }

    fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|link, store_id| read::events(link, store_id, big(after), limit))
    }

    fn positions_to_deliver(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        // Asked anew after a failure, it goes on behind what was told already.
        let mut after = after;
        self.read(|link, _| {
            let mut told = after;
            let read = read::positions_to_deliver(link, big(after), &mut |position| {
                told = position;
                each(position);
            });
            after = told;
            read
        })
    }

    fn newest_site_events(&mut self) -> Result<Vec<Event>, StoreError> {
        self.read(read::newest_site_events)
    }

    fn newest_site_positions(&mut self) -> Result<Vec<u64>, StoreError> {
        self.read(|link, _| read::newest_site_positions(link))
    }

    fn events_at(&mut self, positions: &[u64]) -> Result<Vec<Event>, StoreError> {
        let positions: Vec<i64> = positions.iter().copied().map(big).collect();
        self.read(|link, store_id| read::events_at(link, store_id, &positions))
    }
}

#[cfg(test)]
mod tests;
