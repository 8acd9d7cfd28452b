//! [`Seldom`] lets a line be written to the log at most once a minute, for
//! what strangers can cause as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Mono;

/// The shortest time between two lines about one thing.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts occurrences of one thing and tells which of them to log.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// When a line was last written.
    written: Option<Mono>,
    /// Occurrences since then.
    since: u64,
}

impl Seldom {
    /// Counts one occurrence at `now`. If a line about it is due, returns how
    /// many occurrences the line stands for, this one included.
    pub fn count(&self, now: Mono) -> Option<u64> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.since += 1;
        if line
            .written
            .is_some_and(|written| now.saturating_sub(written) < PAUSE)
        {
            return None;
        }
        line.written = Some(now);
        Some(std::mem::take(&mut line.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_and_then_one_a_minute_with_the_number_of_all() {
        let seldom = Seldom::default();
        let at = |seconds| seldom.count(Duration::from_secs(seconds));
        assert_eq!(at(5), Some(1));
        for second in 6..65 {
            assert_eq!(at(second), None);
        }
        assert_eq!(at(65), Some(60));
        assert_eq!(at(66), None);
        assert_eq!(at(500), Some(2));
    }
}
