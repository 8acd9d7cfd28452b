//! All events that the daemon ever committed, read out of its state file or database
//! while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::Fault;
use crate::cluster::Cluster;

/// An event, as it was written down.
#[derive(Debug, Clone)]
pub struct Committed {
    pub sequence: u64,
    pub kind: String,
    pub subject: String,
    /// When it was decided, UTC.
    pub time: DateTime<Utc>,
    /// What brought it, if it is about a dispatch.
    pub source: String,
    /// The state of the dispatch.
    pub state: Option<i64>,
}

impl Committed {
    /// Whether it must reach everybody, whatever came after it.
    pub fn must_arrive(&self) -> bool {
        !self.kind.starts_with("site.")
    }
}

/// Where the events are.
pub enum Place {
    File(PathBuf),
    Database(Arc<Cluster>),
}

/// The schema in the database.
pub const SCHEMA: &str = "dispatchd";

/// The events so far.
pub struct Catalogue {
    place: Place,
    pub events: Vec<Committed>,
}

impl Catalogue {
    pub fn new(place: Place) -> Self {
        Self {
            place,
            events: Vec::new(),
        }
    }

    /// Reads on, as anybody may who has `sqlite3` or `psql`. Whether it can be read at
    /// this very moment is no matter: it is tried again.
    pub fn read(&mut self) -> Result<(), Fault> {
        match &self.place {
            Place::File(path) => Ok(self.read_file(path.clone())?),
            Place::Database(cluster) => self.read_database(&Arc::clone(cluster)),
        }
    }

    fn after(&self) -> u64 {
        self.events.last().map_or(0, |event| event.sequence)
    }

    fn take(&mut self, event: (u64, String, String, &str, &str)) -> Result<(), Fault> {
        let (sequence, kind, subject, time, data) = event;
        let data: Value = serde_json::from_str(data)?;
        self.events.push(Committed {
            sequence,
            kind,
            subject,
            time: time.parse()?,
            source: data["source"].as_str().unwrap_or_default().to_owned(),
            state: data["metadata"]["state"].as_i64(),
        });
        Ok(())
    }

    fn read_database(&mut self, cluster: &Cluster) -> Result<(), Fault> {
        let sql = format!(
            "SELECT json_build_array(position, type, subject, time, data) FROM {SCHEMA}.events
             WHERE position > {} ORDER BY position",
            self.after()
        );
        for line in cluster.try_sql(&sql)?.lines() {
            let row: (u64, String, String, String, String) = serde_json::from_str(line)?;
            self.take((row.0, row.1, row.2, &row.3, &row.4))?;
        }
        Ok(())
    }

    fn read_file(&mut self, path: PathBuf) -> Result<(), Fault> {
        let connection = open(&path)?;
        let mut statement = connection.prepare(
            "SELECT position, type, subject, time, data FROM events WHERE position > ?1
             ORDER BY position",
        )?;
        let mut rows = statement.query([self.after()])?;
        while let Some(row) = rows.next()? {
            let (time, data): (String, String) = (row.get(3)?, row.get(4)?);
            self.take((row.get(0)?, row.get(1)?, row.get(2)?, &time, &data))?;
        }
        Ok(())
    }

    /// What SQLite finds wrong with the file.
    pub fn damage(&self) -> Result<Option<String>, Fault> {
        let Place::File(path) = &self.place else {
            return Ok(None);
        };
        let verdict: String =
            open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok((verdict != "ok").then_some(verdict))
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}
