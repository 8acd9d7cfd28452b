//! A daemon that starts again on what another one stored.

use super::*;
use crate::delivery::Announced;
use crate::store::{Attempted, SinkState, StoreError};

/// Commits what waits to be committed, until nothing does. Gives the batches.
fn commit_all(shell: &mut Shell, store: &mut MemoryStore) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = shell.committing().cloned() {
        store.commit(&batch).unwrap();
        batches.push(batch);
        shell.committed(0);
    }
    batches
}

/// If the route were kept before, a crash in between would leave the site untold for good.
#[test]
fn a_new_route_is_kept_by_the_commit_that_tells_its_sites_also_after_a_start_that_is_behind() {
    let now = start();
    let settings = settings(Duration::from_secs(3600), 240);
    let mut store = MemoryStore::new("test", now.wall);
    let mut before = Shell::on(settings.clone(), store.load().unwrap(), vec![], now);
    let poll = before.asked();
    commit_all(&mut before, &mut store);
    let starts = [("here", -1), ("p", 20), ("q", 21), ("r", 22)];
    let dispatches = starts.map(|(site, seconds)| curtails(&before, site, seconds));
    before.step(10, [list(poll, &dispatches)]);
    let batches = commit_all(&mut before, &mut store);
    let mut events = batches.iter().flat_map(|batch| &batch.events);
    let curtail = events.find(|event| &*event.subject == "here").unwrap();

    let now = Now {
        wall: now.wall + TimeDelta::seconds(60),
        ..now
    };
    let stored = store.load().unwrap();
    let last = stored.position;
    let other_route = SinkState {
        done: last,
        route: Some("another route".into()),
        ..SinkState::default()
    };
    let state = Some(other_route);
    let mut outbox = Outbox::new(&Named("sink"), &Route::default(), state, last, 0, now);
    outbox.offer_site(&Announced::new(curtail), now);
    let settings = Settings {
        rules: Rules {
            chunk: 1,
            ..settings.rules
        },
        ..settings
    };
    let mut shell = Shell::on(settings, stored, vec![outbox], now);
    // Until that is stored, the site's new controller is to be told by hand.
    let what = "the disk is full".into();
    shell.step(10, [Input::Committed(Err(StoreError::Damaged { what }))]);
    let here = ("site.adjust".to_owned(), "here".to_owned());
    assert!(shell.due().contains(&here), "{:?}", shell.due());
    shell.step(1100, []);
    let batches = commit_all(&mut shell, &mut store);
    let tells = |batch: &Batch| batch.events.iter().any(|event| &*event.subject == "here");
    let keeps = |batch: &Batch| batch.sinks.iter().any(|sink| sink.route.is_some());
    let told = batches.iter().position(tells).expect("it is told");
    assert!(told > 0, "the starts come first");
    assert_eq!(batches.iter().position(keeps), Some(told));
}

/// Its dispatch is over: the commit that says so takes long, and does not fail.
#[test]
fn a_command_of_before_the_start_waits_for_a_commit_however_long_it_takes() {
    let now = start();
    let settings = settings(Duration::from_secs(3600), 240);
    let mut store = MemoryStore::new("test", now.wall);
    let mut before = Shell::on(settings.clone(), store.load().unwrap(), vec![], now);
    let poll = before.asked();
    commit_all(&mut before, &mut store);
    let short = Dispatch {
        end_time: Some(now.wall + TimeDelta::seconds(5)),
        ..curtails(&before, "plant", -1)
    };
    before.step(10, [list(poll, &[short])]);
    let batches = commit_all(&mut before, &mut store);
    let mut events = batches.iter().flat_map(|batch| &batch.events);
    let curtail = events.find(|event| &*event.subject == "plant").unwrap();

    let now = Now {
        wall: now.wall + TimeDelta::seconds(60),
        ..now
    };
    let stored = store.load().unwrap();
    let last = stored.position;
    // It was attempted, and nobody knows what came of it.
    let attempted = Attempted {
        position: curtail.position,
        curtailed: true,
        acknowledged: false,
        held: false,
    };
    let state = SinkState {
        done: curtail.position - 1,
        attempted: [("plant".into(), attempted)].into(),
        ..SinkState::default()
    };
    let mut outbox = Outbox::new(&Named("sink"), &Route::default(), Some(state), last, 0, now);
    outbox.offer_site(&Announced::new(curtail), now);
    let mut shell = Shell::on(settings, stored, vec![outbox], now);
    for _ in 0..20 {
        shell.step(1_000, []);
        assert!(shell.attempts().is_empty());
    }
}
