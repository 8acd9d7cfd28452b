//! When commands had to be given, and which answers told a new state.

use super::*;
use crate::engine::Cause;
use crate::model::{DispatchId, SiteId, SiteState};
use crate::store::tests::{at, entry};

/// The times of a command because of a dispatch from 10 to 20, which `changed` alters
/// before, with a lead of 2 seconds.
fn times(
    kind: SiteChangeKind,
    source: Source,
    now: i64,
    changed: impl Fn(&mut Entry),
) -> (DateTime<Utc>, DateTime<Utc>) {
    let mut of = entry("a");
    changed(&mut of);
    let schedule = Schedule::restore(vec![of], 1);
    let change = SiteChange {
        site: Arc::new(SiteState::unknown(SiteId::new("s").unwrap(), at(0))),
        kind,
        source,
        cause: Cause::Dispatch(DispatchId::new("a").unwrap()),
        unconditional: false,
    };
    let mut origins = Origins::new(&schedule, Duration::from_secs(2), at(now));
    let origin = origins.of(&change).unwrap();
    assert_eq!(Some(&origin.cause), change.cause.dispatch());
    assert!(
        Arc::ptr_eq(&origin, &origins.of(&change).unwrap()),
        "shared"
    );
    (origin.due, origin.known)
}

fn as_it_is(_: &mut Entry) {}

#[test]
fn what_the_clock_brings_is_due_by_the_schedule_and_was_known_before() {
    let curtail = times(SiteChangeKind::Curtail, Source::Timer, 8, as_it_is);
    assert_eq!(curtail, (at(8), at(8)), "the lead counts");
    let late = times(SiteChangeKind::Curtail, Source::Timer, 15, as_it_is);
    assert_eq!(late, (at(8), at(8)), "noticed late, after a restart");
    let release = times(SiteChangeKind::Release, Source::Timer, 21, as_it_is);
    assert_eq!(release, (at(20), at(20)));
    let adjust = times(SiteChangeKind::Adjust, Source::Timer, 9, as_it_is);
    assert_eq!(adjust, (at(8), at(8)), "another dispatch holds the site");
}

#[test]
fn what_an_answer_brings_late_is_known_from_then_on() {
    for source in [Source::Webhook, Source::Poll] {
        let curtail = times(SiteChangeKind::Curtail, source, 15, as_it_is);
        assert_eq!(curtail, (at(8), at(15)));
        let release = times(SiteChangeKind::Release, source, 25, as_it_is);
        assert_eq!(release, (at(20), at(25)));
        let adjust = times(SiteChangeKind::Adjust, source, 15, as_it_is);
        assert_eq!(adjust, (at(15), at(15)));
    }
}

#[test]
fn what_is_called_off_or_moved_ahead_of_its_time_is_due_at_once() {
    let cancelled = times(SiteChangeKind::Release, Source::Webhook, 15, |entry| {
        entry.cancel_reason = Some(CancelReason::Unauthorized);
    });
    assert_eq!(cancelled, (at(15), at(15)));
    let no_longer_named = times(SiteChangeKind::Release, Source::Poll, 15, as_it_is);
    assert_eq!(no_longer_named, (at(15), at(15)));
    let open = times(SiteChangeKind::Release, Source::Poll, 15, |entry| {
        let mut dispatch = (*entry.dispatch).clone();
        dispatch.end_time = None;
        entry.dispatch = Arc::new(dispatch);
    });
    assert_eq!(open, (at(15), at(15)));
    let by_hand = times(SiteChangeKind::Adjust, Source::Operator, 15, as_it_is);
    assert_eq!(by_hand, (at(15), at(15)));
}

#[test]
fn a_dispatch_that_has_gone_is_due_at_once_and_an_order_belongs_to_none() {
    let schedule = Schedule::default();
    let mut change = SiteChange {
        site: Arc::new(SiteState::unknown(SiteId::new("s").unwrap(), at(0))),
        kind: SiteChangeKind::Curtail,
        source: Source::Poll,
        cause: Cause::Dispatch(DispatchId::new("gone").unwrap()),
        unconditional: false,
    };
    let mut origins = Origins::new(&schedule, Duration::ZERO, at(3));
    let origin = origins.of(&change).unwrap();
    assert_eq!((origin.due, origin.known), (at(3), at(3)));
    change.cause = Cause::Operator("maintenance".into());
    assert_eq!(origins.of(&change), None);
}
