//! Numbers events so that no number is used twice, whatever happened to the
//! state (rule R12).
//!
//! The state may have been lost, or replaced by an older copy. Then the stored
//! position says too little about the numbers that receivers have seen. So the
//! numbers of each term begin above the clock, in microseconds since 1970, and
//! grow by one from there: a term never makes an event a microsecond, so the next
//! one begins above it. Only a lost state together with a clock that was set back
//! can break this, and only if the API's `Date` does not give the clock away.

use chrono::{DateTime, TimeDelta, Utc};

/// The wall clock is taken for wrong when the API's differs by more than this.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(60);

/// How far the clocks of two machines may lie apart: each may differ so much from the
/// API's.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(2);

/// 2200-01-01. A clock that shows more is not used: numbers must stay below
/// 2^53, which JSON readers can hold, and 2^53 microseconds end in 2255.
const LATEST_CLOCK: u64 = 7_258_118_400_000_000;

/// The clocks that are known when an event is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// The machine's wall clock, UTC.
    pub wall: DateTime<Utc>,
    /// The API's clock, UTC, if an answer has shown it.
    pub api: Option<DateTime<Utc>>,
}

/// The clock above which the numbers of the term were raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Raised {
    #[default]
    Not,
    AboveWall,
    AboveApi,
}

/// Where the numbering of events stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbering {
    term: u64,
    position: u64,
    raised: Raised,
    /// Commits were lost: the last numbers were chosen by another machine's clock, and are
    /// above the stored position.
    commits_lost: bool,
}

impl Numbering {
    /// Goes on in `term` behind the stored `position`. The clock is read with the
    /// first event: by then the API's clock is known, if the state was lost.
    pub fn new(term: u64, position: u64) -> Self {
        Self {
            term,
            position,
            raised: Raised::Not,
            commits_lost: false,
        }
    }

    /// The same, where `commits_lost` says whether the last events may be missing in the
    /// store. Receivers may have seen these.
    pub fn after_loss(self, commits_lost: bool) -> Self {
        Self {
            commits_lost,
            ..self
        }
    }

    /// The position of the last event.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The term and the position of the next event.
    pub fn next(&mut self, clocks: Clocks) -> (u64, u64) {
        self.raise(clocks);
        self.position += 1;
        (self.term, self.position)
    }

    /// Raises the numbers above the clock once a term, and once more when the
    /// API's clock contradicts the wall clock only later.
    fn raise(&mut self, clocks: Clocks) {
        let api = clocks
            .api
            .filter(|api| (*api - clocks.wall).abs() > CLOCK_TOLERANCE);
        let (clock, raised) = match (api, self.raised) {
            (Some(api), Raised::Not | Raised::AboveWall) => (api, Raised::AboveApi),
            (None, Raised::Not) => (clocks.wall, Raised::AboveWall),
            (_, Raised::AboveWall | Raised::AboveApi) => return,
        };
        self.raised = raised;
        let apart = match self.commits_lost {
            true => CLOCKS_APART,
            false => TimeDelta::zero(),
        };
        let Some(micros) = clock.checked_add_signed(apart).and_then(micros) else {
            tracing::warn!(%clock, "a clock shows a time that event numbers cannot begin at; they go on above the stored position");
            return;
        };
        self.position = self.position.max(micros);
        if raised == Raised::AboveApi {
            // The term was chosen by the wall clock, which is wrong.
            self.term = self.term.max(micros / 1000);
        }
    }
}

/// Microseconds since 1970, if a number may begin there.
fn micros(clock: DateTime<Utc>) -> Option<u64> {
    let micros = u64::try_from(clock.timestamp_micros()).ok()?;
    (micros <= LATEST_CLOCK).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    /// 2030-01-01 and so many seconds.
    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_893_456_000 + seconds, 0).unwrap()
    }

    fn clocks(wall: i64, api: Option<i64>) -> Clocks {
        Clocks {
            wall: at(wall),
            api: api.map(at),
        }
    }

    fn above(clock: i64) -> u64 {
        u64::try_from(at(clock).timestamp_micros()).unwrap() + 1
    }

    #[test]
    fn a_term_begins_above_the_clock_and_goes_on_one_by_one() {
        let mut numbering = Numbering::new(7, 41);
        assert_eq!(numbering.next(clocks(0, None)), (7, above(0)));
        assert_eq!(numbering.next(clocks(9, None)), (7, above(0) + 1));
        assert_eq!(numbering.next(clocks(9, Some(9))), (7, above(0) + 2));
    }

    #[test]
    fn a_clock_behind_the_stored_position_changes_nothing() {
        let mut numbering = Numbering::new(7, above(HOUR));
        assert_eq!(numbering.next(clocks(0, None)), (7, above(HOUR) + 1));
    }

    #[test]
    fn the_clock_of_the_api_counts_where_the_two_differ_by_more_than_a_minute() {
        for (api, begins) in [(61, 61), (60, 0), (-60, 0), (-61, -61)] {
            let mut numbering = Numbering::new(1, 0);
            let (_, position) = numbering.next(clocks(0, Some(api)));
            assert_eq!(position, above(begins), "{api}");
        }
    }

    #[test]
    fn a_term_that_the_wrong_clock_chose_is_raised_with_the_numbers() {
        let wrong = above(-HOUR) / 1000;
        let (term, _) = Numbering::new(wrong, 0).next(clocks(-HOUR, Some(0)));
        assert_eq!(term, above(0) / 1000);
        let later = above(HOUR) / 1000;
        let (term, _) = Numbering::new(later, 0).next(clocks(-HOUR, Some(0)));
        assert_eq!(term, later);
    }

    #[test]
    fn a_clock_of_the_api_that_is_known_late_raises_the_numbers_once_more() {
        let mut numbering = Numbering::new(1, 0);
        assert_eq!(numbering.next(clocks(-HOUR, None)).1, above(-HOUR));
        assert_eq!(numbering.next(clocks(-HOUR, Some(0))).1, above(0));
        assert_eq!(numbering.next(clocks(-HOUR, Some(99))).1, above(0) + 1);
    }

    #[test]
    fn where_commits_were_lost_numbers_begin_above_those_of_a_clock_two_minutes_ahead() {
        let (_, lost) = Numbering::new(7, 41).next(clocks(119, None));
        let mut numbering = Numbering::new(8, 41).after_loss(true);
        assert_eq!(numbering.next(clocks(0, None)), (8, above(120)));
        assert!(above(120) > lost);
        assert_eq!(numbering.next(clocks(0, None)).1, above(120) + 1);
    }

    #[test]
    fn no_clock_leads_to_numbers_that_json_readers_cannot_hold() {
        for wall in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
            for api in [None, Some(wall), Some(at(0))] {
                let mut numbering = Numbering::new(1, 41);
                let (_, position) = numbering.next(Clocks { wall, api });
                let begins = if api == Some(at(0)) { above(0) } else { 42 };
                assert_eq!(position, begins, "{wall} {api:?}");
            }
        }
        const { assert!(LATEST_CLOCK < 1 << 53) };
    }
}
