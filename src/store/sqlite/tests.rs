//! Statements about the state file.

use std::path::PathBuf;

use super::schema::MIGRATIONS;
use super::*;
use crate::store::tests::batch;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.path(), "http://api", DateTime::UNIX_EPOCH)
    }

    /// Expects that opening fails, and that the file is as it was.
    fn refuses(&self) -> OpenError {
        let before = std::fs::read(self.path()).unwrap();
        let error = self.open().unwrap_err();
        assert_eq!(std::fs::read(self.path()).unwrap(), before, "touched");
        let text = error.to_string();
        assert!(text.contains("--state"), "{text}");
        error
    }

    fn edit(&self, sql: &str) {
        Connection::open(self.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }
}

#[test]
fn a_second_daemon_is_refused_while_the_first_one_runs() {
    let folder = Folder::new();
    let first = folder.open().unwrap();
    assert!(matches!(folder.open(), Err(OpenError::Locked { .. })));
    drop(first);
    folder.open().unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "precious notes").unwrap();
    assert!(matches!(folder.refuses(), OpenError::NotOurs { .. }));

    let folder = Folder::new();
    folder.edit("CREATE TABLE precious (note TEXT)");
    assert!(matches!(folder.refuses(), OpenError::NotOurs { .. }));
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open().unwrap());
    folder.edit("PRAGMA user_version = 999");
    assert!(matches!(
        folder.refuses(),
        OpenError::Newer { found: 999, .. }
    ));
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date_with_all_it_holds() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "dkmq")).unwrap();
    drop(store);
    // The same, as the first version kept it.
    folder.edit(&format!(
        "ALTER TABLE dispatches RENAME TO new_dispatches;
         ALTER TABLE history RENAME TO new_history;
         ALTER TABLE events RENAME TO new_events;
         CREATE TEMP TABLE old AS SELECT * FROM daemon;
         DROP TABLE daemon; DROP TABLE sites; DROP TABLE sinks;
         DROP TABLE settled_beyond; DROP TABLE retries; DROP TABLE told; DROP TABLE skipped;
         DROP TABLE states; DROP TABLE commands;
         {}
         INSERT INTO daemon SELECT * FROM old;
         INSERT INTO dispatches
         SELECT id, phase, cancel_reason, started, ended, first_seen, last_changed,
             last_confirmed, over_since, discovered_by, last_changed_by, asked_term,
             asked_count, dispatch FROM new_dispatches;
         INSERT INTO history
         SELECT id, revision, item FROM new_history JOIN new_dispatches ON key = new_history.dispatch
         UNION ALL SELECT id, created ->> 'revision', created FROM new_dispatches;
         INSERT INTO events SELECT position, type, subject, time, data FROM new_events;
         DROP TABLE new_history; DROP TABLE new_dispatches; DROP TABLE new_events;
         PRAGMA user_version = 1",
        MIGRATIONS[0],
    ));

    let mut store = folder.open().unwrap();
    let after = store.load().unwrap();
    assert_eq!((&after.id, after.position), (&stored.id, 1));
    assert_eq!(after.entries, [crate::store::tests::entry("dkmq")]);
    let mut reader = store.reader().unwrap();
    let mut lines = || {
        let lines = reader.history(after.entries[0].id()).unwrap();
        lines.iter().map(|line| line.revision).collect::<Vec<_>>()
    };
    assert_eq!(lines(), [1]);
    store.commit(&batch(&after, "dkmq")).unwrap();
    assert_eq!(lines(), [1, 2]);
    assert_eq!(store.load().unwrap().entries.len(), 1);
}

/// Takes out what the versions after the third have brought.
const SINCE_THE_THIRD: &str = "
         ALTER TABLE events DROP COLUMN term;
         ALTER TABLE events DROP COLUMN unconditional;
         ALTER TABLE settled_beyond DROP COLUMN upto;
         ALTER TABLE retries DROP COLUMN pause;
         DROP TABLE skipped;
         ALTER TABLE dispatches DROP COLUMN way;
         ALTER TABLE dispatches DROP COLUMN asked;
         ALTER TABLE dispatches DROP COLUMN answered;
         ALTER TABLE dispatches DROP COLUMN left_out;
         ALTER TABLE events DROP COLUMN due;
         ALTER TABLE events DROP COLUMN known;
         ALTER TABLE retries DROP COLUMN first_attempt;
         ALTER TABLE retries DROP COLUMN last_attempt;
         ALTER TABLE retries DROP COLUMN tries;
         DROP TABLE states; DROP TABLE commands;
         ALTER TABLE sinks DROP COLUMN route;";

