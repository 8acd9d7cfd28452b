//! Where a dispatch stands at a given time.

use chrono::{DateTime, Utc};

use crate::model::{CancelReason, Dispatch, Entry, Phase};
use crate::simulation::defects::{self, Defect};

/// Which of a dispatch's times have been seen to pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub started: bool,
    pub ended: bool,
}

impl Passed {
    /// What has passed at `now`, for a dispatch of which nothing was known.
    pub fn at(dispatch: &Dispatch, now: DateTime<Utc>) -> Self {
        Self {
            started: dispatch.start_time <= now,
            ended: dispatch.end_time.is_some_and(|end| end <= now),
        }
    }

    /// What has passed at `now`, for a dispatch that stood as `before`.
    ///
    /// What once passed stays passed, unless the upstream moved it later: the
    /// clock may have fallen back (rule R4).
    pub fn since(before: &Entry, dispatch: &Dispatch, now: DateTime<Utc>) -> Self {
        let fresh = Self::at(dispatch, now);
        if defects::is(Defect::LatchForgotten) {
            return fresh;
        }
        let start_kept = before.started && dispatch.start_time <= before.dispatch.start_time;
        let end_kept = before.ended
            && match (dispatch.end_time, before.dispatch.end_time) {
                (Some(end), Some(known)) => end <= known,
                _ => false,
            };
        Self {
            started: fresh.started || start_kept,
            ended: fresh.ended || end_kept,
        }
    }
}

/// The phase of a dispatch that the API still knows, and why it is cancelled
/// if it is.
pub(super) fn phase(dispatch: &Dispatch, passed: Passed) -> (Phase, Option<CancelReason>) {
    let no_time_at_all = dispatch
        .end_time
        .is_some_and(|end| end <= dispatch.start_time);
    if !dispatch.authorized {
        (Phase::Cancelled, Some(CancelReason::Unauthorized))
    } else if passed.ended || no_time_at_all {
        (Phase::Ended, None)
    } else if passed.started {
        (Phase::Active, None)
    } else {
        (Phase::Scheduled, None)
    }
}
