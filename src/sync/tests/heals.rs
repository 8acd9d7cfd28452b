//! What counts as a heal, and what as a missed webhook.

use super::*;
use crate::sync::health::RegistrationHealth;

impl World {
    /// Lets the API show these dispatches until `seconds`: every question is
    /// answered within a second, and every commit succeeds.
    fn shows(&mut self, live: &[Dispatch], seconds: u64) {
        loop {
            while !self.asked.is_empty() || !self.commits.is_empty() {
                if !self.commits.is_empty() {
                    self.commit();
                    continue;
                }
                let (asked, question) = self.asked.remove(0);
                let answer = match question {
                    Question::List => list(live.to_vec()),
                    Question::Dispatch(id) => match live.iter().find(|one| one.id == id) {
                        Some(dispatch) => found(dispatch.clone()),
                        None => Answer::Gone(id),
                    },
                };
                self.answer(asked, Ok(answer));
            }
            if self.now >= seconds * 1000 {
                return;
            }
            self.until((self.now + 1000).min(seconds * 1000));
        }
    }

    fn counted(&self) -> (u64, u64) {
        let health = self.health();
        (health.heals, health.missed_webhooks)
    }
}

/// A daemon that got a webhook for `told`, and nothing else beside the first
/// poll.
fn told(others: &[Dispatch]) -> (World, Vec<Dispatch>) {
    let mut world = World::new();
    world.step([]);
    world.shows(others, 1);
    let live = [others, &[dispatch("told", 9000)]].concat();
    world.webhook("w", "told");
    world.shows(&live, 2);
    (world, live)
}

#[test]
fn changes_are_unannounced_while_no_webhook_comes_although_one_is_registered() {
    for registered in [false, true] {
        let mut world = World::new();
        world.step([]);
        world.shows(&[], 1);
        let health = RegistrationHealth {
            registered,
            error: None,
        };
        world.step([Input::Registration(health)]);
        world.shows(&[], 40);
        let mut live = vec![dispatch("quiet", 9000)];
        world.shows(&live, 150);
        let expected = u64::from(registered);
        assert_eq!(world.health().unannounced, expected);
        assert_eq!(
            world.counted(),
            (1, 0),
            "missed counts from the first webhook on"
        );
        live.push(dispatch("told", 9000));
        world.webhook("w", "told");
        world.shows(&live, 151);
        assert_eq!(world.health().unannounced, 0, "webhooks get in");
    }
}

#[test]
fn a_withdrawal_is_a_heal_and_no_missed_webhook() {
    let (mut world, mut live) = told(&[dispatch("gone", 9000)]);
    live.remove(0);
    world.shows(&live, 200);
    let types = world.event_types();
    assert_eq!(types.last(), Some(&"dispatch.cancelled"), "{types:?}");
    assert_eq!(world.counted(), (1, 0));
}

#[test]
fn a_cancellation_without_its_webhook_is_a_missed_one() {
    let (mut world, mut live) = told(&[dispatch("off", 9000)]);
    live[0].authorized = false;
    world.shows(&live, 200);
    assert_eq!(world.counted(), (1, 1));
}

#[test]
fn every_change_of_one_answer_counts_once_for_each_dispatch() {
    let (mut world, mut live) = told(&[dispatch("gone", 9000)]);
    live.remove(0);
    // Created and started at once.
    live.push(dispatch("begun", 0));
    world.shows(&live, 200);
    assert_eq!(world.counted(), (2, 1));
}

#[test]
fn each_dispatch_that_one_list_brings_is_a_heal() {
    let (mut world, mut live) = told(&[]);
    live.extend(["one", "two"].map(|text| dispatch(text, 9000)));
    world.shows(&live, 200);
    assert_eq!(world.counted(), (2, 2));
}

#[test]
fn where_no_webhook_ever_came_none_is_missed() {
    let mut world = World::new();
    world.step([]);
    world.shows(&[dispatch("old", 9000)], 1);
    world.shows(&[dispatch("new", 9000)], 200);
    assert_eq!(world.counted(), (2, 0));
}

#[test]
fn polls_that_show_what_the_first_one_showed_count_nothing() {
    let (mut world, live) = told(&[dispatch("old", 9000)]);
    world.shows(&live, 500);
    assert_eq!(world.counted(), (0, 0));
}

#[test]
fn starts_and_ends_that_the_clock_brings_are_no_heals() {
    let soon = Dispatch {
        end_time: Some(wall(40)),
        ..dispatch("soon", 20)
    };
    let (mut world, live) = told(&[soon]);
    world.shows(&live, 200);
    assert!(world.event_types().contains(&"dispatch.ended"));
    assert_eq!(world.counted(), (0, 0));
}