#[test]
fn a_file_of_the_second_version_keeps_every_line_of_its_history_once() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    for _ in 0..3 {
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, "dkmq")).unwrap();
    }
    drop(store);
    // The same, as the second version kept it.
    folder.edit(&format!(
        "INSERT INTO history SELECT key, created ->> 'revision', created FROM dispatches;
         ALTER TABLE dispatches DROP COLUMN created;
         {SINCE_THE_THIRD}
         PRAGMA user_version = 2",
    ));

    let mut store = folder.open().unwrap();
    let id = store.load().unwrap().entries[0].id().clone();
    let lines = store.reader().unwrap().history(&id).unwrap();
    let lines: Vec<_> = lines.iter().map(|line| line.revision).collect();
    assert_eq!(lines, [1, 2, 3]);
}

#[test]
fn events_of_a_file_of_the_third_version_keep_their_ids_and_new_ones_carry_the_term() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "dkmq")).unwrap();
    drop(store);
    // The same, as the third version kept it.
    folder.edit(&format!(
        "{SINCE_THE_THIRD}
         PRAGMA user_version = 3",
    ));

    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "other")).unwrap();
    let events = store.reader().unwrap().events(0, 10).unwrap();
    let ids: Vec<_> = events
        .iter()
        .map(|event| (&*event.id, event.term))
        .collect();
    let (id, term) = (&stored.id, stored.term);
    assert_eq!(
        ids,
        [(&*format!("{id}-1"), 0), (&*format!("{id}-{term}-2"), term)]
    );
    assert!(
        !events[0].unconditional,
        "the third version had no such events"
    );
}

#[test]
fn a_file_of_another_api_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open().unwrap());
    let before = std::fs::read(folder.path()).unwrap();
    let error =
        SqliteStore::open(&folder.path(), "http://other", DateTime::UNIX_EPOCH).unwrap_err();
    assert!(matches!(error, OpenError::OtherOrigin { .. }));
    assert_eq!(std::fs::read(folder.path()).unwrap(), before);
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open().unwrap());
    let mut bytes = std::fs::read(folder.path()).unwrap();
    bytes[100..].fill(0xa5);
    std::fs::write(folder.path(), bytes).unwrap();
    assert!(matches!(folder.refuses(), OpenError::Damaged { .. }));
}

/// Why a file with one dispatch, `dkmq`, cannot be loaded after this statement.
fn damage(statement: &str) -> String {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "dkmq")).unwrap();
    drop(store);
    folder.edit(statement);
    folder.open().unwrap().load().unwrap_err().to_string()
}

#[test]
fn both_halves_of_the_schedule_are_loaded_and_a_row_that_cannot_be_read_is_named_in_either() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        let stored = store.load().unwrap();
        store.commit(&batch(&stored, id)).unwrap();
    }
    let loaded = store.load().unwrap().entries;
    let loaded: Vec<_> = loaded.iter().map(|entry| entry.id().as_str()).collect();
    assert_eq!(loaded, ids);
    drop(store);
    for id in ["d", "a"] {
        folder.edit(&format!(
            "UPDATE dispatches SET phase = 'asleep' WHERE id = '{id}'"
        ));
        let error = folder.open().unwrap().load().unwrap_err().to_string();
        assert!(error.contains(&format!("dispatch {id},")), "{error}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let error = damage("UPDATE dispatches SET phase = 'asleep'");
    assert!(
        error.contains("dkmq") && error.contains("asleep"),
        "{error}"
    );
}

#[test]
fn a_row_that_tells_of_another_dispatch_is_damage() {
    let error = damage("UPDATE dispatches SET id = 'other'");
    assert!(error.contains("dkmq") && error.contains("other"), "{error}");
}

#[test]
fn an_empty_file_becomes_a_state_file() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "").unwrap();
    folder.open().unwrap();
}

