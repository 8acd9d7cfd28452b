//! What PostgreSQL alone can do to a store.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::store::tests::cluster::{Cluster, wait_for};
use crate::store::tests::{at, batch, candidate, postgresql};
use crate::store::{LeaseStore, StoreHandle};

#[path = "../../../tests/postgres/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod proxy;
use proxy::{Mode, Proxy};

const ORIGIN: &str = "http://api";

fn target(url: &str) -> PostgresTarget {
    PostgresTarget::parse(url, None).unwrap()
}

/// A database, led by `a`. Reached by way of `port`, if that is given.
fn led(cluster: &Cluster, schema: &str, port: Option<u16>) -> (Postgres, PostgresStore) {
    let url = cluster.url_at(port.unwrap_or(cluster.port()), schema);
    let database = Postgres::open(&target(&url), ORIGIN).unwrap();
    let mut lease = database.lease();
    let term = lease.take_over(None, &candidate("a"), at(1)).unwrap();
    let store = database.store(term.unwrap(), "a").unwrap();
    (database, store)
}

fn refusal(url: &str) -> String {
    Postgres::open(&target(url), ORIGIN)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_written_or_not_and_never_sent_again() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let proxy = Proxy::start(cluster.port());
    let (_, mut store) = led(cluster, &schema, Some(proxy.port()));
    let first = batch(&store.load().unwrap(), "first");
    proxy.set(Mode::CutAfterCommit);
    assert!(matches!(store.commit(&first), Err(StoreError::Unknown(_))));
    let next = batch(&Stored::default(), "next");
    assert!(
        matches!(store.commit(&next), Err(StoreError::Unknown(_))),
        "nothing is written before it is known"
    );
    store.settle().unwrap();
    assert_eq!(store.load().unwrap().revision, 1, "it was written");

    let second = batch(&store.load().unwrap(), "second");
    proxy.set(Mode::CutBeforeCommit);
    assert!(matches!(store.commit(&second), Err(StoreError::Unknown(_))));
    let settled = store.settle();
    assert!(
        matches!(settled, Err(StoreError::Database { .. })),
        "{settled:?}"
    );
    assert_eq!(store.load().unwrap().revision, 1, "it was not written");
    store.commit(&second).unwrap();
    assert_eq!(store.load().unwrap().revision, 2);
}

#[tokio::test]
async fn whoever_waits_for_a_commit_is_told_once_it_is_known() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let proxy = Proxy::start(cluster.port());
    let port = proxy.port();
    let made = tokio::task::spawn_blocking(move || {
        let (database, mut store) = led(cluster, &schema, Some(port));
        let stored = store.load().unwrap();
        (database, store, stored)
    });
    let (database, store, stored) = made.await.unwrap();
    let (_, handle) = StoreHandle::start(store, database.reader()).unwrap();
    proxy.set(Mode::CutAfterCommit);
    handle.commit(Box::new(batch(&stored, "a"))).await.unwrap();
    assert_eq!(handle.events(0, 10).await.unwrap().len(), 1);
}

#[test]
fn a_connection_that_the_server_has_closed_meanwhile_is_made_anew_and_nobody_notices() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, mut store) = led(cluster, &schema, None);
    let mut reader = database.reader();
    commit_one(&mut store, "a");
    assert_eq!(reader.events(0, 10).unwrap().len(), 1);
    end_connections(cluster, &schema);
    commit_one(&mut store, "b");
    let link = reader.link.as_ref().unwrap();
    let own = link.run(Duration::from_secs(5), |client| {
        client.query_one("SELECT pg_backend_pid()", &[])
    });
    let pid: i32 = own.unwrap().get(0);
    cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    assert_eq!(reader.events(0, 10).unwrap().len(), 2);
}

fn commit_one(store: &mut PostgresStore, id: &str) {
    let stored = store.load().unwrap();
    store.commit(&batch(&stored, id)).unwrap();
}

/// Ends all connections that have used the tables in `schema`.
fn end_connections(cluster: &Cluster, schema: &str) {
    cluster.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'dispatchd'
         AND pid IN (SELECT unnest(pids) FROM {schema}.leader)"
    ));
}

#[test]
fn an_older_connection_of_the_leader_commits_no_more() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, mut older) = led(cluster, &schema, None);
    let term = older.holder.term;
    let mut newer = database.store(term, "a").unwrap();
    let next = batch(&newer.load().unwrap(), "a");
    assert!(matches!(older.commit(&next), Err(StoreError::Fenced)));
    newer.commit(&next).unwrap();
}

