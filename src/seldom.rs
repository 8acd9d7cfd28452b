//! Keep the log short: [`Seldom`] lets a line be written at most once a minute, for
//! what strangers can cause as often as they like, and [`Trouble`] does that for what
//! fails and recovers.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Mono, SystemClock};

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
    /// One that has counted nothing.
    pub const fn new() -> Self {
        Self(Mutex::new(Line {
            written: None,
            since: 0,
        }))
    }

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

/// A [`Seldom`] with a clock of its own, for a `static` at the place that logs.
#[derive(Debug)]
pub struct Rarely {
    clock: LazyLock<SystemClock>,
    line: Seldom,
}

impl Rarely {
    /// One that has counted nothing.
    #[expect(
        clippy::new_without_default,
        reason = "a static needs a constant, which a default is not"
    )]
    pub const fn new() -> Self {
        Self {
            clock: LazyLock::new(SystemClock::new),
            line: Seldom::new(),
        }
    }

    /// As [`Seldom::count`], now.
    pub fn count(&self) -> Option<u64> {
        self.line.count(self.clock.now().mono)
    }
}

/// Remembers which lines were written in the last minute, where what is repeated comes
/// from others.
#[derive(Debug)]
pub struct Lately {
    clock: SystemClock,
    lines: Mutex<BTreeMap<String, Mono>>,
}

/// The most lines that are remembered. Beyond that, none counts as new.
const REMEMBERED: usize = 1000;

impl Lately {
    /// One that remembers nothing.
    pub fn new() -> Self {
        Self {
            clock: SystemClock::new(),
            lines: Mutex::default(),
        }
    }

    /// Whether `line` was not written in the last minute. It counts as written now.
    pub fn is_new(&self, line: &str) -> bool {
        self.is_new_at(line, self.clock.now().mono)
    }

    fn is_new_at(&self, line: &str, now: Mono) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, written| now.saturating_sub(*written) < PAUSE);
        if lines.len() >= REMEMBERED || lines.contains_key(line) {
            return false;
        }
        lines.insert(line.to_owned(), now);
        true
    }
}

impl Default for Lately {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that fails now and then. Tells when the log says that it fails: at once,
/// and at most once a minute; and that it is over: once, if the log has said that it
/// fails.
#[derive(Debug, Default)]
pub struct Trouble {
    /// When it began, while it lasts.
    since: Option<Mono>,
    /// A line has said so.
    told: bool,
    line: Seldom,
}

impl Trouble {
    /// It fails at `now`. If a line about that is due, returns how many failures the
    /// line stands for, this one included.
    pub fn lasts(&mut self, now: Mono) -> Option<u64> {
        self.since.get_or_insert(now);
        let due = self.line.count(now);
        self.told |= due.is_some();
        due
    }

    /// As [`Self::lasts`], for a failure that is told once however long it lasts. Tells
    /// whether the line is due.
    pub fn begins(&mut self, now: Mono) -> bool {
        self.since.get_or_insert(now);
        !self.told && self.lasts(now).is_some()
    }

    /// It does not fail at `now`. If a line has said that it fails, returns how long
    /// it did.
    pub fn over(&mut self, now: Mono) -> Option<Duration> {
        let since = self.since.take()?;
        std::mem::take(&mut self.told).then(|| now.saturating_sub(since))
    }
}

/// A length of time for the log, in whole seconds, or in milliseconds below one.
pub fn spoken(length: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(match length.as_secs() {
        0 => Duration::from_millis(u64::from(length.subsec_millis())),
        seconds => Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flaps_is_told_once_a_minute_and_its_end_only_if_it_was_told() {
        let mut trouble = Trouble::default();
        let at = Duration::from_secs;
        assert_eq!(trouble.over(at(0)), None, "nothing failed");
        assert_eq!(trouble.lasts(at(1)), Some(1));
        assert_eq!(trouble.lasts(at(2)), None);
        assert_eq!(trouble.over(at(4)), Some(at(3)));
        assert_eq!(trouble.over(at(5)), None);
        assert_eq!(trouble.lasts(at(6)), None, "told five seconds ago");
        assert_eq!(trouble.over(at(7)), None);
        assert_eq!(trouble.lasts(at(8)), None);
        assert_eq!(trouble.lasts(at(61)), Some(4));
        assert_eq!(trouble.over(at(68)), Some(at(60)));
    }

    #[test]
    fn a_line_is_new_again_after_a_minute_and_the_memory_is_bounded() {
        let lately = Lately::new();
        let is_new = |line: &str, second| lately.is_new_at(line, Duration::from_secs(second));
        assert!(is_new("a", 0) && is_new("b", 1) && !is_new("a", 59));
        assert!(is_new("a", 60) && !is_new("b", 60));
        for line in 0..5000 {
            is_new(&line.to_string(), 70);
        }
        assert_eq!(lately.lines.lock().unwrap().len(), REMEMBERED);
    }

    #[test]
    fn lengths_are_told_in_whole_seconds() {
        assert_eq!(spoken(Duration::from_millis(90_600)).to_string(), "1m 30s");
        assert_eq!(spoken(Duration::from_micros(12_345)).to_string(), "12ms");
        assert_eq!(spoken(Duration::ZERO).to_string(), "0s");
    }

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
