//! What the schedule counts is what readers would count themselves.

use proptest::prelude::*;

use super::story::stories;
use super::{config, play};
use dispatchd::model::Phase;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn counts_by_phase_and_the_oldest_open_end_are_those_of_the_entries(story in stories()) {
        for step in play(&story) {
            let after = &step.after;
            for phase in Phase::ALL {
                let counted = after.entries().filter(|entry| entry.phase == phase).count();
                prop_assert_eq!(after.count(phase), counted, "{:?}", phase);
            }
            let open = after
                .entries()
                .filter(|entry| entry.phase == Phase::Active && entry.dispatch.end_time.is_none())
                .map(|entry| entry.dispatch.start_time)
                .min();
            prop_assert_eq!(after.oldest_open_end(), open);
        }
    }
}
