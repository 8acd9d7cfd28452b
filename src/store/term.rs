//! Computes the term of a start.

use chrono::{DateTime, TimeDelta, Utc};

/// How far the clocks of two machines may lie apart: each may differ by a minute from the
/// API's clock before that one is used instead.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(2);

/// The clock that a term begins above, at `now` by this machine's clock. If commits were
/// lost, the stored term is not the last one: that was chosen by another machine's clock.
pub(super) fn clock(now: DateTime<Utc>, commits_lost: bool) -> DateTime<Utc> {
    match commits_lost {
        true => now.checked_add_signed(CLOCKS_APART).unwrap_or(now),
        false => now,
    }
}

/// The term of a start at `now` on a store whose last term and position these
/// are: above both, and above the wall clock in milliseconds since 1970.
///
/// The clock keeps terms growing where the stored one was lost or replaced by
/// an older copy, and two starts on new files apart. The position counts because
/// events may have been made under a term that the API's clock raised: both are
/// about as high as that clock, in milliseconds and in microseconds.
pub(super) fn next_term(last: u64, position: u64, now: DateTime<Utc>) -> u64 {
    let clock = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    let clock = if clock <= LATEST_CLOCK { clock } else { 0 };
    clock.max(last + 1).max(position / 1000 + 1)
}

/// 2200-01-01. A clock that shows more is not used: the term must stay a number
/// that JSON readers can hold.
const LATEST_CLOCK: u64 = 7_258_118_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn a_term_is_above_the_last_one_the_clock_and_every_event() {
        assert_eq!(next_term(0, 0, at(5000)), 5000);
        assert_eq!(next_term(5000, 0, at(4000)), 5001);
        assert_eq!(next_term(5000, 9_000_999, at(4000)), 9001);
        assert_eq!(next_term(7, 12, at(-1)), 8);
        assert_eq!(next_term(7, 12, DateTime::<Utc>::MAX_UTC), 8);
    }

    #[test]
    fn where_commits_were_lost_a_term_is_above_what_a_clock_two_minutes_ahead_has_chosen() {
        let lost = next_term(0, 0, at(120_000));
        assert!(next_term(0, 0, clock(at(1), true)) > lost);
        assert_eq!(clock(at(1), false), at(1));
        assert_eq!(
            clock(DateTime::<Utc>::MAX_UTC, true),
            DateTime::<Utc>::MAX_UTC
        );
    }
}
