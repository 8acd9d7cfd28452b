//! What a schedule must be once the world has come to rest.

use super::oracle::is_long_over;
use super::phases;
use super::upstream::id;
use super::world::{World, at};
use dispatchd::engine::Schedule;
use dispatchd::model::{CancelReason, Entry};

fn withdrawn(entry: &Entry) -> bool {
    entry.cancel_reason == Some(CancelReason::Withdrawn)
}

/// The schedule, which was `before` when a good poll began, is what the upstream
/// says twenty seconds later. What is over is not asked for (rule R3), so of that only what
/// is listed counts.
pub fn assert_settled(world: &World, before: &Schedule) {
    for id in (0..3).map(id) {
        let truth = world.upstream().tells(&id);
        let listed = world.upstream().lists(&id);
        let known = before.get(&id);
        let was_live = known.as_ref().is_some_and(|entry| !entry.phase.is_over());
        match (world.schedule.get(&id), truth) {
            (Some(entry), Some(truth)) if listed || was_live => {
                assert_eq!(*entry.dispatch, truth);
                assert!(!withdrawn(&entry), "{id} is there");
                let soon = at(world.now() + 60);
                assert!(!entry.started || entry.dispatch.start_time <= soon);
                assert!(!entry.ended || entry.dispatch.end_time.is_some_and(|end| end <= soon));
            }
            (Some(entry), None) if was_live => {
                assert!(withdrawn(&entry), "{id} is gone");
            }
            (None, truth) => {
                assert!(!was_live, "{id} was dropped while it was live");
                let too_old = truth.is_none_or(|truth| is_long_over(&truth, world.now()));
                assert!(!listed || (known.is_none() && too_old), "{id} is missing");
            }
            _ => {}
        }
    }
    phases::follow_phases(&world.steps, |step, entry, passed| {
        let right = passed.phases(step.now).contains(&entry.phase);
        assert!(right || withdrawn(entry), "{passed:?} {entry:?}");
    });
}
