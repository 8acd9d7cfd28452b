//! What starts together is decided, written and told in pieces.

use super::*;

/// A coordinator that takes one start at a time, and knows of these at second 1.
fn with_starts(ids: &[&str]) -> World {
    let mut world = with_rules(&MemoryStore::new("test", DateTime::UNIX_EPOCH), |rules| {
        rules.chunk = 1
    });
    world.step([]);
    world.list(ids.iter().map(|id| dispatch(id, 1)).collect());
    world.commit();
    world.until(1000);
    world.events.clear();
    world
}

impl World {
    /// What the commit under way writes.
    fn writing(&self) -> Vec<&str> {
        let entries = &self.commits[0].entries;
        entries.iter().map(|entry| entry.id().as_str()).collect()
    }

    fn wants_a_step_now(&self) -> bool {
        self.coordinator.next_wake() == at(self.now).mono
    }
}

#[test]
fn a_chunk_is_prepared_while_the_one_before_is_written() {
    let mut world = with_starts(&["a", "b", "c"]);
    for id in ["a", "b"] {
        assert_eq!(world.writing(), [id]);
        assert!(world.wants_a_step_now());
        world.step([]);
        assert!(!world.wants_a_step_now(), "one is ready");
        assert_eq!(world.commits.len(), 1, "one commit at a time");
        world.commit();
    }
    assert_eq!(world.writing(), ["c"]);
    assert!(!world.wants_a_step_now(), "nothing is left");
    world.commit();
    assert!(world.commits.is_empty());
    assert_eq!(world.event_types(), ["dispatch.started"; 3]);
}

#[test]
fn an_answer_is_compared_once_time_is_caught_up_with() {
    let mut world = with_starts(&["a", "b", "c"]);
    world.webhook("w", "d");
    let (asked, _) = world.question();
    world.answer(asked, Ok(found(dispatch("d", 100))));
    let waiting = world.coordinator.waiting_requests();
    assert_eq!(waiting.collect::<Vec<_>>(), [asked]);
    for id in ["a", "b"] {
        assert_eq!(world.writing(), [id]);
        world.commit();
        world.step([]);
    }
    assert!(world.outcomes().is_empty());
    assert_eq!(
        world.writing(),
        ["c", "d"],
        "it shares the last one's commit"
    );
    assert_eq!(world.coordinator.waiting_requests().count(), 0);
    world.commit();
    assert_eq!(world.outcomes(), [("w", "settled")]);
}

#[test]
fn a_chunk_that_is_not_written_is_decided_anew() {
    let mut world = with_starts(&["a", "b"]);
    world.step([]);
    world.commit_fails();
    world.until(1900);
    assert!(world.commits.is_empty(), "the disk is left alone");
    world.until(2000);
    world.asked.clear();
    for id in ["a", "b"] {
        assert_eq!(world.writing(), [id]);
        world.commit();
        world.step([]);
    }
    assert_eq!(world.event_types(), ["dispatch.started"; 2]);
}
