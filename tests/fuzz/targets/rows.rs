//! Rows of a state file, one value a line: those of `dispatches` in the order of
//! its columns behind the key, the `state` of a site, and an event's time and
//! data. A file that loads is written and loads again as the same.
#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use dispatchd::store::{Batch, SqliteStore, Store, StoreReader};
use libfuzzer_sys::fuzz_target;
use rusqlite::{Connection, ToSql};

/// In memory, where there is such a place: disks are slow.
fn file() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    let folder = if shm.is_dir() { shm } else { std::env::temp_dir() };
    let file = folder.join(format!("dispatchd-fuzz-rows-{}.db", std::process::id()));
    for more in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(format!("{}{more}", file.display()));
    }
    file
}

thread_local! {
    static OPEN: RefCell<(SqliteStore, Connection)> = RefCell::new({
        let file = file();
        let store = SqliteStore::open(&file, "http://127.0.0.1:1", Default::default()).expect("a store");
        (store, Connection::open(&file).expect("a second way in"))
    });
}

/// Numbers where the columns want numbers, and text of any bytes elsewhere.
fn columns<'l>(lines: &[&'l [u8]]) -> Vec<Box<dyn ToSql + 'l>> {
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| -> Box<dyn ToSql> {
            let number = std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok());
            match index {
                3 | 4 | 11 | 12 => Box::new(number.unwrap_or(0)),
                2 | 8 if *line == b"-" => Box::new(None::<&[u8]>),
                _ => Box::new(*line),
            }
        })
        .collect()
}

fn put(raw: &mut Connection, lines: &[&[u8]]) -> rusqlite::Result<()> {
    let columns = columns(lines);
    let columns: Vec<&dyn ToSql> = columns.iter().map(AsRef::as_ref).collect();
    let rows = raw.transaction()?;
    rows.execute_batch("DELETE FROM dispatches; DELETE FROM sites; DELETE FROM events")?;
    rows.prepare_cached(
        "INSERT INTO dispatches VALUES (1, CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS TEXT), ?4,
         ?5, CAST(?6 AS TEXT), CAST(?7 AS TEXT), CAST(?8 AS TEXT), CAST(?9 AS TEXT),
         CAST(?10 AS TEXT), CAST(?11 AS TEXT), ?12, ?13, CAST(?14 AS TEXT), NULL)",
    )?
    .execute(&columns[..14])?;
    if let Some(state) = columns.get(14) {
        rows.prepare_cached("INSERT INTO sites VALUES ('s1', CAST(?1 AS TEXT))")?
            .execute([state])?;
    }
    if let Some(event) = columns.get(15..17) {
        rows.prepare_cached(
            "INSERT INTO events (position, type, subject, time, data) VALUES (1, 'site.curtail', 's1', CAST(?1 AS TEXT), CAST(?2 AS TEXT))",
        )?
        .execute(event)?;
    }
    rows.commit()
}

fuzz_target!(|input: &[u8]| {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    if lines.len() < 14 {
        return;
    }
    OPEN.with_borrow_mut(|(store, raw)| {
        if put(raw, &lines).is_err() {
            return;
        }
        let mut reader = store.reader().expect("a reader");
        let _ = reader.newest_site_events();
        let Ok(loaded) = store.load() else { return };
        let batch = Batch {
            term: loaded.term,
            expected_revision: loaded.revision,
            revision: loaded.revision,
            entries: loaded.entries.iter().cloned().map(Arc::new).collect(),
            sites: loaded.sites.iter().cloned().map(Arc::new).collect(),
            ..Batch::default()
        };
        store.commit(&batch).expect("what was loaded can be written");
        let again = store.load().expect("what was written can be loaded");
        assert_eq!(again.entries, loaded.entries);
        assert_eq!(again.sites, loaded.sites);
    });
});
