//! Reads and writes everything that a database holds: as the source and as the target of a
//! copy.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::cells::{Cells, big, escaped};
use super::connect::Link;
use super::deliveries;
use super::lease::PostgresLease;
use super::read::{self, ENTRIES, collect, entry};
use super::record::{settled, state_in, told};
use super::rows::{self, Step, columns};
use super::schema::{self, Found};
use super::session::Identity;
use super::states::states;
use super::write::{Ended, Prepared, finish, take};
use super::{check, make, pooler, probe, reach, refused};
use crate::model::{DispatchId, Event, HistoryItem, SiteId, SiteState};
use crate::store::error::DatabaseError;
use crate::store::whole::{PAGE, PAGE_BYTES, as_record};
use crate::store::{
    Head, LeaseRow, LeaseStore, OpenError, Part, PostgresTarget, SinkState, StoreError, SyncRecord,
    WholeDispatch, WholeSource, WholeTarget,
};

/// How long a lease is watched that nobody gave back. A standby takes over within it.
const WATCHED: Duration = Duration::from_secs(8);

/// How long one is watched that was given back: a standby takes it at its next look.
const GIVEN_BACK: Duration = Duration::from_secs(3);

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Keeps daemons from leading until the end of the transaction, and sees one commit only.
/// The lock comes before the first statement that sees anything.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ;
     SET LOCAL statement_timeout = '60s';
     SET LOCAL idle_in_transaction_session_timeout = '10min';
     LOCK TABLE leader IN EXCLUSIVE MODE";

/// Reads all of a database.
pub struct PostgresWhole {
    link: Link,
    id: Arc<str>,
}

impl PostgresWhole {
    /// A database that no daemon uses, and none can while this is held. Watches for some seconds whether a daemon leads, or takes over, and then keeps
    /// daemons from doing so.
    ///
    /// # Errors
    /// When the database cannot be reached, holds no state that this program knows, or a
    /// daemon uses it.
    pub fn of_unused(target: &PostgresTarget) -> Result<Self, OpenError> {
        let link = reach(target)?;
        pooler::check(target, &link)?;
        let fail = |error: DatabaseError| refused(target, &error.to_string());
        let found = link
            .run(read::LIMIT, |client| schema::look(client, &target.schema))
            .map_err(fail)?;
        if matches!(found, Found::Nothing) {
            return Err(refused(target, "there is no state in it"));
        }
        check(target, &found)?;
        let mut lease = PostgresLease::new(Arc::new(target.clone()), Arc::default());
        let watched = watch(target, &mut lease)?;
        link.run(read::LIMIT, |client| client.batch_execute(BEGIN))
            .map_err(fail)?;
        let unread = |error: StoreError| refused(target, &error.to_string());
        if let Some(row) = lease.look().map_err(unread)?
            && !watched.is_some_and(|watched| row.is_still(&watched))
        {
            return Err(in_use(target, &row));
        }
        let row = link
            .run(read::LIMIT, |client| {
                client.query_one("SELECT store_id, commits_lost FROM daemon, leader", &[])
            })
            .map_err(fail)?;
        if row.get(1) {
            let lost = "its server was replaced, and commits may be lost; start a daemon on it first, which tells every site its state again";
            return Err(refused(target, lost));
        }
        Ok(Self {
            link,
            id: row.get::<_, &str>(0).into(),
        })
    }
}

fn in_use(target: &PostgresTarget, row: &LeaseRow) -> OpenError {
    OpenError::InUse {
        state: target.to_string(),
        node: row.node.to_string(),
    }
}

/// Looks at the lease until it has stood still for so long that no daemon can be there.
fn watch(
    target: &PostgresTarget,
    lease: &mut PostgresLease,
) -> Result<Option<LeaseRow>, OpenError> {
    let unread = |error: StoreError| refused(target, &error.to_string());
    let first = lease.look().map_err(unread)?;
    let leads = first.as_ref().is_some_and(|row| !row.given_back);
    let time = if leads { WATCHED } else { GIVEN_BACK };
    for _ in 0..time.as_millis() / LOOK.as_millis() {
        thread::sleep(LOOK);
        let Some(row) = lease.look().map_err(unread)? else {
            continue;
        };
        if !first.as_ref().is_some_and(|first| row.is_still(first)) {
            return Err(in_use(target, &row));
        }
    }
    Ok(first)
}

