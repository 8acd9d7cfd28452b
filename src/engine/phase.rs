//! Computes the phase of a dispatch at a given time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{CancelReason, Dispatch, Entry, Phase};

/// How far ahead a time must be before an answer undoes that it has passed
/// (rule R4).
const FAR_AHEAD: TimeDelta = TimeDelta::minutes(1);

/// Whether `time` is so far ahead of `now` that it can only have passed on a clock
/// that was ahead.
pub(super) fn is_far_ahead(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    time - now > FAR_AHEAD
}

/// Whether a start or an end of `entry` has passed that is far ahead of `now`.
pub(super) fn passed_too_early(entry: &Entry, now: DateTime<Utc>) -> bool {
    let end = entry.dispatch.end_time;
    (entry.started && is_far_ahead(entry.dispatch.start_time, now))
        || (entry.ended && end.is_some_and(|end| is_far_ahead(end, now)))
}

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
    /// clock may have fallen back. Only an answer by which the clock is right now
    /// undoes what passed while the clock was ahead (rule R4).
    pub fn since(
        before: &Entry,
        dispatch: &Dispatch,
        now: DateTime<Utc>,
        clock_agrees: bool,
    ) -> Self {
        let fresh = Self::at(dispatch, now);
        let undone = |time| clock_agrees && is_far_ahead(time, now);
        let start_kept = before.started
            && dispatch.start_time <= before.dispatch.start_time
            && !undone(dispatch.start_time);
        let end_kept = before.ended
            && match (dispatch.end_time, before.dispatch.end_time) {
                (Some(end), Some(known)) => end <= known && !undone(end),
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
