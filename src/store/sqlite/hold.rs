//! Notices when the log cannot be folded in for a minute.

use std::time::Duration;

use super::checkpointer::LONG_LOG;
use crate::clock::Mono;

/// How long the log may be held before that is worth a warning.
const HELD_FOR: Duration = Duration::from_secs(60);

/// What an attempt to fold the log in has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folded {
    /// Pages in the log.
    pub log: i64,
    /// Pages of these that are in the state file too.
    pub done: i64,
}

/// What to say after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing new.
    None,
    /// Somebody has kept the log from being folded in for a minute.
    Held,
    /// It can be folded in again.
    Free,
}

/// Watches whether the log can be folded in.
#[derive(Debug, Default)]
pub(super) struct Hold {
    last: Option<Folded>,
    since: Option<Mono>,
    warned: bool,
}

impl Hold {
    /// Takes in what the attempt at `now` has left.
    pub fn folded(&mut self, folded: Folded, now: Mono) -> Notice {
        let stands = self.last.is_some_and(|last| last.done == folded.done);
        // Readers that take turns let it go on, but never let it begin anew.
        let too_long = folded.log > 2 * i64::from(LONG_LOG);
        let held = folded.done < folded.log && (stands || too_long);
        self.last = Some(folded);
        if !held {
            self.since = None;
            return if std::mem::take(&mut self.warned) {
                Notice::Free
            } else {
                Notice::None
            };
        }
        let since = *self.since.get_or_insert(now);
        if !self.warned && now.saturating_sub(since) >= HELD_FOR {
            self.warned = true;
            return Notice::Held;
        }
        Notice::None
    }

    /// Whether the last attempts came to nothing.
    pub fn is_suspected(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells what is said of these attempts, ten seconds apart.
    fn notices(attempts: impl IntoIterator<Item = (i64, i64)>) -> Vec<(u64, Notice)> {
        let mut hold = Hold::default();
        let each = (0..).step_by(10).zip(attempts).map(|(at, (log, done))| {
            let notice = hold.folded(Folded { log, done }, Duration::from_secs(at));
            (at, notice)
        });
        each.filter(|(_, notice)| *notice != Notice::None).collect()
    }

    #[test]
    fn a_log_that_stands_still_for_a_minute_is_told_once_and_so_is_its_end() {
        let held = std::iter::repeat_n((500, 20), 12);
        let then = [(500, 500), (500, 500), (9, 9)];
        assert_eq!(
            notices(held.chain(then)),
            [(70, Notice::Held), (120, Notice::Free)]
        );
    }

    #[test]
    fn a_log_that_is_folded_in_while_it_grows_is_not_held() {
        let under_load = (1..40).map(|n| (n * 100, n * 100 - 7));
        assert_eq!(notices(under_load), []);
        let idle = std::iter::repeat_n((500, 500), 40);
        assert_eq!(notices(idle), []);
    }

    #[test]
    fn readers_that_take_turns_hold_a_log_that_grows_long() {
        let long = i64::from(LONG_LOG);
        let grows = (1..40).map(|n| (long * n, long * n - 7));
        assert_eq!(notices(grows), [(80, Notice::Held)]);
    }

    #[test]
    fn a_hold_of_less_than_a_minute_is_not_told() {
        let held = std::iter::repeat_n((500, 20), 6);
        assert_eq!(notices(held.chain([(500, 500)]).cycle().take(40)), []);
    }
}