impl WholeSource for PostgresWhole {
    fn head(&mut self) -> Result<Option<Head>, StoreError> {
        head(&self.link)
    }

    fn dispatches(&mut self, after: Option<&DispatchId>) -> Result<Vec<WholeDispatch>, StoreError> {
        dispatches(&self.link, after)
    }

    fn sites(&mut self, after: Option<&SiteId>) -> Result<Vec<Arc<SiteState>>, StoreError> {
        sites(&self.link, after)
    }

    fn events_after(&mut self, position: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        read::events(&self.link, &self.id, big(position), limit)
    }

    fn sinks(&mut self) -> Result<BTreeMap<Arc<str>, SinkState>, StoreError> {
        read::sinks(&self.link)
    }
}

fn head(link: &Link) -> Result<Option<Head>, StoreError> {
    let sql = "SELECT store_id, api_origin, leader.term, revision, position, last_poll, stale
         FROM daemon, leader";
    let head = collect(link, sql, &[], |row| {
        let mut cells = Cells::of(row);
        Ok(Head {
            id: cells.value::<&str>()?.into(),
            origin: cells.value::<&str>()?.to_owned(),
            term: cells.count()?,
            revision: cells.count()?,
            position: cells.count()?,
            sync: SyncRecord {
                last_poll: cells.optional_time()?,
                stale: cells.value()?,
            },
        })
    })?;
    Ok(head.into_iter().next())
}

fn dispatches(link: &Link, after: Option<&DispatchId>) -> Result<Vec<WholeDispatch>, StoreError> {
    let sql = "SELECT id, (octet_length(dispatch) + coalesce(
          (SELECT sum(bytes) FROM states WHERE states.dispatch = id), 0))::bigint
         FROM dispatches WHERE id > $1 ORDER BY id LIMIT $2";
    let after = after.map_or("", |id| id.as_str());
    let mut bytes = 0;
    let rows = collect(link, sql, &[&after, &(PAGE as i64)], |row| {
        let mut cells = Cells::of(row);
        Ok((cells.dispatch_id()?, cells.count()?))
    })?;
    let ids: Vec<DispatchId> = rows
        .into_iter()
        .take_while(|(_, length)| {
            let fits = bytes < PAGE_BYTES;
            bytes += length;
            fits
        })
        .map(|(id, _)| id)
        .collect();
    let names: Vec<&str> = ids.iter().map(DispatchId::as_str).collect();
    let mut of = rows_of(link, &names)?;
    Ok(ids.iter().filter_map(|id| of.remove(id)).collect())
}

/// Reads these dispatches with all that is kept of them.
fn rows_of(link: &Link, ids: &[&str]) -> Result<HashMap<DispatchId, WholeDispatch>, StoreError> {
    let sql = format!("{ENTRIES} WHERE id = ANY($1)");
    let entries = collect(link, &sql, &[&ids], entry)?.into_iter();
    let mut all: HashMap<DispatchId, WholeDispatch> = entries
        .map(|entry| {
            let whole = WholeDispatch {
                entry: Arc::new(entry),
                told: None,
                commands_left_out: 0,
                changes: Vec::new(),
                skipped: Vec::new(),
                states: Vec::new(),
                commands: Vec::new(),
            };
            (whole.entry.id().clone(), whole)
        })
        .collect();
    let mut each = |sql: &str, read: Read| {
        collect(link, sql, &[&ids], |row| {
            let mut cells = Cells::of(row);
            let id = cells.dispatch_id()?;
            match all.get_mut(&id) {
                Some(whole) => read(whole, cells),
                None => Ok(()),
            }
        })
    };
    each(
        "SELECT id, way, asked, answered, left_out FROM dispatches WHERE id = ANY($1)",
        &|whole, mut cells| {
            whole.told = told(&mut cells)?;
            whole.commands_left_out = cells.count()?;
            Ok(())
        },
    )?;
    each(
        "SELECT dispatch, is_change, item FROM history WHERE dispatch = ANY($1)
         ORDER BY revision, key",
        &|whole, mut cells| {
            let is_change = cells.value()?;
            let lines = if is_change {
                &mut whole.changes
            } else {
                &mut whole.skipped
            };
            lines.push(cells.json()?);
            Ok(())
        },
    )?;
    each(
        "SELECT dispatch, n, way, asked, answered, bytes, body FROM states
         WHERE dispatch = ANY($1) ORDER BY n",
        &|whole, mut cells| {
            whole.states.push(state_in(&mut cells)?);
            Ok(())
        },
    )?;
    each(
        "SELECT dispatch, sink, position, site, command, due, known, first_attempt,
          last_attempt, tries, acknowledged, skipped, last_error
         FROM commands WHERE dispatch = ANY($1) ORDER BY position, sink",
        &|whole, mut cells| {
            let line = settled(&mut cells, whole.entry.id())?;
            whole.commands.push(line);
            Ok(())
        },
    )?;
    Ok(all)
}