#[test]
fn commits_are_synced_through_a_write_ahead_log() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let pragma = |name| -> String {
        let value = store
            .connection
            .query_row(&format!("PRAGMA {name}"), [], |row| {
                row.get::<_, rusqlite::types::Value>(0)
            })
            .unwrap();
        format!("{value:?}")
    };
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
    assert_eq!(pragma("synchronous"), "Integer(2)");
}

/// The log was being copied into the file when the disk was full and the daemon killed.
#[test]
fn a_file_into_which_the_log_was_copied_by_half_is_read_with_its_log() {
    let (running, killed) = (Folder::new(), Folder::new());
    let mut store = running.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "a")).unwrap();
    let of = |folder: &Folder, end: &str| format!("{}{end}", folder.path().display());
    for end in ["", "-wal"] {
        std::fs::copy(of(&running, end), of(&killed, end)).unwrap();
    }
    // What the file has of the pages in the log is from neither state.
    let log = std::fs::read(of(&killed, "-wal")).unwrap();
    let mut file = std::fs::read(of(&killed, "")).unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let page_size = number(&log[8..]);
    let mut damaged = 0;
    for frame in log[32..].chunks(24 + page_size) {
        let page = number(frame);
        if page > 1 && page * page_size <= file.len() {
            file[(page - 1) * page_size..page * page_size].fill(7);
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    std::fs::write(of(&killed, ""), &file).unwrap();
    let probe = SqliteStore::probe(&killed.path(), "http://api").unwrap();
    assert_eq!(probe, Probe::Interrupted);
    SqliteStore::probe_sinks(&killed.path(), probe).unwrap();
    assert_eq!(std::fs::read(of(&killed, "")).unwrap(), file, "touched");
    assert_eq!(std::fs::read(of(&killed, "-wal")).unwrap(), log, "touched");
    assert_eq!(killed.open().unwrap().load().unwrap().entries.len(), 1);
}

/// A supervisor starts the daemon again, and nothing in its configuration is wrong.
#[test]
fn a_disk_that_is_full_is_a_failure_at_run_time_with_its_remedy() {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    let error = open::describe(
        std::path::Path::new("s.db"),
        &rusqlite::Error::SqliteFailure(full, None),
    );
    assert!(!error.is_configuration());
    assert!(error.to_string().contains("make room"), "{error}");
}

#[test]
fn a_file_that_was_removed_under_way_takes_no_more_commits() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    std::fs::remove_file(folder.path()).unwrap();
    assert!(matches!(
        store.commit(&batch(&stored, "a")),
        Err(StoreError::Removed(_))
    ));
}

#[test]
fn a_file_that_was_cut_short_under_way_takes_no_more_commits() {
    let folder = Folder::new();
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    std::fs::write(folder.path(), "").unwrap();
    assert!(matches!(
        store.commit(&batch(&stored, "a")),
        Err(StoreError::Removed(_))
    ));
}

#[test]
fn a_missing_folder_is_named_with_the_option() {
    let folder = Folder::new();
    let path = folder.0.path().join("none/state.db");
    let error = SqliteStore::open(&path, "http://api", DateTime::UNIX_EPOCH).unwrap_err();
    assert!(error.to_string().contains("--state"), "{error}");
}