#[test]
fn a_session_that_was_asked_for_and_given_up_bars_no_later_one() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (_, mut store) = led(cluster, &schema, None);
    let holder = store.holder.clone();
    let given_up = Link::connect(&store.target).unwrap();
    let limit = Duration::from_secs(5);
    let seen = given_up.run(limit, |client| session::seen(client, &holder));
    let seen = seen.unwrap().unwrap();
    store.begin_session().unwrap();
    // What was sent before that arrives now.
    let late = given_up.run(limit, |client| session::raise(client, &holder, seen.number));
    assert_eq!(late.unwrap(), None);
    commit_one(&mut store, "a");
}

#[test]
fn a_leader_that_stopped_in_the_middle_of_a_commit_holds_up_the_take_over_for_three_seconds_at_most()
 {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, mut store) = led(cluster, &schema, None);
    let stored = store.load().unwrap();
    let link = store.link.as_ref().unwrap();
    let holder = store.holder.clone();
    // As in the middle of a commit, and then nothing more.
    link.run(Duration::from_secs(5), |client| async move {
        client.batch_execute("BEGIN").await?;
        let lock = "SELECT 1 FROM leader WHERE holder = $1 FOR SHARE";
        client.query_one(lock, &[&holder.holder]).await
    })
    .unwrap();
    let mut lease = database.lease();
    let watched = lease.look().unwrap();
    let clock = SystemClock::new();
    let begun = clock.now().mono;
    let term = lease.take_over(watched.as_ref(), &candidate("b"), at(2));
    let took = clock.now().mono - begun;
    let term = term.unwrap().unwrap();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let refused = store.commit(&batch(&stored, "a"));
    assert!(refused.is_err(), "its connection is gone");
    let refused = store.commit(&batch(&stored, "a"));
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    let mut next = database.store(term, "b").unwrap();
    let stored = next.load().unwrap();
    next.commit(&batch(&stored, "b")).unwrap();
}

#[test]
fn a_database_put_back_to_an_older_state_under_way_takes_no_commits() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, mut store) = led(cluster, &schema, None);
    // One daemon that stands by has seen the commits, and one has not.
    let standby = Postgres::open(&target(&cluster.url(&schema)), ORIGIN).unwrap();
    let mut standby = standby.lease();
    commit_one(&mut store, "a");
    standby.look().unwrap();
    let lost = || cluster.sql(&format!("SELECT commits_lost FROM {schema}.leader"));
    cluster.sql(&format!(
        "UPDATE {schema}.daemon SET commits = 0, revision = 0"
    ));
    assert_eq!(lost(), "f");
    end_connections(cluster, &schema);
    let refused = store.commit(&batch(&store_loaded_as(1), "b"));
    assert!(
        matches!(refused, Err(StoreError::Replaced(_))),
        "{refused:?}"
    );
    assert_eq!(
        lost(),
        "t",
        "the leader has noted it for whoever comes next"
    );
    cluster.sql(&format!("UPDATE {schema}.leader SET commits_lost = false"));
    let watched = standby.look().unwrap();
    let taken = standby.take_over(watched.as_ref(), &candidate("b"), at(2));
    assert!(taken.unwrap().is_some());
    assert_eq!(lost(), "t", "the daemon that stood by knows better");
    assert!(matches!(
        store.commit(&batch(&store_loaded_as(1), "b")),
        Err(StoreError::Fenced)
    ));
    let mut lease = database.lease();
    let watched = lease.look().unwrap();
    let taken = lease.take_over(watched.as_ref(), &candidate("a"), at(3));
    let mut store = database.store(taken.unwrap().unwrap(), "a").unwrap();
    cluster.sql(&format!("UPDATE {schema}.leader SET timeline = '00000009'"));
    store.link = None;
    let refused = store.commit(&batch(&store_loaded_as(1), "b"));
    assert!(
        matches!(refused, Err(StoreError::Replaced(_))),
        "{refused:?}"
    );
}

#[test]
fn at_another_server_a_leader_is_not_renewed_and_what_was_given_back_is_watched_first() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, _) = led(cluster, &schema, None);
    let mut lease = database.lease();
    let row = lease.look().unwrap().unwrap();
    let (term, holder) = (row.term, row.holder);
    assert!(lease.renew(term, &holder).unwrap());
    let is = |timeline: &str| {
        let sql = format!("UPDATE {schema}.leader SET timeline = '{timeline}'");
        cluster.sql(&sql);
    };
    let timeline = cluster.sql(&format!("SELECT timeline FROM {schema}.leader"));
    is("00000009");
    assert!(!lease.renew(term, &holder).unwrap());
    is(&timeline);
    assert!(lease.give_back(term, &holder).unwrap());
    assert!(lease.look().unwrap().unwrap().given_back);
    is("00000009");
    // Another one may have taken it since, of which this server does not know.
    let watched = lease.look().unwrap();
    assert!(!watched.as_ref().unwrap().given_back);
    let taken = lease.take_over(watched.as_ref(), &candidate("b"), at(2));
    assert!(taken.unwrap().is_some(), "after five seconds");
}

