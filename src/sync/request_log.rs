//! When requests were issued. [`RequestLog`] places an answer that a cache kept
//! for a while in the order of requests (rule R2).

use std::collections::VecDeque;

use crate::clock::Mono;
use crate::model::Asked;

/// How many requests are remembered: four hours of them at the default rate.
const KEPT: usize = 1 << 16;

/// The newest requests of this start of the daemon.
///
/// All of them are kept, for an answer must not be placed before a request that it
/// is later than: it may show a dispatch that this request's answer lacked.
#[derive(Debug, Default)]
pub(super) struct RequestLog(VecDeque<(Mono, Asked)>);

impl RequestLog {
    /// A request is issued.
    pub fn issued(&mut self, asked: Asked, now: Mono) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, asked));
    }

    /// The place in the order of an answer that was made at `made`: right behind
    /// the last request remembered from then or before. No request has that
    /// place. An answer from before all that is remembered is older than
    /// everything.
    pub fn order_at(&self, made: Mono) -> Asked {
        let later = self.0.partition_point(|(at, _)| *at <= made);
        later
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .map_or_else(Asked::default, |(_, asked)| Asked {
                count: asked.count.saturating_add(1),
                ..*asked
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(count: u64) -> Asked {
        Asked { term: 3, count }
    }

    fn at(millis: u64) -> Mono {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_answer_takes_the_place_of_the_last_request_before_it_was_made() {
        let mut log = RequestLog::default();
        assert_eq!(log.order_at(at(0)), Asked::default());
        for (count, millis) in [(2, 5_000), (4, 9_000), (6, 9_500), (8, 20_000)] {
            log.issued(asked(count), at(millis));
        }
        for (millis, place) in [
            (4_999, Asked::default()),
            (5_000, asked(3)),
            (8_999, asked(3)),
            (9_499, asked(5)),
            (9_700, asked(7)),
            (20_000, asked(9)),
            (99_000, asked(9)),
        ] {
            assert_eq!(log.order_at(at(millis)), place, "{millis}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_older_is_older_than_everything() {
        let mut log = RequestLog::default();
        for count in 0..100_000u64 {
            log.issued(asked(count), at(count * 500));
        }
        assert_eq!(log.0.len(), KEPT);
        assert_eq!(log.order_at(at(0)), Asked::default());
        assert_eq!(log.order_at(Mono::MAX), asked(100_000));
    }
}