#[test]
fn a_probe_tells_what_opening_would_and_leaves_no_trace() {
    let folder = Folder::new();
    let listing = || -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let files = std::fs::read_dir(folder.0.path())
            .unwrap()
            .map(Result::unwrap);
        let mut files: Vec<_> = files
            .map(|file| (file.file_name(), std::fs::read(file.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    let probe = |origin| {
        let before = listing();
        let probed = SqliteStore::probe(&folder.path(), origin);
        assert!(listing() == before, "touched");
        probed
    };
    assert_eq!(probe("http://api").unwrap(), Probe::Absent);
    let daemon = folder.open().unwrap();
    assert_eq!(probe("http://api").unwrap(), Probe::InUse);
    let other = probe("http://other");
    assert!(matches!(other, Err(OpenError::OtherOrigin { .. })));
    drop(daemon);
    assert_eq!(probe("http://api").unwrap(), Probe::Usable);
    folder.edit("PRAGMA user_version = 3");
    assert_eq!(probe("http://api").unwrap(), Probe::Older);
    let other = probe("http://other");
    assert!(matches!(other, Err(OpenError::OtherOrigin { .. })));
    folder.edit("PRAGMA user_version = 999");
    assert!(matches!(probe("http://api"), Err(OpenError::Newer { .. })));
    std::fs::write(folder.path(), "precious notes").unwrap();
    assert!(matches!(
        probe("http://api"),
        Err(OpenError::NotOurs { .. })
    ));
}

/// Opens a store, adds 3,000 old events behind the one of a known dispatch, and asks
/// for those up to 2,900 to go.
fn with_old_events(folder: &Folder) -> (SqliteStore, Batch) {
    let mut store = folder.open().unwrap();
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, "known")).unwrap();
    folder.edit(
        "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3001)
         INSERT INTO events (position, type, subject, time, data, term, unconditional)
         SELECT n,
             CASE n % 3 WHEN 0 THEN 'dispatch.updated' WHEN 1 THEN 'site.curtail' ELSE 'sync.stale' END,
             CASE WHEN n = 4 THEN 'alone' WHEN n % 6 = 0 THEN 'known' ELSE 's' || n % 5 END,
             '2000-01-01T00:00:00.000Z', '{}', 1, 0
         FROM numbers",
    );
    let unchanged = Batch {
        term: stored.term,
        expected_revision: 1,
        revision: 1,
        sync: Some(Default::default()),
        ..Batch::default()
    };
    store
        .commit(&Batch {
            forget_before: Some(DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000)),
            delivered: 2900,
            ..unchanged.clone()
        })
        .unwrap();
    (store, unchanged)
}

fn count(folder: &Folder, condition: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM events WHERE {condition}");
    let file = Connection::open(folder.path()).unwrap();
    file.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn old_events_go_a_few_at_a_time_and_commits_come_in_between() {
    let folder = Folder::new();
    let (mut store, unchanged) = with_old_events(&folder);
    let mut left = count(&folder, "true");
    assert_eq!(left, 3001, "a commit does not wait for them");
    while store.tidy().unwrap() {
        let now_left = count(&folder, "true");
        assert!(left - now_left <= 500, "{left} to {now_left}");
        left = now_left;
        store.commit(&unchanged).unwrap();
    }
    let stays = "position > 2900 OR subject IN ('known', 'alone')";
    assert_eq!(count(&folder, &format!("NOT ({stays})")), 0);
    assert_eq!(count(&folder, "position > 2900"), 101);
    assert_eq!(count(&folder, "subject = 'alone'"), 1, "a site's newest");
    assert_eq!(
        count(&folder, "subject = 'known' AND position <= 2900"),
        1 + 2900 / 6
    );
    assert!(!store.tidy().unwrap(), "nothing is left to do");
}

#[test]
fn a_daemon_that_was_replaced_lets_no_events_go() {
    let folder = Folder::new();
    let (mut store, _) = with_old_events(&folder);
    folder.edit("UPDATE daemon SET term = term + 1");
    assert!(matches!(store.tidy(), Err(StoreError::Fenced)));
    assert_eq!(count(&folder, "true"), 3001);
}

/// Files of every version exist: a step that was released is never edited.
#[test]
fn the_steps_that_were_released_are_what_they_were() {
    let hashes: Vec<String> = MIGRATIONS
        .iter()
        .map(|step| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(step.as_bytes())))
        .collect();
    let released = [
        "afbb3568d12465a3",
        "261ece10d258eee2",
        "4639c803b0b12568",
        "c08c792ed6061875",
        "6417df5eba47d2af",
        "d2d934960c2c6494",
        "941627c423d20e4e",
        "b4d3bccebd934bff",
    ];
    assert_eq!(hashes, released);
}