fn store_loaded_as(revision: u64) -> Stored {
    Stored {
        revision,
        ..Stored::default()
    }
}

#[test]
fn two_daemons_that_start_at_once_on_an_empty_database_make_it_once() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let url = cluster.url(&schema);
    let (sender, opened) = mpsc::channel();
    for _ in 0..4 {
        let (url, sender) = (url.clone(), sender.clone());
        thread::spawn(move || {
            let opened = Postgres::open(&target(&url), ORIGIN);
            let _ = sender.send(opened.map(|database| database.store_id));
        });
    }
    drop(sender);
    let ids: Vec<Arc<str>> = opened.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

#[test]
fn a_database_that_cannot_be_used_is_refused_with_what_to_do() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let url = cluster.url(&schema);
    let database = url.replace("/postgres?", "/nothing?");
    let message = refusal(&database);
    assert!(message.contains("create the database"), "{message}");

    cluster.sql(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.other (a int)"
    ));
    let message = refusal(&url);
    assert!(message.contains("tables of something else"), "{message}");
    assert!(message.contains("search_path"), "{message}");
    cluster.sql(&format!("DROP SCHEMA {schema} CASCADE"));

    Postgres::open(&target(&url), ORIGIN).unwrap();
    let other = Postgres::open(&target(&url), "http://other").unwrap_err();
    assert!(matches!(other, OpenError::OtherOrigin { .. }), "{other}");

    cluster.sql(&format!(
        "UPDATE {schema}.schema_version SET version = 9, compatible = 1"
    ));
    Postgres::open(&target(&url), ORIGIN).unwrap();
    cluster.sql(&format!(
        "UPDATE {schema}.schema_version SET compatible = 9"
    ));
    let newer = Postgres::open(&target(&url), ORIGIN).unwrap_err();
    assert!(matches!(newer, OpenError::Newer { .. }), "{newer}");

    cluster.sql(&format!("CREATE ROLE nobody_{schema} LOGIN"));
    let message = refusal(
        &cluster
            .url(&format!("x{schema}"))
            .replace("tester", &format!("nobody_{schema}")),
    );
    assert!(message.contains("GRANT CREATE"), "{message}");

    let tls = cluster.url(&schema).replace("disable", "verify-full");
    let message = refusal(&tls);
    assert!(message.contains("sslmode=disable"), "{message}");

    let closed = url.replace(&format!(":{}", cluster.port()), ":1");
    let away = Postgres::open(&target(&closed), ORIGIN).unwrap_err();
    assert!(matches!(away, OpenError::Unreachable { .. }), "{away}");
}

#[test]
fn ids_with_characters_that_postgresql_cannot_store_come_back_as_they_were() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (database, mut store) = led(cluster, &schema, None);
    let stored = store.load().unwrap();
    let mut odd = batch(&stored, "a");
    for event in &mut odd.events {
        event.event_type = "site.curtail".into();
        event.subject = "a\0b\\0c".into();
    }
    store.commit(&odd).unwrap();
    let events = database.reader().newest_site_events().unwrap();
    assert_eq!(&*events[0].subject, "a\0b\\0c");
}

#[test]
fn while_the_server_is_away_nothing_is_written_and_afterwards_commits_go_on() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let (_, mut store) = led(&cluster, "away", None);
    commit_one(&mut store, "a");
    let next = batch(&store.load().unwrap(), "b");
    cluster.stop("INT");
    for _ in 0..2 {
        let refused = store.commit(&next);
        assert!(
            matches!(refused, Err(StoreError::Database { .. })),
            "{refused:?}"
        );
    }
    cluster.start_again();
    store.commit(&next).unwrap();
    assert_eq!(store.load().unwrap().revision, 2);
}

#[test]
fn a_commit_reads_no_table_whole_however_many_rows_there_are() {
    let Some((cluster, schema)) = postgresql() else {
        return;
    };
    let (_, mut store) = led(cluster, &schema, None);
    let mut stored = store.load().unwrap();
    // The server makes the plans that it keeps while the tables are almost empty.
    for n in 0..300 {
        let next = batch(&stored, &format!("d{n}"));
        store.commit(&next).unwrap();
        stored.revision = next.revision;
        stored.position += 1;
    }
    // With its end the connection hands in what it has counted.
    drop(store);
    let tables = format!("FROM pg_stat_user_tables WHERE schemaname = '{schema}'");
    let inserted = format!("SELECT n_tup_ins {tables} AND relname = 'dispatches'");
    assert!(wait_for(|| cluster.sql(&inserted) == "300"));
    let read_whole = cluster.sql(&format!(
        "SELECT relname || ' ' || seq_tup_read {tables}
         AND relname IN ('dispatches', 'history', 'states', 'events', 'sites')
         AND seq_tup_read > 0"
    ));
    assert_eq!(read_whole, "");
}
