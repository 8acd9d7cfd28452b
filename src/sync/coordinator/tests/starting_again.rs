//! A daemon that starts again on what another one stored.

use super::*;
use crate::delivery::Announced;
use crate::model::Event;
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

/// A daemon that curtails the site of the first of these dispatches, and ends. Gives its
/// store, and the command.
fn of_before(dispatches: impl FnOnce(&Shell) -> Vec<Dispatch>) -> (MemoryStore, Event) {
    let now = start();
    let mut store = MemoryStore::new("test", now.wall);
    let stored = store.load().unwrap();
    let mut before = Shell::on(hourly(), stored, vec![], now);
    let poll = before.asked();
    commit_all(&mut before, &mut store);
    let dispatches = dispatches(&before);
    before.step(10, [list(poll, &dispatches)]);
    let batches = commit_all(&mut before, &mut store);
    let mut events = batches.into_iter().flat_map(|batch| batch.events);
    let site = dispatches[0].sites[0].id.to_string();
    let curtail = events.find(|event| *event.subject == *site).unwrap();
    (store, curtail)
}

fn hourly() -> Settings {
    settings(Duration::from_secs(3600), 240)
}

/// The outbox of a sink that was told so much, and is to be told this.
fn outbox(state: SinkState, last: u64, curtail: &Event) -> Outbox {
    let now = later();
    let mut outbox = Outbox::new(&Named("sink"), &Route::default(), Some(state), last, 0, now);
    outbox.offer_site(&Announced::new(curtail), now);
    outbox
}

/// A minute after the start.
fn later() -> Now {
    Now {
        wall: start().wall + TimeDelta::seconds(60),
        ..start()
    }
}

/// If the route were kept before, a crash in between would leave the site untold for good.
#[test]
fn a_new_route_is_kept_by_the_commit_that_tells_its_sites_also_after_a_start_that_is_behind() {
    let (mut store, curtail) = of_before(|before| {
        let starts = [("here", -1), ("p", 20), ("q", 21), ("r", 22)];
        let dispatches = starts.map(|(site, seconds)| curtails(before, site, seconds));
        dispatches.to_vec()
    });
    let stored = store.load().unwrap();
    let last = stored.position;
    let other_route = SinkState {
        done: last,
        route: Some("another route".into()),
        ..SinkState::default()
    };
    let outbox = outbox(other_route, last, &curtail);
    let mut settings = hourly();
    settings.rules.chunk = 1;
    let mut shell = Shell::on(settings, stored, vec![outbox], later());
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
    let (mut store, curtail) = of_before(|before| {
        vec![Dispatch {
            end_time: Some(before.now.wall + TimeDelta::seconds(5)),
            ..curtails(before, "plant", -1)
        }]
    });
    let stored = store.load().unwrap();
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
    let outbox = outbox(state, stored.position, &curtail);
    let mut shell = Shell::on(hourly(), stored, vec![outbox], later());
    for _ in 0..20 {
        shell.step(1_000, []);
        assert!(shell.attempts().is_empty());
    }
}