/// Adds a row to its dispatch.
type Read<'r> = &'r dyn Fn(&mut WholeDispatch, Cells) -> Result<(), StoreError>;

fn sites(link: &Link, after: Option<&SiteId>) -> Result<Vec<Arc<SiteState>>, StoreError> {
    let sql = "SELECT id, state FROM sites WHERE id > $1 ORDER BY id LIMIT $2";
    let after = escaped(after.map_or("", SiteId::as_str));
    collect(link, sql, &[&&*after, &(PAGE as i64)], |row| {
        Ok(Arc::new(read::site(row)?))
    })
}

/// New tables that become a copy of another state.
pub struct PostgresCopy {
    whole: PostgresWhole,
    prepared: Prepared,
}

impl PostgresCopy {
    /// Makes the tables for a copy of the state with this id.
    ///
    /// # Errors
    /// When the database cannot be reached, or there is something in it already.
    pub fn begin(target: &PostgresTarget, id: &str) -> Result<Self, OpenError> {
        let link = free(target)?;
        if !make(&link, target, None)? {
            return Err(not_empty(target));
        }
        let patient = "SET statement_timeout = '60s'";
        link.run(read::LIMIT, |client| client.batch_execute(patient))
            .map_err(|error| refused(target, &error.to_string()))?;
        let id = id.into();
        Ok(Self {
            whole: PostgresWhole { link, id },
            prepared: Prepared::new(),
        })
    }

    /// Makes sure that a copy could be made there. Nothing is made.
    ///
    /// # Errors
    /// When the database cannot be reached, or there is something in it already.
    pub fn is_free(target: &PostgresTarget) -> Result<(), OpenError> {
        free(target).map(drop)
    }

    fn commit(&mut self, steps: &[Step]) -> Result<(), StoreError> {
        let failed = StoreError::doing::<DatabaseError>("be written");
        let link = &self.whole.link;
        link.run(read::LIMIT, |client| client.batch_execute("BEGIN"))
            .map_err(failed)?;
        take(link, &mut self.prepared, steps, read::LIMIT)?;
        match finish(link, read::LIMIT) {
            Ended::Written => Ok(()),
            Ended::Unknown(error) => Err(StoreError::Unknown(error)),
        }
    }
}

/// Connects to a database in which nothing is.
fn free(target: &PostgresTarget) -> Result<Link, OpenError> {
    let link = reach(target)?;
    pooler::check(target, &link)?;
    let fail = |error: DatabaseError| refused(target, &error.to_string());
    let server = link.run(read::LIMIT, probe::Server::of).map_err(fail)?;
    if let Some(too_old) = probe::too_old(&server) {
        return Err(refused(target, &too_old));
    }
    let found = link
        .run(read::LIMIT, |client| schema::look(client, &target.schema))
        .map_err(fail)?;
    match found {
        Found::Nothing => Ok(link),
        Found::Ours { .. } => Err(not_empty(target)),
        Found::HalfCopy | Found::Foreign => {
            check(target, &found)?;
            Err(not_empty(target))
        }
    }
}

