//! Finds a connection pooler, such as PgBouncer, that stands between a daemon and
//! PostgreSQL and does not give each connection a server process of its own.
//!
//! A daemon needs that: its settings, its prepared statements and the process ids by which
//! another daemon ends a connection that hangs all belong to one server process.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::connect::{Link, SETTINGS};
use super::target::PostgresTarget;
use super::{reach, read, refused};
use crate::store::OpenError;
use crate::store::error::DatabaseError;

/// What to do about it.
const REMEDY: &str = "this is a connection pooler, such as PgBouncer; name PostgreSQL itself";

/// Makes sure that a connection keeps what it was told, and that no two share a server
/// process.
///
/// # Errors
/// When there is such a pooler, or the server cannot be asked.
pub(super) fn check(target: &PostgresTarget, link: &Link) -> Result<(), OpenError> {
    let failed = |error: DatabaseError| refused(target, &error.to_string());
    for (name, asked) in settings(target) {
        let sql = format!("SHOW {name}");
        let found = link.run(read::LIMIT, |client| one_text(client, &sql));
        let found = found.map_err(failed)?;
        if found.as_deref() != Some(asked) {
            let found = found.unwrap_or_default();
            return Err(refused(
                target,
                &format!(
                    "the setting {name} of a connection is {found} and was to be {asked}; {REMEDY}"
                ),
            ));
        }
    }
    let other = reach(target)?;
    // Whether a pooler hands out the process that was used last or the one that was not
    // used for longest: in this order one of the two meets a process of the other.
    let mut processes: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for which in [0, 1, 1, 0] {
        let (link, seen) = match which {
            0 => (link, &mut processes[0]),
            _ => (&other, &mut processes[1]),
        };
        let process = link.run(read::LIMIT, |client| {
            one_text(client, "SELECT pg_backend_pid()")
        });
        seen.extend(process.map_err(failed)?);
    }
    let [ours, others] = &processes;
    let is_shared = ours.iter().any(|process| others.contains(process));
    let changes = processes
        .iter()
        .any(|seen| seen.windows(2).any(|pair| pair[0] != pair[1]));
    if is_shared || changes {
        return Err(refused(
            target,
            &format!("the server process behind a connection changes; {REMEDY}"),
        ));
    }
    Ok(())
}

/// The settings that each connection is made with, as the server names them.
fn settings(target: &PostgresTarget) -> impl Iterator<Item = (&'static str, &str)> {
    let own = [("search_path", &*target.schema)];
    own.into_iter().chain(SETTINGS)
}

/// The first cell of the first row. Asked so that a pooler has nothing to prepare.
async fn one_text(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
