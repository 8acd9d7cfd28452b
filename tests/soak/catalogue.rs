//! All events that the daemon ever committed, read out of its state file while
//! it runs.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::Fault;

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

/// The events so far.
#[derive(Debug)]
pub struct Catalogue {
    path: PathBuf,
    pub events: Vec<Committed>,
}

impl Catalogue {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            events: Vec::new(),
        }
    }

    /// Reads on, as anybody may who has `sqlite3`. Whether it can be read at
    /// this very moment is no matter: it is tried again.
    pub fn read(&mut self) -> rusqlite::Result<()> {
        let connection = open(&self.path)?;
        let mut statement = connection.prepare(
            "SELECT position, type, subject, time, data FROM events WHERE position > ?1
             ORDER BY position",
        )?;
        let after = self.events.last().map_or(0, |event| event.sequence);
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let time: String = row.get(3)?;
            let data: String = row.get(4)?;
            let data: Value = serde_json::from_str(&data).unwrap();
            self.events.push(Committed {
                sequence: row.get(0)?,
                kind: row.get(1)?,
                subject: row.get(2)?,
                time: time.parse().unwrap(),
                source: data["source"].as_str().unwrap_or_default().to_owned(),
                state: data["metadata"]["state"].as_i64(),
            });
        }
        Ok(())
    }

    /// What SQLite finds wrong with the file.
    pub fn damage(&self) -> Result<Option<String>, Fault> {
        let verdict: String =
            open(&self.path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok((verdict != "ok").then_some(verdict))
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}