fn not_empty(target: &PostgresTarget) -> OpenError {
    OpenError::NotEmpty {
        state: target.to_string(),
        found: format!(
            "there is a state in its schema `{}`; name another schema with options=-csearch_path%3DNAME, or another database",
            target.schema
        ),
    }
}

impl WholeTarget for PostgresCopy {
    type Reader = PostgresWhole;

    fn reader(&mut self) -> &mut PostgresWhole {
        &mut self.whole
    }

    fn write(&mut self, part: &Part) -> Result<(), StoreError> {
        let mut steps = Vec::new();
        match part {
            Part::Dispatches(all) => put(all, &mut steps)?,
            Part::Sites(sites) => rows::sites(sites, &mut steps)?,
            Part::Events(events) => rows::events(events, &mut steps),
            Part::Sink(name, state) => deliveries::sink(&as_record(name, state), &mut steps),
        }
        self.commit(&steps)
    }

    fn finish(&mut self, head: &Head) -> Result<(), StoreError> {
        let failed = StoreError::doing::<DatabaseError>("be written");
        let identity = self
            .whole
            .link
            .run(read::LIMIT, Identity::of)
            .map_err(failed)?;
        self.commit(&[
            Step::new(
                schema::PUT_DAEMON,
                columns![
                    head.id.to_string(),
                    head.origin.clone(),
                    schema::new_secret(),
                    big(head.revision),
                    big(head.position)
                ],
            ),
            Step::new(
                "UPDATE daemon SET last_poll = $1, stale = $2",
                columns![head.sync.last_poll, head.sync.stale],
            ),
            // As a leader that has given the lease back: the first daemon takes it at once,
            // with a higher term.
            Step::new(
                "UPDATE leader SET term = $1, system_identifier = $2, timeline = $3",
                columns![
                    big(head.term),
                    identity.system_identifier,
                    identity.timeline
                ],
            ),
            Step::new("UPDATE beat SET term = $1", columns![big(head.term)]),
        ])
    }
}

/// Writes dispatches with all that is kept of them.
fn put(all: &[WholeDispatch], steps: &mut Vec<Step>) -> Result<(), StoreError> {
    let entries: Vec<_> = all.iter().map(|one| Arc::clone(&one.entry)).collect();
    let told: Vec<_> = all.iter().map(|one| one.told).collect();
    rows::entries(&entries, &told, steps)?;
    let id = |one: &WholeDispatch| one.entry.id().to_string();
    let of_some: Vec<&WholeDispatch> = all.iter().filter(|one| one.commands_left_out > 0).collect();
    if !of_some.is_empty() {
        let counts: Vec<i64> = of_some
            .iter()
            .map(|one| big(one.commands_left_out))
            .collect();
        steps.push(Step::new(
            "UPDATE dispatches SET left_out = of.n
             FROM unnest($1::text[], $2::bigint[]) AS of (dispatch, n) WHERE id = of.dispatch",
            columns![
                of_some.iter().map(|one| id(one)).collect::<Vec<_>>(),
                counts
            ],
        ));
    }
    let lines = |of: fn(&WholeDispatch) -> &Vec<HistoryItem>| -> Vec<(DispatchId, HistoryItem)> {
        let lines = all
            .iter()
            .flat_map(|one| of(one).iter().map(|line| (one.entry.id(), line)));
        lines.map(|(id, line)| (id.clone(), line.clone())).collect()
    };
    rows::history(&lines(|one| &one.changes), true, steps)?;
    rows::history(&lines(|one| &one.skipped), false, steps)?;
    let replaced: Vec<_> = all
        .iter()
        .flat_map(|one| one.states.iter().map(|line| (one.entry.id(), line)))
        .collect();
    steps.extend(states(&replaced));
    let commands = all.iter().flat_map(|one| one.commands.iter());
    deliveries::commands(commands.map(|(sink, settled)| (sink, settled)), steps);
    Ok(())
}
